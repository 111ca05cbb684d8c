"""Collect the results of several seeds from DVC experiments, without checking out their commits."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from artifacts.layout import SEEDS
from artifacts.workspace import PARAMETERS
from pipeline.errors import UserError
from pipeline.measurements import write_frame
from pipeline.report.tables.seeds import pool
from tauflow.comparing.revisions import (
    WORKSPACE,
    Experiment,
    read_experiment,
    read_merging,
    read_parameters,
    revisions,
)
from tauflow.dvc.changes import changes


def collect(names: Sequence[str], report: Callable[[str], None]) -> list[int]:
    """Write the headline results of experiments to ``reports/seeds/<seed>.csv``, and remove those of other seeds.

    Results of merging methods are appended if all seeds have them.

    Args:
        names: experiments, revisions, or ``workspace``; if empty, all experiments of the current commit that fit,
            and the working tree.
        report: called with a line per experiment that is left out, per file that is removed, and if merging methods
            are left out.

    Returns:
        The seeds, in order.

    Raises:
        UserError: an experiment is unknown or unreadable, or differs from ``params.yaml`` in more than the seed; or two
            have different results for one seed, or different rows. Nothing is written.
    """
    commits = revisions(names)
    experiments = _fitting(commits, bool(names), report)
    tables = {seed: _same(seed, experiments) for seed in sorted({experiment.seed for experiment in experiments})}
    if not tables:
        raise UserError("there are no results to collect; run `dvc exp run --queue -S seed=0,1,2`, `dvc queue start`")
    results = {seed: experiment.table for seed, experiment in tables.items()}
    merged = {seed: read_merging(experiment, commits[experiment.name]) for seed, experiment in tables.items()}
    present = {seed: table for seed, table in merged.items() if table is not None}
    if len(present) == len(results):
        results = {seed: pd.concat([table, present[seed]], ignore_index=True) for seed, table in results.items()}
    elif present:
        missing = ", ".join(str(seed) for seed in results if seed not in present)
        report(f"left out merging methods: seed {missing} has none; run `tauflow repro merging_grid` with it")
    pool(list(results.values()))
    for path in sorted(SEEDS.glob("*.csv")):
        if path.stem not in map(str, tables):
            path.unlink()
            report(f"removed {path}: not of this collection")
    for seed, table in results.items():
        write_frame(SEEDS / f"{seed}.csv", table)
    return list(tables)


def _fitting(commits: Mapping[str, str | None], named: bool, report: Callable[[str], None]) -> list[Experiment]:
    """Return the experiments whose parameters differ only in the seed; others are an error if they were named."""
    reference = read_parameters(WORKSPACE, None)
    experiments = []
    for name, revision in commits.items():
        try:
            experiment = read_experiment(name, revision)
            _check_parameters(experiment, reference)
        except UserError as error:
            if named:
                raise
            report(f"left out {error}")
        else:
            experiments.append(experiment)
    return experiments


def _check_parameters(experiment: Experiment, reference: Mapping[str, Any]) -> None:
    others = [key for key, _, _ in changes(reference, experiment.parameters) if key != "seed"]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise UserError(
            f"{experiment.name}: not only its seed differs from {PARAMETERS}, but also {', '.join(others[:3])}{more}"
        )


def _same(seed: int, experiments: Sequence[Experiment]) -> Experiment:
    """Return the first experiment of a seed; all must have the same results."""
    first, *others = (experiment for experiment in experiments if experiment.seed == seed)
    for other in others:
        if not other.table.equals(first.table):
            raise UserError(
                f"seed {seed}: the results of {first.name} and {other.name} differ under the same parameters; "
                "name the experiments to collect, or `dvc exp remove` one"
            )
    return first
