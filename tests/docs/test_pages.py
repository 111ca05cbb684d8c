"""What the pages say of the project is so."""

import re
import tomllib
from collections.abc import Iterator
from datetime import date
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
import yaml

from tests.conftest import ROOT
from tests.docs.pages import DOCS, PAGES

SVG = "{http://www.w3.org/2000/svg}"
STAGES: dict[str, dict[str, Any]] = {
    name: stage.get("do", stage)
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"].items()
}


def paths(stage: dict[str, Any], *keys: str) -> Iterator[list[str]]:
    """The parts of what a stage reads or writes; ``*`` stands for a value of the matrix."""
    for key in keys:
        for entry in stage.get(key, []):
            path = entry if isinstance(entry, str) else next(iter(entry))
            for split in ("val", "test"):
                # What edits are made from: features in tangent space, task vectors in weight space.
                for edits in (f"features/{split}", "task_vectors"):
                    named = path.replace(f"${{item.{split}}}", edits)
                    yield re.sub(r"\$\{[^}]*\}", "*", named).split("/")


def feeds(source: str, target: str) -> bool:
    """Whether the target reads something that the source writes."""
    written = list(paths(STAGES[source], "outs", "metrics", "plots"))
    return any(
        len(read) <= len(out) and all(a in (b, "*") or b == "*" for a, b in zip(read, out, strict=False))
        for read in paths(STAGES[target], "deps")
        for out in written
    )


def test_the_picture_shows_every_stage_and_only_what_dvc_yaml_says() -> None:
    picture = ElementTree.parse(DOCS / "images" / "stages.svg").getroot()
    named = [text.text or "" for text in picture.iter(f"{SVG}text") if text.get("class") == "stage"]
    assert sorted(named) == sorted(STAGES)
    drawn = [path.attrib for path in picture.iter(f"{SVG}path") if "data-to" in path.attrib]
    arrows = [(arrow["data-from"].split(), arrow["data-to"].split()) for arrow in drawn]
    assert len(arrows) > 20
    for sources, targets in arrows:
        for target in targets:
            assert any(feeds(source, target) for source in sources), f"nothing of {sources} feeds {target}"
        for source in sources:
            assert any(feeds(source, target) for target in targets), f"{source} feeds nothing of {targets}"
    reached = {target for _, targets in arrows for target in targets}
    left = {source for sources, _ in arrows for source in sources}
    assert reached | left == set(STAGES)


def test_the_page_of_the_pipeline_names_every_stage() -> None:
    text = (DOCS / "explanation" / "pipeline.md").read_text("utf-8")
    chain = {"task_vector_incremental", "features_incremental"}  # the dots of a row
    assert set(STAGES) - chain <= set(re.findall(r"`(\w+)`", text))


def test_the_page_of_results_names_every_metric() -> None:
    text = (DOCS / "reference" / "results.md").read_text("utf-8")
    results = pd.read_csv(ROOT / "reports" / "results.csv")
    reference = re.compile(rf"_minus_({'|'.join(results['paradigm'].unique())})$")
    said = set(re.findall(r"`(\w+)`", text))
    for column in ("benchmark", "setting", "metric"):
        names = {reference.sub("_minus_PARADIGM", name) for name in results[column].unique()}
        assert names <= said, f"{column}: {names - said}"
    assert set(results.columns) <= said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_links_to_exist(page: Any) -> None:
    """The site checks links between its pages; these are what GitHub's readers follow."""
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_citation() -> None:
    """The format's required fields (citation-file-format 1.2.0), the project's own version, and its four papers."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert all(citation[key] for key in ("message", "title", "authors"))
    for paper in citation["references"]:
        assert paper["type"] == "conference-paper"
        assert paper["title"]
        assert all(set(author) == {"family-names", "given-names"} for author in paper["authors"])
        assert 2022 < paper["year"] <= date.today().year
        assert paper["url"].startswith("https://")
    sources = (DOCS / "explanation" / "task_arithmetic.md").read_text("utf-8")
    assert len(citation["references"]) == 4
    for paper in citation["references"]:
        assert paper["authors"][0]["family-names"] in sources
        assert paper["title"].partition(":")[0] in sources


def test_intervals_in_the_readme_s_sentences_are_those_of_its_tables() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    table = readme[readme.index("<!-- results:") : readme.index("<!-- end of results")]
    said = re.findall(r"[-+]?\d+\.\d \[[-+]?\d+\.\d, [-+]?\d+\.\d\]", readme.replace(table, ""))
    assert len(said) >= 4
    assert all(f" {number} " in table for number in said)
