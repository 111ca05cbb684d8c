"""Peak memory of a call: torch's count of tensors' bytes on a GPU, the process's resident set on the CPU."""

import gc
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

# Return freed blocks of 64 KiB and more to the system, and take smaller ones from a single arena. Otherwise glibc keeps
# memory that a warm-up freed, in amounts that vary from run to run.
REPEATABLE = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}


@dataclass(frozen=True)
class Peak:
    """Peak bytes of a call: in addition to those held just before, and in total."""

    step: int
    total: int


def peak_memory(call: Callable[[], None], device: str) -> Peak:
    """Return the peak of the second call; the first fills the libraries' caches.

    On the CPU it is only meaningful if the process was started with ``REPEATABLE`` in its environment.
    """
    call()
    gc.collect()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        total = torch.cuda.max_memory_allocated()
    else:
        # Not getrusage: its maximum cannot be reset and begins at that of the parent process.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _resident("VmRSS")
        call()
        total = _resident("VmHWM")
    return Peak(total - before, total)


def _resident(field: str) -> int:
    status = Path(f"/proc/{os.getpid()}/status").read_text(encoding="ascii")
    match = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    assert match, f"/proc has no {field}: peak memory on the CPU is measured under Linux only"
    return 1024 * int(match[1])
