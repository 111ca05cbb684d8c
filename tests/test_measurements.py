"""results.csv: exact columns, exact bytes, round trips, and earlier formats."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.measurements import (
    COLUMNS,
    MEAN,
    Estimate,
    Measurement,
    Recorder,
    Subject,
    parse_measurements,
    read_frame,
    read_measurements,
    select,
    summary,
    to_frame,
    tracked_name,
    write_frame,
)

RECORDER = Recorder("mini-clip", 1, paradigm="standard")
VECTORS = Recorder("mini-clip", 1, recipe="standard")
TASK, OVERALL, PAIR = Subject.of_task("digits"), Subject.of_mean(), Subject.of_pair("digits", "icons")
ROWS = [
    RECORDER.estimate("zero_shot", "none", TASK, "accuracy", Estimate(1 / 3, 0.25, 0.4, 120)),
    RECORDER.estimate("zero_shot", "none", OVERALL, "accuracy", Estimate(0.5, 0.4, 0.6, 240)),
    RECORDER.estimate("addition", "tuned", OVERALL, "accuracy", Estimate(0.7, 0.6, 0.8, 240)),
    RECORDER.estimate("addition", "tuned", OVERALL, "normalized", Estimate(0.91, 0.9, 0.92, 240)),
    RECORDER.estimate("addition", "alpha_1", OVERALL, "accuracy", Estimate(0.3, 0.2, 0.4, 240)),
    RECORDER.number("addition", "tuned", OVERALL, "alpha", 0.35),
    RECORDER.number("negation", "tuned", TASK, "alpha", 0.0),
    VECTORS.number("cosine", "none", PAIR, "cosine", 0.25),
    RECORDER.number("incremental", "tuned", Subject.of_order("order_0"), "accuracy", 0.5),
]
MERGED = Recorder("mini-clip", 1, paradigm="standard", method="ties").number(
    "merging", "tuned", OVERALL, "accuracy", 0.75
)
TEXT = """\
version,model,paradigm,recipe,method,seed,benchmark,setting,scope,task,other,order,metric,value,ci_low,ci_high,n
3,mini-clip,standard,,,1,zero_shot,none,task,digits,,,accuracy,0.333333,0.250000,0.400000,120
3,mini-clip,standard,,,1,zero_shot,none,mean,,,,accuracy,0.500000,0.400000,0.600000,240
3,mini-clip,standard,,,1,addition,tuned,mean,,,,accuracy,0.700000,0.600000,0.800000,240
3,mini-clip,standard,,,1,addition,tuned,mean,,,,normalized,0.910000,0.900000,0.920000,240
3,mini-clip,standard,,,1,addition,alpha_1,mean,,,,accuracy,0.300000,0.200000,0.400000,240
3,mini-clip,standard,,,1,addition,tuned,mean,,,,alpha,0.350000,,,
3,mini-clip,standard,,,1,negation,tuned,task,digits,,,alpha,0.000000,,,
3,mini-clip,,standard,,1,cosine,none,pair,digits,icons,,cosine,0.250000,,,
3,mini-clip,standard,,,1,incremental,tuned,order,,,order_0,accuracy,0.500000,,,
"""
VERSION_2 = """\
version,model,paradigm,recipe,seed,benchmark,setting,scope,task,other,order,metric,value,ci_low,ci_high,n
2,mini-clip,standard,,1,zero_shot,none,task,digits,,,accuracy,0.333333,0.250000,0.400000,120
2,mini-clip,standard,,1,zero_shot,none,mean,,,,accuracy,0.500000,0.400000,0.600000,240
2,mini-clip,standard,,1,addition,tuned,mean,,,,accuracy,0.700000,0.600000,0.800000,240
2,mini-clip,standard,,1,addition,tuned,mean,,,,normalized,0.910000,0.900000,0.920000,240
2,mini-clip,standard,,1,addition,alpha_1,mean,,,,accuracy,0.300000,0.200000,0.400000,240
2,mini-clip,standard,,1,addition,tuned,mean,,,,alpha,0.350000,,,
2,mini-clip,standard,,1,negation,tuned,task,digits,,,alpha,0.000000,,,
2,mini-clip,,standard,1,cosine,none,pair,digits,icons,,cosine,0.250000,,,
2,mini-clip,standard,,1,incremental,tuned,order,,,order_0,accuracy,0.500000,,,
"""
VERSION_1 = """\
model,paradigm,seed,benchmark,setting,task,metric,value,ci_low,ci_high,n
mini-clip,standard,1,zero_shot,none,digits,accuracy,0.333333,0.250000,0.400000,120
mini-clip,standard,1,zero_shot,none,mean,accuracy,0.500000,0.400000,0.600000,240
mini-clip,standard,1,addition,tuned,mean,accuracy,0.700000,0.600000,0.800000,240
mini-clip,standard,1,addition,tuned,mean,normalized,0.910000,0.900000,0.920000,240
mini-clip,standard,1,addition,alpha_1,mean,accuracy,0.300000,0.200000,0.400000,240
mini-clip,standard,1,addition,tuned,mean,alpha,0.350000,,,
mini-clip,standard,1,negation,tuned,digits,alpha,0.000000,,,
mini-clip,standard,1,cosine,none,digits+icons,cosine,0.250000,,,
mini-clip,standard,1,incremental,tuned,order_0,accuracy,0.500000,,,
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "results.csv"


def test_file_is_exactly_this(path: Path) -> None:
    write_frame(path, to_frame(ROWS))
    assert path.read_text() == TEXT


def test_measurements_come_back(path: Path) -> None:
    write_frame(path, to_frame(ROWS))
    frame = read_measurements(path)
    pd.testing.assert_frame_equal(frame, to_frame(ROWS), atol=1e-6)
    write_frame(path, frame)
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
    row = RECORDER.estimate("negation", "alpha_1", TASK, "target", Estimate(0.2, 0.1, 0.3, 7))
    expected = Measurement(
        model="mini-clip",
        paradigm="standard",
        recipe="",
        method="",
        seed=1,
        benchmark="negation",
        setting="alpha_1",
        scope="task",
        task="digits",
        other="",
        order="",
        metric="target",
        value=0.2,
        ci_low=0.1,
        ci_high=0.3,
        n=7,
    )
    assert row == expected


def test_select() -> None:
    frame = to_frame(ROWS)
    rows = select(frame, benchmark="addition", setting="tuned", scope=MEAN, metric="alpha")
    assert rows["value"].tolist() == [0.35]
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


def test_a_merging_method_has_a_column_of_its_own(path: Path) -> None:
    write_frame(path, to_frame([MERGED]))
    assert path.read_text().endswith("\n3,mini-clip,standard,,ties,1,merging,tuned,mean,,,,accuracy,0.750000,,,\n")
    (row,) = read_measurements(path).to_dict("records")
    assert tracked_name(row) == "merging.ties.tuned.accuracy.mean"


@pytest.mark.parametrize("text", [VERSION_1, VERSION_2])
def test_an_earlier_format_is_converted(text: str, path: Path) -> None:
    converted = parse_measurements(text, "old.csv")
    pd.testing.assert_frame_equal(converted, parse_measurements(TEXT, "new.csv"))
    write_frame(path, converted)
    assert path.read_text() == TEXT


@pytest.mark.parametrize("text", [VERSION_1, VERSION_2])
def test_an_earlier_format_without_rows(text: str) -> None:
    assert list(parse_measurements(text.splitlines(keepends=True)[0], "old.csv").columns) == COLUMNS


def test_a_later_format_is_refused() -> None:
    for text in (TEXT.replace("\n3,", "\n4,"), VERSION_2.replace("\n2,", "\n4,")):
        with pytest.raises(
            UserError, match=r"^results: format version 4, but this Tauflow reads 1 to 3; update Tauflow$"
        ):
            parse_measurements(text, "results")


def test_task_whose_name_pandas_takes_for_a_missing_number() -> None:
    frame = parse_measurements(TEXT.replace("digits", "NA"), "results")
    assert select(frame, task="NA", scope="task")["benchmark"].tolist() == ["zero_shot", "negation"]


@pytest.mark.parametrize("name", ["007", "1e3", "true", "inf", "01", "0", "nan", "null"])
def test_names_that_look_like_numbers_stay_names(name: str, path: Path) -> None:
    """Model 007 was read as 7, so that no row of it was found."""
    rows = [Measurement(name, name, "", name, 0, "merging", "tuned", "task", name, "", "", "accuracy", 0.5)]
    write_frame(path, to_frame(rows))
    pd.testing.assert_frame_equal(read_measurements(path), to_frame(rows))
    points = pd.DataFrame({"first": [name], "second": [name], "error": [0.5], "divergence": [float("nan")]})
    write_frame(path, points)
    pd.testing.assert_frame_equal(
        read_frame(path, ("first", "second")), points.astype({"first": "str", "second": "str"})
    )


def test_tracked_names() -> None:
    names = [tracked_name(row) for row in to_frame(ROWS).to_dict("records") if row["scope"] != "pair"]
    assert names[:2] == ["zero_shot.accuracy.digits", "zero_shot.accuracy.mean"]
    assert names[-2:] == ["negation.tuned.alpha.digits", "incremental.tuned.accuracy.order_0"]


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
        VERSION_1.replace(",1,zero", ",one,zero"),
        VERSION_1.replace("setting", "settings"),
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
