"""The schema of ``params.yaml``.

It has no default values: whatever can change a result stands in ``params.yaml``, where DVC sees it, so that
this package need not be a dependency of any stage.
"""

from pipeline.config.parameters import (
    EvaluationSettings,
    FinetuneSettings,
    Grid,
    IntervalSettings,
    Paradigm,
    Parameters,
    PrepareSettings,
    SearchSettings,
)
from pipeline.config.validation import LegalNames, load_parameters, load_yaml

__all__ = [
    "EvaluationSettings",
    "FinetuneSettings",
    "Grid",
    "IntervalSettings",
    "LegalNames",
    "Paradigm",
    "Parameters",
    "PrepareSettings",
    "SearchSettings",
    "load_parameters",
    "load_yaml",
]
