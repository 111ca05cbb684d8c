"""A directed acyclic graph as SVG: boxes in rows, and every arrow points down."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

import networkx as nx
import numpy as np
from scipy.optimize import isotonic_regression

LETTER = 7.9  # width of a character in a box; all sizes are in pixels
BOX, ROW, GAP, MARGIN, TITLE = 30, 64, 20, 26, 30
SWEEPS = 24
HEAD = """<style>
    text { font-family: system-ui, sans-serif; font-size: 12px; fill: #5b6875 }
    text.title { paint-order: stroke; stroke: #f2f5f8; stroke-width: 6px; stroke-linejoin: round }
    text.box { font-family: ui-monospace, monospace; font-size: 13px; fill: #1c2733; text-anchor: middle }
    rect.page { fill: #ffffff }
    rect.lane { fill: #f2f5f8; stroke: #d8dfe6 }
    rect.box { fill: #ffffff; stroke: #3b6ea5 }
    path.arrow { fill: none; stroke: #6b7986; stroke-width: 1.3; marker-end: url(#head) }
    path.dashed { stroke-dasharray: 5 4 }
  </style>
  <marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
    <path d="M0 0 L8 4 L0 8 z" fill="#6b7986" />
  </marker>"""


@dataclass(frozen=True)
class Lane:
    """A titled band of the picture, whose boxes point to each other or to later lanes."""

    title: str
    boxes: Sequence[str]


@dataclass(frozen=True)
class Bend:
    """The point at which an arrow passes a row between its ends."""

    arrow: tuple[str, str]
    row: int


Node = str | Bend


def draw(graph: "nx.DiGraph[str]", lanes: Sequence[Lane], label: str) -> str:
    """Return the SVG of a graph whose edges point down; those with the attribute ``dashed`` are dashed."""
    heights, rows, titles = [], [], []
    y = 8.0
    for lane in lanes:
        top = y
        y += TITLE + BOX / 2
        # As low as its successors permit.
        upwards = nx.topological_generations(graph.subgraph(lane.boxes).reverse())
        for row in reversed(list(upwards)):
            rows.append(sorted(row))
            heights.append(y)
            y += ROW
        y += BOX - ROW
        titles.append((top, y - top, lane.title))
        y += MARGIN / 2
    row_of = {box: number for number, row in enumerate(rows) for box in row}
    routes = {(source, target): _route(source, target, row_of) for source, target in sorted(graph.edges)}
    x = _columns(rows, list(routes.values()))
    width = max(position + _width(node) / 2 for node, position in x.items()) + MARGIN

    parts = [f'<rect class="page" width="{width:.0f}" height="{y:.0f}" rx="8" />']
    for top, height, _ in titles:
        parts.append(
            f'<rect class="lane" x="8" y="{top:.0f}" width="{width - 16:.0f}" height="{height:.0f}" rx="10" />'
        )
    for (source, target), route in routes.items():
        points = [(x[node], heights[row]) for row, node in enumerate(route, start=row_of[source])]
        style = "arrow dashed" if graph.edges[source, target].get("dashed") else "arrow"
        parts.append(f'<path class="{style}" data-from="{source}" data-to="{target}" d="{_curve(points)}" />')
    for top, _, title in titles:  # over the arrows, which pass behind its outline
        parts.append(f'<text class="title" x="20" y="{top + 18:.0f}">{escape(title)}</text>')
    for box, row in row_of.items():
        wide, top = _width(box), heights[row] - BOX / 2
        parts.append(
            f'<rect class="box" x="{x[box] - wide / 2:.1f}" y="{top:.0f}" width="{wide:.1f}" height="{BOX}" rx="6" />'
        )
        parts.append(f'<text class="box" x="{x[box]:.1f}" y="{heights[row] + 4:.0f}">{escape(box)}</text>')
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {y:.0f}" role="img"'
    body = "\n  ".join([HEAD, *parts])
    return f'{opening} aria-label="{escape(label)}">\n  {body}\n</svg>\n'


def _width(node: Node) -> float:
    return LETTER * len(node) + 20 if isinstance(node, str) else 0.0


def _route(source: str, target: str, row_of: dict[str, int]) -> list[Node]:
    """Return the boxes at both ends of an arrow, with a bend in each row between them."""
    between = range(row_of[source] + 1, row_of[target])
    return [source, *(Bend((source, target), row) for row in between), target]


def _columns(boxes: list[list[str]], routes: list[list[Node]]) -> dict[Node, float]:
    """Place each node near its neighbours, so that few arrows cross (the barycentre method of Sugiyama et al.)."""
    rows: list[list[Node]] = [list(row) for row in boxes]
    graph: nx.DiGraph[Node] = nx.DiGraph()
    for route in routes:
        nx.add_path(graph, route)
        for bend in route[1:-1]:
            assert isinstance(bend, Bend)
            rows[bend.row].append(bend)
    graph.add_nodes_from(node for row in rows for node in row)
    x: dict[Node, float] = {}
    for row in rows:
        x |= _spread(row, [0.0] * len(row))
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        last = sweep >= SWEEPS - 4  # the last sweeps look both ways and keep the order
        for row in rows if down else rows[::-1]:
            wanted = {}
            for node in row:
                above, below = list(graph.predecessors(node)), list(graph.successors(node))
                near = above + below if last else above if down else below
                wanted[node] = float(np.mean([x[other] for other in near])) if near else x[node]
            if not last:
                row.sort(key=lambda node: wanted[node])
            x |= _spread(row, [wanted[node] for node in row])
    left = min(position - _width(node) / 2 for node, position in x.items())
    return {node: position - left + MARGIN for node, position in x.items()}


def _spread(row: list[Node], wanted: list[float]) -> dict[Node, float]:
    """Return the positions closest to the wanted ones (least squares) at which no two nodes of a row overlap."""
    gaps = [(_width(a) + _width(b)) / 2 + GAP for a, b in pairwise(row)]
    packed = np.cumsum([0.0, *gaps])
    placed = isotonic_regression(np.array(wanted) - packed).x + packed
    return dict(zip(row, map(float, placed), strict=True))


def _curve(points: list[tuple[float, float]]) -> str:
    """Return an SVG path from the bottom of the first box, vertically through the bends, to the top of the last box."""
    (x, y), *rest = points
    path, y = f"M{x:.1f} {y + BOX / 2:.0f}", y + BOX / 2
    for number, (next_x, centre) in enumerate(rest, start=1):
        next_y = centre - BOX / 2 - 1
        middle = (y + next_y) / 2
        path += f" C{x:.1f} {middle:.0f} {next_x:.1f} {middle:.0f} {next_x:.1f} {next_y:.0f}"
        x, y = next_x, next_y
        if number < len(rest):
            y = centre + BOX / 2
            path += f" L{x:.1f} {y:.0f}"
    return path
