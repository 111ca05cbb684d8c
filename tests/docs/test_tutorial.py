"""The tutorial's commands, all of them and in their order, in a fresh clone.

Two things differ from what a reader does. Where the page says ``suite=mini``, the tiny suite runs: the same code and
the same stages on tens of images. And ``make setup`` finds the environment of the tests, so that it installs nothing.
"""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.docs.clone import ENVIRONMENT, USE_THIS_ENVIRONMENT, run, script
from tests.docs.pages import DOCS, blocks

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(3600)]

INSTEAD = {"REPOSITORY": str(ROOT), "make setup": f"{USE_THIS_ENVIRONMENT} && make setup", "suite=mini": "suite=tiny"}


@pytest.mark.skipif(not (ENVIRONMENT / ".installed").exists(), reason="`make setup` did not make this environment")
def test_every_command_of_the_tutorial(tmp_path: Path) -> None:
    commands = blocks(DOCS / "tutorial.md", "bash", "python")
    assert {block.language for block in commands} == {"bash", "python"}
    text = script(commands)
    for command, substitute in INSTEAD.items():
        assert command in text
        text = text.replace(command, substitute)
    printed = run(text, tmp_path, tmp_path / "tauflow")
    # The promises of the page.
    assert re.search(
        r"^\d+ up to date in \d+ s$", printed, re.M
    )  # the second time: nothing ran, and nothing was restored
    summary = (tmp_path / "tauflow" / "reports" / "summary.md").read_text(encoding="utf-8")
    assert "| tau_jp |" in summary
    assert "| tau_jp − standard |" in summary
    head, _, answers = printed.partition("class  probability  label")
    assert head
    assert len(answers.splitlines()) > 8
    assert "M params.yaml" not in printed  # as committed again
