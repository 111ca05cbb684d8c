"""What the nightly reproduction calls a difference: a number outside its committed interval, or a row that is gone."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from pipeline.measurements import Estimate, Measurement, Recorder, to_frame, write_frame
from tests.conftest import ROOT
from tools.compare_results import SHOWN, judge, main, markdown, passes

RECORDER = Recorder("mini-clip", "ntk", 0)
COMMITTED = [
    RECORDER.estimate("addition", "tuned", "mean", "accuracy", Estimate(0.60, 0.58, 0.62, 1000)),
    RECORDER.estimate("addition", "tuned", "icons", "accuracy", Estimate(0.50, 0.45, 0.55, 100)),
    RECORDER.number("addition", "tuned", "mean", "alpha", 0.15),
    RECORDER.estimate("tau_jp", "none", "mean", "rank_correlation", Estimate(float("nan"), -1.0, 1.0, 2)),
]
Run = Callable[[list[Measurement], list[Measurement]], tuple[int, str]]


def with_value(measurement: Measurement, value: float) -> Measurement:
    return Measurement(**{**measurement.__dict__, "value": value})


def verdicts(new: list[Measurement]) -> list[str]:
    """By row of COMMITTED, then rows that it does not have."""
    judged = judge(to_frame(COMMITTED), to_frame(new)).set_index(["task", "metric"])["verdict"].to_dict()
    return [judged.pop((row.task, row.metric)) for row in COMMITTED] + list(judged.values())


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the command on two tables; its exit code and output."""

    def run(committed: list[Measurement], new: list[Measurement]) -> tuple[int, str]:
        paths = [tmp_path / "committed.csv", tmp_path / "new.csv"]
        for path, rows in zip(paths, (committed, new), strict=True):
            write_frame(path, to_frame(rows))
        return command(*paths)

    return run


def command(*paths: Path) -> tuple[int, str]:
    app = typer.Typer(add_completion=False)
    app.command()(main)
    result = CliRunner().invoke(app, [str(path) for path in paths])
    return result.exit_code, result.output


def test_the_same_numbers() -> None:
    assert verdicts(COMMITTED) == ["the same"] * 4


@pytest.mark.parametrize(
    ("row", "value", "verdict"),
    [
        (0, 0.58, "inside"),
        (0, 0.62, "inside"),
        (0, 0.620001, "outside"),
        (0, 0.579999, "outside"),
        (0, float("nan"), "outside"),
        (1, 0.45, "inside"),
        (2, 0.9, "moved, no interval"),
        (2, float("nan"), "outside"),
        (3, 0.1, "inside"),
    ],
)
def test_a_number_that_moved(row: int, value: float, verdict: str) -> None:
    new = [with_value(m, value) if i == row else m for i, m in enumerate(COMMITTED)]
    expected = ["the same"] * 4
    expected[row] = verdict
    assert verdicts(new) == expected
    assert passes(verdicts(new)) == (verdict != "outside")


def test_rows_that_are_gone_or_new_fail() -> None:
    added = RECORDER.number("negation", "none", "icons", "near_chance", 0.0)
    assert verdicts([*COMMITTED[1:], added]) == ["gone", *["the same"] * 3, "new"]
    assert not passes(["the same", "gone"])
    assert not passes(["the same", "new"])
    assert passes(["the same", "inside", "moved, no interval"])


def test_the_committed_results_agree_with_themselves_and_fail_when_one_is_pushed_out(tmp_path: Path) -> None:
    path = ROOT / "reports" / "results.csv"
    code, output = command(path, path)
    assert code == 0
    table = pd.read_csv(path)
    assert output.strip() == f"**{len(table)} numbers**: {len(table)} the same"
    row = table["ci_high"].first_valid_index()
    table.loc[row, "value"] = table.loc[row, "ci_high"] + 0.001
    write_frame(tmp_path / "new.csv", table.astype({"n": "Int64"}))
    code, output = command(path, tmp_path / "new.csv")
    assert code == 1
    assert "1 outside" in output


def test_the_output_names_the_row_and_its_interval(run: Run) -> None:
    code, output = run(COMMITTED, [with_value(COMMITTED[0], 0.7), *COMMITTED[1:]])
    assert code == 1
    assert output.splitlines() == [
        "**4 numbers**: 3 the same, 1 outside",
        "",
        "### Outside",
        "",
        "| number | committed | interval | new |",
        "| --- | --- | --- | --- |",
        "| mini-clip ntk 0 addition tuned mean accuracy | 0.6 | [0.58, 0.62] | 0.7 |",
    ]


def test_a_long_table_is_cut_and_says_so() -> None:
    rows = [RECORDER.number("cosine", "none", f"a+{i}", "cosine", 0.0) for i in range(SHOWN + 5)]
    shown = markdown(judge(to_frame(rows), to_frame([with_value(row, 0.5) for row in rows])))
    assert f"### Moved, no interval, {SHOWN} of {SHOWN + 5}" in shown
    assert shown.count("cosine |") == SHOWN


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n", "no table"])
def test_what_is_no_table_is_one_line_and_exit_code_2(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "new.csv").write_text(content)
    code, output = command(ROOT / "reports" / "results.csv", tmp_path / "new.csv")
    assert code == 2
    (line,) = output.splitlines()
    assert line.startswith(f"error: {tmp_path / 'new.csv'}: ")


def test_two_rows_of_one_name_are_refused(run: Run) -> None:
    code, output = run(COMMITTED, [*COMMITTED, COMMITTED[0]])
    assert code == 2
    assert "same name" in output
