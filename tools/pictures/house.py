"""Draw the packages of the project from their imports."""

import grimp
import networkx as nx

from tools.pictures.layered import Lane, draw

FLOORS = {
    "stages": "stages/: one script per stage of dvc.yaml",
    "tauflow": "tauflow/: the command line, and what runs and tracks stages",
    "artifacts": "artifacts/: a study, read from where its files lie",
    "pipeline": "pipeline/: the library",
}
DIVIDED = ("tauflow", "pipeline")  # floors that are shown with their packages


def read_imports() -> "nx.DiGraph[str]":
    """Return the graph of imports; each package of a divided floor is a node."""
    graph = grimp.build_graph(*FLOORS, cache_dir=None)
    rooms = [room for floor in DIVIDED for room in graph.find_children(floor)]
    whole = [floor for floor in FLOORS if floor not in DIVIDED]
    for package in [*rooms, *whole]:
        graph.squash_module(package)
    imports: nx.DiGraph[str] = nx.DiGraph()
    imports.add_nodes_from(sorted([*rooms, *whole]))
    for package in imports.nodes:
        imported = (graph.find_modules_directly_imported_by(package) & set(imports.nodes)) - {package}
        imports.add_edges_from((package, other) for other in sorted(imported))
    return imports


def draw_house() -> str:
    """Return the picture as SVG, without imports that a path of arrows implies."""
    arrows = nx.transitive_reduction(read_imports())
    lanes = [Lane(title, [name for name in arrows if name.split(".")[0] == floor]) for floor, title in FLOORS.items()]
    return draw(arrows, lanes, "The packages of Tauflow: imports point down")
