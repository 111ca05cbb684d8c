"""Load stored images as augmented batches on the device, one step ahead of the computation."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from pipeline.config import PaddedCrop, ResizedCrop
from pipeline.models.resampling import Size
from pipeline.training.augmentation import augment
from pipeline.training.batches import Batches, OtherBatches, Picked
from pipeline.training.processes import Processes


@dataclass(frozen=True)
class Batch:
    """This process's share of a batch, augmented, on the device.

    whole: the number of images in the global batch.
    """

    images: UInt8[Tensor, "n channels height width"]
    labels: Int64[Tensor, " n"] | None
    whole: int


@dataclass(frozen=True)
class StepData:
    """The data of one step: images of the task, and of other tasks for a regulariser."""

    number: int
    epoch: int
    own: Batch
    others: Sequence[Batch]


@dataclass(frozen=True)
class Feed:
    """Loads the batches of each step.

    size: (height, width) of resized crops; ``None``: that of the images.
    """

    batches: Batches
    others: OtherBatches | None
    crop: PaddedCrop | ResizedCrop
    size: Size | None
    device: torch.device
    processes: Processes

    def iterate(self, first: int, steps: int) -> Iterator[StepData]:
        """Yield the steps from ``first`` up to ``steps``; for a GPU the next one is loaded during the computation."""
        loaded = self._load_steps(first, steps)
        return _prefetch(loaded, self.device) if self.device.type == "cuda" else loaded

    def _load_steps(self, first: int, steps: int) -> Iterator[StepData]:
        for step, epoch, own in self.batches.iterate(first, steps):
            others = self.others.of_step(step) if self.others else []
            yield StepData(step, epoch, self._load(own), [self._load(other) for other in others])

    def _load(self, picked: Picked) -> Batch:
        """Read this process's share."""
        images = self._to_device(_gather(picked.images, self.processes.share(picked.indices), self._pinned))
        draws = self._to_device(self.processes.share(picked.draws))
        labels = None
        if picked.labels is not None:
            labels = self._to_device(torch.from_numpy(self.processes.share(picked.labels)))
        return Batch(augment(self.crop, images, draws, self.size), labels, len(picked))

    @property
    def _pinned(self) -> bool:
        return self.device.type == "cuda"

    def _to_device(self, tensor: Tensor) -> Tensor:
        """Copy to the device; copies from pinned memory are asynchronous."""
        return (tensor.pin_memory() if self._pinned else tensor).to(self.device, non_blocking=True)


def _gather(images: np.ndarray, indices: Int64[np.ndarray, " n"], pinned: bool) -> UInt8[Tensor, "n _ _ _"]:
    """Return a copy of the images at ``indices``, in the memory that the GPU copies from."""
    gathered = torch.empty((len(indices), *images.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
    np.take(images, indices, axis=0, out=gathered.numpy(), mode="clip")  # unlike "raise", needs no buffer
    return gathered


def _prefetch(steps: Iterator[StepData], device: torch.device) -> Iterator[StepData]:
    """Yield the same steps, each loaded by a thread on another CUDA stream while the previous one is computed."""
    stream = torch.cuda.Stream(device)

    def load_next() -> tuple[StepData | None, torch.cuda.Event]:
        ready = torch.cuda.Event()
        with torch.cuda.stream(stream):
            step = next(steps, None)
            ready.record(stream)
        return step, ready

    with ThreadPoolExecutor(1) as thread:
        loading = thread.submit(load_next)
        while True:
            step, ready = loading.result()
            if step is None:
                return
            loading = thread.submit(load_next)
            _hand_over(step, ready, torch.cuda.current_stream(device))
            yield step


def _hand_over(step: StepData, ready: torch.cuda.Event, stream: torch.cuda.Stream) -> None:
    """Make a stream wait until the batches are loaded, and keep their memory until the stream has used it."""
    stream.wait_event(ready)
    for batch in (step.own, *step.others):
        batch.images.record_stream(stream)
        if batch.labels is not None:
            batch.labels.record_stream(stream)
