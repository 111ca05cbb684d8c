"""Torch's settings after a device is chosen; checked in a separate process, since they apply to all of it."""

import subprocess
import sys

CHECKS = """
import torch
from pipeline.models.devices import prepare_device

torch.set_float32_matmul_precision("medium")
assert prepare_device("cpu") == torch.device("cpu")
assert torch.are_deterministic_algorithms_enabled()
assert torch.get_float32_matmul_precision() == "highest"
assert not torch.backends.cuda.matmul.allow_tf32
assert not torch.backends.cudnn.allow_tf32
assert not torch.utils.deterministic.fill_uninitialized_memory
"""


def test_kernels_are_deterministic_and_in_full_precision() -> None:
    ended = subprocess.run([sys.executable, "-W", "error", "-c", CHECKS], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
