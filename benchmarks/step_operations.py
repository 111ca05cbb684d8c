"""Count the operations of a training step on shapes alone: calls, and bytes of those other than matrix products.

    .venv/bin/python -m benchmarks.step_operations --model ViT-B-32 --batch 128

A call is a torch operation that runs a kernel, before autocast adds its casts. If a step takes longer than
products / (matrix product speed) + bytes / (memory speed), look at its calls: each costs the host 20 to 40 µs, and a
device that waits for the host is idle.
"""

from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.steps import Workbench, Workload, variants

# Operations without a kernel: views of the same memory, or uninitialised memory.
_VIEWS = {
    "_unsafe_view", "alias", "as_strided", "detach", "empty", "empty_like", "expand", "permute", "select", "slice",
    "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view",
}  # fmt: skip
_PRODUCTS = {"addmm", "baddbmm", "bmm", "convolution", "convolution_backward", "mm"}


class Calls(TorchDispatchMode):
    """Count calls by name, and the bytes that they read and write, while active."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.__name__.partition(".")[0]
        if name not in _VIEWS:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, torch.Tensor)]
            self.calls[name] += 1
            self.bytes[name] += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return out


def count(setting: Workload, variant: str) -> Calls:
    """Return the calls of one step after a warm-up step, which makes one-time allocations."""
    step = variants(Workbench(setting))[variant]
    step()
    with Calls() as calls:
        step()
    return calls


def main(
    model: str = "ViT-B-32",
    batch: int = 128,
    size: Annotated[int, typer.Option(help="Height and width of the images.")] = 224,
    other_batch: Annotated[int, typer.Option(help="Images of each other task for the τJp penalty.")] = 16,
) -> None:
    """Print a row per kind of step, in fp32."""
    setting = Workload(model, batch, size, 1, "meta", "fp32", other_batch, 1)
    table = Table("step", "calls", "of these products", "GB of all others", title=f"{model}, batch {batch}")
    for variant in ("standard", "tangent", "attention", "tau_jp cyclic"):
        counted = count(setting, variant)
        products = sum(counted.calls[name] for name in _PRODUCTS)
        others = sum(size for name, size in counted.bytes.items() if name not in _PRODUCTS)
        table.add_row(variant, str(counted.calls.total()), str(products), f"{others / 1e9:.1f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
