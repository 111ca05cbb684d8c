"""The inputs of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.config import Paradigm
from pipeline.report.tables.cost import Cost, TimingRecord
from pipeline.report.tables.origins import Origins
from pipeline.tasks import TaskCard


@dataclass(frozen=True)
class SearchCurves:
    """The results of one paradigm's coefficient search: curves on val, and the chosen α."""

    addition: pd.DataFrame
    negation: Mapping[str, pd.DataFrame]
    addition_alpha: float
    negation_alphas: Mapping[str, float]

    @property
    def pretrained_control(self) -> float:
        """Return the control accuracy at α = 0, which every negation curve starts with."""
        return float(next(iter(self.negation.values()))["control"].iloc[0])


@dataclass(frozen=True)
class Analyses:
    """Tables of a model's analyses: heatmaps by paradigm, responses of layers by recipe, NTK eigenfunctions.

    incremental: by paradigm, the curves of all orders in one table with a column ``order``; may be empty.
    merging: by paradigm, the merging methods: ``method``, what it ``sees``, the ``largest`` α that was tried.
    """

    heatmaps: Mapping[str, pd.DataFrame]
    orthogonality: Mapping[str, pd.DataFrame]
    localisation: pd.DataFrame
    incremental: Mapping[str, pd.DataFrame]
    merging: Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Timing:
    """The record of a model's training steps, and the costs of its paradigms that follow from it."""

    record: TimingRecord
    costs: Mapping[str, Cost]


@dataclass(frozen=True)
class Model:
    """The contents of a model's report, except its measurements.

    searches: coefficient searches, by paradigm.
    timing: ``None`` if its training steps were not measured.
    """

    searches: Mapping[str, SearchCurves]
    analyses: Analyses
    timing: Timing | None
    origins: Origins


@dataclass(frozen=True)
class Study:
    """A suite and its results.

    results: all measurements.
    models: contents of the models' reports, by name.
    retention: the share of the control accuracy that negation keeps.
    paradigms: their definitions, by name.
    parameters: the sections of ``params.yaml`` that numbers depend on.
    cards: cards of the tasks and the control.
    seeds: measurements pooled over seeds, if there are several.
    """

    suite: str
    tasks: Sequence[str]
    control: str
    retention: float
    results: pd.DataFrame
    models: Mapping[str, Model]
    paradigms: Mapping[str, Paradigm]
    parameters: Mapping[str, Any]
    cards: Sequence[TaskCard]
    seeds: pd.DataFrame | None
