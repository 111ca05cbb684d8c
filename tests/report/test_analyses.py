"""The figures of the analyses show the numbers that they are given."""

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

from pipeline.measurements import Estimate, Recorder, select, to_frame
from pipeline.report import analyses
from pipeline.report.figures import to_svg
from pipeline.report.tables import analysis_table, incremental_table, per_task_table

TASKS = ["a", "b", "c"]


@pytest.fixture
def results() -> pd.DataFrame:
    """Of two paradigms: numbers of every pair that name it."""
    rows = []
    for paradigm, shift in (("standard", 0.0), ("ntk", 0.1)):
        recorder = Recorder("m", paradigm, 0)
        for (i, vector), (j, data) in itertools.product(enumerate(TASKS), enumerate([*TASKS, "control"])):
            moved = Estimate(1 + 10 * i + j + shift, 0.0, 99.0, 5)
            rows.append(recorder.estimate("tau_jp", "none", f"{vector}+{data}", "tau_jp", moved))
            rows.append(recorder.estimate("tau_jp", "none", f"{vector}+{data}", "drop", Estimate(0.1 * j, 0.0, 1.0, 5)))
        for metric in ("tau_jp", "drop", "rank_correlation"):
            rows.append(recorder.estimate("tau_jp", "none", "mean", metric, Estimate(0.25 + shift, 0.1, 0.5, 5)))
        for metric in ("error", "error_alpha_1", "divergence"):
            rows.append(
                recorder.estimate("disentanglement", "none", "mean", metric, Estimate(0.5 + shift, 0.4, 0.7, 9))
            )
        rows.append(recorder.number("disentanglement", "none", "mean", "area", 0.125))
        for (i, first), (j, second) in itertools.combinations(enumerate(TASKS), 2):
            rows.append(recorder.number("cosine", "none", f"{first}+{second}", "cosine", 0.1 * (i + j)))
        for position, task in enumerate(TASKS):
            accuracy = Estimate(0.6 + 0.1 * position, 0.5, 0.9, 50)
            rows.append(recorder.estimate("single_task", "none", task, "accuracy", accuracy))
            if paradigm == "ntk":
                rows.append(recorder.number("addition", "per_task", task, "alpha", 0.25 * position))
        if paradigm == "ntk":
            for metric in ("accuracy", "normalized"):
                rows.append(recorder.estimate("addition", "per_task", "mean", metric, Estimate(0.7, 0.6, 0.8, 50)))
    return to_frame(rows)


def texts(figure: Figure) -> list[str]:
    return [text.strip() for text in ElementTree.fromstring(to_svg(figure)).itertext() if text.strip()]


def test_a_matrix_of_pairs(results: pd.DataFrame) -> None:
    matrix = analyses.pair_matrix(select(results, paradigm="ntk"), "tau_jp", TASKS, [*TASKS, "control"])
    assert matrix.loc["b", "control"] == pytest.approx(1 + 10 + 3 + 0.1)
    assert matrix.loc["c", "a"] == pytest.approx(1 + 20 + 0.1)
    upper = analyses.pair_matrix(select(results, paradigm="ntk"), "cosine", TASKS, TASKS)
    assert np.isnan(upper.loc["b", "a"])


def test_heatmaps_name_every_task_and_have_a_panel_per_pair_and_distance() -> None:
    points = pd.DataFrame(itertools.product([-1.0, 0.0, 1.0], repeat=2), columns=["alpha_1", "alpha_2"])
    points["error"], points["divergence"] = np.linspace(0, 1, 9), np.linspace(0, 3, 9)
    frames = [points.assign(first=a, second=b) for a, b in itertools.combinations(TASKS, 2)]
    figure = analyses.heatmaps(pd.concat(frames), TASKS)
    svg = to_svg(figure)
    assert set(TASKS) <= set(re.findall(">(.)</text>", svg))
    assert len(re.findall("<image", svg)) >= 6
    assert svg == to_svg(analyses.heatmaps(pd.concat(frames), TASKS))  # the same bytes


def test_interference_shows_the_correlation(results: pd.DataFrame) -> None:
    assert {"standard", "ntk", "control"} <= set(
        texts(analyses.interference(results, ["standard", "ntk"], TASKS, "control"))
    )
    found = texts(analyses.interference_scatter(results, ["standard", "ntk"], TASKS))
    assert "standard: ρ = 0.25 [0.10, 0.50]" in found
    assert "ntk: ρ = 0.35 [0.10, 0.50]" in found


def test_geometry_localisation_and_single_tasks_name_what_they_show(results: pd.DataFrame) -> None:
    assert {"standard", "ntk", *TASKS} <= set(texts(analyses.cosines(results, ["standard", "ntk"], TASKS)))
    responses = pd.DataFrame(
        [
            (layer, v, d, 0.5)
            for layer in ("transformer.resblocks.0.attn.in_proj_weight", "x.weight")
            for v in TASKS
            for d in TASKS
        ],
        columns=["layer", "vector", "data", "response"],
    )
    assert {"0.attn.in_proj_weight", "own task", "other tasks"} <= set(
        texts(analyses.orthogonality({"ntk": responses}))
    )
    energies = pd.DataFrame(
        [
            (a, b, k, 1.0, 0.2 * k, w)
            for w in ("pretrained", "random")
            for a, b in itertools.combinations(TASKS, 2)
            for k in range(4)
        ],
        columns=["first", "second", "eigenfunction", "eigenvalue", "first_energy", "weights"],
    )
    assert {"pretrained weights", "random weights"} <= set(texts(analyses.localisation(energies)))
    assert "ntk" in texts(analyses.single_task_scatter(results, ["standard", "ntk"], TASKS))


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
        of_orders = pd.concat([select(curve, order=order) for order in orders])
        found = texts(analyses.incremental({"standard": of_orders, "ntk": of_orders}))
        assert {"standard", "ntk", "tuned α", "α = 1"} <= set(found)
        assert {"1", "2", "3"} <= set(found)
        assert "1.5" not in found  # there is no half arrival
    recorder = Recorder("m", "ntk", 0)
    rows = [
        row
        for order in ("order_0", "order_1")
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
