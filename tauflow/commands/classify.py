"""``tauflow classify``: classify pictures with an edited model."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import UserError
from tauflow.commands import completion
from tauflow.commands.console import checked_parameters, one_line_errors
from tauflow.commands.edit_options import EditOption, ModelOption, ParadigmOption, SumOption, VectorOption, chosen_edit
from tauflow.commands.output import Format, FormatOption, OutOption, emit
from tauflow.edited.edit import Edited, check_task, edit_text

DEFAULT_TEMPLATE = "a photo of a {}."


def classify(
    pictures: Annotated[list[Path], typer.Argument(help="Pictures, and folders of pictures.", show_default=False)],
    edit: EditOption = None,
    whole_sum: SumOption = False,
    vector: VectorOption = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Classes of this task; by default of the edit's task, if it has one.",
            autocompletion=completion.datasets,
            show_default=False,
        ),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Instead: classes of your own.", show_default=False)
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(help="The prompt for --classes, with {} for the name: 'a photo of a {}.'.", show_default=False),
    ] = None,
    model: ModelOption = None,
    paradigm: ParadigmOption = None,
    top: Annotated[int, typer.Option(min=1, help="The number of classes to show per picture.")] = 1,
    form: FormatOption = Format.table,
    out: OutOption = None,
) -> None:
    """Classify pictures with an edited model, in the space of any paradigm.

    Classes are a task's, or any that `--classes` names, whose prompts the model's text tower encodes.

    For example: `tauflow classify photos --edit icons=0.4 --classes cat,dog --format csv --out photos.csv`.
    """
    parameters = checked_parameters()
    with one_line_errors():
        if vector is not None and (edit is not None or whole_sum or model is not None or paradigm is not None):
            raise UserError(
                "classify: --vector already names the edit; leave out --edit, --sum, --model and --paradigm"
            )
        if vector is None:
            edited = chosen_edit("classify", parameters, edit, whole_sum, model, paradigm)
            source: Edited | Path = edited
            label, tasks = f"{edit_text(edited.edit)} of {edited.model}, {edited.paradigm}", list(edited.edit)
        else:
            source, label, tasks = vector, str(vector), []
        prompts = _prompts(classes, template, task)
        task = _task(task, tasks, parameters.derived.datasets) if prompts is None else None

        from tauflow.edited.classify import classify_pictures, find_pictures, open_edited, predictions_frame

        files = find_pictures(pictures)
        opened = open_edited(parameters, source)
        head = opened.head(task) if task else opened.head_of(*(prompts or ([], "")))
        table = predictions_frame(files, head.classes, classify_pictures(opened, head, files), top)
        emit(table, f"{label}, classes of {task or '--classes'}: probability in %", form, out)


def _prompts(classes: str | None, template: str | None, task: str | None) -> tuple[list[str], str] | None:
    """Return the classes that the user names and their template, or ``None`` for a task's.

    Raises:
        UserError: options contradict each other, a class is empty or named twice, or the template has no ``{}``.
    """
    if classes is None:
        if template is not None:
            raise UserError("--template: needs --classes, whose prompt it is")
        return None
    if task is not None:
        raise UserError("classify: --task and --classes both name the classes; leave one out")
    names = [name.strip() for name in classes.split(",")]
    if len(names) < 2 or not all(names) or len(set(names)) < len(names):
        raise UserError(f"--classes: {classes!r} does not name two or more different classes; write cat,dog")
    prompt = DEFAULT_TEMPLATE if template is None else template
    if prompt.count("{}") != 1 or set("{}") & set(prompt.replace("{}", "")):
        raise UserError(f"--template: {prompt!r} is not a template; write exactly one {{}} for the class name")
    return names, prompt


def _task(task: str | None, edited: list[str], legal: list[str]) -> str:
    """Return the task whose classes to predict: the named one, or the edit's only one.

    Raises:
        UserError: the task is unknown, or neither the option nor the edit determines it.
    """
    if task is None and len(edited) != 1:
        raise UserError(f"classify: the classes are not determined; give --task {legal[0]} or --classes NAME,...")
    task = edited[0] if task is None else task
    check_task("--task", task, legal)
    return task
