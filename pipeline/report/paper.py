"""Tables and figures in the layout of the literature."""

from collections.abc import Iterator, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.measurements import MEAN, select
from pipeline.report import analyses, figures
from pipeline.report.figures import STYLE
from pipeline.report.inputs import Study
from pipeline.report.style import SEQUENTIAL, looks

# Benchmark → heading and (setting, metric) of each column, and whether the zero-shot model has a number there.
PAPER_TABLES = {
    "addition": {"Abs. (↑)": ("tuned", "accuracy"), "Norm. (↑)": ("tuned", "normalized")},
    "negation": {"Targ. (↓)": ("tuned", "target"), "Cont. (↑)": ("tuned", "control")},
}
# Pairs of tasks that the figure of disentanglement has room for.
_SHOWN_PAIRS = 3


def paper_table(study: Study, benchmark: str) -> pd.DataFrame:
    """Addition or negation of all models side by side: columns are (model, heading); cells are text.

    As Ortiz-Jimenez et al., tables 1 and 2, have them; α is the tuned one.
    """
    paradigms = list(dict.fromkeys(name for model in study.models.values() for name in model.searches))
    cells = {("", "Method"): ["Pre-trained", *paradigms]}
    for model in study.models:
        of_model = select(study.results, model=model)
        for heading, (setting, metric) in PAPER_TABLES[benchmark].items():
            means = select(of_model, benchmark=benchmark, setting=setting, metric=metric, task=MEAN)
            values = means.set_index("paradigm")["value"]
            column = [_zero_shot(of_model, metric, study.control)]
            column += [f"{100 * values[name]:.1f}" if name in values.index else "" for name in paradigms]
            cells[model, heading] = column
    return pd.DataFrame(cells)


def paper_figures(study: Study, model: str) -> Iterator[tuple[str, Figure]]:
    """All figures of a model with their names."""
    of_model, tasks = study.models[model], study.tasks
    results, found = select(study.results, model=model), of_model.analyses
    paradigms = list(of_model.searches)
    curves = {name: search.addition for name, search in of_model.searches.items()}
    chosen = {name: search.addition_alpha for name, search in of_model.searches.items()}
    yield "tasks", figures.task_bars(results, paradigms, tasks)
    yield "addition_curves", figures.addition_curves(curves, chosen)
    for name, search in of_model.searches.items():
        kept = study.retention * search.pretrained_control
        yield f"negation_curves_{name}", figures.negation_curves(search.negation, search.negation_alphas, kept)
    yield "disentanglement", disentanglement(found.heatmaps, tasks)
    for name, points in found.heatmaps.items():
        yield f"disentanglement_{name}", analyses.heatmaps(points, tasks)
    yield "interference", analyses.interference(results, paradigms, tasks, study.control)
    yield "interference_scatter", analyses.interference_scatter(results, paradigms, tasks)
    yield "cosines", analyses.cosines(results, list(found.orthogonality), tasks)
    yield "orthogonality", analyses.orthogonality(found.orthogonality)
    yield "localisation", analyses.localisation(found.localisation)
    if found.incremental:
        yield "incremental", analyses.incremental(found.incremental)
    if len(paradigms) > 1:
        yield "single_task", analyses.single_task_scatter(results, paradigms, tasks)
    if of_model.timing and of_model.timing.costs:
        yield "cost", cost(results, study, model)


def disentanglement(heatmaps: Mapping[str, pd.DataFrame], tasks: Sequence[str]) -> Figure:
    """ξ(α₁, α₂) of predictions: a row per paradigm, a column per pair, with the square in which α is searched.

    As Ortiz-Jimenez et al., figure 3; the pairs are disjoint, in the order of the tasks.
    """
    shown = list(zip(tasks[::2], tasks[1::2], strict=False))[:_SHOWN_PAIRS]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.7 * len(shown) + 1.1, 1.6 * len(heatmaps) + 0.4), layout="constrained")
        panels = figure.subplots(len(heatmaps), len(shown), squeeze=False, sharex=True, sharey=True)
        for row, (paradigm, points) in zip(panels, heatmaps.items(), strict=True):
            alphas = np.unique(points["alpha_1"].to_numpy())
            half = np.diff(alphas).mean() / 2 if len(alphas) > 1 else 0.5
            extent = (alphas[0] - half, alphas[-1] + half) * 2
            for axes, (first, second) in zip(row, shown, strict=True):
                grid = select(points, first=first, second=second).pivot(
                    index="alpha_2", columns="alpha_1", values="error"
                )
                axes.imshow(grid.to_numpy(), origin="lower", extent=extent, vmin=0, vmax=1, cmap=SEQUENTIAL)
                axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor="red", linewidth=1.2))
            row[0].set_ylabel(f"{paradigm}\nα₂")
        for axes, (first, second) in zip(panels[0], shown, strict=True):
            axes.set_title(f"{first} – {second}", fontsize=8)
        for axes in panels[-1]:
            axes.set_xlabel("α₁")
        figure.colorbar(panels[0][0].images[0], ax=panels, label="ξ(α₁, α₂)", shrink=0.6, extend="max")
        return figure


def cost(results: pd.DataFrame, study: Study, model: str) -> Figure:
    """Mean accuracy of the sum at the tuned α against the time of a training step."""
    timing = study.models[model].timing
    assert timing, "there is a figure only where steps were measured"
    means = select(results, task=MEAN, benchmark="addition", setting="tuned", metric="accuracy").set_index("paradigm")
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        axes = figure.subplots()
        for paradigm, look in looks(study.models[model].searches).items():
            if paradigm in timing.costs:
                value, low, high = (100 * float(means.at[paradigm, c]) for c in ("value", "ci_low", "ci_high"))
                x = timing.costs[paradigm].relative
                error = [[value - low], [high - value]]
                axes.errorbar(x, value, yerr=error, color=look.colour, marker=look.paper_marker, label=paradigm)
        axes.set(xlabel=f"{timing.record.timed_by} of a training step, against standard")
        axes.set(ylabel="sum, tuned α: mean accuracy, %")
        axes.set_xlim(left=0)
        figure.legend(loc="outside right center", frameon=False)
        return figure


def _zero_shot(of_model: pd.DataFrame, metric: str, control: str) -> str:
    """Of the pre-trained model, which has no normalised accuracy."""
    if metric == "normalized":
        return ""
    task = control if metric == "control" else MEAN
    return f"{100 * select(of_model, benchmark='zero_shot', task=task)['value'].iloc[0]:.1f}"
