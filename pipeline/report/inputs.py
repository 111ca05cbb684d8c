"""What a report is made from, as the stage has read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.config import Paradigm
from pipeline.report.cost import Cost, Record
from pipeline.report.origins import Origins
from pipeline.tasks import TaskCard


@dataclass(frozen=True)
class SearchCurves:
    """What the coefficient search of one paradigm left behind."""

    addition: pd.DataFrame
    negation: Mapping[str, pd.DataFrame]
    addition_alpha: float
    negation_alphas: Mapping[str, float]

    @property
    def pretrained_control(self) -> float:
        """Control accuracy at α = 0, which every negation curve starts with."""
        return float(next(iter(self.negation.values()))["control"].iloc[0])


@dataclass(frozen=True)
class Analyses:
    """Tables of a model's analyses: heatmaps by paradigm, responses of layers by recipe, NTK eigenfunctions.

    incremental: by paradigm, the curves of all orders in one table, which a column ``order`` tells apart; may be empty.
    """

    heatmaps: Mapping[str, pd.DataFrame]
    orthogonality: Mapping[str, pd.DataFrame]
    localisation: pd.DataFrame
    incremental: Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Timing:
    """The record of a model's training steps, and the costs of its paradigms by it."""

    record: Record
    costs: Mapping[str, Cost]


@dataclass(frozen=True)
class Model:
    """All that a report shows of a model but its measurements.

    searches: by paradigm.
    timing: ``None`` if its training steps were not measured.
    """

    searches: Mapping[str, SearchCurves]
    analyses: Analyses
    timing: Timing | None
    origins: Origins


@dataclass(frozen=True)
class Study:
    """A suite and what came of it.

    results: all measurements.
    models: by name.
    retention: the share of the control accuracy that negation keeps.
    paradigms: their definitions, by name.
    parameters: the sections of ``params.yaml`` that numbers depend on.
    cards: of the tasks and the control.
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
