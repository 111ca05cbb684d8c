"""The notebook's cells run on the tiny suite, in the order of the page."""

import json
import sys

import pytest

from tests.conftest import ROOT
from tests.pipeline.conftest import Project

pytestmark = pytest.mark.pipeline

NOTEBOOK = ROOT / "docs" / "notebooks" / "tiny.ipynb"


def test_every_cell_runs(reproduced: Project) -> None:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    sources = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    # As a notebook does, show the value of each cell's last line.
    code = "\n".join(f"exec(compile({one!r}, 'cell', 'exec'))" for one in map(shown, sources))
    printed = reproduced.run(sys.executable, "-c", code).stdout
    assert "TaskVector(optdigits, mini-clip, standard, weight space" in printed
    assert printed.count("mean over tasks") == 3
    assert all(not cell.get("outputs") for cell in cells)  # numbers of somebody's run are not committed


def shown(source: str) -> str:
    *before, last = source.splitlines()
    return "\n".join([*before, f"print({last})"])
