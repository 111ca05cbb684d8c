"""Exported models on the Hugging Face hub: the metadata of their cards, and uploads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from pipeline.errors import UserError, one_line
from pipeline.foreign.export import Format
from pipeline.models import ModelDefinition
from pipeline.tasks import load_task, task_names
from pipeline.tasks.registry import HubSource

CARD = "README.md"
_LIBRARIES: dict[Format, str] = {"open_clip": "open_clip", "huggingface": "transformers"}
_KIND = "zero-shot-image-classification"


def card_metadata(
    definition: ModelDefinition,
    form: Format,
    tasks: Sequence[str],
    *,
    name: str,
    merged: bool,
    imported: bool,
    accuracies: Mapping[str, float],
) -> str:
    """Return the metadata of a model card, as the hub reads them, in YAML.

    Args:
        definition: the model that was edited.
        form: the library that loads it.
        tasks: the tasks whose vectors or checkpoints it was made from.
        name: a name for the model.
        merged: whether it was merged rather than edited.
        imported: whether parts of it are others' checkpoints, whose licences Tauflow does not know.
        accuracies: accuracies on test images by task, if it was evaluated.
    """
    datasets = [dataset for task in tasks if (dataset := _dataset(task))]
    data = ModelCardData(
        base_model=getattr(definition.weights, "repository", None),
        datasets=datasets or None,
        library_name=_LIBRARIES[form],
        metrics=["accuracy"],
        pipeline_tag=_KIND,
        tags=["clip", "model-merging" if merged else "task-arithmetic"],
        model_name=name,
        eval_results=[_result(task, accuracy) for task, accuracy in accuracies.items()] or None,
        license="other" if imported else definition.licence.lower(),
        license_name="see-below" if imported else None,
        license_link=f"{CARD}#licences" if imported else None,
    )
    return data.to_yaml()


def _dataset(task: str) -> str | None:
    """Return the hub's name of a task's images; ``None`` if they are not from there."""
    source = load_task(task).source if task in task_names() else None
    return source.repository if isinstance(source, HubSource) else None


def _result(task: str, accuracy: float) -> EvalResult:
    return EvalResult(
        task_type=_KIND,
        dataset_type=_dataset(task) or task,
        dataset_name=task,
        dataset_split="test",
        metric_type="accuracy",
        metric_value=round(accuracy, 4),
    )


def push(folder: Path, repository: str, private: bool) -> str:
    """Upload an exported model to a hub repository, which is created if it is not there; return the commit's address.

    Raises:
        UserError: the folder is not an exported model, the name is not that of a repository, or the hub refuses or
            cannot be reached.
    """
    check_exported(folder)
    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Made by Tauflow")
    except HFValidationError as error:
        raise UserError(
            f"push: {repository!r} is not the name of a repository; write OWNER/NAME: {one_line(error)}"
        ) from None
    except Exception as error:  # the hub's errors, and those of the HTTP library below it
        raise UserError(f"push: {repository}: {_explained(error)}") from None
    return str(done.commit_url)


def _explained(error: Exception) -> str:
    if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
        return "the hub refuses; set HF_TOKEN to a token that may write there, or run `hf auth login`"
    cause = error.__cause__ or error  # of one file, which the library only names
    return f"cannot be uploaded: {one_line(cause) or type(cause).__name__}; check the network and HF_ENDPOINT"


def check_exported(folder: Path) -> None:
    """Check that a folder holds a model with a card that the hub can read.

    Raises:
        UserError: it does not.
    """
    path = folder / CARD
    if not path.is_file() or not list(folder.glob("*.safetensors")):
        raise UserError(f"{folder}: no model with its card; make one with `tauflow export` or `tauflow merge`")
    try:
        ModelCard(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: its metadata are not valid ({one_line(error)}); export the model again") from None
