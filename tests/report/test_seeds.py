"""Pooling over seeds against numbers computed by hand; the tables that show it; the input that is refused."""

import math
from pathlib import Path

import pandas as pd
import pytest

from pipeline.errors import UserError
from pipeline.measurements import (
    Estimate,
    Measurement,
    Recorder,
    Setting,
    Subject,
    read_measurements,
    to_frame,
    write_frame,
)
from pipeline.report.tables.seeds import KEYS, is_among, pool, seeds_comparison_table, seeds_merging_table, seeds_table

ROWS: list[tuple[str, Setting, str]] = [
    ("single_task", "none", "accuracy"),
    ("addition", "tuned", "accuracy"),
    ("addition", "tuned", "normalized"),
    ("addition", "alpha_1", "accuracy"),
    ("addition", "alpha_1", "normalized"),
    ("negation", "tuned", "target"),
    ("negation", "tuned", "control"),
]


def measurements(seed: int, shift: float, paradigm: str, reference: str | None = None) -> list[Measurement]:
    """Return all that the tables show, every value of the first paradigm ``0.5 + shift``."""
    recorder = Recorder("mini-clip", seed, paradigm=paradigm)
    value, mean = 0.5 + shift, Subject.of_mean()
    rows = [recorder.estimate(*row[:2], mean, row[2], Estimate(value, value - 0.1, value + 0.1, 90)) for row in ROWS]
    rows.append(recorder.number("addition", "tuned", mean, "alpha", value))
    if reference:
        settings: list[Setting] = ["tuned", "alpha_1"]
        for metric in ("accuracy", "normalized"):
            for setting in settings:
                low, high = shift - 0.1, shift + 0.1
                rows.append(
                    recorder.estimate(
                        "addition", setting, mean, f"{metric}_minus_{reference}", Estimate(shift, low, high, 90)
                    )
                )
    return rows


def table(seed: int, shift: float) -> pd.DataFrame:
    return to_frame(measurements(seed, shift, "standard") + measurements(seed, 2 * shift, "ntk", "standard"))


@pytest.fixture
def frames() -> list[pd.DataFrame]:
    """Shifts 0, 0.03 and 0.06 give means 0.53 and 0.56, standard deviations 0.03 and 0.06."""
    return [table(0, 0.0), table(1, 0.03), table(4, 0.06)]


def test_mean_standard_deviation_and_number(frames: list[pd.DataFrame]) -> None:
    pooled = pool(frames)
    assert list(pooled.columns) == [*KEYS, "mean", "std", "seeds"]
    assert pooled[KEYS].equals(frames[0][KEYS])
    assert pooled["seeds"].tolist() == [3] * len(frames[0])
    standard, ntk = (pooled[pooled["paradigm"] == name] for name in ("standard", "ntk"))
    assert standard["mean"].tolist() == pytest.approx([0.53] * 8)
    assert standard["std"].tolist() == pytest.approx([0.03] * 8)  # √(2 · 0.03² / 2)
    assert ntk["mean"].tolist() == pytest.approx([0.56] * 8 + [0.06] * 4)
    assert ntk["std"].tolist() == pytest.approx([0.06] * 12)


def test_the_standard_deviation_is_the_samples() -> None:
    """The deviation of two values is |a − b| / √2, not / 2."""
    pooled = pool([table(0, 0.1), table(1, 0.2)])
    assert pooled["std"].iloc[0] == pytest.approx(0.1 / math.sqrt(2))


def test_one_seed_has_no_standard_deviation(frames: list[pd.DataFrame]) -> None:
    pooled = pool(frames[1:2])
    assert pooled["mean"].tolist() == frames[1]["value"].tolist()
    assert pooled["std"].isna().tolist() == [True] * len(pooled)
    assert set(pooled["seeds"]) == {1}
    shown = seeds_table(pooled, "mini-clip")
    assert shown.index.name == "n = 1 seed"
    assert shown["single-task"].tolist() == ["53.0", "56.0"]


def test_the_order_of_rows_and_of_seeds_does_not_matter(frames: list[pd.DataFrame]) -> None:
    shuffled = [frames[0], *(frame.sample(frac=1, random_state=0) for frame in frames[:0:-1])]
    pd.testing.assert_frame_equal(pool(shuffled), pool(frames))


def test_a_value_that_is_no_number_is_not_passed_over(frames: list[pd.DataFrame]) -> None:
    frames[1].loc[0, "value"] = float("nan")
    pooled = pool(frames)
    for column in ("mean", "std"):
        assert pooled[column].isna().tolist() == [True] + [False] * (len(pooled) - 1)


def test_the_table_of_seeds(frames: list[pd.DataFrame]) -> None:
    shown = seeds_table(pool(frames), "mini-clip")
    assert shown.index.name == "n = 3 seeds"
    assert list(shown.index) == ["standard", "ntk"]
    assert list(shown.columns) == [
        "single-task",
        "α",
        "addition, tuned α",
        "normalised",
        "addition, α = 1",
        "normalised, α = 1",
        "negation: target",
        "negation: control",
    ]
    assert set(shown.drop(columns="α").loc["standard"]) == {"53.0 ± 3.0"}
    assert shown["α"].tolist() == ["0.53 ± 0.03", "0.56 ± 0.06"]


def test_the_table_of_differences(frames: list[pd.DataFrame]) -> None:
    shown = seeds_comparison_table(pool(frames), "mini-clip")
    assert shown.index.name == "addition: difference, n = 3 seeds"
    assert list(shown.index) == ["ntk − standard"]
    assert set(shown.loc["ntk − standard"]) == {"+6.0 ± 6.0"}
    assert len(shown.columns) == 4


def test_the_table_of_merging_methods() -> None:
    def merged(seed: int, shift: float) -> pd.DataFrame:
        rows = measurements(seed, shift, "standard")
        for method, value in (("sum", 0.5), ("ties", 0.5 + shift)):
            recorder = Recorder("mini-clip", seed, paradigm="standard", method=method)
            mean = Subject.of_mean()
            rows.append(recorder.number("merging", "tuned", mean, "alpha", value))
            for setting in ("tuned", "alpha_1"):
                metrics = {"accuracy": value, "normalized": value}
                metrics |= {"normalized_minus_sum": shift} if method == "ties" else {}
                for metric, number in metrics.items():
                    rows.append(recorder.estimate("merging", setting, mean, metric, Estimate(number, -1.0, 1.0, 90)))
        return to_frame(rows)

    pooled = pool([merged(0, 0.0), merged(1, 0.03), merged(2, 0.06)])
    shown = seeds_merging_table(pooled, "mini-clip")
    assert shown is not None
    expected = {
        "paradigm": "standard",
        "method": "ties",
        "α": "0.53 ± 0.03",
        "tuned α": "53.0 ± 3.0",
        "normalised": "53.0 ± 3.0",
        "normalised: − sum": "+3.0 ± 3.0",
        "α = 1": "53.0 ± 3.0",
        "normalised, α = 1": "53.0 ± 3.0",
        "normalised, α = 1: − sum": "+3.0 ± 3.0",
    }
    assert shown.iloc[1].to_dict() == expected
    assert shown.iloc[0]["normalised"] == "50.0 ± 0.0"
    assert shown.iloc[0]["normalised: − sum"] == ""
    # The tables of paradigms do not see these rows.
    alone = pool([to_frame(measurements(seed, 0.03 * seed, "standard")) for seed in range(3)])
    pd.testing.assert_frame_equal(seeds_table(pooled, "mini-clip"), seeds_table(alone, "mini-clip"))
    assert seeds_merging_table(alone, "mini-clip") is None


def test_one_paradigm_has_no_differences() -> None:
    pooled = pool([to_frame(measurements(seed, 0.0, "standard")) for seed in (0, 1)])
    assert len(seeds_comparison_table(pooled, "mini-clip")) == 0


def test_the_models_are_apart(frames: list[pd.DataFrame]) -> None:
    both = [pd.concat([frame, frame.assign(model="other", value=0.25)], ignore_index=True) for frame in frames]
    pooled = pool(both)
    assert set(seeds_table(pooled, "other").loc["ntk"].drop("α")) == {"25.0 ± 0.0"}
    pd.testing.assert_frame_equal(seeds_table(pooled, "mini-clip"), seeds_table(pool(frames), "mini-clip"))


def test_a_seed_may_be_there_once(frames: list[pd.DataFrame]) -> None:
    with pytest.raises(UserError, match="two tables have seed 1"):
        pool([*frames, frames[1]])


def test_a_table_is_of_one_seed(frames: list[pd.DataFrame]) -> None:
    with pytest.raises(UserError, match="a table of seeds 0, 1"):
        pool([pd.concat(frames[:2]), frames[2]])


def test_no_table() -> None:
    with pytest.raises(UserError, match="no table"):
        pool([])


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_missing_rows_are_named(frames: list[pd.DataFrame], lacking: int) -> None:
    frames[lacking] = frames[lacking].iloc[2:]
    with pytest.raises(UserError) as error:
        pool(frames)
    seed = (0, 1, 4)[lacking]
    assert str(error.value).startswith(f"seed {seed}: no row for mini-clip standard ")
    assert "(and 1 more)" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_row_may_be_there_once(frames: list[pd.DataFrame]) -> None:
    frames[2] = pd.concat([frames[2], frames[2].iloc[:1]])
    with pytest.raises(UserError, match="seed 4: two rows for mini-clip standard single_task none mean accuracy"):
        pool(frames)


def test_the_reports_own_table_is_recognised_among_those_read_back(tmp_path: Path) -> None:
    """The report joins tables it has read from several files; what was collected is the file it wrote from them."""
    third = Recorder("mini-clip", 0, paradigm="standard").estimate(
        "single_task", "none", Subject.of_task("a"), "accuracy", Estimate(1 / 3, 0.0, 1.0, 3)
    )
    for name, rows in {"a": [third], "b": measurements(0, 0.1, "standard")[-1:]}.items():
        write_frame(tmp_path / f"{name}.csv", to_frame(rows))
    results = pd.concat([read_measurements(tmp_path / f"{name}.csv") for name in "ab"], ignore_index=True)
    write_frame(tmp_path / "results.csv", results)
    own = read_measurements(tmp_path / "results.csv")
    other = own.assign(value=own["value"] + 1e-6)
    assert is_among(results, [other, own])
    assert not is_among(results, [other])
    assert not is_among(results, [own.assign(seed=1)])
    assert not is_among(results, [])
