"""Edits, and how they are written on the command line: ``icons=0.4,signs=-0.2``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import UserError
from tauflow import layout

if TYPE_CHECKING:
    from pipeline.config import Parameters


@dataclass(frozen=True)
class Edited:
    """An edit, α by task, of a model's task vectors, in the space of a paradigm."""

    model: str
    paradigm: str
    edit: Mapping[str, float]


def parse_edit(text: str, legal: Sequence[str]) -> dict[str, float]:
    """An edit, α by task.

    Args:
        text: ``task=coefficient``, separated by commas.
        legal: the tasks that there are.

    Raises:
        UserError: a part is no ``task=coefficient``, names a task that is unknown or named before, or its coefficient
            is no finite number.
    """
    edit: dict[str, float] = {}
    for part in text.split(","):
        task, equals, coefficient = (piece.strip() for piece in part.partition("="))
        if not task or not equals:
            raise UserError(f"--edit: {part!r} is not task=coefficient; write for example --edit {legal[0]}=0.4")
        check_task("--edit", task, legal)
        if task in edit:
            raise UserError(f"--edit: {task!r} is named twice; give each task one coefficient")
        edit[task] = _number(task, coefficient)
    return edit


def chosen_sum(params: "Parameters", model: str, paradigm: str) -> dict[str, float]:
    """All task vectors times the α that the coefficient search chose on val.

    Raises:
        UserError: the stage `alpha_search` has not run.
    """
    from pipeline.files import read_json  # imports NumPy

    alpha = read_json(layout.metrics(model, paradigm, "alpha"))["alpha"]["addition"]
    return {task: alpha for task in params.tasks}  # noqa: C420 (whose type is narrower)


def check_task(where: str, task: str, legal: Sequence[str]) -> None:
    """Check that a task is one of the legal ones.

    Raises:
        UserError: it is not.
    """
    if task not in legal:
        raise UserError(f"{where}: task {task!r} is unknown; legal are {', '.join(legal)}")


def edit_text(edit: Mapping[str, float]) -> str:
    """The inverse of :func:`parse_edit`."""
    return ",".join(f"{task}={coefficient:g}" for task, coefficient in edit.items())


def _number(task: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UserError(f"--edit: the coefficient of {task}, {text!r}, is no number; write for example 0.4") from None
    if not math.isfinite(number):
        raise UserError(f"--edit: the coefficient of {task} is {text}; it must be finite")
    return number
