"""From stored images to augmented batches on the device, one step ahead of the computation."""

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
    """This process's share of a batch, augmented, on the device; ``whole`` is how many images all processes share."""

    images: UInt8[Tensor, "n channels height width"]
    labels: Int64[Tensor, " n"] | None
    whole: int


@dataclass(frozen=True)
class StepData:
    """What one step sees: images of the task, and of other tasks for a regulariser."""

    step: int
    epoch: int
    own: Batch
    others: Sequence[Batch]


@dataclass(frozen=True)
class Feed:
    """Makes the steps' batches.

    size: of a resized crop (height, width); ``None``: the images'.
    """

    batches: Batches
    others: OtherBatches | None
    crop: PaddedCrop | ResizedCrop
    size: Size | None
    device: torch.device
    processes: Processes

    def iterate(self, first: int, steps: int) -> Iterator[StepData]:
        """From step ``first`` up to ``steps``; on a GPU the next one is being made while one is computed."""
        made = self._make(first, steps)
        return _ahead(made, self.device) if self.device.type == "cuda" else made

    def _make(self, first: int, steps: int) -> Iterator[StepData]:
        for step, epoch, own in self.batches.iterate(first, steps):
            others = self.others.of_step(step) if self.others else []
            yield StepData(step, epoch, self._load(own), [self._load(other) for other in others])

    def _load(self, picked: Picked) -> Batch:
        """Only this process's share is read."""
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
        """From pinned memory a copy waits for nobody."""
        return (tensor.pin_memory() if self._pinned else tensor).to(self.device, non_blocking=True)


def _gather(images: np.ndarray, indices: Int64[np.ndarray, " n"], pinned: bool) -> UInt8[Tensor, "n _ _ _"]:
    """A copy of the images at ``indices``, read straight into the memory that the GPU copies from."""
    gathered = torch.empty((len(indices), *images.shape[1:]), dtype=torch.uint8, pin_memory=pinned)
    np.take(images, indices, axis=0, out=gathered.numpy(), mode="clip")  # which, unlike "raise", needs no buffer
    return gathered


def _ahead(made: Iterator[StepData], device: torch.device) -> Iterator[StepData]:
    """The same steps, each made by a thread, on a CUDA stream of its own, while the one before is computed."""
    stream = torch.cuda.Stream(device)

    def make() -> tuple[StepData | None, torch.cuda.Event]:
        ready = torch.cuda.Event()
        with torch.cuda.stream(stream):
            data = next(made, None)
            ready.record(stream)
        return data, ready

    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(make)
        while True:
            data, ready = coming.result()
            if data is None:
                return
            coming = thread.submit(make)
            _hand_over(data, ready, torch.cuda.current_stream(device))
            yield data


def _hand_over(data: StepData, ready: torch.cuda.Event, stream: torch.cuda.Stream) -> None:
    """Make a stream wait until the data is there, and its memory wait until the stream has used it."""
    stream.wait_event(ready)
    for batch in (data.own, *data.others):
        batch.images.record_stream(stream)
        if batch.labels is not None:
            batch.labels.record_stream(stream)
