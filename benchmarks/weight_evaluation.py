"""Time of evaluation in weight space: edited models one by one, or several at once with their own weights.

    .venv/bin/python -m benchmarks.weight_evaluation --threads 1 --json evaluation.json
    .venv/bin/python -m benchmarks.weight_evaluation --model ViT-B-32 --size 224 --batch-size 8 --images 16

Random task vectors over all parameters, random images; for ViT-B-32 also random weights. The variants run in turn
(A B C … A B C …) in one process. Set `evaluation.edits` to the fastest number.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from pipeline.analysis.localisation import random_encoder
from pipeline.config import EvaluationSettings
from pipeline.editing import TaskVector
from pipeline.editing.spaces import WeightSpace
from pipeline.models import load_model_definition
from pipeline.models.checkpoints import Provenance
from pipeline.models.devices import prepare_device

AT_ONCE = [1, 2, 4, 8, 16]


def main(
    model: str = "mini-clip",
    size: Annotated[int, typer.Option(help="Pixels of the images' sides.")] = 32,
    images: int = 250,
    batch_size: int = 125,
    edits: Annotated[int, typer.Option(help="Edited models to evaluate.")] = 16,
    repeats: int = 5,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda")] = "auto",
    threads: Annotated[int | None, typer.Option(help="torch's threads; its own choice if not given.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the numbers.")] = None,
) -> None:
    """Time the same edits on the same images with 1, 2, 4 … of them at once, and print medians with their ratios."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    where = prepare_device(device)
    encoder = random_encoder(load_model_definition(model), seed=0)
    tensors = {name: 0.01 * torch.randn(p.shape) for name, p in encoder.visual.named_parameters()}
    vector = TaskVector(tensors, Provenance(model, ("images",), "standard", "weight", encoder.sha256, 0, "0" * 64))
    settings = EvaluationSettings(batch_size=batch_size, directions=1, edits=None)
    spaces = {
        at_once: WeightSpace(encoder, [vector], where, settings.model_copy(update={"edits": at_once}))
        for at_once in AT_ONCE
        if at_once <= edits
    }
    coefficients = torch.linspace(0, 1, edits)[:, None]
    batches = torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8).split(batch_size)

    seconds: dict[int, list[float]] = {at_once: [] for at_once in spaces}
    for at_once, space in [*spaces.items()] * (1 + repeats):
        started = time.perf_counter()
        for _, _, embeddings in space.embeddings(coefficients, batches):
            embeddings.sum().item()  # waits for the device
        seconds[at_once].append(time.perf_counter() - started)
    medians = {at_once: statistics.median(times[1:]) for at_once, times in seconds.items()}  # the first warms up

    title = f"{model}, {edits} edits of {images} images, {where}, {torch.get_num_threads()} threads"
    table = Table("edits at once", "ms", "ratio", title=title)
    for at_once, median in medians.items():
        table.add_row(str(at_once), f"{1e3 * median:.0f}", f"{median / medians[1]:.3f}")
    Console().print(table)
    if json_file:
        content = {"model": model, "images": images, "edits": edits, "device": str(where), "seconds": medians}
        json_file.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
