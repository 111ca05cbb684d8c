"""Fine-tunings of the tiny encoder, one for every kind of recipe."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from pipeline.config import FinetuneSettings, Recipe, RegulariserSettings
from pipeline.images import LabelledImages
from pipeline.images.images import Images
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head
from pipeline.paradigms import make_trainable
from pipeline.training import Plan, ResumeFile, StepRecord, TrainingData, finetune

CPU = torch.device("cpu")
Result = tuple[dict[str, Tensor], list[StepRecord]]


def ignore(record: StepRecord) -> None:
    """Ignore the record of a step."""


@pytest.fixture(scope="session")
def recipes(
    make_recipe: Callable[..., Recipe], make_tau_jp: Callable[..., RegulariserSettings]
) -> Mapping[str, Recipe]:
    """One of every kind."""
    return {
        "weight": make_recipe("weight"),
        "tangent": make_recipe("tangent"),
        "attention": make_recipe("weight", trainable="attention"),
        "cyclic": make_recipe("tangent", make_tau_jp("cyclic")),
        "strict": make_recipe("tangent", make_tau_jp("strict")),
        "strict in weight space": make_recipe("weight", make_tau_jp("strict", norm="squared")),
    }


@pytest.fixture(scope="session")
def others(make_images: Callable[..., LabelledImages]) -> Mapping[str, Images]:
    """Images of three other tasks, not equally many."""
    return {name: make_images(n, seed=10 + n).images for name, n in (("a", 7), ("b", 5), ("c", 3))}


@pytest.fixture(scope="session")
def train(
    make_encoder: Callable[[], ImageEncoder],
    make_head: Callable[..., Head],
    make_images: Callable[..., LabelledImages],
    others: Mapping[str, Images],
    finetune_settings: FinetuneSettings,
) -> Callable[..., Result]:
    """Trains the tiny encoder from θ₀ on 16 images, 4 steps unless told otherwise; keywords replace settings."""

    def run(
        recipe: Recipe,
        data: LabelledImages | None = None,
        epochs: float = 2.0,
        lr: float = 1e-3,
        seed: int = 0,
        resume: ResumeFile | None = None,
        on_step: Callable[[StepRecord], None] = ignore,
        device: torch.device = CPU,
        **settings: object,
    ) -> Result:
        images = data or make_images(16)
        plan = Plan(finetune_settings.model_copy(update=settings), lr, epochs, seed, recipe.regulariser)
        trainable = make_trainable(make_encoder().to(device), recipe)
        head = make_head(int(images.labels.max()) + 1)
        return finetune(trainable, TrainingData(images, head, others), plan, device, on_step, resume)

    return run
