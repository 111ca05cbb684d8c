"""``tauflow repro``: run the study."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from artifacts.layout import HEADLINES, REPORT, RESULTS, SUMMARY
from artifacts.workspace import program_path, tracking_uri
from tauflow.commands.compare import OPTIONAL_COLUMNS
from tauflow.commands.console import check_merging_methods, checked_parameters, one_line_errors
from tauflow.commands.output import emit
from tauflow.commands.track import warn_not_logged
from tauflow.tracking.journal import has_pending_work
from tauflow.tracking.tracker import track as track_journals

if TYPE_CHECKING:
    from pipeline.config import Parameters

# Options with which `dvc repro` runs nothing, and those whose output or questions no view shows.
_IDLE = ("-h", "--help", "--dry")
_OWN_WORDS = (*_IDLE, "-v", "-q", "--quiet", "-i", "--interactive")
# Exit code after Ctrl-C.
_STOPPED = 130


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
    verbose: Annotated[bool, typer.Option("--verbose", help="Everything that DVC and the stages say.")] = False,
) -> None:
    """Check params.yaml, run `dvc repro`, log to MLflow, and show the table and the path of the report.

    Meanwhile it shows how far it is, what runs, and the time left, from those of earlier runs. Further arguments go to
    `dvc repro`: `tauflow repro -s addition@mini-clip-standard`. With `--jobs 4` the stages that are stale run four at
    once, here or on a Ray cluster: `tauflow repro --jobs 4 report`.
    """
    parameters = checked_parameters()
    check_merging_methods(parameters)
    if jobs is None and (gpus_per_stage is not None or address is not None):
        print("error: --gpus-per-stage and --address need --jobs: how many stages run at once", file=sys.stderr)
        raise typer.Exit(1)
    print(
        f"Suite {parameters.suite}: {len(parameters.tasks)} tasks, models {', '.join(parameters.models)}, "
        f"paradigms {', '.join(parameters.paradigms)}"
    )
    started = time.time()
    try:
        if jobs is not None:
            code = _on_ray(jobs, gpus_per_stage, address, context.args)
        elif verbose or set(_OWN_WORDS) & set(context.args):
            code = _in_own_words(context.args)
        else:
            code = _watched(context.args, parameters.suite)
    except KeyboardInterrupt:
        print("\nStopped. Finished stages are kept; the same command continues.", file=sys.stderr)
        code = _STOPPED
    if code == 0 and not set(_IDLE) & set(context.args):
        with one_line_errors():
            _show_results(parameters, _finished(context.args, started))
    remaining = track_journals(linger=0) if has_pending_work() else 0  # MLflow takes seconds to import
    if remaining:
        warn_not_logged(remaining)
    else:
        print(f"Runs:    mlflow ui --backend-store-uri {tracking_uri()}   (with .venv/bin on your PATH)")
    raise typer.Exit(code)


def _watched(arguments: Sequence[str], suite: str) -> int:
    """Run `dvc repro` with a view of it; return the exit code."""
    from tauflow.planning.measured import measured
    from tauflow.tracking.times import read_times
    from tauflow.watching.watch import kept_text, summary_text, watch

    def expected(names: list[str]) -> dict[str, float]:
        return {name: time.seconds for name, time in measured(read_times()[0], suite, names).items()}

    outcome = watch(arguments, expected)
    if outcome.interrupted:
        print(kept_text(outcome.run), file=sys.stderr)
        return _STOPPED
    if outcome.code == 0:
        print(summary_text(outcome.run))
    return outcome.code


def _in_own_words(arguments: Sequence[str]) -> int:
    """Run `dvc repro` on the streams of this process; return the exit code.

    Raises:
        KeyboardInterrupt: there was a Ctrl-C, which DVC got as well; it has ended.
    """
    environment = {**os.environ, "PATH": program_path(os.environ.get("PATH", ""))}
    with subprocess.Popen([sys.executable, "-m", "tauflow.dvc.repro", *arguments], env=environment) as process:
        return process.wait()


def _on_ray(jobs: int, gpus_per_stage: float | None, address: str | None, arguments: list[str]) -> int:
    from tauflow.jobs.repro import ReproOptions, repro_in_parallel  # imports a good part of DVC

    with one_line_errors():
        return repro_in_parallel(ReproOptions(jobs, gpus_per_stage, address, tuple(arguments)))


def _finished(arguments: Sequence[str], started: float) -> set[Path]:
    """Return the tables of results that a successful `dvc repro` wrote, or found up to date."""
    from dvc.cli import parse_args

    parsed = parse_args(["repro", *arguments])
    everything = not parsed.targets or parsed.pipeline or parsed.all_pipelines
    makers = {HEADLINES: "summary", RESULTS: "report"}
    return {
        table
        for table, stage in makers.items()
        if table.exists() and (everything or stage in parsed.targets or table.stat().st_mtime >= started)
    }


def _show_table(parameters: "Parameters") -> None:
    """Print the summary, fitted to a terminal; elsewhere, print its file as it is."""
    if not sys.stdout.isatty():
        print(SUMMARY.read_text(encoding="utf-8"))
        return
    from rich.console import Console

    from pipeline.report.tables.results import best_cells, comparison_table, marking, results_table
    from tauflow.comparing.ownership import read_headlines

    results = read_headlines(parameters)
    for model in parameters.models:
        table = results_table(results, model, parameters.control)
        title = f"{model}, suite {parameters.suite}: means over {len(parameters.tasks)} tasks, in %"
        emit(table.reset_index(), title, optional=OPTIONAL_COLUMNS, marked=best_cells(results, model, table))
        differences = comparison_table(results, model)
        if len(differences):
            Console().print(marking(results, model), highlight=False)
            emit(differences.reset_index(), "Paired differences, in points")


def _show_results(parameters: "Parameters", tables: set[Path]) -> None:
    """Print the results table, the paths of the results, and how they agree with the committed ones."""
    from artifacts.identity import headline_identity, study_identity
    from tauflow.comparing.committed import agreement, judge_against_head

    print()
    if HEADLINES in tables:
        _show_table(parameters)
        print(f"Table:   {SUMMARY}")
    if RESULTS in tables:
        print(f"Report:  {REPORT}")
    table = RESULTS if RESULTS in tables else HEADLINES  # the results hold the headlines too
    if table in tables:
        print(f"Numbers: {table}")
        identity = study_identity(parameters) if table == RESULTS else headline_identity(parameters)
        judged = judge_against_head(table, identity)
        if judged is not None:
            line = agreement(table, judged)
            print(line, file=sys.stderr if line.startswith("warning") else sys.stdout)
