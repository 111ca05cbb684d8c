"""The origin of each number: its stage, parameters, task vectors and tasks.

The revision of the training code is a fingerprint of its modules, read from the task vectors' files. A git revision
would change the report with every commit; MLflow has the git revision of every run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.tasks import TaskCard


@dataclass(frozen=True)
class SourceTable:
    """A table that numbers were read from.

    numbers: description of the numbers.
    stage: the instance that wrote the table, such as ``addition@mini-clip-ntk``.
    parameters: the parameters that the stage depends on.
    md5: the file's hash in ``dvc.lock``, or in DVC's listing of a directory.
    """

    numbers: str
    stage: str
    path: str
    parameters: Sequence[str]
    md5: str


@dataclass(frozen=True)
class Origins:
    """The origins of one model's numbers.

    vectors: the metadata of every task vector's file, by recipe, then task.
    """

    sources: Sequence[SourceTable]
    vectors: Mapping[str, Mapping[str, Mapping[str, Any]]]


def sources_table(sources: Sequence[SourceTable]) -> pd.DataFrame:
    """Return one row per table of numbers."""
    rows = [
        {
            "numbers": source.numbers,
            "stage": source.stage,
            "parameters": ", ".join(source.parameters),
            "table": source.path,
            "MD5": source.md5,
        }
        for source in sources
    ]
    return pd.DataFrame(rows)


def vectors_table(vectors: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> pd.DataFrame:
    """Return one row per recipe and group of its task vectors with the same origin."""
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
    """Return one row per task, with the number of images of its splits."""
    rows = [
        {
            "task": f"{card.name} (control)" if card.name == control else card.name,
            "version": str(card.version),
            "classes": str(len(card.classes)),
            "images": " + ".join(str(card.counts[split]) for split in ("train", "val", "test")),
            "val": "shipped" if card.val_seed is None else f"cut from train, seed {card.val_seed}",
            "duplicates": ", ".join(f"{count} of {where}" for where, count in _duplicates(card).items()),
            "size": " × ".join(map(str, card.image_size)),
            "source": card.source,
            "licence": card.licence,
        }
        for card in cards
    ]
    return pd.DataFrame(rows)


def _duplicates(card: TaskCard) -> dict[str, int]:
    """Return the numbers of images that are in two splits, and of those that are in two classes, if there are any."""
    return {
        **card.duplicates,
        **{f"{split} in two classes": count for split, count in card.two_labels.items() if count},
    }
