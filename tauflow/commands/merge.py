"""``tauflow merge``: merge checkpoints of several tasks into one model; options that choose a merging method."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import UserError
from tauflow.commands.console import checked_parameters, note, one_line_errors
from tauflow.commands.export import Library
from tauflow.commands.import_vector import print_size, remarks
from tauflow.commands.output import emit
from tauflow.edited.edit import check_task

if TYPE_CHECKING:
    from pipeline.foreign.importing import Imported
    from pipeline.merging import Step

MethodOption = Annotated[str, typer.Option(help="The merging method (docs/reference/merging.md).")]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="NAME=VALUE", help="An option of the method; repeat for others.", show_default=False
    ),
]
ModifierOption = Annotated[
    list[str] | None,
    typer.Option(
        "--modifier",
        metavar="NAME[:OPTION=VALUE,...]",
        help="What comes after the method, in this order, such as svc:floor=0.2.",
        show_default=False,
    ),
]


def merge(
    checkpoint: Annotated[
        list[str],
        typer.Option(metavar="TASK=FILE", help="A task and its checkpoint; repeat for each.", show_default=False),
    ],
    base: Annotated[
        str, typer.Option("--base", "--model", help="The model they were fine-tuned from.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to create.", show_default=False)],
    method: MethodOption = "sum",
    option: MethodOptions = None,
    modifiers: ModifierOption = None,
    alpha: Annotated[float, typer.Option(help="The coefficient α of the merged task vector.")] = 1.0,
    form: Annotated[
        Library, typer.Option("--format", "-f", help="The library that is to load it.")
    ] = Library.open_clip,
    evaluate: Annotated[
        str | None,
        typer.Option(metavar="TASK,...", help="Tasks of params.yaml to evaluate on.", show_default=False),
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Take only tensors whose names start with this, such as student.", show_default=False)
    ] = "",
) -> None:
    """Merge checkpoints that were fine-tuned from the same model into one, for open_clip or Hugging Face's classes.

    Takes every file that `tauflow import` reads, and needs no params.yaml: θ₀ is that of the pipeline if it is there,
    else it is fetched. The image encoder becomes θ₀ + α Σ τ over the merged task vectors (docs/reference/merging.md).
    `--evaluate` takes prepared test images and heads of this repository, and compares with the unmerged checkpoints.

    For example: `tauflow merge --method ties --checkpoint mnist=a.pt --checkpoint svhn=b.pt --base ViT-B-32 -o merged`.
    """
    parameters = None if evaluate is None else checked_parameters()
    with one_line_errors():
        files = _checkpoints(checkpoint)
        if not math.isfinite(alpha):
            raise UserError(f"--alpha: {alpha} is not a finite number; write for example 0.4")
        tasks = _tasks(evaluate, parameters.derived.datasets) if evaluate is not None and parameters else []
        steps = chosen_steps(method, option or [], modifiers or [])
        from tauflow.edited.evaluate import results_frame  # imports torch and open_clip
        from tauflow.edited.merge import EvaluatedTasks, Merge, merge_checkpoints

        evaluation = EvaluatedTasks(parameters, tasks) if parameters else None
        merged = Merge(base, files, prefix, *steps, alpha)
        results = merge_checkpoints(merged, form.value, out, evaluation, _report)
        print(f"{out}: {method} of {', '.join(files)} on {base}, α = {alpha:g}, for {form.value}")
        if parameters:
            title = f"{method} of {len(files)} checkpoints of {base}, on test: accuracy in %"
            emit(results_frame(parameters, results, "merged"), title)


def _tasks(text: str, legal: Sequence[str]) -> list[str]:
    tasks = list(dict.fromkeys(task.strip() for task in text.split(",")))
    for task in tasks:
        check_task("--evaluate", task, legal)
    return tasks


def chosen_steps(method: str, options: Sequence[str], modifiers: Sequence[str]) -> tuple["Step", list["Step"]]:
    """Return the merging method and modifiers that the options name.

    Raises:
        UserError: an option is not of the form NAME=VALUE, or is given twice.
    """
    from pipeline.merging import Step  # imports torch

    after = []
    for text in modifiers:
        name, _, options_text = text.partition(":")
        after.append(Step(name, _values("--modifier", options_text.split(",") if options_text else [])))
    return Step(method, _values("--option", options)), after


def _values(where: str, texts: Sequence[str]) -> dict[str, Any]:
    """Parse NAME=VALUE. A value is read as JSON if it is valid JSON, else as text."""
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not name or not equals:
            raise UserError(f"{where}: {text!r} is not NAME=VALUE; write for example keep=0.2")
        if name in values:
            raise UserError(f"{where}: {name!r} is given twice; give each option one value")
        try:
            values[name] = json.loads(value)
        except (ValueError, RecursionError):
            values[name] = value
    return values


def _checkpoints(texts: Sequence[str]) -> dict[str, Path]:
    from pipeline.config import check_name  # imports pydantic

    files: dict[str, Path] = {}
    for text in texts:
        task, equals, path = text.partition("=")
        if not equals or not path:
            raise UserError(f"--checkpoint: {text!r} is not TASK=FILE; write for example mnist=finetuned.pt")
        try:
            check_name(task)
        except ValueError as error:
            raise UserError(f"--checkpoint: {error}") from None
        if task in files:
            raise UserError(f"--checkpoint: task {task!r} is named twice; give each task one checkpoint")
        files[task] = Path(path)
    if len(files) < 2:
        raise UserError(f"--checkpoint: merging takes two or more, not {len(files)}; add another TASK=FILE")
    return files


def _report(path: Path, imported: "Imported") -> None:
    print_size(path, imported)
    for remark in remarks(imported):
        note(f"{path}: {remark}")
    if imported.vector.provenance.space == "tangent":
        note(f"{path}: was trained in tangent space; its task vector is merged and added to the weights as any other")
