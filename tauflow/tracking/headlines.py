"""The headline numbers by which paradigms are compared in MLflow, under names that suit its charts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from artifacts.instances import read_instances
from pipeline.config import Parameters, trained_recipe
from pipeline.measurements import MEAN, select
from pipeline.report.tables.results import COLUMNS, HEADLINES

# MLflow draws the metrics of a prefix as one section, in the order of the names: intervals come last.
_ACCURACY, _INTERVAL = "accuracy", "interval"


@dataclass(frozen=True)
class Headline:
    """The headline numbers of a paradigm, its parameters, and the stage instances that produced them.

    Args:
        values: metrics by name (docs/tracking.md).
        params: the parameters in which paradigms differ.
        trained: the stage instances that fine-tuned; empty if its task vectors were imported.
        vectors: the stage instances that wrote its task vectors.
        searched: the stage instances that chose its coefficients.
    """

    model: str
    paradigm: str
    values: dict[str, float]
    params: dict[str, Any]
    trained: list[str]
    vectors: list[str]
    searched: list[str]


def paradigm_headlines(params: Parameters, results: pd.DataFrame) -> Iterator[Headline]:
    """Yield the headline of every paradigm of every model, from the results that the summary shows."""
    instances = read_instances(params).values()
    for evaluation in params.derived.evaluations.values():
        model, paradigm, recipe = evaluation.model, evaluation.paradigm, evaluation.unmerged
        means = select(results, model=model, paradigm=paradigm, scope=MEAN)
        of_recipe = [i for i in instances if (i.keys.get("model"), i.keys.get("recipe")) == (model, recipe)]
        features = f"features@{model}-{evaluation.recipe}-val"
        merge = f"merge@{model}-{paradigm}"
        tangent = params.paradigm[paradigm].evaluated_in == "tangent"
        yield Headline(
            model,
            paradigm,
            _metrics(means),
            _parameters(params, model, paradigm, recipe),
            trained=[i.name for i in of_recipe if i.stage.startswith("finetune")],
            vectors=[i.name for i in of_recipe if i.stage.startswith("task_vector") or i.name == merge],
            # In tangent space, most of a search is the propagation of the images.
            searched=[*([features] if tangent else []), f"alpha_search@{model}-{paradigm}"],
        )


def _parameters(params: Parameters, model: str, paradigm: str, recipe: str) -> dict[str, Any]:
    common = {"model": model, "paradigm": paradigm, "recipe": recipe, "seed": params.seed}
    common["evaluated_in"] = params.paradigm[paradigm].evaluated_in
    common["merging"] = str(params.paradigm[paradigm].merging or "none")
    if recipe in params.imported:
        return {**common, "trained_in": params.imported[recipe].trained_in}
    trained = trained_recipe(params, recipe)
    return {
        **common,
        "trainable": trained.trainable,
        "trained_in": trained.trained_in,
        "start": trained.start or "pretrained",
        "regulariser": trained.regulariser.name if trained.regulariser else "none",
        "regulariser_weight": trained.regulariser.weight if trained.regulariser else 0,
        "lr": params.finetune.lr or trained.schedule.lr,
        "length": trained.schedule.length,
    }


def _metrics(means: pd.DataFrame) -> dict[str, float]:
    numbers = {name: COLUMNS[title] for name, title in HEADLINES.items()}
    numbers["zero_shot"] = ("zero_shot", "none", "accuracy")
    rows = {name: _row(means, *where) for name, where in numbers.items()}
    metrics = {f"{_ACCURACY}/{name}": float(row["value"]) for name, row in rows.items()}
    metrics["coefficient/alpha"] = float(_row(means, "addition", "tuned", "alpha")["value"])
    for name, row in rows.items():
        metrics[f"{_INTERVAL}/{name}_low"] = float(row["ci_low"])
        metrics[f"{_INTERVAL}/{name}_high"] = float(row["ci_high"])
    return metrics


def _row(means: pd.DataFrame, benchmark: str, setting: str, metric: str) -> Any:
    return select(means, benchmark=benchmark, setting=setting, metric=metric).iloc[0]
