"""The tables and figures of the report as files for papers: Markdown, CSV, LaTeX; SVG and PDF."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from pipeline.io.files import write_text
from pipeline.measurements import select
from pipeline.report import views
from pipeline.report.inputs import Study
from pipeline.report.page.blocks import PageSection
from pipeline.report.paper import analyses, figures
from pipeline.report.paper.style import write_figure
from pipeline.report.paper.tables import PAPER_TABLES, paper_table
from pipeline.report.tables.formats import to_csv, to_latex, to_markdown


def write_tables(directory: Path, study: Study, sections: Mapping[str, list[PageSection]]) -> None:
    """Write named tables as ``<model>_<name>.md``, ``.csv``, ``.tex``; those of the papers as ``<benchmark>.tex``."""
    for model, of_model in sections.items():
        for table in (table for section in of_model for table in section.tables()):
            stem = f"{model}_{table.name}"
            write_text(directory / f"{stem}.md", to_markdown(table.frame, table.marked))
            write_text(directory / f"{stem}.csv", to_csv(table.frame))
            write_text(directory / f"{stem}.tex", to_latex(table.frame, table.marked))
    for benchmark in PAPER_TABLES:
        write_text(directory / f"{benchmark}.tex", to_latex(*paper_table(study, benchmark)))


def write_figures(directory: Path, study: Study) -> None:
    """Write every figure of every model as ``<model>_<name>.svg`` and ``.pdf``."""
    for model in study.models:
        for name, figure in paper_figures(study, model):
            write_figure(directory / f"{model}_{name}", figure)


def paper_figures(study: Study, model: str) -> Iterator[tuple[str, Figure]]:
    """Yield all figures of a model with their names."""
    part, tasks = study.models[model], study.tasks
    results, inputs = select(study.results, model=model), part.analyses
    paradigms = list(part.searches)
    bars = {title: views.task_accuracies(results, paradigms, tasks, title) for title in views.BARS}
    yield "tasks", figures.task_bars(bars, paradigms)
    yield "addition_curves", figures.addition_curves(views.addition_curves(part.searches))
    negation = views.negation_curves(part.searches, study.retention)
    for paradigm in paradigms:
        yield f"negation_curves_{paradigm}", figures.negation_curves(negation, paradigm)
    yield "disentanglement", analyses.disentanglement(inputs.heatmaps, tasks)
    for paradigm, points in inputs.heatmaps.items():
        yield f"disentanglement_{paradigm}", analyses.heatmaps(points, tasks)
    matrices = {
        metric: views.interference_matrices(results, metric, paradigms, tasks, study.control)
        for metric in ("tau_jp", "drop")
    }
    yield "interference", analyses.interference(matrices)
    points = views.interference_points(results, paradigms, tasks)
    yield "interference_scatter", analyses.interference_scatter(points, views.rank_correlations(results, paradigms))
    yield "cosines", analyses.cosines(views.cosines(results, list(inputs.orthogonality), tasks))
    responses = views.responses(inputs.orthogonality)
    if not responses.empty:  # some recipe moves a linear layer
        yield "orthogonality", analyses.orthogonality(responses, views.layers(inputs.orthogonality))
    yield "localisation", analyses.localisation(views.localisation(inputs.localisation))
    if inputs.incremental:
        yield "incremental", figures.incremental(views.incremental_curves(inputs.incremental))
    methods = views.merging_methods(inputs.merging)
    if len(methods) > 1:
        settings = views.SETTINGS.items()
        matrices = {words: views.merging_matrix(results, paradigms, methods, setting) for setting, words in settings}
        yield "merging", analyses.merging(matrices)
        merged = views.merging_accuracies(results, paradigms, methods, tasks)
        yield "merging_tasks", figures.task_bars(merged, methods, by="method")
    if len(paradigms) > 1:
        yield "single_task", figures.single_task_scatter(views.single_task_points(results, paradigms, tasks), paradigms)
    if part.timing and part.timing.costs:
        points = views.cost_points(results, part.timing.costs)
        yield "cost", figures.cost(points, paradigms, part.timing.record.timed_by)
