"""Choose hyper-parameters of a suite on val: train with every combination of a sweep file, and apply one rule.

    make sweep
    .venv/bin/python -m tools.sweep --suite mini --paradigm ntk

Reads artifacts of the pipeline (`dvc repro prepare pretrained head`) and adds a row per missing combination to the
suite's table, docs/sweeps/SUITE.csv. Test images are not used.
"""

import csv
import itertools
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from jaxtyping import Float
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from artifacts.evaluation.benchmarks import read_images
from artifacts.evaluation.edit_spaces import read_encoder
from artifacts.fine_tuning import read_fine_tuning
from pipeline.config import Parameters, load_parameters
from pipeline.editing import TaskVector
from pipeline.editing.spaces import TangentSpace, WeightSpace
from pipeline.evaluation.prediction import Benchmark
from pipeline.evaluation.search import search_addition, single_task_accuracies
from pipeline.models.checkpoints import Provenance, code_fingerprint
from pipeline.models.devices import prepare_device
from pipeline.training import finetune
from tauflow.dvc.composition import compose

SWEEPS = Path("tools/sweeps")
TABLES = Path("docs/sweeps")


class Trial(BaseModel, frozen=True):
    """One combination and its result on val; accuracies are means over tasks, in [0, 1].

    standard_error: of ``addition``, from the number of images.
    """

    paradigm: str
    overrides: str
    seed: int
    single_task: float
    alpha: float
    addition: float
    normalized: float
    addition_alpha_1: float
    standard_error: float
    seconds: float


def combinations(sweep: Mapping[str, list[Any]]) -> Iterator[str]:
    """Yield every combination of the values as space-separated Hydra overrides."""
    for values in itertools.product(*sweep.values()):
        yield " ".join(f"{key}={value}" for key, value in zip(sweep, values, strict=True))


def choose(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the best single-task accuracy among those within one standard error of the best sum."""
    best = max(trials, key=lambda trial: trial.addition)
    close = [trial for trial in trials if trial.addition >= best.addition - best.standard_error]
    return max(close, key=lambda trial: trial.single_task)


def run(suite: str, paradigm: str, overrides: str, seed: int) -> Trial:
    """Fine-tune on every task and search α of the sum, on val."""
    started = time.perf_counter()
    params = composed(suite, paradigm, overrides, seed)
    (model,) = params.models
    vectors = train_vectors(params, paradigm)
    benchmarks = [read_images(model, task, "val") for task in params.tasks]
    kind = TangentSpace if params.paradigm[paradigm].evaluated_in == "tangent" else WeightSpace
    space = kind(read_encoder(model), vectors, prepare_device(params.device), params.evaluation)
    single = single_task_accuracies(space, benchmarks)
    search = search_addition(space, benchmarks, params.search.addition, single)
    best = search.alphas.index(search.alpha)
    return Trial(
        paradigm=paradigm,
        overrides=overrides,
        seed=seed,
        single_task=float(search.single.mean()),
        alpha=search.alpha,
        addition=float(search.accuracy[best].mean()),
        normalized=float(search.normalised[best].mean()),
        addition_alpha_1=float(search.accuracy[search.alphas.index(1.0)].mean()),
        standard_error=standard_error(search.accuracy[best], benchmarks),
        seconds=time.perf_counter() - started,
    )


def train_vectors(params: Parameters, paradigm: str) -> list[TaskVector]:
    """Fine-tune on every task with the given parameters."""
    (model,) = params.models
    recipe = params.paradigm[paradigm].recipe
    made_by, device, code = params.derived.recipe[recipe], prepare_device(params.device), code_fingerprint()
    vectors = []
    for task in params.tasks:
        tuning = read_fine_tuning(params, model, task, recipe, device)
        trained, _ = finetune(tuning.encoder, tuning.data, tuning.plan, device, lambda record: None)
        origin = Provenance(model, (task,), recipe, made_by.trained_in, tuning.base_sha256, params.seed, code)
        vectors.append(TaskVector.between(tuning.encoder.base, trained, origin))
    return vectors


def composed(suite: str, paradigm: str, overrides: str, seed: int) -> Parameters:
    """Return the parameters with space-separated Hydra overrides."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "params.yaml"
        compose(Path(), [f"suite={suite}", f"paradigm={paradigm}", f"seed={seed}", *overrides.split()], output)
        return load_parameters(output)


def standard_error(accuracy: Float[np.ndarray, " tasks"], benchmarks: Sequence[Benchmark]) -> float:
    """Return the standard error of a mean over tasks of accuracies on independent images."""
    variances = [p * (1 - p) / len(b) for p, b in zip(accuracy, benchmarks, strict=True)]
    return math.sqrt(sum(variances)) / len(benchmarks)


def read_trials(path: Path) -> list[Trial]:
    """Return the trials of a table; empty if it does not exist."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [Trial.model_validate(row) for row in rows]


def _show(suite: str, trials: Sequence[Trial]) -> None:
    numbers = [name for name, field in Trial.model_fields.items() if field.annotation is float]
    table = Table("paradigm", "overrides", *numbers, title=f"{suite}, val; the choice in bold")
    for paradigm, group in itertools.groupby(trials, key=lambda trial: trial.paradigm):
        members = list(group)
        for trial in members:
            style = "bold" if trial == choose(members) else None
            table.add_row(paradigm, trial.overrides, *(f"{getattr(trial, name):.3f}" for name in numbers), style=style)
    Console(width=180).print(table)


def main(
    suite: str = "mini",
    sweep: Annotated[str | None, typer.Option(help="Of tools/sweeps/; the suite's own if not given.")] = None,
    paradigm: Annotated[str | None, typer.Option(help="Only this one of the sweep file.")] = None,
    seed: int = 0,
) -> None:
    """Run the missing trials of a sweep, and show the table with the choice."""
    sweeps = yaml.safe_load((SWEEPS / f"{sweep or suite}.yaml").read_text(encoding="utf-8"))
    path = TABLES / f"{sweep or suite}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in [paradigm] if paradigm else sweeps:
        for overrides in combinations(sweeps[name]):
            if any((t.paradigm, t.overrides, t.seed) == (name, overrides, seed) for t in read_trials(path)):
                continue
            trial = run(suite, name, overrides, seed)
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                if file.tell() == 0:
                    writer.writerow(list(Trial.model_fields))
                writer.writerow([f"{v:.6f}" if isinstance(v, float) else v for v in trial.model_dump().values()])
            print(f"{name} {overrides}: {trial}", flush=True)
    _show(suite, sorted(read_trials(path), key=lambda trial: trial.paradigm))


if __name__ == "__main__":
    typer.run(main)
