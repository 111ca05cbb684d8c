"""Edits and their notation on the command line: ``icons=0.4,signs=-0.2``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts import layout
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.config import Parameters
    from pipeline.models.checkpoints import Provenance


@dataclass(frozen=True)
class Edited:
    """An edit (α by task) of a model, with a paradigm's task vectors and space."""

    model: str
    paradigm: str
    edit: Mapping[str, float]


def parse_edit(text: str, legal: Sequence[str]) -> dict[str, float]:
    """Parse an edit; return α by task.

    Args:
        text: comma-separated ``task=coefficient``.
        legal: names of the tasks to choose from.

    Raises:
        UserError: a part is not ``task=coefficient``, its task is unknown or named twice, or its coefficient is not a
            finite number.
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
    """Return the edit that adds all task vectors times the α that was chosen on val.

    Raises:
        UserError: the stage `alpha_search` has not run, or its file is not what ``dvc.lock`` records.
    """
    from pipeline.io.files import read_json  # imports NumPy
    from tauflow.dvc.verification import check_inputs

    path = layout.metrics(model, paradigm, "alpha")
    check_inputs([path], [f"alpha_search@{model}-{paradigm}"])
    alpha = read_json(path)["alpha"]["addition"]
    return {task: alpha for task in params.tasks}  # noqa: C420 (whose type is narrower)


def check_task(where: str, task: str, legal: Sequence[str]) -> None:
    """Check that a task is one of ``legal``.

    Raises:
        UserError: the task is unknown.
    """
    if task not in legal:
        raise UserError(f"{where}: unknown task {task!r}; choose from {', '.join(legal)}")


def check_vector(where: str, origin: "Provenance", base_sha256: str) -> None:
    """Check that a vector named by the user can be added to the weights of θ₀; ``where`` names it in messages.

    Raises:
        UserError: it was trained in tangent space, or starts from another θ₀.
    """
    if origin.space != "weight":
        raise UserError(f"{where}: was trained in tangent space, which weights alone cannot express")
    if origin.base_sha256 != base_sha256:
        raise UserError(
            f"{where}: belongs to θ₀ {origin.base_sha256[:12]}, not to {base_sha256[:12]} in "
            f"{layout.image_encoder(origin.model)}; make it again from this one"
        )


def edit_text(edit: Mapping[str, float]) -> str:
    """Return an edit as text, the inverse of :func:`parse_edit`."""
    return ",".join(f"{task}={coefficient:g}" for task, coefficient in edit.items())


def _number(task: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UserError(
            f"--edit: the coefficient of {task}, {text!r}, is not a number; write for example 0.4"
        ) from None
    if not math.isfinite(number):
        raise UserError(f"--edit: the coefficient of {task} is {text}; it must be finite")
    return number
