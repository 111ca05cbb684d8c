"""Choose the device, with deterministic kernels in full precision."""

import os

import torch

from pipeline.errors import UserError


def prepare_device(name: str) -> torch.device:
    """Make torch deterministic, and return the device ``name`` (``auto``, ``cpu``, ``cuda``, ``cuda:N``).

    ``auto`` is a GPU if there is one, else the CPU. Processes of torchrun take one GPU each.

    Raises:
        UserError: the device does not exist here.
    """
    # cuBLAS is deterministic only with a fixed workspace, and reads this when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Determinism would also fill every new tensor; none is read before it is written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
    # fp32 means fp32 on a GPU as well: TF32 would keep 10 bits of each factor. Use bf16 for speed.
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        if "LOCAL_WORLD_SIZE" in os.environ:
            raise UserError(
                f"params.yaml: finetune.processes is {os.environ['LOCAL_WORLD_SIZE']} but GPUs here number "
                f"{torch.cuda.device_count()}; each process takes one, so lower it"
            )
        raise UserError(
            f"params.yaml: device is {name!r} but GPUs here number {torch.cuda.device_count()}; set it to auto or cpu"
        )
    return device
