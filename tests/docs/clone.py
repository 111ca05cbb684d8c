"""A clone in which a page's commands run, in the environment of the tests."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ROOT
from tests.docs.pages import Block

ENVIRONMENT = Path(sys.prefix)
# Make finds this environment in place and up to date, so that `make setup` installs nothing.
# And the committed dvc.lock is of another suite: DVC would read and write its 13,000 lines several times per stage.
USE_THIS_ENVIRONMENT = f"rm dvc.lock && ln -s {ENVIRONMENT} .venv && touch --date=@0 requirements.lock pyproject.toml"
CLONE = f"git clone --quiet {ROOT} tauflow"


def script(blocks: Sequence[Block]) -> str:
    """One shell script of the blocks, in order: commands run, Python runs, and what is named is written to its file."""
    parts = []
    for block in blocks:
        if block.file:
            parts.append(f"mkdir -p {Path(block.file).parent}\ncat > {block.file} <<'THE_END'\n{block.text}THE_END\n")
        elif block.language == "python":
            parts.append(f"python - <<'THE_END'\n{block.text}THE_END\n")
        else:
            parts.append(block.text)
    return "\n".join(parts)


def run(text: str, directory: Path, clone: Path, **environment: str) -> str:
    """Run a script, which stops at the first command that fails, on the clone's own code; returns what it printed."""
    result = subprocess.run(
        ["bash", "-c", f"set -euxo pipefail\n{text}"],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(clone), "TAUFLOW_TRACKER": "off", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout
