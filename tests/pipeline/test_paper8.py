"""The whole DAG of the papers' benchmark: their nine tasks from a hub on loopback, all paradigms, a narrow ViT-B/32.

Images are generated, in the datasets' real schemas, and so few that every number is noise: what is tested is that
everything that 224 x 224, a thousand classes and odd images pass through fits together.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn

from pipeline.files import read_json
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import build_head
from pipeline.models.registry import ModelDefinition
from pipeline.preparation.decoding import decode
from pipeline.tasks import TaskCard, TaskDefinition, load_task, read_split
from pipeline.tasks.registry import HubSource
from tauflow.composition import compose
from tests.dataset_hub import TOKEN, encoded, parquet, serving
from tests.pipeline import dag
from tests.pipeline.conftest import ROOT, Project, copy_project

pytestmark = pytest.mark.pipeline

TASKS = ["cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn"]
MODEL = "ViT-B-32-narrow"
# As open_clip has it, but for two layers instead of twelve, 32 instead of 768 channels, and a small text tower.
ARCHITECTURE = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 32, "head_width": 16, "patch_size": 32},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
OVERRIDES = [
    "suite=paper8",
    "paradigm=all",
    f"models=[{MODEL}]",
    "device=cpu",
    "finetune.steps=2",
    "finetune.warmup_steps=1",
    "finetune.batch_size=4",
    "search.addition.points=2",
    "search.negation.points=2",
    "disentanglement.grid.points=2",
    "analysis.images=2",
    "intervals.resamples=20",
    "localisation.images=2",
    "localisation.eigenfunctions=2",
    "prepare.control_train_images=6",
]
SIZES = {"train": 20, "test": 4}
Labeller = Callable[[list[bytes]], list[int]]


def image(random: np.random.Generator, size: int | None, channels: int) -> bytes:
    """A file of the dataset's size or, where that differs, of any."""
    height, width = (size, size) if size else random.integers(200, 300, 2)
    pixels = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return encoded(pixels[..., 0], "PNG") if channels == 1 else encoded(pixels, "PNG" if size else "JPEG")


def files(source: HubSource, names: list[str], channels: int, label: Labeller) -> dict[str, bytes]:
    """What the hub has of a dataset: shards with its own class names, and a card."""
    random = np.random.default_rng(0)
    found = {"README.md": b"# A dataset\n"}
    for split, chosen in source.splits.named().items():
        shards = (chosen.first or 1) + 1 if split == "train" else 1  # one more than are wanted
        for number in range(shards):
            count = SIZES[split] // (chosen.first or 1) + 1
            images = [image(random, source.image_size, channels) for _ in range(count)]
            name = chosen.files.replace("*", f"{number:05}-of-{shards:05}")
            found[name] = parquet(images, label(images), names, source.label)
    return found


def labeller(definition: TaskDefinition, source: HubSource, clip: nn.Module, model: ModelDefinition) -> Labeller:
    """Calls every image what the model takes it for: an accuracy of zero could not be normalised."""
    encoder = ImageEncoder(clip.get_submodule("visual"), model, "")
    weight = build_head(clip, model, TaskCard.of(definition, {}, (1, 1), None, {})).weight
    size = source.image_size or 224

    def label(images: list[bytes]) -> list[int]:
        pixels = torch.from_numpy(np.stack([decode(content, size, source.image_size) for content in images]))
        with torch.no_grad():
            return (nn.functional.normalize(encoder(pixels), dim=1) @ weight.T).argmax(1).tolist()

    return label


def published(definition: TaskDefinition, clip: nn.Module, model: ModelDefinition) -> dict[str, bytes]:
    """A task's dataset."""
    source = definition.source
    assert isinstance(source, HubSource)
    if definition.name == "imagenet":  # its head takes long, and the control may be at chance
        assert source.class_names is not None
        return files(source, source.class_names, 3, lambda images: [number % 1000 for number in range(len(images))])
    channels = 1 if definition.name == "mnist" else 3
    return files(source, definition.classes, channels, labeller(definition, source, clip, model))


def add_model(project: Project) -> tuple[nn.Module, ModelDefinition]:
    """The narrow model's definition, architecture and random weights."""
    models = project.root / "pipeline" / "definitions" / "models"
    (models / "architectures" / f"{MODEL}.json").write_text(json.dumps(ARCHITECTURE))
    open_clip.add_model_config(models / "architectures" / f"{MODEL}.json")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.create_model(MODEL, pretrained=None).eval()
    weights = project.root / "data" / "mini" / "narrow.safetensors"
    save_file(clip.state_dict(), weights)
    definition = yaml.safe_load((models / "ViT-B-32.yaml").read_text())
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    definition |= {"name": MODEL, "architecture": MODEL, "pretrained": None}
    definition["weights"] = {"kind": "committed", "path": "data/mini/narrow.safetensors", "sha256": sha256}
    (models / f"{MODEL}.yaml").write_text(yaml.safe_dump(definition))
    return clip, ModelDefinition.model_validate(definition)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = tmp_path_factory.mktemp("paper8")
    project = copy_project(root / "project")
    clip, model = add_model(project)
    compose(project.root, OVERRIDES)
    with serving() as hub:
        for name in [*TASKS, "imagenet"]:
            definition = load_task(name)
            content = published(definition, clip, model)
            assert isinstance(definition.source, HubSource)
            hub.publish(definition.source.repository, content)
            if len(definition.source.revision) == 40:  # a pinned commit
                hub.older[definition.source.revision] = content
        hub.gated.add("ILSVRC/imagenet-1k")
        environment = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(root / "cache"), "HF_TOKEN": TOKEN}
        environment |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}
        project.run(sys.executable, str(Path(dag.__file__)), str(project.root), check=True, **environment)
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
        of = results.query("benchmark == @benchmark")
        assert set(of["paradigm"]) >= set(paradigms), benchmark
    accuracies = results.query("benchmark == 'addition' and setting == 'tuned' and metric == 'accuracy'")
    assert set(accuracies["task"]) == {*TASKS, "mean"}
    assert accuracies["value"].between(0, 1).all()
    control = results.query("benchmark == 'negation' and metric == 'control'")
    assert set(control["paradigm"]) == set(paradigms)
    assert (reproduced.root / "reports" / "index.html").stat().st_size > 10_000
