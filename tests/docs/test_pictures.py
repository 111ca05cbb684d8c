"""The pictures of packages and stages are complete, and show nothing that is not so."""

import itertools
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import networkx as nx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import ROOT
from tests.docs.pages import DOCS
from tools.pictures.__main__ import PICTURES
from tools.pictures.house import read_imports
from tools.pictures.layered import Lane, draw

SVG = "{http://www.w3.org/2000/svg}"
STAGES: dict[str, dict[str, Any]] = {
    name: stage.get("do", stage)
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"].items()
}


def committed(name: str) -> str:
    return (DOCS / "images" / name).read_text("utf-8")


def boxes(picture: str) -> list[str]:
    texts = ElementTree.fromstring(picture).iter(f"{SVG}text")
    return [text.text or "" for text in texts if text.get("class") == "box"]


def arrows(picture: str) -> set[tuple[str, str]]:
    drawn = [path.attrib for path in ElementTree.fromstring(picture).iter(f"{SVG}path") if "data-to" in path.attrib]
    return {(arrow["data-from"], arrow["data-to"]) for arrow in drawn}


@pytest.mark.parametrize("name", PICTURES)
def test_the_committed_picture_shows_what_the_command_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    drawn = PICTURES[name]()
    assert sorted(boxes(committed(name))) == sorted(boxes(drawn)), "run `make pictures`"
    assert arrows(committed(name)) == arrows(drawn), "run `make pictures`"


def test_the_house_has_every_package() -> None:
    rooms = {
        f"{floor}.{path.stem}"
        for floor in ("tauflow", "pipeline")
        for path in (ROOT / floor).iterdir()
        if (path / "__init__.py").exists() or (path.suffix == ".py" and path.stem != "__init__")
    }
    assert set(boxes(committed("house.svg"))) == rooms | {"stages", "artifacts"}


def test_the_house_shows_imports_and_implies_all_of_them() -> None:
    imports = read_imports()
    drawn = nx.DiGraph(list(arrows(committed("house.svg"))))
    assert set(drawn.edges) <= set(imports.edges)
    assert all(nx.has_path(drawn, *edge) for edge in imports.edges)


def paths(stage: dict[str, Any], *keys: str) -> list[str]:
    """Return the paths that a stage reads or writes; ``*`` is a value of the matrix."""
    entries = [entry for key in keys for entry in stage.get(key, [])]
    return [
        re.sub(
            r"\$\{[^}]*\}",
            "*",
            re.sub(r"\$\{item\.(val|test)\}", edits, entry if isinstance(entry, str) else next(iter(entry))),
        )
        for entry in entries
        for edits in ("features/val", "features/test", "task_vectors")
    ]


def feeds(source: str, target: str) -> bool:
    """Return whether the target reads something that the source writes."""
    written = [Path(path).parts for path in paths(STAGES[source], "outs", "metrics", "plots")]
    inputs = [Path(path).parts for path in paths(STAGES[target], "deps")]
    return any(
        len(r) <= len(w) and all(a == b or "*" in (a, b) for a, b in zip(r, w, strict=False))
        for r in inputs
        for w in written
    )


def test_the_picture_shows_every_stage_and_what_feeds_it() -> None:
    assert sorted(boxes(committed("stages.svg"))) == sorted(STAGES)
    drawn = nx.DiGraph(list(arrows(committed("stages.svg"))))
    assert all(feeds(*edge) for edge in drawn.edges)
    order = list(STAGES)
    for number, source in enumerate(order):
        for target in order[number + 1 :]:
            assert not feeds(source, target) or nx.has_path(drawn, source, target)


@pytest.mark.parametrize("name", PICTURES)
def test_no_arrow_is_drawn_over_a_title(name: str) -> None:
    shapes = list(ElementTree.fromstring(committed(name)))
    last_arrow = max(number for number, shape in enumerate(shapes) if "data-to" in shape.attrib)
    titles = [number for number, shape in enumerate(shapes) if shape.get("class") == "title"]
    assert titles
    assert min(titles) > last_arrow


def test_a_picture_does_not_depend_on_the_order_of_its_edges() -> None:
    edges = [("a", "d"), ("a", "e"), ("b", "d"), ("c", "e"), ("c", "f"), ("a", "f"), ("d", "f")]
    lanes = [Lane("above", "abc"), Lane("below", "def")]
    assert len({draw(nx.DiGraph(order), lanes, "any") for order in (edges, edges[::-1], edges[3:] + edges[:3])}) == 1


@given(st.sets(st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda edge: edge[0] < edge[1])))
def test_any_graph_is_drawn_downwards_without_overlap(edges: set[tuple[int, int]]) -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from("abcdefghijklm")
    graph.add_edges_from(("abcdefghijklm"[a], "abcdefghijklm"[b]) for a, b in edges)
    lanes = [Lane("above", "abcdef"), Lane("below", "ghijklm")]
    picture = ElementTree.fromstring(draw(graph, lanes, "any"))
    rectangles = [r.attrib for r in picture.iter(f"{SVG}rect") if r.get("class") == "box"]
    left, top, width = ([float(r[key]) for r in rectangles] for key in ("x", "y", "width"))
    height = dict(zip(boxes(draw(graph, lanes, "any")), top, strict=True))
    assert all(height[source] < height[target] for source, target in graph.edges)
    for y in set(top):
        row = sorted((x, x + w) for x, w, other in zip(left, width, top, strict=True) if other == y)
        assert all(end < start for (_, end), (start, _) in itertools.pairwise(row))
