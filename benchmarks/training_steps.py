"""Time of one training step, forward and backward: ordinary, through torch.func.jvp, and our tangent propagation.

    .venv/bin/python -m benchmarks.training_steps --model mini-clip --batch 64 --threads 1 --json steps.json

The variants run in turn (A B C A B C …) in one process; the table gives medians and their ratio to the ordinary step.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from pipeline.models import load_model_definition
from pipeline.models.encoders import build_clip
from pipeline.tangent import GenericTangent, TangentVisionTransformer

Step = Callable[[], Tensor]


def is_attention_weight(name: str) -> bool:
    """The weights that attention-only fine-tuning trains."""
    return name.endswith(("attn.in_proj_weight", "attn.out_proj.weight"))


def variants(encoder: nn.Module, images: Tensor) -> dict[str, Step]:
    """Loss of one step by name of the variant; calling it and going backward is the step."""
    named = dict(encoder.named_parameters())
    attention = [name for name in named if is_attention_weight(name)]

    def ordinary(names: list[str]) -> Step:
        def step() -> Tensor:
            for name, parameter in named.items():
                parameter.requires_grad_(name in names)
            return encoder(images).square().mean()

        return step

    def linearised(propagate: GenericTangent | TangentVisionTransformer, names: list[str]) -> Step:
        tangents = {name: (1e-3 * torch.randn_like(named[name]))[None].requires_grad_() for name in names}

        def step() -> Tensor:
            for parameter in named.values():
                parameter.requires_grad_(False)
            for tangent in tangents.values():
                tangent.grad = None
            primal, moved = propagate(images, tangents)
            return (primal + moved[0]).square().mean()

        return step

    explicit, generic = TangentVisionTransformer(encoder), GenericTangent(encoder)
    return {
        "standard": ordinary(list(named)),
        "attention": ordinary(attention),
        "jvp": linearised(generic, list(named)),
        "tangent": linearised(explicit, list(named)),
        "tangent, attention": linearised(explicit, attention),
    }


def timings(steps: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """Seconds of every repeat by variant, after one warm-up each."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step().backward()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def main(
    model: str = "mini-clip",
    batch: int = 64,
    size: Annotated[int, typer.Option(help="Height and width of the images.")] = 32,
    repeats: int = 10,
    threads: int = 1,
    device: str = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print the table and, with --json, write it."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    encoder = build_clip(load_model_definition(model)).get_submodule("visual").to(device)
    images = torch.randn(batch, 3, size, size, device=device)
    seconds = timings(variants(encoder, images), repeats)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    table = Table("variant", "median, ms", "ratio to standard", title=f"{model}, batch {batch}, {threads} thread(s)")
    for name, median in medians.items():
        table.add_row(name, f"{1000 * median:.1f}", f"{median / medians['standard']:.2f}")
    Console().print(table)
    if json_file:
        setting = {"model": model, "batch": batch, "threads": threads, "device": device, "torch": torch.__version__}
        content = {**setting, "machine": platform.processor() or platform.machine(), "seconds": seconds}
        json_file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
