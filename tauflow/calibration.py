"""What a training step, an image of evaluation and a prompt cost on this device, from a few real ones."""

import copy
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.analysis.localisation import count_gradients, ntk_gram, row_bytes
from pipeline.config import Parameters, Recipe, RegulariserSettings
from pipeline.models import load_model_definition
from pipeline.models.encoders import ImageEncoder, build_clip
from pipeline.models.heads import Head, build_head
from pipeline.models.registry import ModelDefinition
from pipeline.paradigms import make_trainable
from pipeline.tangent import linearise
from pipeline.tasks import LabelledImages, TaskCard, load_task
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
    """Of a model: bytes of its weights and of its image encoder's, features of an embedding, and seconds.

    embed: per image, of f(x; θ). propagate: per image, of f₀(x) and J(x) τ of all task vectors. differentiate: per
    image, of a row of the NTK's Jacobian. encode: per prompt of a head.
    """

    weights_bytes: int
    encoder_bytes: int
    features: int
    embed: float
    propagate: float
    differentiate: float
    encode: float


class Calibration:
    """A model with random weights on a device."""

    def __init__(self, params: Parameters, model: str, device: torch.device) -> None:
        """
        Raises:
            UserError: there is no such model.
        """
        self.params, self.device = params, device
        definition = load_model_definition(model)
        clip = build_clip(definition).to(device)
        self.weights_bytes = _bytes(clip.parameters())
        self.encoder = ImageEncoder(clip.get_submodule("visual"), definition, "0" * 64).to(device)
        self.encoder.requires_grad_(False)
        self.features = self.encoder(self._images(1)).shape[1]
        self.embed = self._seconds_per_image(self.encoder)
        self.encode = self._seconds_per_prompt(clip, definition)

    def of_model(self) -> ModelCost:
        """With as many task vectors as there are tasks; what they hold does not matter."""
        row = row_bytes(self.encoder)
        visual, tasks = self.encoder.visual, len(self.params.tasks)
        directions = min(tasks, self.params.evaluation.directions)
        tangents = {name: weight.expand(directions, *weight.shape) for name, weight in visual.named_parameters()}
        linearised = linearise(visual)

        def propagate(images: Tensor) -> None:
            x = self.encoder.normalise(images)
            visual(x)
            for _ in range(0, tasks, directions):
                linearised.tangent(x, tangents)

        return ModelCost(
            self.weights_bytes,
            row,
            self.features,
            embed=self.embed,
            propagate=self._seconds_per_image(propagate),
            differentiate=self._seconds_per_row(row),
            encode=self.encode,
        )

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
        """Of a call on as many images as evaluation takes at once."""
        return self._seconds_each(lambda n: partial(call, self._images(n)), self.params.evaluation.batch_size)

    def _seconds_per_row(self, row: int) -> float:
        """Of a kernel's row, made with as many others as fit, at most 16; products with these count as well.

        Raises:
            UserError: not even two fit.
        """
        memory = self.params.localisation.memory * 2**20
        count_gradients(row, 2, memory)

        def kernel(n: int) -> Callable[[], object]:
            return partial(ntk_gram, self.encoder, self._images(n).cpu(), memory, self.device)

        return self._seconds_each(kernel, min(16, memory // row))

    def _seconds_per_prompt(self, clip: nn.Module, definition: ModelDefinition) -> float:
        """Of a head of the control's first classes, of which each has as many prompts as there are templates."""
        control = load_task(self.params.control)
        card = TaskCard.of(control, {}, (1, 1), None, {})

        def head(n: int) -> Callable[[], object]:
            return partial(build_head, clip, definition, card.model_copy(update={"classes": card.classes[:n]}))

        return self._seconds_each(head, len(card.classes)) / len(card.templates)

    def _seconds_each(self, make: Callable[[int], Callable[[], object]], most: int) -> float:
        """Of what makes n things, per thing: for at most so many, or fewer where that would take long."""
        n = 1
        seconds = self._seconds(make(n))
        while n < most and 4 * seconds < _LONGEST:
            n = min(4 * n, most)
            seconds = self._seconds(make(n))
        return seconds / n

    def _seconds(self, call: Callable[[], object]) -> float:
        """Of the second call."""
        call()
        self._wait()
        began = time.perf_counter()
        call()
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
