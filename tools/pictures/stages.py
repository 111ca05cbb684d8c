"""Draw the stages of the pipeline and their dependencies from dvc.yaml."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import yaml

from tools.pictures.layered import Lane, draw

# The inputs of edits, in weight space and in tangent space (`item.val`, `item.test`).
EDITS = ("task_vectors", "features")
SPLITS = ("val", "test")
LEGEND = (
    "dashed: in one of the spaces only; edits are made of task vectors in weight space, of features in tangent space"
)


def read_stages(path: Path) -> "nx.DiGraph[str]":
    """Return the graph of stages; an edge that exists in only one of the spaces is ``dashed``.

    dvc.yaml lists stages before their dependents, so a recipe that starts from another's task vector is not an edge.
    Edges that a path of others implies are omitted.
    """
    stages = {name: stage.get("do", stage) for name, stage in yaml.safe_load(path.read_text("utf-8"))["stages"].items()}
    spaces = [nx.transitive_reduction(_feeding(stages, edits)) for edits in EDITS]
    both: nx.DiGraph[str] = nx.compose_all(spaces)
    for edge in both.edges:
        both.edges[edge]["dashed"] = not all(space.has_edge(*edge) for space in spaces)
    return both


def draw_stages(path: Path = Path("dvc.yaml")) -> str:
    """Return the picture as SVG."""
    stages = read_stages(path)
    return draw(stages, [Lane(LEGEND, list(stages))], "The stages of the pipeline and what they need")


def _feeding(stages: dict[str, dict[str, Any]], edits: str) -> "nx.DiGraph[str]":
    """Return the pairs (writer, reader) of stages that share a path, if edits use these artifacts."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(stages)
    names = list(stages)
    for number, source in enumerate(names):
        written = list(_paths(stages[source], edits, "outs", "metrics", "plots"))
        for target in names[number + 1 :]:
            if any(_within(out, dependency) for dependency in _paths(stages[target], edits, "deps") for out in written):
                graph.add_edge(source, target)
    return graph


def _paths(stage: dict[str, Any], edits: str, *keys: str) -> Iterator[list[str]]:
    """Return the parts of the paths that a stage declares; ``*`` stands for a value of its matrix."""
    for entry in (entry for key in keys for entry in stage.get(key, [])):
        path = entry if isinstance(entry, str) else next(iter(entry))
        for split in SPLITS:
            directory = f"{edits}/{split}" if edits == "features" else edits
            path = path.replace(f"${{item.{split}}}", directory)
        yield re.sub(r"\$\{[^}]*\}", "*", path).split("/")


def _within(path: list[str], directory: list[str]) -> bool:
    """Return whether a path can be that of a directory, or lie in it."""
    return len(directory) <= len(path) and all(a == b or "*" in (a, b) for a, b in zip(path, directory, strict=False))
