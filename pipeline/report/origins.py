"""How each number was made: by which stage, with which parameters, from which task vectors and tasks.

The revision is that of the code that trained: a fingerprint of its modules, which stands in the task vectors' files. A
git revision would change the report with every commit; `dvc.lock` belongs to one, and MLflow names it for every run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.tasks import TaskCard

# Stage → the parameters that it depends on, as dvc.yaml has them, which may be no stage's dependency; a test compares.
STAGE_PARAMETERS = {
    "single_task": "seed, device, paradigm.<paradigm>.evaluated_in, tasks, control, evaluation, intervals",
    "alpha_search": "device, paradigm.<paradigm>, tasks, control, evaluation, search",
    "addition": "seed, device, paradigm.<paradigm>.evaluated_in, tasks, evaluation, intervals",
    "negation": "seed, device, paradigm.<paradigm>.evaluated_in, tasks, control, evaluation, intervals",
    "comparison": "seed, paradigms, tasks, intervals",
    "disentanglement": "seed, device, paradigm.<paradigm>.evaluated_in, tasks, evaluation, analysis, "
    "disentanglement, intervals",
    "interference": "seed, device, paradigm.<paradigm>.evaluated_in, tasks, control, evaluation, analysis, intervals",
    "geometry": "seed, device, tasks, evaluation, analysis",
    "localisation": "device, tasks, analysis.seed, localisation",
    "incremental": "seed, device, paradigm.<paradigm>.evaluated_in, tasks, evaluation, search.addition, "
    "arrivals.order_<order>, intervals",
}


@dataclass(frozen=True)
class Source:
    """A table that numbers were read from.

    numbers: what they are.
    stage: the instance that wrote it, ``addition@mini-clip-ntk``.
    md5: of the file, as DVC has it in ``dvc.lock`` or in the listing of a directory.
    """

    numbers: str
    stage: str
    path: str
    md5: str


@dataclass(frozen=True)
class Origins:
    """Of one model's numbers.

    vectors: the metadata of every task vector's file, by recipe, then task.
    """

    sources: Sequence[Source]
    vectors: Mapping[str, Mapping[str, Mapping[str, Any]]]


def sources_table(sources: Sequence[Source]) -> pd.DataFrame:
    """One row per table of numbers."""
    rows = [
        {
            "numbers": source.numbers,
            "stage": source.stage,
            "parameters": STAGE_PARAMETERS[source.stage.partition("@")[0]],
            "table": source.path,
            "MD5": source.md5,
        }
        for source in sources
    ]
    return pd.DataFrame(rows)


def vectors_table(vectors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """One row per recipe and whatever tells its task vectors apart."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for recipe, of_recipe in vectors.items():
        for task, metadata in of_recipe.items():
            key = (recipe, *(str(metadata[name]) for name in ("space", "seed", "base_sha256", "code")))
            rows.setdefault(key, []).append(task)
    columns = ["recipe", "trained in", "seed", "θ₀: SHA-256", "training code: SHA-256"]
    table = pd.DataFrame(list(rows), columns=columns)
    table.insert(1, "tasks", [", ".join(tasks) for tasks in rows.values()])
    return table


def tasks_table(cards: Sequence[TaskCard], control: str) -> pd.DataFrame:
    """One row per task, with the images of its splits."""
    rows = [
        {
            "task": f"{card.name} (control)" if card.name == control else card.name,
            "version": str(card.version),
            "classes": str(len(card.classes)),
            "images": " + ".join(str(card.counts[split]) for split in ("train", "val", "test")),
            "val": "shipped" if card.val_seed is None else f"cut from train, seed {card.val_seed}",
            "duplicates": ", ".join(f"{count} of {where}" for where, count in card.duplicates.items()),
            "size": " × ".join(map(str, card.image_size)),
            "source": card.source,
            "licence": card.licence,
        }
        for card in cards
    ]
    return pd.DataFrame(rows)
