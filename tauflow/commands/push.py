"""``tauflow push``: upload an exported model to the Hugging Face hub."""

from pathlib import Path
from typing import Annotated

import typer

from tauflow.commands.console import one_line_errors


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False)],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", show_default=False)],
    private: Annotated[
        bool, typer.Option("--private", help="Only you can see a repository that this creates.")
    ] = False,
) -> None:
    """Upload a folder of `tauflow export` or `tauflow merge`, with its card, to a repository on the Hugging Face hub.

    The repository is created if it is not there. The token is that of `HF_TOKEN` or `hf auth login`.

    For example: `tauflow push merged someone/clip-eight-tasks --private`.
    """
    with one_line_errors():
        from tauflow.edited.hub import push as upload  # imports the hub's client

        print(upload(folder, repository, private))
