"""Measurements: the rows of ``results.csv``, each a number with its interval."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.errors import UserError, missing, one_line
from pipeline.io.files import write_text

# The format of a table of measurements. Version 1 had no column `version`, and mixed several things in `task`;
# version 2 had no column `method`.
VERSION = 3

Setting = Literal["tuned", "alpha_1", "per_task", "none"]
Scope = Literal["task", "pair", "mean", "order"]
MEAN: Scope = "mean"


@dataclass(frozen=True)
class Estimate:
    """A number with its percentile interval, from ``n`` images."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Subject:
    """The subject of a measurement.

    scope: one task, a pair of tasks, the mean over tasks or pairs, or an order of arrival.
    task, other: the task, or the two tasks of a pair; empty otherwise. In a pair of a task vector and a task whose
        images it disturbs, the vector's task comes first.
    order: the order in which tasks arrive; the measurement is then a mean over all of them.
    """

    scope: Scope
    task: str = ""
    other: str = ""
    order: str = ""

    @classmethod
    def of_task(cls, task: str) -> "Subject":
        """Return the subject of a number about one task."""
        return cls("task", task)

    @classmethod
    def of_pair(cls, task: str, other: str) -> "Subject":
        """Return the subject of a number about two tasks."""
        return cls("pair", task, other)

    @classmethod
    def of_mean(cls) -> "Subject":
        """Return the subject of a mean over tasks or pairs."""
        return cls(MEAN)

    @classmethod
    def of_order(cls, order: str) -> "Subject":
        """Return the subject of a number about an order of arrival."""
        return cls("order", order=order)


@dataclass(frozen=True)
class Measurement:
    """A row of ``results.csv`` (design §7).

    Either ``paradigm`` or ``recipe`` is empty: numbers about edited models belong to a paradigm, numbers about task
    vectors to a recipe. ``method`` is the merging method where methods are compared, and empty elsewhere. ``scope``,
    ``task``, ``other`` and ``order`` are those of :class:`Subject`. Accuracies are shares in [0, 1]. ``ci_low``,
    ``ci_high`` and ``n`` are ``None`` where nothing is resampled, as for a chosen α.
    """

    model: str
    paradigm: str
    recipe: str
    method: str
    seed: int
    benchmark: str
    setting: Setting
    scope: Scope
    task: str
    other: str
    order: str
    metric: str
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None


COLUMNS = ["version", *(field.name for field in fields(Measurement))]
# Explicit, because the columns of a table without intervals would otherwise have another type.
_NUMBERS: Any = {
    "version": "int64",
    "seed": "int64",
    "value": "float64",
    "ci_low": "float64",
    "ci_high": "float64",
    "n": "Int64",
}
_TYPES: Any = {column: _NUMBERS.get(column, "str") for column in COLUMNS}
_COLUMNS_OF_VERSION_2 = [column for column in COLUMNS if column != "method"]
_COLUMNS_OF_VERSION_1 = [
    column for column in _COLUMNS_OF_VERSION_2 if column not in ("version", "recipe", "scope", "other", "order")
]


@dataclass(frozen=True)
class Recorder:
    """Makes the measurements of one model, seed, and paradigm (or recipe, for numbers about task vectors).

    ``method`` is the merging method, where methods are compared.
    """

    model: str
    seed: int
    paradigm: str = ""
    recipe: str = ""
    method: str = ""

    def estimate(
        self, benchmark: str, setting: Setting, subject: Subject, metric: str, estimate: Estimate
    ) -> Measurement:
        """Return a measurement with its interval."""
        return self._measurement(
            benchmark, setting, subject, metric, estimate.value, estimate.low, estimate.high, estimate.n
        )

    def number(self, benchmark: str, setting: Setting, subject: Subject, metric: str, value: float) -> Measurement:
        """Return a measurement without an interval, such as a choice or a count."""
        return self._measurement(benchmark, setting, subject, metric, value)

    def _measurement(
        self,
        benchmark: str,
        setting: Setting,
        subject: Subject,
        metric: str,
        value: float,
        ci_low: float | None = None,
        ci_high: float | None = None,
        n: int | None = None,
    ) -> Measurement:
        return Measurement(
            self.model,
            self.paradigm,
            self.recipe,
            self.method,
            self.seed,
            benchmark,
            setting,
            subject.scope,
            subject.task,
            subject.other,
            subject.order,
            metric,
            value,
            ci_low,
            ci_high,
            n,
        )


def to_frame(measurements: Iterable[Measurement]) -> pd.DataFrame:
    """Return a table with the columns of ``results.csv``."""
    rows = [{"version": VERSION, **asdict(measurement)} for measurement in measurements]
    return pd.DataFrame(rows, columns=COLUMNS).astype(_TYPES)


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as CSV, with six decimals so that the bytes are reproducible."""
    write_text(path, frame.to_csv(index=False, float_format="%.6f", lineterminator="\n"))


def read_measurements(path: Path) -> pd.DataFrame:
    """Read a table of measurements, of this format or an earlier one.

    Raises:
        UserError: the file is missing or is not such a table.
    """
    try:
        return parse_measurements(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise missing(path) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; recreate it with `dvc repro`") from None


def parse_measurements(text: str, name: str) -> pd.DataFrame:
    """Parse a table of measurements from text, such as a committed file's; ``name`` is shown in errors.

    Raises:
        UserError: the text is not a table of measurements, or is of an unknown version.
    """
    try:
        header = pd.read_csv(io.StringIO(text), nrows=0).columns
        frame = _parse(text, {column: _NUMBERS.get(column, "str") for column in header})
    except (ValueError, pd.errors.ParserError) as error:
        reason = one_line(error)
        raise UserError(f"{name}: not a table of measurements ({reason}); recreate it with `dvc repro`") from None
    if list(header) == _COLUMNS_OF_VERSION_1:
        frame = _from_version_1(frame)
    elif list(header) == _COLUMNS_OF_VERSION_2:
        frame = frame.assign(version=frame["version"].replace(2, VERSION), method="").reindex(columns=COLUMNS)
    if list(frame.columns) != COLUMNS:
        raise UserError(f"{name}: its columns are {list(header)}, not {COLUMNS}; recreate it with `dvc repro`")
    versions = frame["version"].unique().tolist()
    if versions not in ([], [VERSION]):
        raise UserError(f"{name}: format version {versions[0]}, but this Tauflow reads 1 to {VERSION}; update Tauflow")
    return frame


def read_frame(path: Path, names: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table of another form that :func:`write_frame` wrote; ``names`` are the columns of text.

    Raises:
        UserError: the file is missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise missing(path) from None
    return _parse(text, dict.fromkeys(names, "str"))


def _parse(text: str, types: Any) -> pd.DataFrame:
    """Parse a table; in columns of type ``str`` nothing is a number or missing: a task may be called NA or 007."""
    header = pd.read_csv(io.StringIO(text), nrows=0).columns
    empty = {column: [""] for column in header if types.get(column) != "str"}
    return pd.read_csv(io.StringIO(text), dtype=types, keep_default_na=False, na_values=empty)


def _from_version_1(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert a table whose ``paradigm`` may be a recipe, and whose ``task`` may be a pair, ``mean`` or an order."""
    about_vectors = frame["benchmark"].isin(["cosine", "orthogonality"])
    task = frame["task"].astype(str)
    is_order, is_mean = frame["benchmark"] == "incremental", task == "mean"
    is_pair = task.str.contains("+", regex=False)
    converted = frame.assign(
        version=VERSION,
        recipe=frame["paradigm"].where(about_vectors, ""),
        paradigm=frame["paradigm"].mask(about_vectors, ""),
        method="",
        scope=np.select([is_order, is_mean, is_pair], ["order", "mean", "pair"], "task"),
        task=task.str.replace(r"\+.*", "", regex=True).mask(is_order | is_mean, ""),
        other=task.str.replace(r"^[^+]*\+?", "", regex=True).mask(is_order, ""),
        order=task.where(is_order, ""),
    )
    return converted.reindex(columns=COLUMNS).astype(_TYPES)


def select(results: pd.DataFrame, **where: object) -> pd.DataFrame:
    """Return the rows in which every named column has the given value."""
    for column, value in where.items():
        results = results.loc[results[column] == value]
    return results


def tracked_name(row: Mapping[Any, Any]) -> str:
    """Return the name under which MLflow has a row of a table: ``addition.tuned.accuracy.mean``, ``merging.ties.…``.

    Args:
        row: the columns of a measurement, of any scope but ``pair``.
    """
    subject = row["task"] or row["order"] or row["scope"]
    parts = (row["benchmark"], row["method"], row["setting"], row["metric"], subject)
    return ".".join(part for part in parts if part not in ("", "none"))


def summary(measurements: Sequence[Measurement]) -> dict[str, dict[str, Any]]:
    """Return the means over tasks, by benchmark, setting and metric; ``None`` where the mean is NaN."""
    means: dict[str, dict[str, Any]] = {}
    for m in measurements:
        if m.scope == MEAN:
            benchmark = means.setdefault(m.benchmark, {})
            setting = benchmark if m.setting == "none" else benchmark.setdefault(m.setting, {})
            setting[m.metric] = None if math.isnan(m.value) else round(m.value, 6)
    return means
