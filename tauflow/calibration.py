"""What one training step and one image of evaluation cost on this device, from a few real ones on random images."""

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.config import Parameters, Recipe, RegulariserSettings
from pipeline.models import load_model_definition
from pipeline.models.encoders import ImageEncoder, build_clip
from pipeline.models.heads import Head
from pipeline.paradigms import make_trainable
from pipeline.tangent import linearise
from pipeline.tasks import LabelledImages
from pipeline.training import Plan, TrainingData, finetune

# Seconds. What would take longer is measured on fewer images, and taken to be in proportion to them.
_LONGEST = 2.0
# A step's forward and backward passes in forward passes: a rough figure that only decides how many images are measured.
_FORWARDS_PER_STEP = 6
_CLASSES = 100


@dataclass(frozen=True)
class StepCost:
    """Of a training step: seconds, the peak of tensors in bytes (``None`` on a CPU), and bytes of what it trains."""

    seconds: float
    peak_bytes: int | None
    trained_bytes: int


@dataclass(frozen=True)
class ModelCost:
    """Of a model: bytes of its weights, features of an embedding, and seconds per image of evaluation.

    embed: f(x; θ). propagate: f₀(x), and J(x) τ of all task vectors.
    """

    weights_bytes: int
    features: int
    embed: float
    propagate: float


class Calibration:
    """A model with random weights on a device."""

    def __init__(self, params: Parameters, model: str, device: torch.device) -> None:
        """
        Raises:
            UserError: there is no such model.
        """
        self.params, self.device = params, device
        definition = load_model_definition(model)
        clip = build_clip(definition)
        self.weights_bytes = _bytes(clip.parameters())
        self.encoder = ImageEncoder(clip.get_submodule("visual"), definition, "0" * 64).to(device)
        self.encoder.requires_grad_(False)
        self.features = self.encoder(self._images(1)).shape[1]
        self.embed = self._seconds_per_image(self.encoder)

    def of_model(self) -> ModelCost:
        """With as many task vectors as there are tasks; what they hold does not matter."""
        visual, tasks = self.encoder.visual, len(self.params.tasks)
        directions = min(tasks, self.params.evaluation.directions)
        tangents = {name: weight.expand(directions, *weight.shape) for name, weight in visual.named_parameters()}
        linearised = linearise(visual)

        def propagate(images: Tensor) -> None:
            x = self.encoder.normalise(images)
            visual(x)
            for _ in range(0, tasks, directions):
                linearised.tangent(x, tangents)

        return ModelCost(self.weights_bytes, self.features, self.embed, self._seconds_per_image(propagate))

    def of_step(self, recipe: Recipe) -> StepCost:
        """By a short fine-tuning of as many images as one process takes, or fewer where that would take long.

        Raises:
            UserError: the recipe does not fit the model.
        """
        settings = self.params.finetune
        share = -(-settings.batch_size // settings.processes)
        affordable = int(_LONGEST / (_FORWARDS_PER_STEP * self.embed))
        n = min(share, max(settings.accumulation, affordable))
        images = self._images(n).cpu().numpy()
        head = Head(torch.randn(_CLASSES, self.features), [str(label) for label in range(_CLASSES)])
        data = LabelledImages(images, np.arange(n, dtype=np.int64) % _CLASSES)
        regulariser = _scaled(recipe.regulariser, n / settings.batch_size)
        others = regulariser.others.named() if regulariser and regulariser.others else []
        training = TrainingData(data, head, dict.fromkeys(others, images))
        trainable = make_trainable(copy.deepcopy(self.encoder), recipe)
        alone = settings.model_copy(update={"processes": 1})
        plan = Plan(alone, lr=1e-9, epochs=1.0, seed=0, regulariser=regulariser)

        def train(steps: int) -> None:
            finetune(trainable, training, replace(plan, steps=steps), self.device, lambda record: None)

        train(2)  # warms up, and makes what is made once
        on_gpu, steps = self.device.type == "cuda", 20 if self.device.type == "cuda" else 2
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        began = time.perf_counter()
        train(steps)
        seconds = (time.perf_counter() - began) / steps * share / n
        peak = torch.cuda.max_memory_allocated(self.device) if on_gpu else None
        return StepCost(seconds, peak, _bytes(trainable.trained.values()))

    def _images(self, n: int) -> Tensor:
        size = self.encoder.image_size or (224, 224)
        return torch.randint(0, 256, (n, 3, *size), dtype=torch.uint8, device=self.device)

    @torch.no_grad()
    def _seconds_per_image(self, call: Callable[[Tensor], object]) -> float:
        """Of a call on as many images as evaluation takes at once, or fewer where that would take long."""
        n, most = 1, self.params.evaluation.batch_size
        seconds = self._seconds(call, n)
        while n < most and 4 * seconds < _LONGEST:
            n = min(4 * n, most)
            seconds = self._seconds(call, n)
        return seconds / n

    def _seconds(self, call: Callable[[Tensor], object], n: int) -> float:
        """Of the second call."""
        images = self._images(n)
        call(images)
        self._wait()
        began = time.perf_counter()
        call(images)
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _scaled(regulariser: RegulariserSettings | None, share: float) -> RegulariserSettings | None:
    """With a share of the images of other tasks."""
    if regulariser is None or regulariser.others is None:
        return regulariser
    size = max(1, round(share * regulariser.others.batch_size))
    return regulariser.model_copy(update={"others": regulariser.others.model_copy(update={"batch_size": size})})


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
