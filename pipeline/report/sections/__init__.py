"""The sections of a model's report, in their order."""

from pipeline.report.blocks import Section
from pipeline.report.inputs import Study
from pipeline.report.sections.accuracy import search_section, summary_section, tasks_section
from pipeline.report.sections.analyses import (
    disentanglement_section,
    incremental_section,
    interference_section,
    localisation_section,
    vectors_section,
)
from pipeline.report.sections.context import cost_section, literature_section, origins_section


def model_sections(study: Study, model: str) -> list[Section]:
    """All sections that the study has anything for."""
    sections = [
        summary_section(study, model),
        tasks_section(study, model),
        search_section(study, model),
        disentanglement_section(study, model),
        interference_section(study, model),
        vectors_section(study, model),
        localisation_section(study, model),
        incremental_section(study, model) if study.models[model].analyses.incremental else None,
        cost_section(study, model),
        literature_section(study, model),
        origins_section(study, model),
    ]
    return [section for section in sections if section]
