"""Paths of all artifacts, as ``dvc.yaml`` declares them."""

from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.workspace import home

if TYPE_CHECKING:
    from pipeline.images import Split

DATA = Path("data")
REPORTS = Path("reports")
MINI_SOURCES = DATA / "mini"
RESULTS = REPORTS / "results.csv"  # written by `report`: every measurement
HEADLINES = REPORTS / "headlines.csv"  # written by `summary`: the measurements in its table
SUMMARY = REPORTS / "summary.md"
METRICS = REPORTS / "metrics.json"
SEEDS = REPORTS / "seeds"
REPORT = REPORTS / "index.html"
TABLES = REPORTS / "tables"
FIGURES = REPORTS / "figures"


def raw(task: str) -> Path:
    """Return the directory of a task's original images, with a part per split of its source."""
    return DATA / "raw" / task


def record(task: str) -> Path:
    """Return the record of a download, its commits and hashes; kept in git."""
    return DATA / "records" / f"{task}.json"


def pool_record(pool: str, model: str, task: str) -> Path:
    """Return the record of a checkpoint of a pool, its commit and hashes; kept in git."""
    return DATA / "records" / "pools" / pool / model / f"{task}.json"


def task_card(task: str) -> Path:
    """Return a task's card: classes, templates, counts, source, licence, version."""
    return DATA / "tasks" / "card" / f"{task}.json"


def split(task: str, name: "Split") -> Path:
    """Return a packed split. The split precedes the task, so that a stage can depend on the ``val`` of all tasks."""
    return DATA / "tasks" / name / f"{task}.safetensors"


def image_encoder(model: str) -> Path:
    """Return the pre-trained image encoder θ₀."""
    return DATA / "models" / model / "image_encoder.safetensors"


def text_encoder(model: str) -> Path:
    """Return the pre-trained text tower and the logit scale."""
    return DATA / "models" / model / "text_encoder.safetensors"


def head(model: str, task: str) -> Path:
    """Return the zero-shot head of a task."""
    return DATA / "heads" / model / f"{task}.safetensors"


def checkpoint(model: str, recipe: str, task: str) -> Path:
    """Return the trained tensors θ of a fine-tuning."""
    return DATA / "checkpoints" / model / recipe / f"{task}.safetensors"


def training_curve(model: str, recipe: str, task: str) -> Path:
    """Return the loss, accuracy and learning rate of every step of a fine-tuning."""
    return DATA / "training" / model / recipe / f"{task}.csv"


def task_vectors(model: str, recipe: str) -> Path:
    """Return the directory of a recipe's task vectors or, by a paradigm's name, of merged ones."""
    return DATA / "task_vectors" / model / recipe


def task_vector(model: str, recipe: str, task: str) -> Path:
    """Return a task vector τ = θ − θ₀, or the one that `merge` made for this task from all tasks'."""
    return task_vectors(model, recipe) / f"{task}.safetensors"


def image_statistics(model: str, paradigm: str, task: str) -> Path:
    """Return a statistic of a task's images under its single-task model, which a merging method needs."""
    return DATA / "image_statistics" / model / paradigm / f"{task}.safetensors"


def merging_record(model: str, paradigm: str) -> Path:
    """Return the record of how merged task vectors were made: the method, its options, its sources."""
    return DATA / "merging" / model / paradigm / "merging.json"


def imported(model: str, recipe: str, task: str) -> Path:
    """Return a task vector that `tauflow import` made from a foreign checkpoint; not an output of any stage."""
    return DATA / "imported" / model / recipe / f"{task}.safetensors"


def features(model: str, recipe: str, split: "Split", task: str) -> Path:
    """Return f₀(x) and J(x) τₜ of every image of a split."""
    return DATA / "features" / split / model / recipe / f"{task}.safetensors"


def resume_file(stage: str, key: str) -> Path:
    """Return the state from which a killed fine-tuning resumes; not a DVC output, one file per set of parameters."""
    return home() / ".tauflow" / "resume" / f"{stage}-{key[:12]}.safetensors"


def correctness(model: str, paradigm: str, benchmark: str) -> Path:
    """Return the per-image results of a benchmark on ``test``."""
    return DATA / "correctness" / model / paradigm / f"{benchmark}.safetensors"


def measurements(model: str, paradigm: str) -> Path:
    """Return the directory of a paradigm's measurements and curves, which the summary reads."""
    return DATA / "measurements" / model / paradigm


def analyses(model: str, paradigm: str) -> Path:
    """Return the directory of a paradigm's analyses, which only the report reads."""
    return DATA / "analyses" / model / paradigm


def geometry(model: str, recipe: str) -> Path:
    """Return the directory of tables about a recipe's task vectors, which all its paradigms share."""
    return DATA / "analyses" / model / "geometry" / recipe


def localisation(model: str) -> Path:
    """Return the table of eigenfunctions of the empirical NTK for every pair of tasks."""
    return DATA / "analyses" / model / "localisation.csv"


def incremental(model: str, paradigm: str, order: str) -> Path:
    """Return the directory of a paradigm's accuracies while tasks arrive in the given order."""
    return DATA / "analyses" / model / paradigm / "incremental" / f"order_{order}"


def merging_grid(model: str, paradigm: str) -> Path:
    """Return the directory of the merging methods beside a paradigm's sum: their measurements, and what they see."""
    return DATA / "analyses" / model / paradigm / "merging_grid"


def metrics(model: str, paradigm: str, stage: str) -> Path:
    """Return a stage's means over tasks, or the coefficients that it chose; kept in git."""
    return REPORTS / model / paradigm / f"{stage}.json"


def training_steps(model: str) -> Path:
    """Return the committed record of how long a model's training steps take."""
    return Path("benchmarks") / "records" / f"training_steps_{model}.json"
