"""Analyses: disentanglement, interference, the task vectors themselves, the NTK, incremental learning."""

import numpy as np

from pipeline.measurements import select
from pipeline.report.analyses import pair_matrix
from pipeline.report.blocks import Panels, Section, Table
from pipeline.report.inputs import Study
from pipeline.report.interactive.curves import SETTINGS, incremental_curves, localisation, responses
from pipeline.report.interactive.heatmaps import all_pairs, divergence_top, pair_comparison
from pipeline.report.interactive.matrices import task_matrix
from pipeline.report.interactive.scatters import interference
from pipeline.report.tables import analysis_table, incremental_table


def disentanglement_section(study: Study, model: str) -> Section:
    """ξ of every pair in every paradigm, by both distances."""
    heatmaps, tasks = study.models[model].analyses.heatmaps, study.tasks
    top = divergence_top(heatmaps)
    table = analysis_table(study.results, model).reset_index()
    blocks = [
        Table(
            "analyses",
            table,
            "On a sample of each task's test images; means over pairs of tasks. ξ: disagreement with the model of "
            "the task's own vector, summed over both tasks, so at most 200 %. τJp: how far a task vector moves "
            "another task's embeddings in tangent space; drop: what adding it costs that task.",
        ),
        Panels(
            [pair_comparison(heatmaps, tasks)],
            "One pair of tasks in all paradigms: choose it in the menu. Above, ξ of predictions; below, of "
            "representations (symmetrised KL divergence). The square is [0, 1]², where coefficients are searched.",
            width=170 * len(heatmaps) + 180,
            least=120 * len(heatmaps) + 180,
        ),
        Panels(
            [all_pairs(points, tasks, paradigm, top) for paradigm, points in heatmaps.items()],
            "All pairs: predictions below the diagonal, representations above it. In a tile, α of the row's task grows "
            "upwards and that of the column's to the right. Colours as above. Drag to zoom, double-click to return.",
        ),
    ]
    return Section("Disentanglement", blocks)


def interference_section(study: Study, model: str) -> Section:
    """τJp, and the drop in accuracy that it goes with."""
    results, tasks = select(study.results, model=model), study.tasks
    paradigms = list(study.models[model].analyses.heatmaps)
    data = [*tasks, study.control]
    panels = []
    for metric, scale, signed, digits, unit in (("tau_jp", 1, False, 2, "τJp"), ("drop", 100, True, 1, "drop, points")):
        matrices = {
            name: scale * pair_matrix(select(results, paradigm=name, benchmark="tau_jp"), metric, tasks, data)
            for name in paradigms
        }
        largest = max(float(np.nanmax(matrix.abs())) for matrix in matrices.values())
        axes = ("task vector", "images")
        panels.append(
            Panels(
                [
                    task_matrix(matrix, f"{name}: {unit}", axes, largest, signed, digits)
                    for name, matrix in matrices.items()
                ],
                "τJp(t, s): mean over images of task s of ‖J(x)τₜ‖."
                if metric == "tau_jp"
                else "What task s loses when the task vector of t is added at α = 1, in points.",
            )
        )
    scatter = Panels(
        [interference(results, paradigms, tasks)],
        "τJp against the drop, a point per ordered pair of different tasks.",
        width=420,
    )
    return Section("τJp and interference", [*panels, scatter])


def vectors_section(study: Study, model: str) -> Section:
    """Cosine similarities of task vectors, and their orthogonality with the inputs of the layers that they move."""
    results, tasks = select(study.results, model=model), study.tasks
    orthogonality = study.models[model].analyses.orthogonality
    cosines = []
    for recipe in orthogonality:
        upper = pair_matrix(select(results, paradigm=recipe, benchmark="cosine"), "cosine", tasks, tasks)
        title = f"{recipe}: cosine"
        cosines.append(task_matrix(upper.fillna(upper.T), title, ("task vector", "task vector"), 0.5, True, 2))
    # All layers that any recipe moves, in the order of the one that moves the most.
    layers = list(dict.fromkeys(max((list(frame["layer"]) for frame in orthogonality.values()), key=len)))
    blocks = [
        Panels(cosines, "Cosine similarity of flattened task vectors."),
        Panels(
            [responses(frame, layers, recipe) for recipe, frame in orthogonality.items()],
            "Orthogonality of updates with data. Response of a layer: ‖XΔWᵀ‖ / (‖X‖ ‖ΔW‖) of its inputs X at θ₀; 0 "
            "if all inputs are orthogonal to the update's rows.",
        ),
    ]
    return Section("Task vectors", blocks)


def localisation_section(study: Study, model: str) -> Section:
    """Where the eigenfunctions of the NTK live."""
    caption = (
        "Of the leading eigenfunctions of the empirical NTK on two tasks' images: the larger share of their energy "
        "on one of them. Line: mean over pairs; band: all pairs; ½: spread evenly."
    )
    return Section(
        "NTK localisation", [Panels([localisation(study.models[model].analyses.localisation)], caption, width=420)]
    )


def incremental_section(study: Study, model: str) -> Section:
    """Accuracy on the tasks so far while tasks arrive one by one."""
    curves = study.models[model].analyses.incremental
    figures = [
        incremental_curves(curves, metric, setting) for setting in SETTINGS for metric in ("accuracy", "normalized")
    ]
    blocks = [
        Panels(
            figures,
            "Tasks arrive one by one, in an order drawn at random; a regulariser sees only those that have arrived "
            "before. On the tasks so far, after every arrival; α is chosen anew on their val. Whiskers: the 95 % "
            "interval of one order, or the range of several.",
            width=420,
        ),
        Table(
            "incremental",
            incremental_table(study.results, model).reset_index(),
            "After the last arrival, and means over all arrivals.",
        ),
    ]
    return Section("Incremental learning", blocks)
