"""What the commands have in common that do something with one edited model: the options, and the edit they say."""

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import UserError
from tauflow.commands import completion
from tauflow.commands.console import chosen
from tauflow.edits import Edited, chosen_sum, parse_edit

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
SumOption = Annotated[bool, typer.Option("--sum", help="Instead: all task vectors times the α chosen on val.")]


def chosen_edit(
    command: str,
    parameters: "Parameters",
    edit: str | None,
    whole_sum: bool,
    model: str | None,
    paradigm: str | None,
) -> Edited:
    """The edit that the options say, of the first model and paradigm of params.yaml unless they are named.

    Raises:
        UserError: neither or both of ``--edit`` and ``--sum`` are given, a name is unknown, or the stage `alpha_search`
            has not run for ``--sum``.
    """
    if (edit is None) != whole_sum:
        raise UserError(f"{command}: say what, either --edit TASK=α,... or --sum")
    model = chosen("--model", model, parameters.models)
    paradigm = chosen("--paradigm", paradigm, parameters.paradigms)
    coefficients = parse_edit(edit, parameters.tasks) if edit is not None else None
    return Edited(model, paradigm, coefficients or chosen_sum(parameters, model, paradigm))
