"""Pre-train mini-clip from the committed corpus sources: the command behind `make mini-clip`.

    python -m tools.pretrain_mini_clip --out data/mini/mini-clip.safetensors

Writes the weights (both towers), a .json with their provenance and a .csv with the course of the training, and prints
the weights' SHA-256. After Ctrl-C, the same command with --resume continues from the last checkpoint.
"""

import csv
import time
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.torch import save_file

from pipeline.errors import UserError
from pipeline.io.files import atomic_write, file_sha256, write_json, write_text
from pipeline.pretraining import pretrain as training

DEFAULT = training.Settings()


def main(
    out: Annotated[Path, typer.Option(help="the weights, .safetensors")],
    steps: Annotated[int, typer.Option(min=1, help="optimiser steps")] = DEFAULT.steps,
    pairs: Annotated[int, typer.Option(min=1, help="image-caption pairs in the corpus")] = DEFAULT.pairs,
    seed: Annotated[int, typer.Option(min=0, help="of corpus, initial weights and batches")] = DEFAULT.seed,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; the bytes depend on it")] = DEFAULT.threads,
    sources: Annotated[Path, typer.Option(help="the committed sources")] = Path("data/mini"),
    resume: Annotated[bool, typer.Option(help="continue from the last checkpoint")] = False,
    evaluate_every: Annotated[int, typer.Option(min=1, help="steps between zero-shot evaluations")] = 1000,
    checkpoint_every: Annotated[int, typer.Option(min=1, help="steps between checkpoints")] = 250,
) -> None:
    """Pre-train mini-clip."""
    settings = training.Settings(steps=steps, pairs=pairs, seed=seed, threads=threads)
    checkpoint, log = out.with_suffix(".checkpoint.pt"), out.with_suffix(".csv")
    started = time.perf_counter()
    course = _read_course(log) if resume else []
    columns = ("[progress.description]{task.description}", BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as bar:
        shown = bar.add_task("rendering the corpus", total=steps)
        losses: list[float] = []

        def report(step: training.StepReport) -> None:
            losses.append(step.loss)
            bar.update(shown, completed=step.step, description=f"loss {sum(losses[-50:]) / len(losses[-50:]):.3f}")
            if step.accuracies:
                row = {"step": step.step, "loss": sum(losses) / len(losses), "logit_scale": step.scale}
                row |= step.accuracies
                course[:] = [kept for kept in course if int(kept["step"]) < step.step]
                course.append({name: f"{value:.4f}" if name != "step" else str(value) for name, value in row.items()})
                _write_course(log, course)
                bar.console.print(" ".join(f"{name} {value}" for name, value in course[-1].items()))
                losses.clear()

        try:
            state = training.pretrain(settings, sources, checkpoint, resume, evaluate_every, checkpoint_every, report)
        except (ValueError, UserError) as error:
            raise SystemExit(f"error: {error}") from None
        except KeyboardInterrupt:
            raise SystemExit(f"stopped; continue with --resume from {checkpoint}") from None
    with atomic_write(out) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, temporary)
    digest = file_sha256(out)
    last = course[-1]
    description = {
        "sha256": digest,
        "steps": steps,
        "pairs": pairs,
        "seed": seed,
        "threads": threads,
        "torch": torch.__version__,
        "seconds": round(time.perf_counter() - started, 1),
        "loss": float(last["loss"]),
        "logit_scale": float(last["logit_scale"]),
        "zero_shot_val": {name: float(last[name]) for name in list(last)[3:]},
    }
    write_json(out.with_suffix(".json"), description)
    checkpoint.unlink(missing_ok=True)
    print(f"{out}: SHA-256 {digest}, {description['seconds']} s")


def _read_course(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _write_course(path: Path, rows: list[dict[str, str]]) -> None:
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


if __name__ == "__main__":
    typer.run(main)
