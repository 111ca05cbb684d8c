"""Measure on val whether a stronger penalty on ‖J(x)τ‖ reduces interference: λ of tau_jp from none to too large.

    .venv/bin/python -m tools.strength

Yoshida et al. claim that it does. Reads artifacts of the pipeline (`dvc repro prepare pretrained head`), adds a row per
missing λ to docs/sweeps/mini_strength.csv, and draws docs/images/strength.svg.
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
import typer
from matplotlib.figure import Figure

from artifacts.evaluation.benchmarks import read_images
from artifacts.evaluation.edit_spaces import read_encoder
from pipeline.config import Parameters
from pipeline.editing import TaskVector
from pipeline.editing.spaces import FeatureSpace, TangentSpace
from pipeline.evaluation.prediction import Benchmark, predict
from pipeline.evaluation.search import search_addition, single_task_accuracies
from pipeline.io.files import write_text
from pipeline.measurements import write_frame
from pipeline.models.devices import prepare_device
from pipeline.report.paper.style import STYLE, plain_log_axis, to_svg
from tools.sweep import composed, standard_error, train_vectors

TABLE, FIGURE = Path("docs/sweeps/mini_strength.csv"), Path("docs/images/strength.svg")
STRENGTHS = [0.0, 0.01, 0.03, 0.1, 0.3, 1.0]  # λ; without a penalty tau_jp is ntk


def run(strength: float, seed: int) -> dict[str, float]:
    """Fine-tune on every task with one λ, and measure on val.

    Returns:
        ``tau_jp``, mean over ordered pairs t ≠ s of the mean of ‖J(x)τₜ‖ over images of s; ``drop``, mean over the same
        pairs of what s loses when τₜ is added; accuracies of the single-task models and of the sum, means over tasks.
    """
    params = composed("mini", "tau_jp", f"recipe.tau_jp.regulariser.weight={strength}", seed)
    benchmarks = _features(params, train_vectors(params, "tau_jp"))
    space = FeatureSpace(len(benchmarks), prepare_device(params.device), params.evaluation)
    search = search_addition(space, benchmarks, params.search.addition, single_task_accuracies(space, benchmarks))
    edits = torch.cat([torch.zeros(1, space.size), torch.eye(space.size)])
    predictions = predict(space, edits, benchmarks, "single vectors on val")
    accuracy = np.stack([predictions[b.task].accuracy() for b in benchmarks], axis=1)
    moved = np.stack([np.linalg.norm(b.inputs[:, 1:], axis=2).mean(axis=0) for b in benchmarks], axis=1)
    other = ~np.eye(space.size, dtype=bool)
    tuned, at_one = search.alphas.index(search.alpha), search.alphas.index(1.0)
    return {
        "weight": strength,
        "seed": seed,
        "tau_jp": float(moved[other].mean()),
        "drop": float((accuracy[0] - accuracy[1:])[other].mean()),
        "single_task": float(search.single.mean()),
        "alpha": search.alpha,
        "addition": float(search.accuracy[tuned].mean()),
        "normalized": float(search.normalised[tuned].mean()),
        "addition_alpha_1": float(search.accuracy[at_one].mean()),
        "normalized_alpha_1": float(search.normalised[at_one].mean()),
        "standard_error": standard_error(search.accuracy[at_one], benchmarks),
    }


def _features(params: Parameters, vectors: list[TaskVector]) -> list[Benchmark]:
    """Return every task's val split as tangent features."""
    (model,) = params.models
    space = TangentSpace(read_encoder(model), vectors, prepare_device(params.device), params.evaluation)
    benchmarks = []
    for task in params.tasks:
        images = read_images(model, task, "val")
        batches = space.features(torch.from_numpy(images.inputs))
        benchmarks.append(Benchmark(task, torch.cat(list(batches)).cpu().numpy(), images.labels, images.head))
    return benchmarks


def draw(table: pd.DataFrame) -> str:
    """Draw, against τJp (λ grows to the left), accuracies and a task's loss when another's vector is added."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.2, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2)
        columns = {"normalized_alpha_1": "sum, α = 1, normalised", "normalized": "sum, tuned α, normalised"}
        for column, label in {**columns, "single_task": "single-task, absolute"}.items():
            left.plot(table["tau_jp"], 100 * table[column], marker="o", markersize=3, label=label)
        right.plot(table["tau_jp"], 100 * table["drop"], marker="o", markersize=3, color="tab:red")
        for weight, x, y in zip(table["weight"], table["tau_jp"], 100 * table["drop"], strict=True):
            right.annotate(f"λ = {weight:g}", (x, y), textcoords="offset points", xytext=(4, -9), fontsize=7)
        right.axhline(0, color="0.6", linewidth=0.8)
        left.set(xlabel="τJp, mean over pairs", ylabel="accuracy on val, %")
        right.set(xlabel="τJp, mean over pairs", ylabel="drop of the other task, points")
        plain_log_axis(left)
        plain_log_axis(right)
        left.legend(frameon=False)
        return to_svg(figure)


def main(seed: int = 0) -> None:
    """Run the missing λ, and draw the figure."""
    rows = pd.read_csv(TABLE).to_dict("records") if TABLE.exists() else []
    for strength in STRENGTHS:
        if any((row["weight"], row["seed"]) == (strength, seed) for row in rows):
            continue
        rows.append(run(strength, seed))
        write_frame(TABLE, pd.DataFrame(rows))
        print(rows[-1], flush=True)
    table = pd.read_csv(TABLE).query("seed == @seed").sort_values("weight")
    write_text(FIGURE, draw(table))


if __name__ == "__main__":
    typer.run(main)
