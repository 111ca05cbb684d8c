"""Task arithmetic on CLIP models as a DVC pipeline: run it, look at its results, try edits."""

from importlib.metadata import version
from typing import Annotated, Any

import typer

from artifacts.workspace import accept_any_terminal
from tauflow.commands import vectors
from tauflow.commands.check import check
from tauflow.commands.classify import classify
from tauflow.commands.collect import collect_seeds
from tauflow.commands.compare import compare
from tauflow.commands.compose import compose_parameters
from tauflow.commands.dag import dag
from tauflow.commands.doctor import doctor
from tauflow.commands.evaluate import evaluate
from tauflow.commands.experiments import experiments
from tauflow.commands.export import export
from tauflow.commands.import_pool import import_pool
from tauflow.commands.import_vector import import_vector
from tauflow.commands.init import init
from tauflow.commands.merge import merge
from tauflow.commands.plan import plan
from tauflow.commands.push import push
from tauflow.commands.register import register
from tauflow.commands.repro import repro
from tauflow.commands.time import time
from tauflow.commands.track import track
from tauflow.commands.upgrade import upgrade


class _App(typer.Typer):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        accept_any_terminal()
        return super().__call__(*arguments, **options)


app = _App(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # it wraps paragraphs; other modes keep the line breaks of the source
)

_RUN, _RESULTS, _EDITS, _MORE = "Run a study", "Look at its results", "Edit and share models", "Machine and tracking"

app.command(rich_help_panel=_RUN)(init)
app.command(name="compose", rich_help_panel=_RUN)(compose_parameters)
app.command(rich_help_panel=_RUN)(check)
app.command(rich_help_panel=_RUN)(plan)
app.command(rich_help_panel=_RUN)(dag)
app.command(rich_help_panel=_RUN, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(repro)
app.command(rich_help_panel=_RUN)(time)
app.command(rich_help_panel=_RUN)(upgrade)
app.command(rich_help_panel=_RESULTS)(compare)
app.command(rich_help_panel=_RESULTS)(experiments)
app.command(name="collect", rich_help_panel=_RESULTS)(collect_seeds)
app.command(rich_help_panel=_EDITS)(evaluate)
app.command(rich_help_panel=_EDITS)(classify)
app.add_typer(vectors.app, name="vectors", rich_help_panel=_EDITS)
app.command(rich_help_panel=_EDITS)(register)
app.command(rich_help_panel=_EDITS)(export)
app.command(rich_help_panel=_EDITS)(push)
app.command(name="import", rich_help_panel=_EDITS)(import_vector)
app.command(name="import-pool", rich_help_panel=_EDITS)(import_pool)
app.command(rich_help_panel=_EDITS)(merge)
app.command(rich_help_panel=_MORE)(doctor)
app.command(rich_help_panel=_MORE)(track)


def _show_version(requested: bool) -> None:
    if requested:
        print(f"tauflow {version('tauflow')}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Task arithmetic on CLIP models as a DVC pipeline: run it, look at its results, try edits."""


if __name__ == "__main__":
    app()
