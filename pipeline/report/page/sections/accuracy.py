"""Accuracies: the summary of all paradigms, task by task, and the search for coefficients."""

from pipeline.measurements import select
from pipeline.report import views
from pipeline.report.inputs import Study
from pipeline.report.page.bars import task_bars
from pipeline.report.page.blocks import Block, Panels, Table, Text
from pipeline.report.page.curves import addition_curves, negation_curves
from pipeline.report.page.scatters import single_task
from pipeline.report.tables.results import (
    best_cells,
    comparison_table,
    marking,
    per_task_table,
    results_table,
    task_table,
)
from pipeline.report.tables.seeds import seeds_comparison_table, seeds_table


def summary(study: Study, model: str) -> list[Block]:
    """Return the results table, paired differences, and means over seeds."""
    table = results_table(study.results, model, study.control)
    several = len(study.models[model].searches) > 1
    marked = best_cells(study.results, model, table)
    caption = marking(study.results, model) if several else ""
    blocks: list[Block] = [Table("summary", table.reset_index(), caption, marked)]
    if several:
        caption = "Differences are paired: in points, on the same test images."
        blocks.append(Table("differences", comparison_table(study.results, model).reset_index(), caption))
    if study.seeds is not None:
        caption = "Mean ± sample standard deviation over seeds."
        blocks.append(Table("seeds", seeds_table(study.seeds, model).reset_index(), caption))
        if several:
            blocks.append(Table("seeds_differences", seeds_comparison_table(study.seeds, model).reset_index()))
    return blocks


def tasks(study: Study, model: str) -> list[Block]:
    """Return bars of every task and paradigm, and the tables behind them."""
    results = select(study.results, model=model)
    paradigms = list(study.models[model].searches)
    zero_shot = views.zero_shot(results)
    bars = []
    for title, (_, _, metric) in views.BARS.items():
        lines = {task: zero_shot[study.control if metric == "control" else task] for task in study.tasks}
        accuracies = views.task_accuracies(results, paradigms, study.tasks, title)
        bars.append(task_bars(accuracies, paradigms, lines, title))
    caption = "Grey lines: the zero-shot accuracy of the pre-trained model. Whiskers: 95 % intervals."
    blocks: list[Block] = [Panels(bars, caption, width=520)]
    if len(paradigms) > 1:
        caption = f"A point per task; on the dashed line a single-task model is as good as that of {paradigms[0]}."
        points = views.single_task_points(results, paradigms, study.tasks)
        blocks.append(Panels([single_task(points, paradigms)], caption))
    note = "† zero-shot within 10 points of chance: negation has little to remove, and its numbers say little."
    for paradigm in paradigms:
        frame = task_table(study.results, model, paradigm, study.tasks).reset_index()
        blocks.append(Table(f"tasks_{paradigm}", frame, f"{paradigm}, task by task. {note}", folded=True))
    return blocks


def search(study: Study, model: str) -> list[Block]:
    """Return accuracy on val against α, for addition and negation."""
    searches = study.models[model].searches
    curves = views.addition_curves(searches)
    addition = [addition_curves(curves, column) for column in views.ACCURACIES]
    blocks: list[Block] = [Panels(addition, "Rings: the chosen α.", width=420)]
    per_task = per_task_table(study.results, model, study.tasks)
    if len(per_task):
        caption = (
            "In tangent space, where an edit costs next to nothing: an α per task vector, by coordinate search on val."
        )
        blocks.append(Table("alpha_per_task", per_task.reset_index(), caption))
    negation = views.negation_curves(searches, study.retention)
    blocks.append(Text("Negation: a line per negated task."))
    blocks.append(
        Panels(
            [negation_curves(negation, paradigm) for paradigm in searches],
            f"Rings: the chosen α. Dashed: the control may lose {-negation.limit:.1f} points. Where a line leaves the "
            f"lower frame, the control has lost far more. {negation.describe_grids()}",
        )
    )
    return blocks
