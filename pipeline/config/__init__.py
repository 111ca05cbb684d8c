"""The schema of ``params.yaml``.

It has no default values: whatever can change a result stands in ``params.yaml``, where DVC sees it, so that
this package need not be a dependency of any stage.
"""

from pipeline.config.parameters import (
    Choices,
    EvaluationSettings,
    Extension,
    FinetuneSettings,
    Grid,
    IntervalSettings,
    OtherTasks,
    PaddedCrop,
    Paradigm,
    Parameters,
    PrepareSettings,
    Recipe,
    RegulariserSettings,
    ResizedCrop,
    Schedule,
    SearchSettings,
)
from pipeline.config.validation import LegalNames, checked, load_parameters, load_yaml

__all__ = [
    "Choices",
    "EvaluationSettings",
    "Extension",
    "FinetuneSettings",
    "Grid",
    "IntervalSettings",
    "LegalNames",
    "OtherTasks",
    "PaddedCrop",
    "Paradigm",
    "Parameters",
    "PrepareSettings",
    "Recipe",
    "RegulariserSettings",
    "ResizedCrop",
    "Schedule",
    "SearchSettings",
    "checked",
    "load_parameters",
    "load_yaml",
]
