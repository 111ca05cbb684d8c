"""Frames of the analyses hold the numbers that they are made from, and figures for papers name what they show."""

import itertools
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from pipeline.measurements import Estimate, Measurement, Recorder, Subject, select, to_frame
from pipeline.report import views
from pipeline.report.paper import analyses, figures
from pipeline.report.paper.style import to_svg
from pipeline.report.tables.results import analysis_table, incremental_table, per_task_table

TASKS = ["a", "b", "c"]


@pytest.fixture
def results() -> pd.DataFrame:
    """Return measurements of two paradigms; the number of a pair tells which pair it is."""
    mean = Subject.of_mean()
    rows: list[Measurement] = []
    for paradigm, shift in (("standard", 0.0), ("ntk", 0.1)):
        recorder, vectors = Recorder("m", 0, paradigm=paradigm), Recorder("m", 0, recipe=paradigm)
        for (i, vector), (j, data) in itertools.product(enumerate(TASKS), enumerate([*TASKS, "control"])):
            moved = Estimate(1 + 10 * i + j + shift, 0.0, 99.0, 5)
            rows.append(recorder.estimate("tau_jp", "none", Subject.of_pair(vector, data), "tau_jp", moved))
            rows.append(
                recorder.estimate(
                    "tau_jp", "none", Subject.of_pair(vector, data), "drop", Estimate(0.1 * j, 0.0, 1.0, 5)
                )
            )
        for metric in ("tau_jp", "drop", "rank_correlation"):
            rows.append(recorder.estimate("tau_jp", "none", mean, metric, Estimate(0.25 + shift, 0.1, 0.5, 5)))
        for metric in ("error", "error_alpha_1", "divergence"):
            rows.append(recorder.estimate("disentanglement", "none", mean, metric, Estimate(0.5 + shift, 0.4, 0.7, 9)))
        rows.append(recorder.number("disentanglement", "none", mean, "area", 0.125))
        for (i, first), (j, second) in itertools.combinations(enumerate(TASKS), 2):
            rows.append(vectors.number("cosine", "none", Subject.of_pair(first, second), "cosine", 0.1 * (i + j)))
        for position, task in enumerate(TASKS):
            accuracy = Estimate(0.6 + 0.1 * position, 0.5, 0.9, 50)
            rows.append(recorder.estimate("single_task", "none", Subject.of_task(task), "accuracy", accuracy))
            if paradigm == "ntk":
                rows.append(recorder.number("addition", "per_task", Subject.of_task(task), "alpha", 0.25 * position))
        if paradigm == "ntk":
            for metric in ("accuracy", "normalized"):
                rows.append(recorder.estimate("addition", "per_task", mean, metric, Estimate(0.7, 0.6, 0.8, 50)))
    return to_frame(rows)


def texts(figure: Figure) -> list[str]:
    return [text.strip() for text in ElementTree.fromstring(to_svg(figure)).itertext() if text.strip()]


def test_a_matrix_of_pairs(results: pd.DataFrame) -> None:
    matrix = views.pair_matrix(select(results, paradigm="ntk"), "tau_jp", TASKS, [*TASKS, "control"])
    assert matrix.loc["b", "control"] == pytest.approx(1 + 10 + 3 + 0.1)
    assert matrix.loc["c", "a"] == pytest.approx(1 + 20 + 0.1)
    upper = views.pair_matrix(select(results, recipe="ntk"), "cosine", TASKS, TASKS)
    assert np.isnan(upper.loc["b", "a"])


def test_heatmaps_name_every_task_and_have_a_panel_per_pair_and_distance() -> None:
    points = pd.DataFrame(itertools.product([-1.0, 0.0, 1.0], repeat=2), columns=["alpha_1", "alpha_2"])
    points["error"], points["divergence"] = np.linspace(0, 1, 9), np.linspace(0, 3, 9)
    frames = [points.assign(first=a, second=b) for a, b in itertools.combinations(TASKS, 2)]
    figure = analyses.heatmaps(pd.concat(frames), TASKS)
    svg = to_svg(figure)
    assert set(TASKS) <= set(re.findall(">(.)</text>", svg))
    assert len(re.findall("<image", svg)) >= 6


def test_interference_shows_the_correlation(results: pd.DataFrame) -> None:
    paradigms = ["standard", "ntk"]
    matrices = {m: views.interference_matrices(results, m, paradigms, TASKS, "control") for m in ("tau_jp", "drop")}
    assert {"standard", "ntk", "control"} <= set(texts(analyses.interference(matrices)))
    points = views.interference_points(results, paradigms, TASKS)
    assert len(points) == 2 * 6  # ordered pairs of different tasks, without the control
    (row,) = points.query("paradigm == 'ntk' and vector == 'b' and images == 'c'").to_dict("records")
    assert (row["tau_jp"], row["drop"]) == pytest.approx((1 + 10 + 2 + 0.1, 100 * 0.2))
    labels = texts(analyses.interference_scatter(points, views.rank_correlations(results, paradigms)))
    assert "standard: ρ = 0.25 [0.10, 0.50]" in labels
    assert "ntk: ρ = 0.35 [0.10, 0.50]" in labels


def test_geometry_localisation_and_single_tasks_name_what_they_show(results: pd.DataFrame) -> None:
    assert {"standard", "ntk", *TASKS} <= set(
        texts(analyses.cosines(views.cosines(results, ["standard", "ntk"], TASKS)))
    )
    layers = ("transformer.resblocks.0.attn.in_proj_weight", "x.weight")
    responses = pd.DataFrame(itertools.product(layers, TASKS, TASKS), columns=["layer", "vector", "data"])
    responses["response"] = np.where(responses["vector"] == responses["data"], 0.5, 0.25)
    orthogonality = {"ntk": responses, "attention": responses.loc[responses["layer"] == layers[0]]}
    means = views.responses(orthogonality)
    assert set(select(means, images="own task")["response"]) == {0.5}
    assert set(select(means, images="other tasks")["response"]) == {0.25}
    drawn = texts(analyses.orthogonality(means, views.layers(orthogonality)))
    assert {"0.attn.in_proj_weight", "x", "own task", "other tasks", "attention"} <= set(drawn)
    energies = pd.DataFrame(
        [
            (a, b, k, 1.0, 0.2 * k, w)
            for w in ("pretrained", "random")
            for a, b in itertools.combinations(TASKS, 2)
            for k in range(4)
        ],
        columns=["first", "second", "eigenfunction", "eigenvalue", "first_energy", "weights"],
    )
    shares = views.localisation(energies)
    assert select(shares, weights="random")["mean"].tolist() == pytest.approx([1.0, 0.8, 0.6, 0.6])
    assert {"pretrained weights", "random weights"} <= set(texts(analyses.localisation(shares)))
    points = views.single_task_points(results, ["standard", "ntk"], TASKS)
    assert points["paradigm"].unique().tolist() == ["ntk"]
    assert "ntk" in texts(figures.single_task_scatter(points, ["standard", "ntk"]))


def test_tables(results: pd.DataFrame) -> None:
    table = analysis_table(results, "m")
    assert table.loc["ntk", "ξ, mean over the grid"] == "60.0 [40.0, 70.0]"
    assert table.loc["ntk", "grid with ξ < 5 %"] == "12.5"
    assert table.loc["standard", "rank correlation"] == "0.250 [0.100, 0.500]"
    per_task = per_task_table(results, "m", TASKS)
    assert list(per_task.index) == ["ntk"]
    assert per_task.loc["ntk"].tolist() == ["70.0 [60.0, 80.0]", "70.0 [60.0, 80.0]", "0.00", "0.25", "0.50"]


def test_incremental_learning(results: pd.DataFrame) -> None:
    curve = pd.DataFrame(
        itertools.product([1, 2, 3], ["tuned", "alpha_1"], ["accuracy", "normalized"], ["0", "1"]),
        columns=["arrivals", "setting", "metric", "order"],
    ).assign(value=0.7, ci_low=0.6, ci_high=0.8)
    for orders in (["0"], ["0", "1"]):
        of_orders = curve.loc[curve["order"].isin(orders)]
        frame = views.incremental_curves({"standard": of_orders, "ntk": of_orders})
        labels = texts(figures.incremental(frame))
        ends = (60, 80) if len(orders) == 1 else (70, 70)  # the interval, or the range over orders
        assert set(zip(frame["low"].round(6), frame["high"].round(6), strict=True)) == {ends}
        assert {"standard", "ntk", "tuned α", "α = 1"} <= set(labels)
        assert {"1", "2", "3"} <= set(labels)
        assert "1.5" not in labels  # there is no half arrival
    recorder = Recorder("m", 0, paradigm="ntk")
    rows = [
        row
        for order in map(Subject.of_order, ("order_0", "order_1"))
        for setting, metric in itertools.product(("tuned", "alpha_1"), ("accuracy", "normalized"))
        for row in (
            recorder.estimate("incremental", setting, order, metric, Estimate(0.75, 0.7, 0.8, 50)),
            recorder.number("incremental", setting, order, f"{metric}_over_arrivals", 0.5),
        )
    ]
    table = incremental_table(pd.concat([results, to_frame(rows)]), "m")
    assert list(table.index) == [("ntk", "order_0"), ("ntk", "order_1")]
    assert table.loc[("ntk", "order_1")].tolist() == 2 * ["75.0 [70.0, 80.0]", "75.0 [70.0, 80.0]", "50.0"]


def test_a_cell_of_a_heatmap_is_centred_on_its_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cross of α₁ = α₂ = 1 lies in the middle of its cell."""
    extents = []
    original = Axes.imshow

    def imshow(axes: Axes, *arguments: Any, **options: Any) -> AxesImage:
        extents.append(options["extent"])
        return original(axes, *arguments, **options)

    monkeypatch.setattr(Axes, "imshow", imshow)
    points = pd.DataFrame(itertools.product([-1.0, 0.0, 1.0], repeat=2), columns=["alpha_1", "alpha_2"])
    points["error"], points["divergence"] = 0.5, 1.0
    analyses.heatmaps(points.assign(first="a", second="b"), ["a", "b"])
    assert set(extents) == {(-1.5, 1.5, -1.5, 1.5)}  # three cells, one wide
