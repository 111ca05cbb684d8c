"""Time of evaluation in tangent space: a coefficient search and a heatmap, against one pass and a model per α.

    .venv/bin/python -m benchmarks.tangent_evaluation --threads 1 --json evaluation.json

mini-clip with eight random task vectors on random images; the variants run in turn (A B C … A B C …) in one process.
`pass` propagates one direction through the linearised encoder, the minimum for evaluating an edit. `naive` follows the
published code: for every α it loads θ₀ and the task vectors from their files, sums them, and evaluates with
torch.func.jvp.
"""

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from artifacts.evaluation.edit_spaces import read_encoder
from pipeline.analysis.disentanglement import disturbances
from pipeline.config import EvaluationSettings, Grid
from pipeline.editing import TaskVector, read_task_vector, sum_vectors, write_task_vector
from pipeline.editing.spaces import FeatureSpace, TangentSpace
from pipeline.evaluation.prediction import Benchmark, predict
from pipeline.models.checkpoints import Provenance
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head
from pipeline.tangent import GenericTangent

MODEL, TASKS, CLASSES, BATCH = "mini-clip", 8, 10, 125
CPU = torch.device("cpu")
SETTINGS = EvaluationSettings(batch_size=BATCH, directions=TASKS, edits=1)
ALPHAS = Grid(min=0, max=1, points=21).values()
# Targets: variant, reference, largest ratio.
TARGETS = [("21 α, one direction", "pass", 1.1)]


def workload(images: int, directory: Path) -> dict[str, Callable[[], object]]:
    """Return the timed functions by name."""
    random = np.random.default_rng(0)
    inputs = random.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8)
    head = Head(torch.nn.functional.normalize(torch.randn(CLASSES, 128)), [f"{i}" for i in range(CLASSES)])
    benchmark = Benchmark("images", inputs, random.integers(0, CLASSES, images), head)
    vectors = [_vector(read_encoder(MODEL)) for _ in range(TASKS)]
    for position, vector in enumerate(vectors):
        write_task_vector(directory / f"{position}.safetensors", vector)

    space = TangentSpace(read_encoder(MODEL), vectors, CPU, SETTINGS)
    image_tensor = torch.from_numpy(inputs)
    image_features = torch.cat(list(space.features(image_tensor))).numpy()
    cached = Benchmark("images", image_features, benchmark.labels, head)
    features = FeatureSpace(TASKS, CPU, SETTINGS)
    grid = torch.tensor(ALPHAS)[:, None].expand(-1, TASKS)
    batches = torch.from_numpy(inputs).split(BATCH)
    twenty = np.linspace(-3, 3, 20).tolist()
    return {
        "pass": lambda: list(space.embeddings(torch.ones(1, TASKS), batches)),
        "21 α, one direction": lambda: predict(space, grid, [benchmark], ""),
        "features of 8 vectors": lambda: list(space.features(image_tensor)),
        "21 α, from features": lambda: predict(features, grid, [cached], ""),
        "heatmap 20 × 20, from features": lambda: list(itertools.islice(disturbances(features, cached, 0, twenty), 1)),
        "21 α, naive": lambda: [_naive(alpha, batches, head, directory) for alpha in ALPHAS],
    }


def _vector(encoder: ImageEncoder) -> TaskVector:
    tensors = {name: 0.01 * torch.randn(p.shape) for name, p in encoder.visual.named_parameters()}
    return TaskVector(tensors, Provenance(MODEL, ("images",), "ntk", "tangent", encoder.sha256, 0, "0" * 64))


def _naive(alpha: float, batches: tuple[torch.Tensor, ...], head: Head, directory: Path) -> list[torch.Tensor]:
    encoder = read_encoder(MODEL).eval().requires_grad_(False)
    vectors = [read_task_vector(directory / f"{position}.safetensors") for position in range(TASKS)]
    edit = {name: tensor[None] for name, tensor in (sum_vectors(vectors) * alpha).tensors.items()}
    linearised = GenericTangent(encoder.visual)
    classes = []
    for batch in batches:
        primal, tangent = linearised(encoder.normalise(batch), edit)
        classes.append(head.logits(primal + tangent[0]).argmax(dim=1))
    return classes


def main(
    images: int = 250,
    repeats: int = 5,
    threads: Annotated[int | None, typer.Option(help="torch's threads; its own choice if not given.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the numbers.")] = None,
) -> None:
    """Time the variants in turn, and print medians with their ratios to one pass."""
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as directory:
        variants = workload(images, Path(directory))
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for name, run in [*variants.items()] * (1 + repeats):
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}  # the first warms up
    table = Table("variant", "ms", "ratio", title=f"{MODEL}, {images} images, {torch.get_num_threads()} threads")
    for name, median in medians.items():
        table.add_row(name, f"{1e3 * median:.0f}", f"{median / medians['pass']:.3f}")
    console = Console()
    console.print(table)
    for variant, reference, most in TARGETS:
        console.print(f"{variant} / {reference}: {medians[variant] / medians[reference]:.3f}, aimed at ≤ {most}")
    if json_file:
        json_file.write_text(json.dumps({"images": images, "repeats": repeats, "seconds": medians}, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
