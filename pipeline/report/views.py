"""Data frames for figures, shared by the page and the figures for papers.

Accuracies in these frames are in percent, and differences of accuracies in points.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from pipeline.measurements import MEAN, select
from pipeline.report.inputs import SearchCurves
from pipeline.report.tables.cost import Cost

Pair = tuple[str, str]
ErrorMap = Float[np.ndarray, "alphas alphas"]

# Title of a panel of bars → benchmark, setting and metric.
BARS = {
    "Single-task model": ("single_task", "none", "accuracy"),
    "Sum of all task vectors, tuned α": ("addition", "tuned", "accuracy"),
    "Sum of all task vectors, α = 1": ("addition", "alpha_1", "accuracy"),
    "Negated task vector, on its task": ("negation", "tuned", "target"),
    "Negated task vector, on the control": ("negation", "tuned", "control"),
}
ACCURACIES = {"accuracy": "mean accuracy", "normalized": "mean normalised accuracy"}
SETTINGS = {"tuned": "tuned α", "alpha_1": "α = 1"}

# Distance of a heatmap → what it compares.
DISTANCES = {"error": "predictions", "divergence": "representations, nats"}
# ξ of predictions goes up to 2; colours saturate at 1, because larger values hardly occur.
ERROR_TOP = 1.0
# Quantile of the divergences at which colours saturate: a few extreme points would leave the rest one colour.
_SHOWN_SHARE = 0.98
# |cosine| at which colours saturate.
COSINE_TOP = 0.5
# Extent of a control accuracy panel below the limit, in multiples of the allowed drop.
_SHOWN_DROPS = 6


def task_accuracies(results: pd.DataFrame, paradigms: Sequence[str], tasks: Sequence[str], title: str) -> pd.DataFrame:
    """Return one row per paradigm and task: ``paradigm``, ``task``, ``value``, ``low``, ``high``.

    Args:
        results: measurements of one model.
        paradigms: in the order of the rows.
        tasks: in the order of a paradigm's rows.
        title: a key of :data:`BARS`.
    """
    benchmark, setting, metric = BARS[title]
    rows = select(results, scope="task", benchmark=benchmark, setting=setting, metric=metric)
    index = pd.MultiIndex.from_product([paradigms, tasks], names=["paradigm", "task"])
    return _percent(rows.set_index(["paradigm", "task"])).reindex(index).reset_index()


def zero_shot(results: pd.DataFrame) -> dict[str, float]:
    """Return the pre-trained model's accuracy by task, the control included."""
    rows = select(results, scope="task", benchmark="zero_shot", metric="accuracy")
    return dict(zip(rows["task"], 100 * rows["value"], strict=True))  # the same rows for every paradigm


def addition_curves(searches: Mapping[str, SearchCurves]) -> pd.DataFrame:
    """Return ``paradigm``, ``alpha``, ``accuracy``, ``normalized`` on val, and whether this α was ``chosen``."""
    frames = [
        search.addition.assign(paradigm=paradigm, chosen=_is(search.addition, search.addition_alpha))
        for paradigm, search in searches.items()
    ]
    curves = pd.concat(frames, ignore_index=True)
    return curves.assign(**{column: 100 * curves[column] for column in ACCURACIES})


@dataclass(frozen=True)
class NegationCurves:
    """Negation's curves on val, and the axes that the panels of all paradigms share.

    frame: ``paradigm``, ``task``, ``alpha``, ``target``, ``control`` (change from the pre-trained model, in points),
        ``chosen``.
    limit: the change in control accuracy that the search allows, in points; it is negative.
    ranges: the ends of the axes ``alpha``, ``target`` and ``control``.
    grids: the largest α that each paradigm's search tries.
    """

    frame: pd.DataFrame
    limit: float
    ranges: Mapping[str, tuple[float, float]]
    grids: Mapping[str, float]

    def describe_grids(self) -> str:
        """Return a sentence on the largest α that each paradigm's search tried."""
        by_end: dict[float, list[str]] = {}
        for paradigm, end in self.grids.items():
            by_end.setdefault(end, []).append(paradigm)
        ends = [f"{', '.join(names)} up to α = {end:g}" for end, names in by_end.items()]
        if len(ends) == 1:
            return f"Every paradigm is searched up to α = {next(iter(by_end)):g}."
        return (
            f"Grids differ ({'; '.join(ends)}), because a point costs next to nothing in tangent space and a pass over "
            "the images in weight space. Axes are the same."
        )


def negation_curves(searches: Mapping[str, SearchCurves], retention: float) -> NegationCurves:
    """Return the curves of all paradigms.

    Args:
        searches: by paradigm.
        retention: the share of the pre-trained control accuracy that must remain.
    """
    pretrained = 100 * next(iter(searches.values())).pretrained_control
    frames = [
        pd.DataFrame(
            {
                "paradigm": paradigm,
                "task": task,
                "alpha": curve["alpha"],
                "target": 100 * curve["target"],
                "control": 100 * (curve["control"] - search.pretrained_control),
                "chosen": _is(curve, search.negation_alphas[task]),
            }
        )
        for paradigm, search in searches.items()
        for task, curve in search.negation.items()
    ]
    frame = pd.concat(frames, ignore_index=True)
    allowed = (1 - retention) * pretrained
    step = max(allowed, 1.0)
    ends = {paradigm: _largest(select(frame, paradigm=paradigm), "alpha") for paradigm in searches}
    ranges = {
        "alpha": (0.0, max(ends.values())),
        "target": (0.0, 1.05 * _largest(frame, "target")),
        "control": (-_SHOWN_DROPS * step, step),
    }
    return NegationCurves(frame, -allowed, ranges, ends)


def single_task_points(results: pd.DataFrame, paradigms: Sequence[str], tasks: Sequence[str]) -> pd.DataFrame:
    """Return ``paradigm``, ``task``, ``accuracy`` and the first paradigm's accuracy, ``reference``."""
    frame = task_accuracies(results, paradigms, tasks, "Single-task model")
    values = frame.pivot(index="task", columns="paradigm", values="value").reindex(list(tasks))
    first, *others = paradigms
    return pd.DataFrame(
        [
            {"paradigm": name, "task": task, "reference": values.at[task, first], "accuracy": values.at[task, name]}
            for name in others
            for task in tasks
        ]
    )


def cost_points(results: pd.DataFrame, costs: Mapping[str, Cost]) -> pd.DataFrame:
    """Return the cost of a training step and the mean accuracy of the sum at the tuned α.

    Columns are ``paradigm``, ``relative`` (over the standard step), ``milliseconds``, ``value``, ``low``, ``high``.
    """
    means = select(results, scope=MEAN, benchmark="addition", setting="tuned", metric="accuracy")
    accuracies = _percent(means.set_index("paradigm"))
    rows = [
        {"paradigm": name, "relative": cost.relative, "milliseconds": cost.milliseconds, **accuracies.loc[name]}
        for name, cost in costs.items()
    ]
    return pd.DataFrame(rows)


def pair_matrix(results: pd.DataFrame, metric: str, rows: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Return a metric of pairs as a matrix, NaN where a pair was not measured."""
    pairs = select(results, scope="pair", metric=metric)
    values = dict(zip(zip(pairs["task"], pairs["other"], strict=True), pairs["value"], strict=True))
    cells = [[values.get((row, column), np.nan) for column in columns] for row in rows]
    return pd.DataFrame(cells, index=pd.Index(rows), columns=pd.Index(columns))


def interference_matrices(
    results: pd.DataFrame, metric: str, paradigms: Sequence[str], tasks: Sequence[str], control: str
) -> dict[str, pd.DataFrame]:
    """Return ``tau_jp`` or ``drop`` (in points) by paradigm: rows are task vectors, columns the tasks of images."""
    scale = 100 if metric == "drop" else 1
    return {
        paradigm: scale
        * pair_matrix(select(results, paradigm=paradigm, benchmark="tau_jp"), metric, tasks, [*tasks, control])
        for paradigm in paradigms
    }


def interference_points(results: pd.DataFrame, paradigms: Sequence[str], tasks: Sequence[str]) -> pd.DataFrame:
    """Return ``paradigm``, ``vector``, ``images``, ``tau_jp``, ``drop`` for every ordered pair of different tasks."""
    pairs = select(results, scope="pair", benchmark="tau_jp")
    pairs = pairs.loc[pairs["task"].isin(tasks) & pairs["other"].isin(tasks) & (pairs["task"] != pairs["other"])]
    wide = pairs.pivot(index=["paradigm", "task", "other"], columns="metric", values="value")
    points = wide.reset_index().rename(columns={"task": "vector", "other": "images"})
    return points.loc[points["paradigm"].isin(paradigms)].assign(drop=100 * points["drop"])


def rank_correlations(results: pd.DataFrame, paradigms: Sequence[str]) -> dict[str, str]:
    """Return Spearman's ρ of τJp and drop over pairs, ``ρ = 0.25 [0.10, 0.50]``, by paradigm; empty if undefined."""
    rows = select(results, benchmark="tau_jp", metric="rank_correlation").set_index("paradigm")
    numbers = rows[["value", "ci_low", "ci_high"]].reindex(list(paradigms))
    return {
        str(name): f"ρ = {value:.2f} [{low:.2f}, {high:.2f}]" if np.isfinite([value, low, high]).all() else ""
        for name, value, low, high in numbers.itertuples(name=None)
    }


def cosines(results: pd.DataFrame, recipes: Sequence[str], tasks: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Return the cosine similarities of a recipe's task vectors as symmetric matrices, by recipe."""
    upper = {
        recipe: pair_matrix(select(results, recipe=recipe, benchmark="cosine"), "cosine", tasks, tasks)
        for recipe in recipes
    }
    return {recipe: matrix.fillna(matrix.T) for recipe, matrix in upper.items()}


def responses(orthogonality: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the mean response of each layer's update to inputs: ``recipe``, ``images``, ``layer``, ``response``.

    ``images`` is "own task" or "other tasks". A layer that a recipe does not train has no row.
    """
    frames = [
        frame.assign(recipe=recipe, images=np.where(frame["vector"] == frame["data"], "own task", "other tasks"))
        for recipe, frame in orthogonality.items()
    ]
    rows = pd.concat(frames)
    means = rows.groupby(["recipe", "images", "layer"], sort=False).agg(response=("response", "mean")).reset_index()
    return means.assign(layer=means["layer"].map(_layer_name))


def layers(orthogonality: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the names of all layers that any recipe trains, in the order of the recipe that trains the most."""
    longest = max((list(frame["layer"]) for frame in orthogonality.values()), key=len)
    return list(dict.fromkeys(map(_layer_name, longest)))


def localisation(eigenfunctions: pd.DataFrame) -> pd.DataFrame:
    """Return the larger share of an eigenfunction's energy on one of two tasks.

    Columns are ``weights``, ``eigenfunction``, and ``mean``, ``low``, ``high`` over pairs of tasks.
    """
    larger = eigenfunctions["first_energy"].clip(lower=1 - eigenfunctions["first_energy"])
    groups = eigenfunctions.assign(larger=larger).groupby(["weights", "eigenfunction"], sort=False)["larger"]
    return groups.agg(mean="mean", low="min", high="max").reset_index()


def incremental_curves(curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return accuracy on the tasks so far, by ``paradigm``, ``setting``, ``metric`` and ``arrivals``.

    ``mean`` is over orders; ``low`` and ``high`` are the interval of a single order, or the range of several.
    """
    rows = pd.concat([curve.assign(paradigm=paradigm) for paradigm, curve in curves.items()])
    groups = rows.groupby(["paradigm", "setting", "metric", "arrivals"], sort=False)
    orders = set(rows["order"])
    low, high = ("ci_low", "ci_high") if len(orders) == 1 else ("value", "value")
    return (100 * groups.agg(mean=("value", "mean"), low=(low, "min"), high=(high, "max"))).reset_index()


def merging_methods(described: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the merging methods of all paradigms in their order; ``described`` has a frame by paradigm."""
    return list(dict.fromkeys(method for frame in described.values() for method in frame["method"]))


def merging_matrix(
    results: pd.DataFrame, paradigms: Sequence[str], methods: Sequence[str], setting: str
) -> pd.DataFrame:
    """Return the mean normalised accuracy of merged vectors: rows are paradigms, columns merging methods."""
    means = select(results, benchmark="merging", setting=setting, scope=MEAN, metric="normalized")
    matrix = means.pivot(index="paradigm", columns="method", values="value")
    return 100 * matrix.reindex(index=list(paradigms), columns=list(methods))


def merging_accuracies(
    results: pd.DataFrame, paradigms: Sequence[str], methods: Sequence[str], tasks: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Return accuracies at the tuned α by paradigm: ``method``, ``task``, ``value``, ``low``, ``high``."""
    rows = select(results, scope="task", benchmark="merging", setting="tuned", metric="accuracy")
    index = pd.MultiIndex.from_product([methods, tasks], names=["method", "task"])
    return {
        paradigm: _percent(select(rows, paradigm=paradigm).set_index(["method", "task"])).reindex(index).reset_index()
        for paradigm in paradigms
    }


def heatmap_alphas(points: pd.DataFrame) -> Float[np.ndarray, " alphas"]:
    """Return the coefficients of a heatmap, ascending."""
    return np.unique(points["alpha_1"].to_numpy())


def pair_grid(points: pd.DataFrame, pair: Pair, distance: str) -> ErrorMap:
    """Return ξ of a pair: rows are α₂, columns α₁, both ascending."""
    rows = select(points, first=pair[0], second=pair[1])
    return rows.pivot(index="alpha_2", columns="alpha_1", values=distance).to_numpy()


def mean_grid(points: pd.DataFrame, distance: str) -> ErrorMap:
    """Return the mean of ξ over pairs, as :func:`pair_grid`."""
    return points.pivot_table(index="alpha_2", columns="alpha_1", values=distance, aggfunc="mean").to_numpy()


def divergence_top(heatmaps: Mapping[str, pd.DataFrame]) -> float:
    """Return the divergence at which colours saturate, the same for all paradigms."""
    return float(np.quantile(np.concatenate([points["divergence"] for points in heatmaps.values()]), _SHOWN_SHARE))


def _percent(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"value": 100 * rows["value"], "low": 100 * rows["ci_low"], "high": 100 * rows["ci_high"]})


def _is(curve: pd.DataFrame, chosen: float) -> Bool[np.ndarray, " alphas"]:
    return np.isclose(curve["alpha"].to_numpy(), chosen, rtol=0, atol=1e-9)


def _largest(frame: pd.DataFrame, column: str) -> float:
    return float(frame[column].to_numpy().max())


def _layer_name(layer: str) -> str:
    return layer.removeprefix("transformer.resblocks.").removesuffix(".weight")
