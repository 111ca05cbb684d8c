"""Accuracies: the summary of all paradigms, task by task, and the search for coefficients."""

from pipeline.measurements import select
from pipeline.report.blocks import Block, Panels, Section, Table, Text
from pipeline.report.inputs import Study
from pipeline.report.interactive.bars import PANELS, task_bars
from pipeline.report.interactive.curves import ACCURACIES, addition_curves, negation_curves
from pipeline.report.interactive.scatters import single_task
from pipeline.report.seeds import seeds_comparison_table, seeds_table
from pipeline.report.tables import best_cells, comparison_table, per_task_table, results_table, task_table


def summary_section(study: Study, model: str) -> Section:
    """The results table with the best of each column marked, differences, and what several seeds say."""
    table = results_table(study.results, model, study.control)
    blocks: list[Block] = [
        Table(
            "summary",
            table.reset_index(),
            "In bold, the best paradigm of each column.",
            best_cells(study.results, model, table),
        ),
    ]
    if len(study.models[model].searches) > 1:
        caption = "Differences are paired: in points, on the same test images."
        blocks.append(Table("differences", comparison_table(study.results, model).reset_index(), caption))
    if study.seeds is not None:
        caption = "Mean ± sample standard deviation over seeds."
        blocks.append(Table("seeds", seeds_table(study.seeds, model).reset_index(), caption))
        if len(study.models[model].searches) > 1:
            blocks.append(Table("seeds_differences", seeds_comparison_table(study.seeds, model).reset_index()))
    return Section("Summary", blocks)


def tasks_section(study: Study, model: str) -> Section:
    """Bars of every task and paradigm; the tables behind them."""
    results = select(study.results, model=model)
    paradigms = list(study.models[model].searches)
    bars = [task_bars(results, paradigms, study.tasks, study.control, title) for title in PANELS]
    caption = "Grey lines: the zero-shot accuracy of the pre-trained model. Whiskers: 95 % intervals."
    blocks: list[Block] = [Panels(bars, caption, width=520)]
    if len(paradigms) > 1:
        caption = f"A point per task; on the dashed line a single-task model is as good as that of {paradigms[0]}."
        blocks.append(Panels([single_task(results, paradigms, study.tasks)], caption))
    note = "† zero-shot within 10 points of chance: there is next to nothing to forget, so its negation says little."
    for paradigm in paradigms:
        frame = task_table(study.results, model, paradigm, study.tasks).reset_index()
        blocks.append(Table(f"tasks_{paradigm}", frame, f"{paradigm}, task by task. {note}", folded=True))
    return Section("Task by task", blocks)


def search_section(study: Study, model: str) -> Section:
    """Accuracy on val against α, for addition and negation."""
    searches = study.models[model].searches
    curves = {name: search.addition for name, search in searches.items()}
    chosen = {name: search.addition_alpha for name, search in searches.items()}
    addition = [addition_curves(curves, chosen, column) for column in ACCURACIES]
    negation = [
        negation_curves(search.negation, search.negation_alphas, study.retention * search.pretrained_control, paradigm)
        for paradigm, search in searches.items()
    ]
    blocks: list[Block] = [Panels(addition, "Rings: the chosen α.", width=420)]
    per_task = per_task_table(study.results, model, study.tasks)
    if len(per_task):
        caption = (
            "In tangent space, where an edit costs next to nothing: an α per task vector, by coordinate search on val."
        )
        blocks.append(Table("alpha_per_task", per_task.reset_index(), caption))
    blocks.append(Text("Negation: a line per negated task."))
    blocks.append(Panels(negation, "Rings: the chosen α. Dashed: the control accuracy that must be kept."))
    return Section("Search for coefficients", blocks)
