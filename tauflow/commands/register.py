"""``tauflow register``: an edited encoder as a model that classifies images, in MLflow's registry."""

from typing import Annotated

import typer

from pipeline.errors import UserError
from tauflow.commands import completion
from tauflow.commands.console import checked_parameters, chosen, one_line_errors
from tauflow.edits import edit_text, parse_edit
from tauflow.workspace import tracking_uri


def register(
    edit: Annotated[
        str | None,
        typer.Option(
            metavar="TASK=α,...",
            help="Coefficients over task vectors.",
            autocompletion=completion.edit,
            show_default=False,
        ),
    ] = None,
    whole_sum: Annotated[
        bool, typer.Option("--sum", help="Instead: all task vectors times the α chosen on val.")
    ] = False,
    model: completion.ModelOption = None,
    paradigm: completion.ParadigmOption = None,
    name: Annotated[
        str | None, typer.Option(help="Of the registered model; by default MODEL-PARADIGM.", show_default=False)
    ] = None,
) -> None:
    """Register an edited encoder in MLflow's model registry, with the heads of all tasks, to classify images.

    `mlflow.pyfunc.load_model("models:/NAME/VERSION")` loads it anywhere; it takes uint8 images and the parameter
    `task`, and gives classes and probabilities (docs/tracking.md).

    For example: `tauflow register --sum --paradigm tau_jp`, or `tauflow register --edit icons=-0.4 --name no-icons`.
    """
    parameters = checked_parameters()
    with one_line_errors():
        if (edit is None) != whole_sum:
            raise UserError("register: say what, either --edit TASK=α,... or --sum")
        model = chosen("--model", model, parameters.models)
        paradigm = chosen("--paradigm", paradigm, parameters.paradigms)
        coefficients = parse_edit(edit, parameters.tasks) if edit is not None else None
        from tauflow.registering import Edited, chosen_sum
        from tauflow.registering import register as register_model  # imports torch, open_clip and MLflow

        edited = Edited(model, paradigm, coefficients or chosen_sum(parameters, model, paradigm))
        version = register_model(parameters, edited, name or f"{model}-{paradigm}")
    uri = f"models:/{version.name}/{version.version}"
    print(f"{uri}: {edit_text(dict(edited.edit))} of {model}, {paradigm}")
    print(f'Load it with MLFLOW_TRACKING_URI={tracking_uri()}: mlflow.pyfunc.load_model("{uri}")')
