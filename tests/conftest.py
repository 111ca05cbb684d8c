"""Fixtures that several layers share: a real but tiny open_clip model, its encoder, task vectors, small images."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from pipeline.config import (
    EvaluationSettings,
    Extension,
    FinetuneSettings,
    IntervalSettings,
    OtherTasks,
    PaddedCrop,
    Recipe,
    RegulariserSettings,
)
from pipeline.editing import TaskVector
from pipeline.images import LabelledImages
from pipeline.io.arrays import fingerprint
from pipeline.models.checkpoints import Provenance, Space
from pipeline.models.encoders import ImageEncoder, build_clip
from pipeline.models.heads import Head
from pipeline.models.registry import CommittedWeights, ModelDefinition
from pipeline.tasks import TaskCard
from tauflow.dvc.composition import compose
from tests.forks import ForkServer, fork_server

settings.register_profile("tauflow", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("tauflow")

torch.set_num_threads(1)  # with tiny models, more threads only wait for each other

ROOT = Path(__file__).parents[1]
TINY = "ViT-test-tiny"
TINY_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}

# Processes of tests take turns in this list: while one reproduces the study of tests/pipeline, others need not wait.
LONGEST_FIRST = (
    "pipeline/test_repro.py",
    "docs/test_tutorial.py",
    "pipeline/test_paper8.py",
    "docs/test_how_to.py",
    "pipeline/test_sequences.py",
    "pipeline/test_parallel.py",
    "pipeline/test_promises.py",
    "pipeline/test_registry.py",
    "pipeline/test_remotes.py",
    "pipeline/test_training.py",
    "pipeline/test_experiments.py",
    "pipeline/test_files_touched.py",
    "pipeline/test_tracking.py",
    "pipeline/test_merged.py",
    "pipeline/test_imported.py",
    "pipeline/test_rerun_stage.py",
    "pipeline/test_closing.py",
    "pipeline/test_commands.py",
    "pipeline/test_mistakes.py",
    "pipeline/test_hub_tasks.py",
    "pipeline/test_faults.py",
    "pipeline/test_preload.py",
    "pipeline/test_failures.py",
    "pipeline/test_compositions.py",
    "pipeline/test_plan.py",
    "report/test_browser.py",
    "docs/test_site.py",
    "tracking/test_tracker.py",
    "cli/test_study_identity.py",
    "training/test_processes.py",
)

EncoderFactory = Callable[[], ImageEncoder]
ImageFactory = Callable[..., LabelledImages]
VectorFactory = Callable[..., TaskVector]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left with one of them at the end."""
    place = {ROOT / "tests" / name: number for number, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def study_parameters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parameters of the committed study, whatever the working tree was composed for."""
    path = tmp_path_factory.mktemp("study") / "params.yaml"
    compose(ROOT, [], path)
    return path


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """A process that has imported torch, for stages and commands."""
    with fork_server(tmp_path_factory.mktemp("forks")) as server:
        yield server


@pytest.fixture
def no_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages start no background tracker."""
    monkeypatch.setenv("TAUFLOW_TRACKER", "off")


@pytest.fixture(scope="session")
def tiny_config() -> dict[str, object]:
    """The open_clip configuration of the tiny model."""
    return copy.deepcopy(TINY_CONFIG)


@pytest.fixture(scope="session")
def tiny_definition(tmp_path_factory: pytest.TempPathFactory) -> ModelDefinition:
    """A model of a tiny architecture that open_clip knows; its weights file does not exist."""
    path = tmp_path_factory.mktemp("architectures") / f"{TINY}.json"
    path.write_text(json.dumps(TINY_CONFIG))
    open_clip.add_model_config(path)
    return ModelDefinition(
        name="tiny",
        version=1,
        architecture=TINY,
        weights=CommittedWeights(kind="committed", path=Path("no/such.safetensors"), sha256="0" * 64),
        mean=(0.5, 0.4, 0.3),
        std=(0.25, 0.3, 0.35),
        licence="Apache-2.0",
        citation="none",
    )


@pytest.fixture(scope="session")
def tiny_clip(tiny_definition: ModelDefinition) -> nn.Module:
    """The tiny CLIP with seeded random weights; not to be changed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_clip(tiny_definition).requires_grad_(False)


@pytest.fixture(scope="session")
def make_encoder(tiny_clip: nn.Module, tiny_definition: ModelDefinition) -> EncoderFactory:
    """Makes fresh copies of the tiny image encoder, trainable, at the same θ₀."""

    def make() -> ImageEncoder:
        visual = copy.deepcopy(tiny_clip.get_submodule("visual")).requires_grad_(True)
        weights = {name: tensor.detach().numpy() for name, tensor in visual.state_dict().items()}
        return ImageEncoder(visual, tiny_definition, fingerprint(weights))

    return make


@pytest.fixture(scope="session")
def base(make_encoder: EncoderFactory) -> dict[str, Tensor]:
    """θ₀ of the tiny encoder by parameter name."""
    return {name: p.detach().clone() for name, p in make_encoder().visual.named_parameters()}


@pytest.fixture(scope="session")
def provenance(base: dict[str, Tensor]) -> Provenance:
    """The origin of a task vector of the tiny encoder."""
    sha256 = fingerprint({name: tensor.numpy() for name, tensor in base.items()})
    return Provenance("tiny", ("digits",), "standard", "weight", sha256, 0, "c" * 64)


@pytest.fixture(scope="session")
def make_vector(base: dict[str, Tensor], provenance: Provenance) -> VectorFactory:
    """Makes seeded random task vectors over all parameters, or those whose name contains ``part``."""

    def make(seed: int, scale: float = 0.1, part: str = "") -> TaskVector:
        random = torch.Generator().manual_seed(seed)
        tensors = {
            name: scale * torch.randn(tensor.shape, generator=random) for name, tensor in base.items() if part in name
        }
        return TaskVector(tensors, provenance)

    return make


@pytest.fixture(scope="session")
def make_images() -> ImageFactory:
    """Makes seeded random images with labels that name every class in turn."""

    def make(n: int, classes: int = 2, seed: int = 0, size: int = 32) -> LabelledImages:
        random = np.random.default_rng(seed)
        images = random.integers(0, 256, (n, 3, size, size), dtype=np.uint8)
        return LabelledImages(images, np.arange(n, dtype=np.int64) % classes)

    return make


@pytest.fixture(scope="session")
def make_head() -> Callable[..., Head]:
    """Makes a seeded random head for the tiny encoder, rows of norm 10."""

    def make(classes: int, seed: int = 0, features: int = 16) -> Head:
        weight = torch.randn(classes, features, generator=torch.Generator().manual_seed(seed))
        return Head(10 * nn.functional.normalize(weight, dim=1), [f"class {i}" for i in range(classes)])

    return make


@pytest.fixture
def card() -> TaskCard:
    """A task of three classes and two templates."""
    return TaskCard(
        name="pets",
        version=1,
        description="pets",
        classes=["zebra", "cat", "guinea pig"],
        templates=["a photo of a {}", "the {} of a friend"],
        counts={"train": 3, "val": 3, "test": 3},
        image_size=(32, 32),
        source="none",
        licence="none",
        citation="none",
    )


@pytest.fixture(scope="session")
def intervals() -> IntervalSettings:
    """Bootstrap settings with enough resamples to compare quantiles."""
    return IntervalSettings(confidence=0.95, resamples=2000, seed=0)


@pytest.fixture(scope="session")
def evaluation() -> EvaluationSettings:
    """Settings for evaluating the tiny encoder in batches that do not divide the images evenly."""
    return EvaluationSettings(batch_size=7, directions=2, edits=1)


@pytest.fixture(scope="session")
def finetune_settings() -> FinetuneSettings:
    """Hyper-parameters for the tiny encoder."""
    return FinetuneSettings(
        lr=None,
        batch_size=8,
        weight_decay=0.0,
        steps=None,
        warmup=0.1,
        warmup_steps=None,
        max_grad_norm=1.0,
        augmentation=PaddedCrop(kind="padded_crop", padding=1),
        precision="fp32",
        accumulation=1,
        processes=1,
        checkpointing=False,
        compile=False,
    )


@pytest.fixture(scope="session")
def make_recipe() -> Callable[..., Recipe]:
    """Makes recipes; all tensors and no regulariser unless told otherwise."""

    def make(
        space: Space = "weight",
        regulariser: RegulariserSettings | None = None,
        trainable: str = "all",
        extension: Extension | None = None,
    ) -> Recipe:
        return Recipe(trainable=trainable, trained_in=space, regulariser=regulariser, extension=extension, start=None)

    return make


@pytest.fixture(scope="session")
def make_tau_jp() -> Callable[..., RegulariserSettings]:
    """Makes the settings of τJp regularisation."""

    def make(
        mode: Literal["cyclic", "strict"] = "cyclic", norm: str = "l2", weight: float = 0.4, batch_size: int = 3
    ) -> RegulariserSettings:
        others = OtherTasks(tasks=["a", "b"], control="c", arrivals=None, mode=mode, batch_size=batch_size)
        return RegulariserSettings(name="tau_jp", weight=weight, options={"norm": norm}, others=others)

    return make
