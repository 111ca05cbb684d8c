"""Sections about the numbers: their cost, the literature, and their origins."""

import yaml

from pipeline.measurements import select
from pipeline.report import views
from pipeline.report.inputs import Study
from pipeline.report.page import scatters
from pipeline.report.page.blocks import Block, Panels, Table, Text
from pipeline.report.tables.cost import cost_table
from pipeline.report.tables.literature import (
    LEAKY_NOTE,
    SHOWN_MODEL,
    literature_table,
    orderings,
    published_points,
    published_results,
    why_not_comparable,
)
from pipeline.report.tables.origins import sources_table, tasks_table, vectors_table

# Columns of the literature table that have a figure.
_FIGURES = ("normalised", "normalised, α = 1", "negation: target")


def cost(study: Study, model: str) -> list[Block]:
    """Return the cost of a training step against the resulting accuracy."""
    timing = study.models[model].timing
    if timing is None:
        text = (
            f"No training step of {model} was measured: benchmarks/records/ has no training_steps_{model}.json. To "
            "measure:"
        )
        return [Text(text, f"python -m benchmarks.training_steps --model {model} --json FILE")]
    record, paradigms = timing.record, {name: study.paradigms[name] for name in study.models[model].searches}
    title = f"{record.timed_by} of a training step, against standard"
    caption = (
        f"Measured apart from the pipeline, by benchmarks/training_steps.py: {record.describe()}. A paradigm costs "
        "as much as its recipe: posthoc trains as standard does."
    )
    blocks: list[Block] = []
    if timing.costs:
        points = views.cost_points(select(study.results, model=model), timing.costs)
        blocks.append(Panels([scatters.cost(points, list(paradigms), title)], caption, width=420))
    blocks.append(Table("cost", cost_table(timing.costs, paradigms, record.timed_by).reset_index()))
    return blocks


def literature(study: Study, model: str) -> list[Block]:
    """Return our results beside the published figures, with differences where they are comparable."""
    reason = why_not_comparable(model, study.tasks, study.control, published_results())
    paradigms = list(study.models[model].searches)
    points = published_points(study.results, model, study.tasks, paradigms, reason)
    figures = [scatters.published(points, model, paradigms, title) for title in _FIGURES]
    blocks: list[Block] = []
    if reason:
        blocks.append(
            Text(
                f"Not comparable: {reason}. Figures of {SHOWN_MODEL} on eight tasks are shown only to compare "
                "orderings: do the paradigms come in the same order? A difference between those numbers and ours means "
                "nothing."
            )
        )
    size = len(study.tasks)
    caption = f"Means over the same {size} tasks. In brackets: ours minus theirs, in points."
    if reason:
        caption = f"Published for {SHOWN_MODEL} on eight tasks; ours: {model} on {size} tasks. Not comparable."
    blocks.append(Panels(figures, caption))
    order = orderings(study.results, model, study.tasks, paradigms, reason)
    if len(order):
        blocks.append(Table("orderings", order.reset_index(), "Paradigms from the best to the worst, in %."))
    table = literature_table(study.results, model, study.tasks, study.control, reason)
    blocks.append(Table("literature", table, f"{caption} {LEAKY_NOTE}", folded=bool(reason)))
    return blocks


def origins(study: Study, model: str) -> list[Block]:
    """Return the stages, parameters, task vectors and tasks behind the numbers."""
    model_origins = study.models[model].origins
    text = (
        "dvc.yaml lists the stages, their commands and all they depend on; dvc.lock holds the hashes of what they read "
        "and wrote. MLflow has a run per stage instance, with its git revision, duration and step metrics: search for "
        "the tag dvc.stage in:"
    )
    parameters = yaml.safe_dump(dict(study.parameters), sort_keys=False, allow_unicode=True, width=100)
    return [
        Text(text, "mlflow ui --backend-store-uri sqlite:///mlflow.db"),
        Table("", sources_table(model_origins.sources), "The tables that numbers were read from.", folded=True),
        Table("", vectors_table(model_origins.vectors), "Task vectors: their θ₀ and the code that trained them."),
        Table(
            "",
            tasks_table(study.cards, study.control),
            "Tasks; images of train + val + test. data/records/ says what was downloaded.",
            folded=True,
        ),
        Text(parameters, listing=True),
    ]
