"""Images per second of fine-tuning, through the real loop: optimiser, augmentation and transfer included.

    .venv/bin/python -m benchmarks.throughput --model ViT-B-32 --model ViT-L-14 --json throughput.json

Weights, images and labels are random; images are packed in a memory-mapped file at the model's size, and cropped as in
the papers' code. Recipes and variants run in turn, each with as many warm-up steps as timed steps. In the table:

- fed: images of the task per second, from the file. on the device: the same, with a batch that is already there; if
  both are equal, fine-tuning never waits for its data.
- floor: what the matrix products and convolutions alone would allow, at the speed of one large matrix product that is
  measured on the same device in the same precision; and how many times as long a step takes.
- memory: the peak of all tensors on a GPU. A step that does not fit is tried again with twice as many micro-batches.
"""

import copy
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.steps import Workbench, Workload, variants
from pipeline.config import FinetuneSettings, OtherTasks, Recipe, RegulariserSettings, ResizedCrop
from pipeline.images import LabelledImages
from pipeline.models import load_model_definition
from pipeline.models.devices import prepare_device
from pipeline.models.encoders import ImageEncoder, build_clip
from pipeline.models.heads import Head
from pipeline.paradigms import make_trainable
from pipeline.training import Plan, StepRecord, TrainingData, finetune, loop
from pipeline.training.feed import Feed, StepData

OTHERS = OtherTasks(tasks=["other"], control=None, arrivals=None, mode="cyclic", batch_size=16)
TAU_JP = RegulariserSettings(name="tau_jp", weight=0.1, options={"norm": "l2"}, others=OTHERS)
RECIPES = {
    "standard": Recipe(trainable="all", trained_in="weight", regulariser=None, extension=None, start=None),
    "attention": Recipe(trainable="attention", trained_in="weight", regulariser=None, extension=None, start=None),
    "ntk": Recipe(trainable="all", trained_in="tangent", regulariser=None, extension=None, start=None),
    "tau_jp": Recipe(trainable="all", trained_in="tangent", regulariser=TAU_JP, extension=None, start=None),
}
# Names of their steps in `benchmarks.steps`.
PRODUCTS = {"standard": "standard", "attention": "attention", "ntk": "tangent", "tau_jp": "tau_jp cyclic"}
CLASSES = 100


@dataclass(frozen=True)
class Throughput:
    """One run: seconds per step, the peak of tensors in bytes (on a GPU), and micro-batches per step."""

    seconds: float
    peak_bytes: int
    accumulation: int


class Bench:
    """A model with random weights, and random images in a file."""

    def __init__(self, model: str, settings: FinetuneSettings, device: torch.device, directory: Path) -> None:
        torch.manual_seed(0)
        self.settings, self.device = settings, device
        definition = load_model_definition(model)
        self.encoder = ImageEncoder(build_clip(definition).get_submodule("visual"), definition, "0" * 64)
        height, width = self.encoder.image_size or (224, 224)
        self.image_size = height
        shape = (8 * settings.batch_size, 3, height, width)
        images = np.memmap(directory / f"{model}.bin", np.uint8, "w+", shape=shape)
        random = np.random.default_rng(0)
        for image in images:
            image[:] = random.integers(0, 256, image.shape, np.uint8)
        with torch.no_grad():
            features = self.encoder(torch.from_numpy(images[:1])).shape[1]
        weight = 100 * torch.nn.functional.normalize(torch.randn(CLASSES, features), dim=1)
        labels = np.arange(len(images), dtype=np.int64) % CLASSES
        head = Head(weight, [str(label) for label in range(CLASSES)])
        self.data = TrainingData(LabelledImages(images, labels), head, {"other": images})

    def measure(self, recipe: Recipe, resident: bool, steps: int) -> Throughput:
        """Fine-tune, with more micro-batches if memory does not suffice."""
        accumulation = self.settings.accumulation
        while True:
            try:
                return self._finetune(recipe, resident, steps, accumulation)
            except torch.OutOfMemoryError:
                if accumulation >= self.settings.batch_size:
                    raise
                accumulation *= 2
            gc.collect()
            torch.cuda.empty_cache()

    def _finetune(self, recipe: Recipe, resident: bool, steps: int, accumulation: int) -> Throughput:
        trainable = make_trainable(copy.deepcopy(self.encoder).to(self.device), recipe)
        settings = self.settings.model_copy(update={"steps": 2 * steps, "accumulation": accumulation})
        plan = Plan(settings, lr=1e-5, epochs=1.0, seed=0, regulariser=recipe.regulariser, steps=2 * steps)
        ends: list[float] = []

        def on_step(record: StepRecord) -> None:
            ends.append(time.perf_counter())

        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        # The warm-up steps are read before the timed ones begin, and the timed ones all at once.
        with mock.patch.object(loop, "STEPS_READ_AT_ONCE", steps), keep_one_batch() if resident else nullcontext():
            finetune(trainable, self.data, plan, self.device, on_step)
        peak = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0
        return Throughput((ends[-1] - ends[steps - 1]) / steps, peak, accumulation)


def keep_one_batch() -> Any:
    """Give every step the batches of the first one, which stay on the device, while the block runs."""

    def iterate(feed: Feed, first: int, steps: int) -> Iterator[StepData]:
        (step,) = feed._load_steps(first, first + 1)
        for number in range(first, steps):
            yield replace(step, number=number)

    return mock.patch.object(Feed, "iterate", iterate)


def matmul_flops(device: torch.device, bf16: bool) -> float:
    """Return the best rate of one large matrix product, in operations per second."""
    size, dtype = (8192 if device.type == "cuda" else 1024), torch.bfloat16 if bf16 else torch.float32
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(5):
            torch.matmul(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, (time.perf_counter() - began) / 5)
    return 2 * size**3 / best


def products(model: str, batch: int, size: int) -> dict[str, int]:
    """Return the operations of a step's matrix products and convolutions by recipe, counted on shapes alone."""
    setting = Workload(model, batch, size, torch.get_num_threads(), "meta", "fp32", OTHERS.batch_size, 1)
    steps = variants(Workbench(setting))
    counted = {}
    for recipe, name in PRODUCTS.items():
        with FlopCounterMode(display=False) as counter:
            steps[name]()
        counted[recipe] = counter.get_total_flops()
    return counted


def rows_of(bench: Bench, recipes: list[str], steps: int, repeats: int) -> dict[str, dict[str, list[Throughput]]]:
    """Run every recipe in turn, with images fed from the file and resident on the device."""
    runs: dict[str, dict[str, list[Throughput]]] = {name: {"fed": [], "resident": []} for name in recipes}
    for _ in range(repeats):
        for name in recipes:
            for variant in ("fed", "resident"):
                runs[name][variant].append(bench.measure(RECIPES[name], variant == "resident", steps))
                gc.collect()
    return runs


def summarise(
    runs: dict[str, dict[str, list[Throughput]]], counted: dict[str, int], peak: float, batch: int
) -> dict[str, dict[str, Any]]:
    """Return medians, and their ratios to the floor."""
    rows = {}
    for name, by_kind in runs.items():
        fed, resident = (statistics.median(run.seconds for run in by_kind[variant]) for variant in ("fed", "resident"))
        floor = counted[name] / peak
        rows[name] = {
            "fed": batch / fed,
            "resident": batch / resident,
            "fed_over_resident": resident / fed,
            "products": counted[name],
            "floor": batch / floor,
            "step_over_floor": fed / floor,
            "peak_bytes": max(run.peak_bytes for run in by_kind["fed"]),
            "accumulation": max(run.accumulation for run in by_kind["fed"]),
            "runs": {variant: [asdict(run) for run in measured] for variant, measured in by_kind.items()},
        }
    return rows


def table_of(rows: dict[str, dict[str, Any]], title: str) -> Table:
    """Return the rows as a table."""
    headings = ["fed, images/s", "on the device", "ratio", "floor", "step / floor", "memory, GiB", "micro-batches"]
    table = Table("recipe", *headings, title=title)
    for name, row in rows.items():
        cells = [f"{row['fed']:.1f}", f"{row['resident']:.1f}", f"{row['fed_over_resident']:.2f}"]
        cells += [f"{row['floor']:.1f}", f"{row['step_over_floor']:.2f}"]
        table.add_row(name, *cells, f"{row['peak_bytes'] / 2**30:.1f}", str(row["accumulation"]))
    return table


def main(
    model: Annotated[list[str] | None, typer.Option(help="Default: ViT-B-32 and ViT-L-14.")] = None,
    recipe: Annotated[list[str] | None, typer.Option(help=f"Default: {', '.join(RECIPES)}.")] = None,
    batch: int = 128,
    steps: Annotated[int, typer.Option(help="Timed steps, after as many to warm up.")] = 8,
    repeats: int = 2,
    device: str = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or auto: bf16 on a GPU.")] = "auto",
    accumulation: int = 1,
    checkpointing: bool = False,
    compile: bool = False,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print a table per model and, with --json, write it; the file is written anew after each model."""
    settings = FinetuneSettings.model_validate({
        "lr": None, "batch_size": batch, "weight_decay": 0.1, "steps": None, "warmup": 0.1, "warmup_steps": None,
        "max_grad_norm": 1.0, "augmentation": ResizedCrop(kind="resized_crop", scale=(0.9, 1.0)),
        "precision": precision, "accumulation": accumulation, "processes": 1, "checkpointing": checkpointing,
        "compile": compile,
    })  # fmt: skip
    chosen = prepare_device(device)
    bf16 = Plan(settings, 1e-5, 1.0, 0).uses_bf16(chosen)
    console = Console(width=140)
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else "cpu"
    peak = matmul_flops(chosen, bf16)
    kind = "bf16" if bf16 else "fp32"
    console.print(f"{name}, {kind}, torch {torch.__version__}: {peak / 1e12:.2f} TFLOP/s in a matrix product")
    record: dict[str, Any] = {"device": name, "precision": kind, "torch": torch.__version__, "matmul_flops": peak}
    record |= {"batch": batch, "steps": steps, "models": {}}
    for each in model or ["ViT-B-32", "ViT-L-14"]:
        with tempfile.TemporaryDirectory() as directory:
            bench = Bench(each, settings, chosen, Path(directory))
            runs = rows_of(bench, recipe or list(RECIPES), steps, repeats)
        rows = summarise(runs, products(each, batch, bench.image_size), peak, batch)
        console.print(table_of(rows, f"{each}, batch {batch}"))
        record["models"][each] = rows
        if json_file:
            json_file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
