"""Task arithmetic on CLIP models as a DVC pipeline: run it, look at its results, try edits."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from tauflow import layout
from tauflow.commands import vectors
from tauflow.commands.compare import compare
from tauflow.commands.console import checked_parameters, one_line_errors
from tauflow.commands.doctor import doctor
from tauflow.commands.evaluate import evaluate
from tauflow.commands.export import export
from tauflow.commands.import_vector import import_vector
from tauflow.commands.plan import plan
from tauflow.commands.register import register
from tauflow.journal import error_file
from tauflow.tracker import track as track_journals
from tauflow.workspace import PARAMETERS, REPORT, journals, program_path, tracking_uri

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # which fills paragraphs; the others keep the line breaks of the source
    help=__doc__,
)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def repro(
    context: typer.Context,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Run this many independent stages at once, on Ray.", show_default=False)
    ] = None,
    gpus_per_stage: Annotated[
        float | None, typer.Option(min=0, help="GPUs a stage is leased; 1 where there are any.", show_default=False)
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster: HOST:PORT or `auto`.", show_default=False)
    ] = None,
) -> None:
    """Check params.yaml, run `dvc repro`, log to MLflow, and say where the report is.

    Further arguments go to `dvc repro`: `tauflow repro -s addition@mini-clip-standard`. With `--jobs 4` the stages that
    are stale run four at once, here or on a Ray cluster: `tauflow repro --jobs 4 report`.
    """
    parameters = checked_parameters()
    if jobs is None and (gpus_per_stage is not None or address is not None):
        print("error: --gpus-per-stage and --address need --jobs: how many stages run at once", file=sys.stderr)
        raise typer.Exit(1)
    print(
        f"Suite {parameters.suite}: {len(parameters.tasks)} tasks, models {', '.join(parameters.models)}, "
        f"paradigms {', '.join(parameters.paradigms)}"
    )
    try:
        code = _dvc_repro(context.args) if jobs is None else _on_ray(jobs, gpus_per_stage, address, context.args)
    except KeyboardInterrupt:
        print("\nStopped. What was finished is kept; the same command continues.", file=sys.stderr)
        code = 130
    if code == 0:
        print(f"\nReport:  {REPORT}\nNumbers: reports/results.csv")
    remaining = track_journals(linger=0) if any(journals().glob("*.jsonl")) else 0  # MLflow takes seconds to import
    if remaining:
        _say_not_logged(remaining)
    else:
        print(f"Runs:    mlflow ui --backend-store-uri {tracking_uri()}   (with .venv/bin on your PATH)")
    raise typer.Exit(code)


def _dvc_repro(arguments: list[str]) -> int:
    environment = {**os.environ, "PATH": program_path(os.environ.get("PATH", ""))}
    command = [str(Path(sys.executable).with_name("dvc")), "repro", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def _on_ray(jobs: int, gpus_per_stage: float | None, address: str | None, arguments: list[str]) -> int:
    from tauflow.scale_out import Options, repro_in_parallel  # imports a good part of DVC

    with one_line_errors():
        return repro_in_parallel(Options(jobs, gpus_per_stage, address, tuple(arguments)))


@app.command(name="compose")
def compose_parameters(overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...")] = None) -> None:
    """Compose params.yaml from conf/, as `dvc exp run -S` does, without running anything.

    For example: `tauflow compose paradigm=all seed=1`.
    """
    from tauflow.composition import compose  # imports a good part of DVC

    with one_line_errors():
        compose(Path(), overrides or [])
    print(f"{PARAMETERS}: written")


@app.command(name="collect")
def collect_seeds(
    experiments: Annotated[list[str] | None, typer.Argument(metavar="[EXPERIMENT]...", show_default=False)] = None,
) -> None:
    """Gather the results of several seeds in reports/seeds, from DVC experiments, for the report to pool.

    After `dvc exp run --queue -S seed=0,1,2` and `dvc queue start`: `tauflow collect`. Without names it takes the
    working tree (`workspace`) and all experiments of the current commit whose parameters differ only in the seed.
    """
    from tauflow.experiments import collect  # imports a good part of DVC

    with one_line_errors():
        seeds = collect(experiments or [], print)
    print(f"{layout.SEEDS}: seeds {', '.join(map(str, seeds))}; `tauflow repro -s report` pools them")


@app.command()
def check() -> None:
    """Check params.yaml and say what is wrong with it."""
    checked_parameters()
    print(f"{PARAMETERS}: fine")


@app.command()
def track(
    restored: Annotated[
        bool, typer.Option("--restored", help="Also results that no run knows: restored or pulled by DVC.")
    ] = False,
) -> None:
    """Log to MLflow what the stages have kept because the tracking server was down.

    With `--restored`, after `dvc pull` or where DVC restored results from its run cache, also a run for each of these,
    with its parameters and numbers, marked with the tag `tauflow.restored`; what it cost is not known here.
    """
    remaining = track_journals(linger=0)
    if restored and not remaining:
        parameters = checked_parameters()
        from tauflow.mlflow_store import reachable_store
        from tauflow.restoring import restore_journals

        with one_line_errors():
            count = restore_journals(reachable_store(), parameters)
        print(f"{count} results had no run")
        remaining = track_journals(linger=0)
    if remaining:
        _say_not_logged(remaining)
        raise typer.Exit(1)
    print(f"all runs are logged to {tracking_uri()}")


def _say_not_logged(remaining: int) -> None:
    reason = error_file().read_text(encoding="utf-8").strip() if error_file().exists() else "unknown reason"
    print(
        f"warning: {remaining} runs are not logged to MLflow ({reason}); they are kept, `tauflow track` tries again",
        file=sys.stderr,
    )


app.command()(plan)
app.command()(compare)
app.command()(evaluate)
app.command()(register)
app.command()(export)
app.command(name="import")(import_vector)
app.add_typer(vectors.app, name="vectors")
app.command()(doctor)

if __name__ == "__main__":
    app()
