"""Options shared by the commands that work on one edited model, and the edit that they specify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import UserError
from tauflow.commands import completion
from tauflow.commands.console import chosen
from tauflow.edited.edit import Edited, chosen_sum, parse_edit
from tauflow.edited.provenance import check_edit

if TYPE_CHECKING:
    from pipeline.config import Parameters

_FIRST = "By default the first of params.yaml."
ModelOption = Annotated[str | None, typer.Option(help=_FIRST, autocompletion=completion.models)]
ParadigmOption = Annotated[str | None, typer.Option(help=_FIRST, autocompletion=completion.paradigms)]
EditOption = Annotated[
    str | None,
    typer.Option(
        metavar="TASK=α,...",
        help="Coefficients over task vectors.",
        autocompletion=completion.edit,
        show_default=False,
    ),
]
VectorOption = Annotated[
    Path | None,
    typer.Option(help="Instead: a file of `tauflow vectors combine`, as it is.", show_default=False),
]
SumOption = Annotated[bool, typer.Option("--sum", help="Instead: all task vectors times the α chosen on val.")]


def chosen_edit(
    command: str,
    parameters: "Parameters",
    edit: str | None,
    whole_sum: bool,
    model: str | None,
    paradigm: str | None,
) -> Edited:
    """Return the edit that the options specify; model and paradigm default to the first of params.yaml.

    Raises:
        UserError: neither or both of ``--edit`` and ``--sum`` are given, a name is unknown, the stage `alpha_search`
            has not run for ``--sum``, or an artifact of the edit belongs to another study.
    """
    if (edit is None) != whole_sum:
        raise UserError(f"{command}: give either --edit TASK=α,... or --sum")
    model = chosen("--model", model, parameters.models)
    paradigm = chosen("--paradigm", paradigm, parameters.paradigms)
    coefficients = parse_edit(edit, parameters.tasks) if edit is not None else None
    coefficients = coefficients or chosen_sum(parameters, model, paradigm)
    search = [f"alpha_search@{model}-{paradigm}"] if whole_sum else []
    check_edit(parameters, model, paradigm, list(coefficients), search)
    return Edited(model, paradigm, coefficients)
