"""``tauflow register``: register an edited encoder as an image classifier in MLflow's registry."""

from typing import Annotated

import typer

from artifacts.workspace import tracking_uri
from tauflow.commands.console import checked_parameters, one_line_errors
from tauflow.commands.edit_options import EditOption, ModelOption, ParadigmOption, SumOption, chosen_edit
from tauflow.edited.edit import edit_text


def register(
    edit: EditOption = None,
    whole_sum: SumOption = False,
    model: ModelOption = None,
    paradigm: ParadigmOption = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the registered model; by default MODEL-PARADIGM.", show_default=False)
    ] = None,
) -> None:
    """Register an edited encoder in MLflow's model registry, with the heads of all tasks, to classify images.

    `mlflow.pyfunc.load_model("models:/NAME/VERSION")` loads it anywhere. It takes uint8 images and the parameter
    `task`, and returns classes and probabilities (docs/tracking.md).

    For example: `tauflow register --sum --paradigm tau_jp`, or `tauflow register --edit icons=-0.4 --name no-icons`.
    """
    parameters = checked_parameters()
    with one_line_errors():
        edited = chosen_edit("register", parameters, edit, whole_sum, model, paradigm)
        from tauflow.edited.register import register as register_model  # imports torch, open_clip and MLflow

        version = register_model(parameters, edited, name or f"{edited.model}-{edited.paradigm}")
    uri = f"models:/{version.name}/{version.version}"
    print(f"{uri}: {edit_text(edited.edit)} of {edited.model}, {edited.paradigm}")
    print(f'Load it with MLFLOW_TRACKING_URI={tracking_uri()}: mlflow.pyfunc.load_model("{uri}")')
