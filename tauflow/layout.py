"""Where every artifact lies: the paths that ``dvc.yaml`` declares, said once for the stages."""

from pathlib import Path
from typing import TYPE_CHECKING

from tauflow.workspace import home

if TYPE_CHECKING:
    from pipeline.tasks import Split

DATA = Path("data")
REPORTS = Path("reports")
MINI_SOURCES = DATA / "mini"
RESULTS = REPORTS / "results.csv"
SUMMARY = REPORTS / "summary.md"
METRICS = REPORTS / "metrics.json"
SEEDS = REPORTS / "seeds"
REPORT = REPORTS / "index.html"
TABLES = REPORTS / "tables"
FIGURES = REPORTS / "figures"


def raw(task: str) -> Path:
    """The original images of a task, by the splits that its source ships."""
    return DATA / "raw" / task


def record(task: str) -> Path:
    """What was downloaded, of which commit and hash; in git."""
    return DATA / "records" / f"{task}.json"


def task_card(task: str) -> Path:
    """Classes, templates, counts, source, licence, version."""
    return DATA / "tasks" / "card" / f"{task}.json"


def split(task: str, name: "Split") -> Path:
    """A packed split. Splits come first in the path, so that a stage can depend on all tasks' ``val`` alone."""
    return DATA / "tasks" / name / f"{task}.safetensors"


def image_encoder(model: str) -> Path:
    """The pre-trained image encoder θ₀."""
    return DATA / "models" / model / "image_encoder.safetensors"


def text_encoder(model: str) -> Path:
    """The pre-trained text tower and the logit scale."""
    return DATA / "models" / model / "text_encoder.safetensors"


def head(model: str, task: str) -> Path:
    """The zero-shot head of a task."""
    return DATA / "heads" / model / f"{task}.safetensors"


def checkpoint(model: str, recipe: str, task: str) -> Path:
    """The trained tensors θ of a fine-tuning."""
    return DATA / "checkpoints" / model / recipe / f"{task}.safetensors"


def training_curve(model: str, recipe: str, task: str) -> Path:
    """Loss, accuracy, learning rate of every step of a fine-tuning."""
    return DATA / "training" / model / recipe / f"{task}.csv"


def incremental_recipe(recipe: str, order: str) -> str:
    """What a regularised recipe is called whose regulariser sees only the tasks that have arrived."""
    return f"{recipe}_order_{order}"


def task_vector(model: str, recipe: str, task: str) -> Path:
    """τ = θ − θ₀."""
    return DATA / "task_vectors" / model / recipe / f"{task}.safetensors"


def imported(model: str, recipe: str, task: str) -> Path:
    """A task vector that `tauflow import` made of a foreign checkpoint; the user's, not an output of any stage."""
    return DATA / "imported" / model / recipe / f"{task}.safetensors"


def features(model: str, recipe: str, split: "Split", task: str) -> Path:
    """f₀(x) and J(x) τₜ of every image of a split."""
    return DATA / "features" / split / model / recipe / f"{task}.npy"


def resume_file(stage: str, key: str) -> Path:
    """What a killed fine-tuning continues from; no DVC output, and apart for every experiment's parameters."""
    return home() / ".tauflow" / "resume" / f"{stage}-{key[:12]}.safetensors"


def correctness(model: str, paradigm: str, benchmark: str) -> Path:
    """Per-image results of a benchmark on ``test``."""
    return DATA / "correctness" / model / paradigm / f"{benchmark}.safetensors"


def measurements(model: str, paradigm: str) -> Path:
    """Tables of measurements and curves of a paradigm, which the summary is made from."""
    return DATA / "measurements" / model / paradigm


def analyses(model: str, paradigm: str) -> Path:
    """Tables of a paradigm's analyses, which only the report waits for."""
    return DATA / "analyses" / model / paradigm


def geometry(model: str, recipe: str) -> Path:
    """Tables of a recipe's task vectors themselves, whichever paradigms evaluate them."""
    return DATA / "analyses" / model / "geometry" / recipe


def localisation(model: str) -> Path:
    """Eigenfunctions of the empirical NTK, of every pair of tasks."""
    return DATA / "analyses" / model / "localisation.csv"


def incremental(model: str, paradigm: str, order: str) -> Path:
    """Tables of a paradigm's accuracies while tasks arrive in one order."""
    return DATA / "analyses" / model / paradigm / "incremental" / f"order_{order}"


def comparison(model: str) -> Path:
    """Differences between the paradigms of a model."""
    return DATA / "measurements" / model / "comparison.csv"


def metrics(model: str, paradigm: str, stage: str) -> Path:
    """A stage's means over tasks, or the coefficients that it chose: small, and in git."""
    return REPORTS / model / paradigm / f"{stage}.json"


def training_steps(model: str) -> Path:
    """The record of how long a model's training steps take; committed, not an output."""
    return Path("benchmarks") / "records" / f"training_steps_{model}.json"
