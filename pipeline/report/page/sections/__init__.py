"""The sections of a model's report. To add one, write its function and add a record here."""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.report.inputs import Study
from pipeline.report.page.blocks import Block, PageSection
from pipeline.report.page.sections import accuracy, analyses, context, merging


@dataclass(frozen=True)
class SectionEntry:
    """A section of the report.

    title: its heading.
    blocks: returns the blocks under the heading, for one model of a study.
    shown: returns whether the study has data for this section.
    """

    title: str
    blocks: Callable[[Study, str], list[Block]]
    shown: Callable[[Study, str], bool] = lambda study, model: True


SECTIONS = (
    SectionEntry("Summary", accuracy.summary),
    SectionEntry("Task by task", accuracy.tasks),
    SectionEntry("Search for coefficients", accuracy.search),
    SectionEntry("Merging methods", merging.merging, merging.is_shown),
    SectionEntry("Disentanglement", analyses.disentanglement),
    SectionEntry("τJp and interference", analyses.interference),
    SectionEntry("Task vectors", analyses.vectors),
    SectionEntry("NTK localisation", analyses.localisation),
    SectionEntry(
        "Incremental learning", analyses.incremental, lambda study, m: bool(study.models[m].analyses.incremental)
    ),
    SectionEntry("Cost and accuracy", context.cost),
    SectionEntry("Beside the literature", context.literature),
    SectionEntry("How each number was made", context.origins),
)


def model_sections(study: Study, model: str) -> list[PageSection]:
    """Return the sections that the study has data for, in order."""
    return [PageSection(entry.title, entry.blocks(study, model)) for entry in SECTIONS if entry.shown(study, model)]
