"""Merging methods: paradigms by methods, task by task, and the numbers with their intervals."""

from pipeline.measurements import select
from pipeline.report import views
from pipeline.report.inputs import Study
from pipeline.report.page.bars import task_bars
from pipeline.report.page.blocks import Block, Panels, Table, Text
from pipeline.report.page.matrices import task_matrix
from pipeline.report.tables.merging import merging_table
from pipeline.report.tables.seeds import seeds_merging_table


def is_shown(study: Study, model: str) -> bool:
    """Return whether any paradigm has a method beside the sum."""
    return any(len(described) > 1 for described in study.models[model].analyses.merging.values())


def merging(study: Study, model: str) -> list[Block]:
    """Return the grid of paradigms and methods, bars of every task, and the table."""
    results, described = select(study.results, model=model), study.models[model].analyses.merging
    paradigms, methods = list(described), views.merging_methods(described)
    matrices = {
        words: views.merging_matrix(results, paradigms, methods, setting) for setting, words in views.SETTINGS.items()
    }
    largest = max(float(matrix.max(axis=None)) for matrix in matrices.values())
    axes = ("paradigm", "merging method")
    grid = [task_matrix(matrix, f"Normalised, {words}", axes, largest, False, 1) for words, matrix in matrices.items()]
    zero_shot = views.zero_shot(results)
    lines = {task: zero_shot[task] for task in study.tasks}
    bars = [
        task_bars(frame, methods, lines, f"{paradigm}: merged, tuned α", by="method")
        for paradigm, frame in views.merging_accuracies(results, paradigms, methods, study.tasks).items()
    ]
    table, marked = merging_table(study.results, model, described)
    blocks: list[Block] = [
        Panels(grid, "Mean normalised accuracy in %: each cell by its paradigm's own single-task models, unmerged."),
        Table(
            "merging",
            table,
            "α is chosen on val for each method. Bold: the best method of a paradigm, and those whose paired "
            "difference from it has a 95 % interval that includes 0. − sum: paired difference from the plain sum, in "
            "points. Sees: what a recipe or method looks at beside its own task's training data; a number is better "
            "than another only among those that see the same.",
            marked,
        ),
        Panels(bars, "Grey lines: the zero-shot accuracy. Whiskers: 95 % intervals.", width=520),
    ]
    pooled = seeds_merging_table(study.seeds, model) if study.seeds is not None else None
    if pooled is not None:
        caption = "Mean ± sample standard deviation over seeds; each difference is between two methods of one seed."
        blocks.insert(2, Table("merging_seeds", pooled, caption))
    at_end = table.loc[table["α"].str.contains("end")]
    if len(at_end):
        names = ", ".join(f"{row['paradigm']} {row['method']}" for row in at_end.to_dict("records"))
        blocks.insert(1, Text(f"α is the largest that was tried: {names}. A larger one may be better."))
    return blocks
