"""The processes that share one fine-tuning: this one, or those that torchrun started."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

Rows = TypeVar("Rows", Tensor, np.ndarray)


@dataclass(frozen=True)
class Processes:
    """A group of ``count`` processes, and this one's ``rank``."""

    rank: int = 0
    count: int = 1

    def share(self, batch: Rows) -> Rows:
        """Return this process's rows of a global batch."""
        return batch[self.rank :: self.count]

    def total(self, numbers: Tensor) -> Tensor:
        """Return the elementwise sum over all processes, on the device of the numbers."""
        if self.count > 1:
            distributed.all_reduce(numbers)
        return numbers

    def replicate(self, module: nn.Module) -> nn.Module:
        """Return a module whose backward pass averages gradients over the processes."""
        return module if self.count == 1 else DistributedDataParallel(module)

    def alone(self, replica: nn.Module) -> AbstractContextManager[None]:
        """Accumulate gradients in this process only, while the block runs; more follow in the same step."""
        return replica.no_sync() if isinstance(replica, DistributedDataParallel) else nullcontext()


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the processes that torchrun started, if it started this one."""
    if not distributed.is_torchelastic_launched():
        yield Processes()
        return
    # The backend depends on the device: gloo for the CPU, nccl for GPUs.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
