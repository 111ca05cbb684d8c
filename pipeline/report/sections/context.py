"""What surrounds the numbers: their cost, the literature, how each was made."""

import yaml

from pipeline.measurements import select
from pipeline.report.blocks import Block, Panels, Section, Table, Text
from pipeline.report.cost import cost_table
from pipeline.report.inputs import Study
from pipeline.report.interactive.scatters import cost, published
from pipeline.report.literature import (
    SHOWN_MODEL,
    literature_table,
    orderings,
    published_points,
    published_results,
    why_not_comparable,
)
from pipeline.report.origins import sources_table, tasks_table, vectors_table

# Columns of the literature's table that have a figure.
_FIGURES = ("normalised", "normalised, α = 1", "negation: target")


def cost_section(study: Study, model: str) -> Section:
    """What a training step costs against what comes of it."""
    timing = study.models[model].timing
    if timing is None:
        text = (
            f"No training step of {model} was measured: benchmarks/records/ has no training_steps_{model}.json. "
            f"`python -m benchmarks.training_steps --model {model} --json FILE` makes it."
        )
        return Section("Cost and accuracy", [Text(text)])
    record, paradigms = timing.record, {name: study.paradigms[name] for name in study.models[model].searches}
    title = f"{record.timed_by} of a training step, against standard"
    caption = (
        f"Measured apart from the pipeline, by benchmarks/training_steps.py: {record.describe()}. A paradigm costs "
        "what training its recipe does; posthoc trains as standard does."
    )
    return Section(
        "Cost and accuracy",
        [
            Panels(
                [cost(select(study.results, model=model), timing.costs, list(paradigms), title)], caption, width=420
            ),
            Table("cost", cost_table(timing.costs, paradigms, record.timed_by).reset_index()),
        ],
    )


def literature_section(study: Study, model: str) -> Section:
    """Ours beside the published figures: with differences, or only for the eye."""
    reason = why_not_comparable(model, study.tasks, study.control, published_results())
    paradigms = list(study.models[model].searches)
    points = published_points(study.results, model, paradigms, reason)
    figures = [published(points, model, paradigms, title) for title in _FIGURES]
    blocks: list[Block] = []
    if reason:
        blocks.append(
            Text(
                f"Not comparable: {reason}. What is shown of {SHOWN_MODEL} is for the eye: do the paradigms come in "
                "the same order? No difference between these numbers and ours means anything."
            )
        )
    theirs = "In brackets: ours minus theirs, in points."
    if reason:
        theirs = f"Published for {SHOWN_MODEL} on eight other tasks; ours: {model}. Not comparable."
    order = orderings(study.results, model, paradigms, reason)
    blocks.append(Panels(figures, theirs if reason else ""))
    if len(order):
        blocks.append(Table("orderings", order.reset_index(), "Paradigms from the best to the worst, in %."))
    table = literature_table(study.results, model, study.control, reason)
    blocks.append(Table("literature", table, theirs, folded=bool(reason)))
    return Section("Beside the literature", blocks)


def origins_section(study: Study, model: str) -> Section:
    """The stages, parameters, task vectors and tasks behind the numbers."""
    origins = study.models[model].origins
    text = (
        "Stages, their commands and all they depend on stand in dvc.yaml; the hashes of what they read and wrote in "
        "dvc.lock. MLflow has a run per stage instance, with its git revision, duration and step metrics: search for "
        "the tag dvc.stage (`mlflow ui --backend-store-uri sqlite:///mlflow.db`)."
    )
    return Section(
        "How each number was made",
        [
            Text(text),
            Table("", sources_table(origins.sources), "The tables that numbers were read from.", folded=True),
            Table("", vectors_table(origins.vectors), "Task vectors: their θ₀ and the code that trained them."),
            Table(
                "",
                tasks_table(study.cards, study.control),
                "Tasks; images of train + val + test. data/records/ says what was downloaded.",
                folded=True,
            ),
            Text(yaml.safe_dump(dict(study.parameters), sort_keys=False, allow_unicode=True, width=100), listing=True),
        ],
    )
