"""Measurements: the rows of ``results.csv``, one number each with its interval."""

import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from pipeline.errors import UserError
from pipeline.files import missing, write_text

MEAN = "mean"

BenchmarkName = Literal[
    "zero_shot",
    "single_task",
    "addition",
    "negation",
    "disentanglement",
    "tau_jp",
    "cosine",
    "orthogonality",
    "incremental",
]
Setting = Literal["tuned", "alpha_1", "per_task", "none"]


@dataclass(frozen=True)
class Estimate:
    """A number with its percentile interval; ``n`` images entered it."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Measurement:
    """A row of ``results.csv`` (design §7).

    ``task`` is a task's name, ``a+b`` for a pair, or ``mean``; accuracies are shares in [0, 1]; ``ci_low``, ``ci_high``
    and ``n`` are ``None`` where there is nothing to resample, as for a chosen α.
    """

    model: str
    paradigm: str
    seed: int
    benchmark: BenchmarkName
    setting: Setting
    task: str
    metric: str
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None


COLUMNS = [field.name for field in fields(Measurement)]
# Said outright, since a table without intervals would otherwise have columns of another type.
_TYPES: Any = {"seed": "int64", "value": "float64", "ci_low": "float64", "ci_high": "float64", "n": "Int64"}


@dataclass(frozen=True)
class Recorder:
    """Makes measurements of one model, paradigm and seed."""

    model: str
    paradigm: str
    seed: int

    def estimate(
        self, benchmark: BenchmarkName, setting: Setting, task: str, metric: str, estimate: Estimate
    ) -> Measurement:
        """A measurement with its interval."""
        low, high = estimate.low, estimate.high
        return Measurement(
            self.model,
            self.paradigm,
            self.seed,
            benchmark,
            setting,
            task,
            metric,
            estimate.value,
            low,
            high,
            estimate.n,
        )

    def number(self, benchmark: BenchmarkName, setting: Setting, task: str, metric: str, value: float) -> Measurement:
        """A measurement that is a choice or a count, without an interval."""
        return Measurement(self.model, self.paradigm, self.seed, benchmark, setting, task, metric, value)


def to_frame(measurements: Iterable[Measurement]) -> pd.DataFrame:
    """A table with the columns of ``results.csv``."""
    frame = pd.DataFrame([asdict(measurement) for measurement in measurements], columns=COLUMNS)
    return frame.astype(_TYPES)


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV, numbers with six decimals so that the bytes are the same every time."""
    write_text(path, frame.to_csv(index=False, float_format="%.6f", lineterminator="\n"))


def read_measurements(path: Path) -> pd.DataFrame:
    """Read a table of measurements.

    Raises:
        UserError: the file is missing, or has other columns.
    """
    try:
        return parse_measurements(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise missing(path) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is no text; make it again with `dvc repro`") from None


def parse_measurements(text: str, name: str) -> pd.DataFrame:
    """The same from a text that is called ``name``, such as that of a commit.

    Raises:
        UserError: it has other columns, or is no table.
    """
    try:
        frame = pd.read_csv(io.StringIO(text), dtype=_TYPES)
    except (ValueError, pd.errors.ParserError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{name}: no table of measurements ({said}); make it again with `dvc repro`") from None
    if list(frame.columns) != COLUMNS:
        raise UserError(f"{name}: its columns are {list(frame.columns)}, not {COLUMNS}; run `dvc repro` again")
    return frame


def select(results: pd.DataFrame, **where: object) -> pd.DataFrame:
    """The rows in which every named column has the given value."""
    for column, value in where.items():
        results = results.loc[results[column] == value]
    return results


def summary(measurements: Sequence[Measurement]) -> dict[str, dict[str, Any]]:
    """The means over tasks, by benchmark, setting and metric; ``None`` where there is no number."""
    means: dict[str, dict[str, Any]] = {}
    for m in measurements:
        if m.task == MEAN:
            of_benchmark = means.setdefault(m.benchmark, {})
            of_setting = of_benchmark if m.setting == "none" else of_benchmark.setdefault(m.setting, {})
            of_setting[m.metric] = None if math.isnan(m.value) else round(m.value, 6)
    return means
