"""Estimates: counts against the code that does the work, sizes against the files that it writes."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from artifacts.instances import read_instances
from pipeline.analysis.disentanglement import disturbances
from pipeline.analysis.merging_grid import evaluate_methods
from pipeline.config import Parameters, load_parameters
from pipeline.errors import UserError
from pipeline.evaluation.prediction import Benchmark
from pipeline.evaluation.protocols import evaluate_addition, evaluate_negation, evaluate_single_task
from pipeline.evaluation.search import search_addition, search_negation, single_task_accuracies
from pipeline.models.checkpoints import Provenance, write_tensors
from pipeline.models.encoders import build_clip
from pipeline.models.heads import Head
from pipeline.models.registry import load_model_definition
from pipeline.paradigms import select
from pipeline.sources.mini import materialise
from pipeline.tasks import TaskCard
from tauflow.cli import app
from tauflow.dvc.composition import compose
from tauflow.planning.estimate import estimate, works
from tauflow.planning.stale import plan
from tauflow.planning.task_sizes import task_size
from tests.pipeline.conftest import copy_project

# DVC's own use of pygtrie.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning")

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def make_parameters(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that composes parameters with overrides."""

    def make(*overrides: str) -> Parameters:
        path = tmp_path_factory.mktemp("parameters") / "params.yaml"
        compose(ROOT, list(overrides), path)
        return load_parameters(path)

    return make


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory where nothing is prepared."""
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("task", ["icons", "optdigits", "clipart", "shapes"])
def test_sizes_of_mini_tasks_are_those_of_their_sources(task: str, make_parameters: Any, elsewhere: Path) -> None:
    size = task_size(make_parameters(), task)
    splits = materialise(task, ROOT / "data" / "mini")
    assert size is not None
    assert size.counts == {name: len(split) for name, split in splits.items()}
    assert size.packed_bytes == sum(split.images.nbytes for split in splits.values())


def test_sizes_before_tasks_are_prepared(make_parameters: Any, elsewhere: Path) -> None:
    """Val is a tenth of train and at most 5,000; the control keeps few training images; small images stay small."""
    parameters = make_parameters("suite=paper8", "model=vit_b_32", "prepare.control_train_images=3000")
    sizes = {task: task_size(parameters, task) for task in parameters.derived.datasets}
    counts = {task: size and size.counts for task, size in sizes.items()}
    assert counts["cars"] == {"train": 7330, "val": 814, "test": 8041}
    assert counts["svhn"] == {"train": 68257, "val": 5000, "test": 26032}
    assert counts["eurosat"] == {"train": 19440, "val": 2160, "test": 2700}
    assert counts["imagenet"] == {"train": 3000, "val": 5000, "test": 50000}
    sides = {task: size and size.image_size for task, size in sizes.items()}
    assert sides["cars"] == (224, 224)
    assert sides["mnist"] == (28, 28)
    assert task_size(parameters, "unheard-of") is None
    few = make_parameters("suite=paper8", "model=vit_b_32", "prepare.max_images=7")
    size = task_size(few, "dtd")
    assert size is not None
    assert size.counts == {"train": 7, "val": 7, "test": 7}


def test_prompts_and_gradients(make_parameters: Any, elsewhere: Path) -> None:
    """Check the counts of ImageNet's head and of a kernel that is computed in blocks, as counted by hand."""
    parameters = make_parameters("suite=paper8", "model=vit_b_32", "localisation.memory=5", "localisation.images=1")
    by_name = works(parameters, read_instances(parameters).values())
    assert by_name["head@ViT-B-32-imagenet"].encodes == 80_000
    # Eight images, two rows of one MiB at a time: every block is recomputed for all before it, for both weights.
    assert by_name["localisation@ViT-B-32"].differentiates(2**20) == 2 * (2 + 2 * (1 + 2 + 3))


def test_a_localisation_that_memory_forbids(make_parameters: Any, elsewhere: Path) -> None:
    parameters = make_parameters("suite=tiny", "localisation.memory=1")
    with pytest.raises(UserError, match=r"localisation\.memory: .* set it to at least"):
        estimate(parameters, ["localisation@mini-clip"], CPU)


def test_a_card_takes_precedence(make_parameters: Any, elsewhere: Path, card: TaskCard) -> None:
    card.model_copy(update={"name": "cars"}).write(Path("data/tasks/card/cars.json"))
    size = task_size(make_parameters(), "cars")
    assert size is not None
    assert (size.counts, size.image_size, size.download_bytes) == (card.counts, card.image_size, 2_000_000_000)


class CountingSpace:
    """A space of random embeddings that counts the images of all edits."""

    def __init__(self, size: int) -> None:
        self.size, self.device, self.batch_size, self.images = size, CPU, 7, 0
        self.random = torch.Generator().manual_seed(0)

    def embeddings(self, coefficients: Tensor, batches: Sequence[Tensor]) -> Iterator[tuple[int, int, Tensor]]:
        for edit in range(len(coefficients)):
            for index, batch in enumerate(batches):
                self.images += len(batch)
                yield edit, index, torch.randn(len(batch), 4, generator=self.random)


def test_embedded_images_are_those_that_evaluation_embeds(make_parameters: Any, elsewhere: Path) -> None:
    """Compare with the functions that the stages call."""
    parameters = make_parameters(
        *("suite=tiny", "paradigm=standard", "search.addition.points=4", "search.negation.points=3"),
        *("disentanglement.grid.points=3", "analysis.images=20", "prepare.max_images=30"),
    )
    expected = {
        name.partition("@")[0]: work.embeds
        for name, work in works(parameters, read_instances(parameters).values()).items()
        if work.embeds
    }

    def benchmark(task: str, split: str) -> Benchmark:
        size = task_size(parameters, task)
        assert size is not None
        n = size.counts["test" if split == "test" else "val"]
        head = Head(torch.eye(4), list("abcd"))
        return Benchmark(task, np.zeros((n, 3, 2, 2), np.uint8), np.arange(n, dtype=np.int64) % 4, head)

    val, test = ([benchmark(task, split) for task in parameters.tasks] for split in ("val", "test"))
    control_val, control = (benchmark(parameters.control, split) for split in ("val", "test"))
    embedded = {}
    space = CountingSpace(2)
    evaluate_single_task(space, [*test, control])
    embedded["single_task"], space.images = space.images, 0
    search_addition(space, val, parameters.search.addition, single_task_accuracies(space, val))
    for position, each in enumerate(val):
        search_negation(space, position, each, control_val, parameters.search.negation, 0.95)
    embedded["alpha_search"], space.images = space.images, 0
    evaluate_addition(space, {"tuned": [0.5, 0.5], "alpha_1": [1.0, 1.0]}, test)
    embedded["addition"], space.images = space.images, 0
    for position, each in enumerate(test):
        evaluate_negation(space, {"tuned": 0.5, "alpha_1": 1.0}, position, each, control)
    embedded["negation"], space.images = space.images, 0
    alphas = parameters.disentanglement.grid.values()
    for position, each in enumerate(test):
        for _ in disturbances(space, each.sample(20, 0), position, alphas):
            pass
    embedded["disentanglement"] = space.images
    embedded["interference"] = 3 * sum(len(each.sample(20, 0)) for each in (*test, control))
    space.images = 0
    single, settings = single_task_accuracies(space, val), parameters.merging_grid
    merged, methods = CountingSpace(len(settings.methods)), list(settings.methods)
    evaluate_methods(merged, methods, val, test, settings.search.weight, settings.search.refinements, single)
    # The estimate is the most that a climb tries; the least is two points of the grid and one α per refinement.
    fewer = expected.pop("merging_grid") - space.images - merged.images
    spared = settings.search.weight.points - 2 + settings.search.refinements
    assert 0 <= fewer <= len(methods) * spared * sum(map(len, val))
    assert expected == embedded


def test_merged_vectors_are_propagated_in_tangent_space(make_parameters: Any, elsewhere: Path) -> None:
    """Once for val and test, in a direction per method; everything else is stored."""
    parameters = make_parameters("suite=tiny", "paradigm=ntk", "~merging_grid.methods.wudi")
    work = works(parameters, read_instances(parameters).values())["merging_grid@mini-clip-ntk"]
    sizes = [task_size(parameters, task) for task in parameters.tasks]
    val, test = (sum(size.counts[split] for size in sizes if size) for split in ("val", "test"))
    assert work.embeds == 0
    assert work.propagates == pytest.approx(3 * (val + test) / len(parameters.tasks), abs=1)


def test_names_are_those_of_dvc(make_parameters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that the estimate covers all instances but those of negligible cost."""
    monkeypatch.chdir(ROOT)
    planned = {stage.name for stage in plan()}
    parameters = load_parameters(ROOT / "params.yaml")
    named = works(parameters, read_instances(parameters).values()).keys()
    assert named <= planned
    left_out = {name.partition("@")[0] for name in planned - named}
    in_tangent_space = {"single_task", "alpha_search", "addition", "negation", "disentanglement", "interference"}
    small = {"comparison", "summary", "geometry", "incremental", "report"}
    assert left_out <= in_tangent_space | small


def test_rows_of_a_small_study(make_parameters: Any, elsewhere: Path) -> None:
    """Steps by the plan of a fine-tuning; bytes as large as the files; every time a positive number."""
    parameters = make_parameters("suite=tiny", "paradigm=main", "paradigms=[standard,attention,tau_jp]")
    rows = {row.group: row for row in estimate(parameters, list(read_instances(parameters)), CPU)}
    trained = rows["finetune mini-clip standard"]
    assert (trained.instances, trained.steps, trained.epochs) == (2, 2 * 3 * 3, 2 * 3)
    assert trained.peak_bytes is None
    assert rows["finetune_regularised mini-clip tau_jp"].steps == 18
    kinds = ("finetune", "features", "alpha", "single", "head", "localisation")
    timed = [row for row in rows.values() if row.group.startswith(kinds)]
    assert len(timed) == 9
    assert all(0 < row.seconds < 3600 for row in timed)
    assert not any(row.unknown for row in rows.values())
    visual = build_clip(load_model_definition("mini-clip")).get_submodule("visual")
    parameters_by_name = dict(visual.named_parameters())
    for recipe, selection in (("standard", "all"), ("attention", "attention")):
        tensors = {name: parameters_by_name[name] for name in select(selection, parameters_by_name)}
        path = elsewhere / "theta.safetensors"
        write_tensors(path, tensors, Provenance("m", ("t",), "p", "weight", "0" * 64, 0, "c" * 64))
        assert rows[f"finetune mini-clip {recipe}"].written_bytes == pytest.approx(2 * path.stat().st_size, rel=0.02)


def test_unknown_sizes_are_reported(make_parameters: Any, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tauflow.planning.work.task_size", lambda params, task: None)
    parameters = make_parameters("suite=tiny", "paradigm=standard")
    counted = works(parameters, read_instances(parameters).values())
    assert counted["finetune@mini-clip-textures-standard"].unknown == ("textures",)
    assert counted["finetune@mini-clip-textures-standard"].steps == 0
    steps = make_parameters("suite=tiny", "paradigm=standard", "finetune.steps=50")
    counted = works(steps, read_instances(steps).values())
    assert counted["finetune@mini-clip-textures-standard"].steps == 50
    assert counted["finetune@mini-clip-textures-standard"].unknown == ()


@pytest.fixture
def untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory is a copy of the project in which nothing has run."""
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project.root)


@pytest.mark.usefixtures("untouched")
def test_the_command() -> None:
    result = CliRunner().invoke(app, ["plan", "--estimate", "task_vector@mini-clip-optdigits-standard"])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Estimated on ")
    (row,) = (line.split() for line in lines if line.lstrip().startswith("finetune mini-clip standard"))
    assert row[3:6] == ["1", "3", str(3 * (96 // 32))]
    (total,) = (line for line in lines if line.lstrip().startswith("total"))
    assert "MiB" in total
    (head,) = (line.split() for line in lines if line.lstrip().startswith("head mini-clip"))
    assert head[2] == "1"
    assert "not estimated" not in result.stderr


@pytest.mark.usefixtures("untouched")
def test_the_command_notes_omitted_stages() -> None:
    result = CliRunner().invoke(app, ["plan", "--estimate", "geometry@mini-clip-standard"])
    assert result.exit_code == 0, result.output
    assert "note: not estimated: geometry\n" in result.stderr
