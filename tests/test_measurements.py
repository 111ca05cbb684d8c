"""results.csv: exact columns, exact bytes, what comes back."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.measurements import (
    MEAN,
    Estimate,
    Measurement,
    Recorder,
    read_measurements,
    select,
    summary,
    to_frame,
    write_frame,
)

RECORDER = Recorder("mini-clip", "standard", 1)
ROWS = [
    RECORDER.estimate("zero_shot", "none", "digits", "accuracy", Estimate(1 / 3, 0.25, 0.4, 120)),
    RECORDER.estimate("zero_shot", "none", MEAN, "accuracy", Estimate(0.5, 0.4, 0.6, 240)),
    RECORDER.estimate("addition", "tuned", MEAN, "accuracy", Estimate(0.7, 0.6, 0.8, 240)),
    RECORDER.estimate("addition", "tuned", MEAN, "normalized", Estimate(0.91, 0.9, 0.92, 240)),
    RECORDER.estimate("addition", "alpha_1", MEAN, "accuracy", Estimate(0.3, 0.2, 0.4, 240)),
    RECORDER.number("addition", "tuned", MEAN, "alpha", 0.35),
    RECORDER.number("negation", "tuned", "digits", "alpha", 0.0),
]
TEXT = """\
model,paradigm,seed,benchmark,setting,task,metric,value,ci_low,ci_high,n
mini-clip,standard,1,zero_shot,none,digits,accuracy,0.333333,0.250000,0.400000,120
mini-clip,standard,1,zero_shot,none,mean,accuracy,0.500000,0.400000,0.600000,240
mini-clip,standard,1,addition,tuned,mean,accuracy,0.700000,0.600000,0.800000,240
mini-clip,standard,1,addition,tuned,mean,normalized,0.910000,0.900000,0.920000,240
mini-clip,standard,1,addition,alpha_1,mean,accuracy,0.300000,0.200000,0.400000,240
mini-clip,standard,1,addition,tuned,mean,alpha,0.350000,,,
mini-clip,standard,1,negation,tuned,digits,alpha,0.000000,,,
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "results.csv"


def test_file_is_exactly_this(path: Path) -> None:
    write_frame(path, to_frame(ROWS))
    assert path.read_text() == TEXT


def test_measurements_come_back(path: Path) -> None:
    write_frame(path, to_frame(ROWS))
    found = read_measurements(path)
    pd.testing.assert_frame_equal(found, to_frame(ROWS), atol=1e-6)
    write_frame(path, found)
    assert path.read_text() == TEXT


def test_no_rows_still_have_columns(path: Path) -> None:
    write_frame(path, to_frame([]))
    assert path.read_text() == TEXT.splitlines(keepends=True)[0]
    assert len(read_measurements(path)) == 0


def test_tables_can_be_joined(path: Path) -> None:
    """The report does so, with tables that have no interval at all among them."""
    write_frame(path, pd.concat([to_frame(ROWS[:5]), to_frame(ROWS[5:])], ignore_index=True))
    assert path.read_text() == TEXT


def test_estimate_keeps_everything_apart() -> None:
    row = RECORDER.estimate("negation", "alpha_1", "digits", "target", Estimate(0.2, 0.1, 0.3, 7))
    expected = Measurement(
        model="mini-clip",
        paradigm="standard",
        seed=1,
        benchmark="negation",
        setting="alpha_1",
        task="digits",
        metric="target",
        value=0.2,
        ci_low=0.1,
        ci_high=0.3,
        n=7,
    )
    assert row == expected


def test_select() -> None:
    frame = to_frame(ROWS)
    found = select(frame, benchmark="addition", setting="tuned", metric="alpha")
    assert found["value"].tolist() == [0.35]
    assert len(select(frame, seed=1)) == len(ROWS)
    assert len(select(frame, seed=2)) == 0
    assert len(select(frame)) == len(ROWS)


def test_summary_has_the_means_by_benchmark_and_setting() -> None:
    assert summary(ROWS) == {
        "zero_shot": {"accuracy": 0.5},
        "addition": {
            "tuned": {"accuracy": 0.7, "normalized": 0.91, "alpha": 0.35},
            "alpha_1": {"accuracy": 0.3},
        },
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        TEXT.replace("ci_low", "low"),
        TEXT.replace(",1,zero", ",one,zero"),
        TEXT.replace(",120", ",many"),
        TEXT.replace("0.333333", "third"),
        TEXT + '"',
        "\n".join(TEXT.splitlines()[:2]) + ",5\n",
        "\x00",
    ],
)
def test_file_of_no_measurements(text: str, path: Path) -> None:
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_measurements(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_missing_file(path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_measurements(path)
