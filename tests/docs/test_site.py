"""The site builds without a warning, and a browser needs nothing but its files."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.conftest import ROOT
from tests.docs.pages import DOCS

GENERATED = DOCS / "reference" / "api"
# Nothing listens there, so any request to a network fails at once.
NOWHERE = "http://127.0.0.1:9"


class Links(HTMLParser):
    """The resources, links, anchors and equations of a page."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.linked: set[str] = set()
        self.anchors: set[str] = set()
        self.equations = 0
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        if tag in ("script", "img", "iframe", "source", "object") and "src" in values:
            self.loaded.add(values["src"])
        if tag == "link" and values.get("rel") not in ("canonical", "prev", "next", "search", "index", "contents"):
            self.loaded.add(values["href"])
        if tag == "a" and "href" in values:
            self.linked.add(values["href"])
        if "id" in values:
            self.anchors.add(values["id"])
        self.equations += tag == "math"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Links]:
    """The pages as `make docs` builds them, where a network cannot be reached."""
    out = tmp_path_factory.mktemp("site")
    options = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", "--fresh-env"]
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOWHERE)
    result = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "-c", "docs", ".", str(out)],
        cwd=ROOT,
        env={**os.environ, **proxies},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-6000:]
    return {page.relative_to(out): Links(page) for page in out.rglob("*.html")} | {Path(): Links(out / "index.html")}


def test_make_builds_it_in_the_same_way() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    command = re.search(r"sphinx-build (.*) -c docs \. docs/_build", makefile)
    assert command
    assert command[1].split() == ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet"]
    for path in (DOCS / "_build", GENERATED):
        assert f"/{path.relative_to(ROOT)}/" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_every_page_is_there(site: dict[Path, Links]) -> None:
    for page in DOCS.rglob("*.md"):
        assert page.relative_to(ROOT).with_suffix(".html") in site
    for package in (ROOT / "pipeline").glob("*/__init__.py"):
        assert GENERATED.relative_to(ROOT) / f"pipeline.{package.parent.name}.html" in site


def test_nothing_is_loaded_from_elsewhere(site: dict[Path, Links]) -> None:
    for page, links in site.items():
        outside = [url for url in links.loaded if urlsplit(url).netloc]
        assert not outside, f"{page} loads {outside}"


def test_links_within_the_site_lead_somewhere(site: dict[Path, Links]) -> None:
    lost = []
    for page, links in site.items():
        for url in links.linked:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or not (parts.path.endswith(".html") or parts.fragment):
                continue
            target = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
            if target not in site or (parts.fragment and unquote(parts.fragment) not in site[target].anchors):
                lost.append(f"{page}: {url}")
    assert not lost


def test_equations_are_mathml(site: dict[Path, Links]) -> None:
    for name in ("task_arithmetic", "tangent_space", "disentanglement", "tangent_propagation", "measurements"):
        assert site[Path(f"docs/explanation/{name}.html")].equations >= 3


def test_what_follows_the_project_is_filled_in(site: dict[Path, Links]) -> None:
    assert any("tauflow-evaluate" in anchor for anchor in site[Path("docs/reference/command_line.html")].anchors)
    sections = site[Path("docs/reference/parameters.html")].anchors
    assert {"finetune", "search-addition", "paradigm-name-merging-modifiers-position"} <= sections
