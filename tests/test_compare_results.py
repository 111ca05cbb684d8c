"""Differences for the nightly reproduction: a number outside its committed interval, or a missing row."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pipeline.measurements import (
    Estimate,
    Measurement,
    Recorder,
    Subject,
    read_measurements,
    select,
    to_frame,
    write_frame,
)
from tauflow.comparing.judging import SHOWN, judge, markdown, passes
from tests.committed import copy_committed
from tools.compare_results import main

MEAN, ICONS, SIGNS = Subject.of_mean(), Subject.of_task("icons"), Subject.of_task("signs")
RECORDER = Recorder("mini-clip", 0, paradigm="ntk")
COMMITTED = [
    RECORDER.estimate("addition", "tuned", MEAN, "accuracy", Estimate(0.60, 0.58, 0.62, 1000)),
    RECORDER.estimate("addition", "tuned", ICONS, "accuracy", Estimate(0.50, 0.45, 0.55, 100)),
    RECORDER.number("addition", "tuned", MEAN, "alpha", 0.15),
    RECORDER.estimate("tau_jp", "none", MEAN, "rank_correlation", Estimate(float("nan"), -1.0, 1.0, 2)),
]
RESULTS = "reports/results.csv"
Run = Callable[[list[Measurement], list[Measurement]], tuple[int, str]]


def with_value(measurement: Measurement, value: float) -> Measurement:
    return Measurement(**{**measurement.__dict__, "value": value})


def verdicts(new: list[Measurement]) -> list[str]:
    """By row of COMMITTED, then rows that it does not have."""
    judged = judge(to_frame(COMMITTED), to_frame(new)).set_index(["scope", "task", "metric"])["verdict"].to_dict()
    return [judged.pop((row.scope, row.task, row.metric)) for row in COMMITTED] + list(judged.values())


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
        (2, 0.9, "another choice of α"),
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
    added = RECORDER.number("negation", "none", ICONS, "near_chance", 0.0)
    assert verdicts([*COMMITTED[1:], added]) == ["gone", *["the same"] * 3, "new"]
    assert not passes(["the same", "gone"])
    assert not passes(["the same", "new"])
    assert passes(["the same", "inside", "moved, no interval"])


def test_the_committed_results_agree_with_themselves_and_fail_when_one_is_pushed_out(tmp_path: Path) -> None:
    path = copy_committed(tmp_path / "committed", RESULTS) / RESULTS
    code, output = command(path, path)
    assert code == 0
    table = read_measurements(path)
    assert output.strip() == f"**{len(table)} numbers**: {len(table)} the same"
    row = select(table, benchmark="zero_shot").index[0]
    table.loc[row, "value"] = table.loc[row, "ci_high"] + 0.001
    write_frame(tmp_path / "new.csv", table)
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
    vectors = Recorder("mini-clip", 0, recipe="ntk")
    rows = [vectors.number("cosine", "none", Subject.of_pair("a", str(i)), "cosine", 0.0) for i in range(SHOWN + 5)]
    shown = markdown(judge(to_frame(rows), to_frame([with_value(row, 0.5) for row in rows])))
    assert f"### Moved, no interval, {SHOWN} of {SHOWN + 5}" in shown
    assert shown.count("cosine |") == SHOWN


@pytest.mark.parametrize("content", [None, "a,b\n1,2\n", "no table"])
def test_what_is_no_table_is_one_line_and_exit_code_2(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "new.csv").write_text(content)
    code, output = command(copy_committed(tmp_path / "committed", RESULTS) / RESULTS, tmp_path / "new.csv")
    assert code == 2
    (line,) = output.splitlines()
    assert line.startswith(f"error: {tmp_path / 'new.csv'}: ")


def test_two_rows_of_one_name_are_refused(run: Run) -> None:
    code, output = run(COMMITTED, [*COMMITTED, COMMITTED[0]])
    assert code == 2
    assert "same name" in output


def study(alpha: float = 0.25, negation: float = 0.5, per_task: float = 0.1) -> list[Measurement]:
    """Numbers of two paradigms; those of ntk move with the coefficients that are chosen for it."""
    other = Recorder("mini-clip", 0, paradigm="tau_jp")

    def at(value: float) -> Estimate:
        return Estimate(value, value - 0.02, value + 0.02, 100)

    return [
        RECORDER.number("addition", "tuned", MEAN, "alpha", alpha),
        RECORDER.estimate("addition", "tuned", MEAN, "accuracy", at(alpha)),
        RECORDER.estimate("addition", "tuned", ICONS, "accuracy", at(alpha)),
        other.estimate("addition", "tuned", MEAN, "accuracy_minus_ntk", at(0.9 - alpha)),
        other.estimate("addition", "tuned", MEAN, "accuracy", at(0.9)),
        RECORDER.number("addition", "per_task", ICONS, "alpha", per_task),
        RECORDER.estimate("addition", "per_task", SIGNS, "accuracy", at(per_task)),
        RECORDER.number("negation", "tuned", ICONS, "alpha", negation),
        RECORDER.estimate("negation", "tuned", ICONS, "target", at(negation)),
        RECORDER.estimate("negation", "tuned", MEAN, "target", at(negation)),
        RECORDER.estimate("negation", "tuned", SIGNS, "target", at(0.3)),
        RECORDER.estimate("addition", "alpha_1", MEAN, "accuracy", at(0.4)),
    ]


@pytest.mark.parametrize(
    ("moved", "followers"),
    [
        ({"alpha": 0.35}, [1, 2, 3]),
        ({"negation": 0.6}, [8, 9]),
        ({"per_task": 0.2}, [6]),
        ({"alpha": 0.35, "negation": 0.6, "per_task": 0.2}, [1, 2, 3, 6, 8, 9]),
    ],
)
def test_what_leaves_its_interval_at_another_choice_is_reported_and_does_not_fail(
    moved: dict[str, float], followers: list[int]
) -> None:
    judged = judge(to_frame(study()), to_frame(study(**moved)))
    order = judged.set_index(["paradigm", "benchmark", "setting", "task", "metric"])["verdict"].to_dict()
    verdicts = [order[m.paradigm, m.benchmark, m.setting, m.task, m.metric] for m in study()]
    assert [i for i, verdict in enumerate(verdicts) if verdict == "outside, at another α"] == followers
    assert verdicts.count("another choice of α") == len(moved)
    assert passes(verdicts)
    assert "### Another choice of α" in markdown(judged)


@pytest.mark.parametrize("row", [4, 10, 11])
@pytest.mark.parametrize("moved", [{}, {"alpha": 0.35}, {"negation": 0.6}])
def test_a_number_outside_its_interval_at_the_same_choice_fails(moved: dict[str, float], row: int) -> None:
    """Choices of another paradigm, of another task, or of a fixed α do not count."""
    new = study(**moved)
    new[row] = with_value(new[row], new[row].value + 0.1)
    judged = judge(to_frame(study()), to_frame(new))
    assert not passes(judged["verdict"])
    assert judged["verdict"].tolist().count("outside") == 1


def test_a_choice_of_another_seed_or_model_excuses_nothing() -> None:
    for changed in ({"model": "other"}, {"seed": 1}):
        old = [*study(), *(Measurement(**{**m.__dict__, **changed}) for m in study())]
        new = [*study(), *(Measurement(**{**m.__dict__, **changed}) for m in study(alpha=0.35))]
        new[1] = with_value(new[1], 0.9)
        judged = judge(to_frame(old), to_frame(new))
        assert judged["verdict"].tolist().count("outside") == 1


def test_without_arguments_head_is_compared_with_the_working_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet", "."], check=True)
    write_frame(Path("reports/results.csv"), to_frame(COMMITTED))
    code, output = command()
    assert (code, output) == (2, "error: HEAD has no reports/results.csv; name two tables to compare\n")
    subprocess.run(["git", "add", "--all"], check=True)
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "x"], check=True)
    assert command() == (0, "**4 numbers**: 4 the same\n")
    write_frame(Path("reports/results.csv"), to_frame([with_value(COMMITTED[0], 0.9), *COMMITTED[1:]]))
    assert command()[0] == 1
