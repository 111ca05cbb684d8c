"""The how-tos that have their reader write files: the files are written, and every command runs, on the tiny suite."""

from pathlib import Path

import pytest

from tests.docs.clone import CLONE, USE_THIS_ENVIRONMENT, run, script
from tests.docs.pages import DOCS, blocks
from tests.forks import ForkServer

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(3600)]

PAGES = ["add_a_paradigm", "add_a_regulariser", "add_a_task"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clone for all pages, whose stages are shared: a page's files do not get in another's way."""
    directory = tmp_path_factory.mktemp("how_to")
    clone = directory / "tauflow"
    run(f"{CLONE} && cd tauflow && {USE_THIS_ENVIRONMENT}", directory, clone)
    return clone


@pytest.mark.parametrize("page", PAGES)
def test_every_step(page: str, clone: Path, forks: ForkServer) -> None:
    actual = blocks(DOCS / "how_to" / f"{page}.md", "bash", "python", "yaml")
    steps = [block for block in actual if block.file or block.language != "yaml"]
    assert any(block.file for block in steps)
    assert any(block.language == "bash" for block in steps)
    run(f". .venv/bin/activate\n{script(steps)}", clone, clone, **forks.serve(clone))


def test_all_how_tos_with_files_are_run() -> None:
    pages = (DOCS / "how_to").glob("*.md")
    writing = {page.stem for page in pages if any(block.file for block in blocks(page, "yaml", "python"))}
    assert writing == set(PAGES)
