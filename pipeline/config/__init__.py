"""The schema of ``params.yaml``, the base of definitions, the pattern of names, and the reader of YAML.

The schema has no default values: whatever can change a result stands in ``params.yaml``, where DVC sees it. So this
package need not be a dependency of any stage.
"""

from pipeline.config.definitions import Definition, NamedDefinition, load_definition
from pipeline.config.derived import Parameters, trained_recipe
from pipeline.config.names import Name, check_name
from pipeline.config.parameters import (
    Choices,
    EvaluationSettings,
    Extension,
    FinetuneSettings,
    Grid,
    IntervalSettings,
    MergingImages,
    MergingSettings,
    MergingStep,
    OtherTasks,
    PaddedCrop,
    Paradigm,
    PrepareSettings,
    Recipe,
    RegulariserSettings,
    ResizedCrop,
    Schedule,
    SearchSettings,
)
from pipeline.config.reading import parse_yaml, read_yaml
from pipeline.config.validation import LegalNames, checked, load_parameters, load_yaml

__all__ = [
    "Choices",
    "Definition",
    "EvaluationSettings",
    "Extension",
    "FinetuneSettings",
    "Grid",
    "IntervalSettings",
    "LegalNames",
    "MergingImages",
    "MergingSettings",
    "MergingStep",
    "Name",
    "NamedDefinition",
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
    "check_name",
    "checked",
    "load_definition",
    "load_parameters",
    "load_yaml",
    "parse_yaml",
    "read_yaml",
    "trained_recipe",
]
