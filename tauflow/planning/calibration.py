"""Measure the cost of a training step, an evaluated image and a prompt on this device by running a few of them."""

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
from pipeline.images import LabelledImages
from pipeline.models import load_model_definition
from pipeline.models.encoders import ImageEncoder, build_clip
from pipeline.models.heads import Head, build_head
from pipeline.models.registry import ModelDefinition
from pipeline.paradigms import make_trainable
from pipeline.tangent import linearise
from pipeline.tasks import load_task
from pipeline.training import Plan, TrainingData, finetune

# Measurements that would take longer use fewer images and are scaled up in proportion.
_MAX_SECONDS = 2.0
# How often a few steps are timed on a CPU; the fastest counts, since other processes may share it.
_REPEATS = 3
# Rough cost of a step in forward passes; it only decides how many images are measured.
_FORWARDS_PER_STEP = 6
_CLASSES = 100


@dataclass(frozen=True)
class StepCost:
    """Cost of a training step.

    seconds: duration.
    peak_bytes: peak memory of tensors; ``None`` on a CPU.
    trained_bytes: size of the trained tensors.
    """

    seconds: float
    peak_bytes: int | None
    trained_bytes: int


@dataclass(frozen=True)
class ModelCost:
    """Sizes and costs of a model.

    weights_bytes, encoder_bytes: size of all weights, and of the image encoder's.
    features: width of an embedding.
    embed: seconds per image for f(x; θ).
    propagate: seconds per image for f₀(x) and J(x) τ of all task vectors.
    differentiate: seconds per image for a row of the NTK's Jacobian.
    encode: seconds per prompt of a head.
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
            UserError: the model is unknown.
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
        """Measure the model with one task vector per task; their values do not matter."""
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
        """Measure a training step by a short fine-tuning on one process's share of a batch, or on fewer images if slow.

        Raises:
            UserError: the recipe does not fit the model.
        """
        settings = self.params.finetune
        share = -(-settings.batch_size // settings.processes)
        affordable = int(_MAX_SECONDS / (_FORWARDS_PER_STEP * self.embed))
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

        train(2)  # warm-up, including one-time allocations
        on_gpu, steps = self.device.type == "cuda", 20 if self.device.type == "cuda" else 2
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        repeats = 1 if on_gpu else _REPEATS
        seconds = min(self._duration(lambda: train(steps)) for _ in range(repeats)) / steps * share / n
        peak = torch.cuda.max_memory_allocated(self.device) if on_gpu else None
        return StepCost(seconds, peak, _bytes(trainable.trained.values()))

    def _images(self, n: int) -> Tensor:
        size = self.encoder.image_size or (224, 224)
        return torch.randint(0, 256, (n, 3, *size), dtype=torch.uint8, device=self.device)

    @torch.no_grad()
    def _seconds_per_image(self, call: Callable[[Tensor], object]) -> float:
        """Return the time per image of a call on an evaluation batch."""
        return self._seconds_each(lambda n: partial(call, self._images(n)), self.params.evaluation.batch_size)

    def _seconds_per_row(self, row: int) -> float:
        """Return the time per row of a kernel of up to 16 rows, including the products with the other rows.

        Raises:
            UserError: fewer than two rows fit into `localisation.memory`.
        """
        memory = self.params.localisation.memory * 2**20
        count_gradients(row, 2, memory)

        def kernel(n: int) -> Callable[[], object]:
            return partial(ntk_gram, self.encoder, self._images(n).cpu(), memory, self.device)

        return self._seconds_each(kernel, min(16, memory // row))

    def _seconds_per_prompt(self, clip: nn.Module, definition: ModelDefinition) -> float:
        """Return the time per prompt of a head of the control's first classes, one prompt per template."""
        control = load_task(self.params.control)

        def head(n: int) -> Callable[[], object]:
            return partial(build_head, clip, definition, control.classes[:n], control.templates)

        return self._seconds_each(head, len(control.classes)) / len(control.templates)

    def _seconds_each(self, make: Callable[[int], Callable[[], object]], most: int) -> float:
        """Return the time per item of ``make(n)``, for n at most ``most`` and smaller if that would take long."""
        n = 1
        seconds = self._seconds(make(n))
        while n < most and 4 * seconds < _MAX_SECONDS:
            n = min(4 * n, most)
            seconds = self._seconds(make(n))
        return seconds / n

    def _seconds(self, call: Callable[[], object]) -> float:
        """Return the duration of a call after a first one."""
        call()
        return self._duration(call)

    def _duration(self, call: Callable[[], object]) -> float:
        """Return the duration of a call.

        One thread on a CPU takes its CPU time, whatever else the machine does meanwhile.
        """
        self._wait()
        began, cpu = time.perf_counter(), time.process_time()
        call()
        self._wait()
        alone = self.device.type == "cpu" and torch.get_num_threads() == 1
        return time.process_time() - cpu if alone else time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _scaled(regulariser: RegulariserSettings | None, share: float) -> RegulariserSettings | None:
    """Return the settings with the batch of other tasks' images scaled by ``share``."""
    if regulariser is None or regulariser.others is None:
        return regulariser
    size = max(1, round(share * regulariser.others.batch_size))
    return regulariser.model_copy(update={"others": regulariser.others.model_copy(update={"batch_size": size})})


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)
