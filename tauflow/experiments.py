"""Results of several seeds, read from DVC experiments: these are commits, and none is checked out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.report.seeds import pool
from tauflow.layout import SEEDS
from tauflow.revisions import WORKSPACE, Experiment, changes, read_experiment, read_parameters, revisions
from tauflow.workspace import PARAMETERS


def collect(names: Sequence[str], say: Callable[[str], None]) -> list[int]:
    """Write the results of experiments to ``reports/seeds/<seed>.csv``, and remove any other seed's from there.

    Args:
        names: experiments, revisions, or ``workspace``; none: all experiments of the current commit that fit, and
            the working tree.
        say: gets a line for each of the latter that is left out, and for each file that is removed.

    Returns:
        the seeds, in order.

    Raises:
        UserError: an experiment is unknown, unreadable or of parameters that differ from those of ``params.yaml`` in
            more than the seed; two have different results for one seed, or for different rows. Nothing is written.
    """
    found = _fitting(names, say)
    tables = {seed: _same(seed, found) for seed in sorted({experiment.seed for experiment in found})}
    if not tables:
        raise UserError("there are no results to collect; run `dvc exp run --queue -S seed=0,1,2`, `dvc queue start`")
    pool([experiment.table for experiment in tables.values()])
    for path in sorted(SEEDS.glob("*.csv")):
        if path.stem not in map(str, tables):
            path.unlink()
            say(f"removed {path}: not of this collection")
    for seed, experiment in tables.items():
        write_text(SEEDS / f"{seed}.csv", experiment.results)
    return list(tables)


def _fitting(names: Sequence[str], say: Callable[[str], None]) -> list[Experiment]:
    reference = read_parameters(WORKSPACE, None)
    found = []
    for name, revision in revisions(names).items():
        try:
            experiment = read_experiment(name, revision)
            _check_parameters(experiment, reference)
        except UserError as error:
            if names:
                raise
            say(f"left out {error}")
        else:
            found.append(experiment)
    return found


def _check_parameters(experiment: Experiment, reference: Mapping[str, Any]) -> None:
    others = [key for key, _, _ in changes(reference, experiment.parameters) if key != "seed"]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise UserError(
            f"{experiment.name}: not only its seed differs from {PARAMETERS}, but also {', '.join(others[:3])}{more}"
        )


def _same(seed: int, experiments: Sequence[Experiment]) -> Experiment:
    """Any of the experiments of a seed, since all have the same results."""
    first, *others = (experiment for experiment in experiments if experiment.seed == seed)
    for other in others:
        if other.results != first.results:
            raise UserError(
                f"seed {seed}: the results of {first.name} and {other.name} differ under the same parameters; "
                "name the experiments to collect, or `dvc exp remove` one"
            )
    return first
