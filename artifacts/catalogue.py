"""The tables of a study: the stage that writes each, its path, and the kind of numbers in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from artifacts.instances import Instance, read_instances
from artifacts.layout import DATA
from pipeline.config import Parameters


@dataclass(frozen=True)
class StageTable:
    """A CSV file that every instance of a stage writes.

    Args:
        stage: the entry of ``dvc.yaml``.
        file: path below ``data/``, with the instance's keys in braces.
        title: name of its numbers in the report.
        measurements: whether its rows are measurements, which become rows of the results, or points of a curve.
        headline: whether the summary shows it; analyses are left to the report.
        tracked: whether its measurements are metrics of the stage's MLflow run.
    """

    stage: str
    file: str
    title: str
    measurements: bool = True
    headline: bool = False
    tracked: bool = False

    def path(self, keys: Mapping[str, str]) -> Path:
        """Return the path of the table for the stage instance with these keys."""
        return DATA / self.file.format_map(keys)


TABLES = (
    StageTable(
        "single_task", "measurements/{model}/{paradigm}/single_task.csv", "single-task", headline=True, tracked=True
    ),
    StageTable("alpha_search", "measurements/{model}/{paradigm}/addition_curve.csv", "α search", measurements=False),
    StageTable("addition", "measurements/{model}/{paradigm}/addition.csv", "addition", headline=True, tracked=True),
    StageTable("negation", "measurements/{model}/{paradigm}/negation.csv", "negation", headline=True, tracked=True),
    StageTable("comparison", "measurements/{model}/comparison.csv", "differences", headline=True),
    StageTable("disentanglement", "analyses/{model}/{paradigm}/disentanglement.csv", "ξ", tracked=True),
    StageTable("disentanglement", "analyses/{model}/{paradigm}/heatmaps.csv", "heatmaps", measurements=False),
    StageTable("interference", "analyses/{model}/{paradigm}/interference.csv", "τJp and drop", tracked=True),
    StageTable("geometry", "analyses/{model}/geometry/{recipe}/geometry.csv", "cosines"),
    StageTable("localisation", "analyses/{model}/localisation.csv", "NTK", measurements=False),
    StageTable("merging_grid", "analyses/{model}/{paradigm}/merging_grid/merging_grid.csv", "merging methods"),
    StageTable("incremental", "analyses/{model}/{paradigm}/incremental/order_{order}/incremental.csv", "incremental"),
)


@dataclass(frozen=True)
class WrittenTable:
    """A table of one stage instance."""

    table: StageTable
    instance: Instance

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self.table.path(self.instance.keys)

    @property
    def title(self) -> str:
        """The name of its numbers, with the paradigm or recipe they belong to."""
        keys = self.instance.keys
        owner = keys.get("paradigm", keys.get("recipe"))
        order = f", order {keys['order']}" if "order" in keys else ""
        return f"{self.table.title}, {owner}{order}" if owner else self.table.title


def tables(params: Parameters, model: str | None = None) -> Iterator[WrittenTable]:
    """Yield the tables of the study, or of one of its models, in the order of the pipeline."""
    for instance in read_instances(params).values():
        if model in (None, instance.keys.get("model")):
            for table in TABLES:
                if table.stage == instance.stage:
                    yield WrittenTable(table, instance)


def measurements_of(instance: Instance) -> Path:
    """Return the path of the measurements that an instance writes."""
    (path,) = (t.path(instance.keys) for t in TABLES if t.stage == instance.stage and t.measurements)
    return path
