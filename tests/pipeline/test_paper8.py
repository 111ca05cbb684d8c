"""The whole DAG of the papers' benchmark on a narrow ViT-B/32: 224 x 224 and odd sizes, a thousand classes.

There are so few images that every number is noise.
"""

import sys
from collections.abc import Iterator

import pandas as pd
import pytest
import torch
import yaml

from pipeline.images import read_split
from pipeline.io.files import read_json
from pipeline.tasks import TaskCard, load_task
from tests.pipeline import dag
from tests.pipeline.conftest import ROOT, Project
from tests.pipeline.paper8 import MODEL, TASKS, Sizes, served

pytestmark = pytest.mark.pipeline

# As open_clip has it, but for two layers instead of twelve, 32 instead of 768 channels, and a small text tower.
NARROW = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 32, "head_width": 16, "patch_size": 32},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    overrides = ["device=cpu", "finetune.batch_size=4", "prepare.control_train_images=6"]
    sizes, root = Sizes(train=20, test=4), tmp_path_factory.mktemp("paper8")
    with served(root, NARROW, overrides, sizes, torch.device("cpu")) as (project, environment):
        command = [sys.executable, dag.__file__, str(project.root), "--jobs", "2"]
        project.run(*command, check=True, OMP_NUM_THREADS="1", **environment)
        yield project


def test_prepared_tasks(reproduced: Project) -> None:
    sizes = {"eurosat": 64, "mnist": 28, "svhn": 32}
    for name in [*TASKS, "imagenet"]:
        definition = load_task(name)
        card = TaskCard.read(reproduced.root / "data" / "tasks" / "card" / f"{name}.json")
        size = sizes.get(name, 224)
        assert card.image_size == (size, size)
        assert card.val_seed == 0
        assert card.classes == definition.classes
        train = card.counts["train"]
        assert train == 6 if name == "imagenet" else train >= 16
        test = read_split(reproduced.root / "data" / "tasks" / "test" / f"{name}.safetensors", len(card.classes))
        assert test.images.shape == (card.counts["test"], 3, size, size)
        record = read_json(reproduced.root / "data" / "records" / f"{name}.json")
        assert record["class_names"] == f"all {len(card.classes)} as in the definition"
        assert len(record["files"]) == (13 if name == "imagenet" else 3)


def test_every_number_is_there(reproduced: Project) -> None:
    results = pd.read_csv(reproduced.root / "reports" / "results.csv")
    paradigms = yaml.safe_load((ROOT / "conf" / "paradigm" / "all.yaml").read_text())["paradigms"]
    assert len(paradigms) == 9
    assert set(results["model"]) == {MODEL}
    for benchmark in ("single_task", "addition", "negation", "disentanglement", "tau_jp"):
        rows = results.query("benchmark == @benchmark")
        assert set(rows["paradigm"]) >= set(paradigms), benchmark
    accuracies = results.query("benchmark == 'addition' and setting == 'tuned' and metric == 'accuracy'")
    assert set(accuracies["task"].dropna()) == set(TASKS)
    assert set(accuracies["scope"]) == {"task", "mean"}
    assert accuracies["value"].between(0, 1).all()
    control = results.query("benchmark == 'negation' and metric == 'control'")
    assert set(control["paradigm"]) == set(paradigms)
    assert (reproduced.root / "reports" / "index.html").stat().st_size > 10_000
