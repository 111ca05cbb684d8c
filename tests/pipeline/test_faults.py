"""Writes of stages that fail, one at a time: `python -m tools.faults`, its quick form."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project

ROOT = Path(__file__).parents[2]
STAGES = ("head@mini-clip-textures", "features@mini-clip-tau_jp-val", "addition@mini-clip-standard", "summary")

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"),
]


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_write_that_fails_is_one_line_and_leaves_nothing(clone: Project, error: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tools.faults", "--calls", "3", "--error", error, *STAGES],
        cwd=clone.root,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "12 faults, 0 problems" in result.stdout
