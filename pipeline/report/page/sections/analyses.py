"""Analyses: disentanglement, interference, the task vectors themselves, the NTK, incremental learning."""

import numpy as np

from pipeline.measurements import select
from pipeline.report import views
from pipeline.report.inputs import Study
from pipeline.report.page import curves, scatters
from pipeline.report.page.blocks import Block, Panels, Table
from pipeline.report.page.heatmaps import all_pairs, pair_comparison
from pipeline.report.page.matrices import task_matrix
from pipeline.report.tables.results import analysis_table, incremental_table

# Metric of pairs → its title, whether it is signed, decimals, caption.
_INTERFERENCE = {
    "tau_jp": ("τJp", False, 2, "τJp(t, s): mean over images of task s of ‖J(x)τₜ‖."),
    "drop": ("drop, points", True, 1, "Accuracy that task s loses when the task vector of t is added at α = 1."),
}


def disentanglement(study: Study, model: str) -> list[Block]:
    """Return ξ of every pair in every paradigm, by both distances."""
    heatmaps = study.models[model].analyses.heatmaps
    top = views.divergence_top(heatmaps)
    return [
        Table(
            "analyses",
            analysis_table(study.results, model).reset_index(),
            "On a sample of each task's test images; means over pairs of tasks. ξ: disagreement with the model of "
            "the task's own vector, summed over both tasks, so at most 200 %. τJp: how far a task vector moves "
            "another task's embeddings in tangent space; drop: the accuracy that adding it costs that task.",
        ),
        Panels(
            [pair_comparison(heatmaps, study.tasks)],
            "One pair of tasks in all paradigms: choose it in the menu. Upper row: ξ of predictions; lower row: of "
            "representations (symmetrised KL divergence). The square is [0, 1]², where coefficients are searched. "
            f"Colours saturate at ξ = {views.ERROR_TOP:g} and at {top:.2f} nats.",
            width=170 * len(heatmaps) + 180,
            least=120 * len(heatmaps) + 180,
        ),
        Panels(
            [all_pairs(points, study.tasks, paradigm, top) for paradigm, points in heatmaps.items()],
            "All pairs: predictions below the diagonal, representations above it. In a tile, α of the row's task grows "
            "upwards and that of the column's to the right. Colours as in the figure before. Drag to zoom, "
            "double-click to return.",
        ),
    ]


def interference(study: Study, model: str) -> list[Block]:
    """Return τJp, and the drop in accuracy that it is compared with."""
    results = select(study.results, model=model)
    paradigms = list(study.models[model].searches)
    blocks: list[Block] = []
    for metric, (title, signed, digits, caption) in _INTERFERENCE.items():
        matrices = views.interference_matrices(results, metric, paradigms, study.tasks, study.control)
        largest = max(float(np.nanmax(matrix.abs())) for matrix in matrices.values())
        axes = ("task vector", "images")
        figures = [
            task_matrix(matrix, f"{name}: {title}", axes, largest, signed, digits) for name, matrix in matrices.items()
        ]
        blocks.append(Panels(figures, caption))
    points = views.interference_points(results, paradigms, study.tasks)
    caption = "τJp against the drop, a point per ordered pair of different tasks."
    blocks.append(Panels([scatters.interference(points, paradigms)], caption, width=420))
    return blocks


def vectors(study: Study, model: str) -> list[Block]:
    """Return cosine similarities of task vectors, and how orthogonal updates are to the inputs of their layers."""
    results = select(study.results, model=model)
    orthogonality = study.models[model].analyses.orthogonality
    axes = ("task vector", "task vector")
    cosines = [
        task_matrix(matrix, f"{recipe}: cosine", axes, views.COSINE_TOP, True, 2)
        for recipe, matrix in views.cosines(results, list(orthogonality), study.tasks).items()
    ]
    means, layers = views.responses(orthogonality), views.layers(orthogonality)
    return [
        Panels(cosines, f"Cosine similarity of flattened task vectors; colours saturate at ±{views.COSINE_TOP:g}."),
        Panels(
            [curves.responses(means, layers, recipe) for recipe in orthogonality],
            "Orthogonality of updates with data. Response of a layer: ‖XΔWᵀ‖ / (‖X‖ ‖ΔW‖) of its inputs X at θ₀; 0 "
            "if all inputs are orthogonal to the update's rows.",
        ),
    ]


def localisation(study: Study, model: str) -> list[Block]:
    """Return how localised the eigenfunctions of the NTK are."""
    caption = (
        "Leading eigenfunctions of the empirical NTK on two tasks' images: the larger share of their energy on one of "
        "the tasks. Line: mean over pairs; band: all pairs; ½: spread evenly."
    )
    shares = views.localisation(study.models[model].analyses.localisation)
    return [Panels([curves.localisation(shares)], caption, width=420)]


def incremental(study: Study, model: str) -> list[Block]:
    """Return accuracy on the tasks so far while tasks arrive one by one."""
    frame = views.incremental_curves(study.models[model].analyses.incremental)
    figures = [
        curves.incremental_curves(frame, metric, setting) for setting in views.SETTINGS for metric in views.ACCURACIES
    ]
    table = incremental_table(study.results, model).reset_index()
    return [
        Panels(
            figures,
            "Tasks arrive one by one, in an order drawn at random; a regulariser sees only those that have arrived "
            "before. Accuracy on the tasks so far, after every arrival; α is chosen anew on their val. Whiskers: the "
            "95 % interval of one order, or the range of several.",
            width=420,
        ),
        Table("incremental", table, "After the last arrival, and means over all arrivals."),
    ]
