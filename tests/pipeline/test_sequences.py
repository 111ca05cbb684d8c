"""Every block of commands on the pages runs to its last line, on the tiny suite, or is listed as not run here."""

import re
import shutil
from collections import Counter

import pytest

from tests.docs.sequences import BEFORE, ELSEWHERE, NOT_HERE, PAGES_ELSEWHERE, RUN, commands, sequences
from tests.pipeline.conftest import ROOT, Project

pytestmark = pytest.mark.pipeline

BLOCKS = {sequence.name: sequence for sequence in sequences()}


def test_every_block_is_run_or_says_why_not() -> None:
    counts = Counter(sequence.name for sequence in sequences() if sequence.page not in PAGES_ELSEWHERE)
    listed = Counter([*RUN, *ELSEWHERE, *NOT_HERE])
    assert sorted(counts - listed) == [], "new: run it, or say in tests/docs/sequences.py where it runs or why not"
    assert sorted(listed - counts) == [], "stands on no page any more"
    assert BEFORE.keys() <= RUN.keys()


def test_pages_and_modules_that_are_named_exist() -> None:
    for path in {*PAGES_ELSEWHERE, *PAGES_ELSEWHERE.values(), *ELSEWHERE.values()}:
        assert (ROOT / path).is_file(), path


def script(name: str) -> str:
    """Return a block as a script that stops at the first command that fails; of a session, what was typed."""
    lines = commands(BLOCKS[name].text)
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    text = "\n".join(typed or lines)
    for command, substitute in RUN[name]:
        assert command in text, f"{name}: has no {command!r} any more"
        text = text.replace(command, substitute)
    return f"set -euxo pipefail\n{BEFORE.get(name, '')}{text}\n"


@pytest.mark.parametrize("name", RUN, ids=lambda name: re.sub(r"[^\w.:-]+", "_", name)[:80])
def test_a_block_runs_to_its_last_line(name: str, clone: Project) -> None:
    shutil.rmtree(clone.root / ".tauflow" / "journal")  # of the fixture's stages; logging them takes a minute
    result = clone.run("bash", "-c", script(name), check=False)
    assert result.returncode == 0, f"{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
    assert "Traceback" not in result.stderr
