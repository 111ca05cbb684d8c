"""Statements of the pages about the project are true."""

import io
import re
import runpy
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pipeline.config import Parameters
from tests.committed import committed
from tests.conftest import ROOT
from tests.docs.pages import DOCS, PAGES, blocks

STAGES = set(yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"])


def test_the_page_of_the_pipeline_names_every_stage() -> None:
    text = (DOCS / "explanation" / "pipeline.md").read_text("utf-8")
    assert set(re.findall(r"`(\w+)`", text)) >= STAGES


def test_the_page_of_results_names_every_metric() -> None:
    text = (DOCS / "reference" / "results.md").read_text("utf-8")
    results = pd.read_csv(io.StringIO(committed("reports/results.csv")), keep_default_na=False)
    stands_for = {name: kind for kind in ("paradigm", "method") for name in results[kind].unique() if name}
    reference = re.compile(rf"(?<=_minus_)({'|'.join(stands_for)})$")
    names_on_page = set(re.findall(r"`(\w+)`", text))
    for column in ("benchmark", "setting", "metric"):
        names = {reference.sub(lambda name: stands_for[name[0]].upper(), name) for name in results[column].unique()}
        assert names <= names_on_page, f"{column}: {names - names_on_page}"
    assert set(results.columns) <= names_on_page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_links_to_exist(page: Any) -> None:
    """The site checks links between its pages; these are what GitHub's readers follow."""
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


# Files that a page has its reader write.
WRITTEN = {block.file for page in PAGES for block in blocks(page, "python", "yaml")} | {
    "pipeline/definitions/tasks/pets.yaml",
    "conf/paradigm/ilharco.yaml",
    "conf/paradigm/standard_strongest.yaml",
}
OURS = r"`((?:pipeline|artifacts|stages|tauflow|tools|tests|benchmarks|conf|docs)/[\w./-]*\w)/?`"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    """Names in capitals stand for the reader's."""
    for path in re.findall(OURS, page.read_text("utf-8")):
        assert path in WRITTEN or re.search(r"\b[A-Z]{4,}\b", path) or (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_page_of_the_layout_names_every_package() -> None:
    text = (DOCS / "reference" / "layout.md").read_text("utf-8")
    names_on_page = {
        name for names in re.findall(r"`([\w/.]+)`", text) for name in (names.rstrip("/"), names.split(".")[0])
    }
    for floor in ("pipeline", "artifacts", "tauflow"):
        packages = {path.parent.name for path in (ROOT / floor).glob("*/__init__.py")}
        modules = {path.stem for path in (ROOT / floor).glob("*.py")} - {"__init__"}
        assert names_on_page >= packages | modules, floor
    assert names_on_page >= {f"tools/{path.parent.name}" for path in (ROOT / "tools").glob("*/__init__.py")}


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


def test_intervals_in_the_sentences_about_ntk_are_those_of_the_tables() -> None:
    readme, findings = ((ROOT / page).read_text("utf-8") for page in ("README.md", "docs/findings.md"))
    table = readme[readme.index("<!-- results:") : readme.index("<!-- end of results")]
    section = findings.partition("## What does ntk buy")[2].partition("\n## ")[0]
    intervals = re.findall(r"[-+]?\d+\.\d \[[-+]?\d+\.\d, [-+]?\d+\.\d\]", section)
    assert len(intervals) >= 4
    assert all(f" {number} " in table for number in intervals)


# What is derived has no sentence: nobody sets it.
DERIVED = {
    *("Derived", "Continuation", "Evaluation", "ImageStatistic", "IncrementalEvaluation", "MergedParadigm"),
    "TrainedRecipe",
}


def test_every_parameter_has_a_sentence() -> None:
    """An entry whose value is a section is described by that section."""
    schema = Parameters.model_json_schema()
    sections = {"Parameters": schema, **{name: schema["$defs"][name] for name in schema["$defs"].keys() - DERIVED}}
    sentences = yaml.safe_load((DOCS / "reference" / "parameters.yaml").read_text("utf-8"))
    assert sentences.keys() == sections.keys()
    for name, section in sections.items():
        assert sentences[name].keys() <= section["properties"].keys(), name
        missing = section["properties"].keys() - sentences[name].keys()
        assert all("$ref" in str(section["properties"][entry]) for entry in missing), (name, missing)
        assert all(re.fullmatch(r"[A-Z].*\.", sentence) for sentence in sentences[name].values()), name


def test_readers_of_a_parameter_are_those_of_dvc_yaml() -> None:
    path = str(DOCS / "extensions" / "project_reference.py")
    readers = runpy.run_path(path)["readers"]
    assert readers("finetune.lr") == "`finetune`, `finetune_regularised`, `finetune_continued`"
    assert readers("schedule.NAME.lr") == readers("recipe.NAME.trainable") == readers("finetune.lr")
    assert readers("search.addition.max") == "`alpha_search`, `incremental`"
    assert readers("search.negation") == "`alpha_search`"
    assert readers("prepare.val_max") == "`prepare`"
    assert readers("resume.interval") == ""
