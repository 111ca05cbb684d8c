"""Composing params.yaml from conf/, as ``dvc exp run -S`` does."""

from collections.abc import Sequence
from pathlib import Path

from dvc.utils.hydra import compose_and_dump

CONFIGURATION = "conf"


def compose(root: Path, overrides: Sequence[str] = (), output: Path | None = None) -> None:
    """Write ``params.yaml`` of a working copy, or ``output``.

    Args:
        root: the working copy.
        overrides: such as ``paradigm=ntk`` or ``finetune.lr=1e-3``.
        output: where to write instead.
    """
    directory, output = root.resolve() / CONFIGURATION, output or root / "params.yaml"
    compose_and_dump(str(output), str(directory), None, "config", str(directory), list(overrides))
