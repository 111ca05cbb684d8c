"""Register an edited encoder in MLflow's model registry, from which ``mlflow.pyfunc`` loads it as a classifier."""

import logging
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.pyfunc
from mlflow import MlflowClient
from mlflow.entities import Param, RunStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array

import pipeline
from artifacts import layout
from pipeline.config import Parameters
from pipeline.errors import UserError, one_line
from pipeline.images import read_unlabelled
from pipeline.images.images import Images
from tauflow.edited.edit import Edited, edit_text
from tauflow.edited.package import write_package
from tauflow.tracking.store import Store, reachable_store

# The model's code, which MLflow copies; importing it here would already define a model.
CODE = Path(__file__).with_name("registered_model.py")
# Packages that the model's code imports, pinned to the installed versions.
REQUIREMENTS = (
    *("jaxtyping", "mlflow", "numpy", "open-clip-torch", "pandas", "pydantic", "pyyaml", "safetensors"),
    *("torch", "torchvision"),
)
# Defaults; override with `load_model(uri, model_config={"device": "cpu"})`. None: a GPU if available.
SETTINGS = {"batch_size": 256, "device": None}
ARTIFACT = "model"


def register(params: Parameters, edited: Edited, name: str) -> ModelVersion:
    """Log an edited encoder to a run of its own and register it as the next version of ``name``.

    Raises:
        UserError: MLflow does not answer or refuses the name, or an artifact is missing, damaged or does not fit.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it logs every step
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)  # its progress bars flash
    store = reachable_store()
    with TemporaryDirectory() as scratch:
        write_package(params, edited, Path(scratch, "package"))
        _save(params, edited, Path(scratch))
        try:
            return _register(store, params, edited, name, Path(scratch, ARTIFACT))
        except MlflowException as error:
            reason = one_line(error)[:300]
            raise UserError(f"{name}: not registered: {reason}; try another --name") from None


def _save(params: Parameters, edited: Edited, scratch: Path) -> None:
    """Write the model in MLflow's format: code, files, signature and an example."""
    first = next(iter(edited.edit))
    example = read_unlabelled(layout.split(first, "test"))[:1]
    mlflow.pyfunc.save_model(
        str(scratch / ARTIFACT),
        python_model=CODE,
        code_paths=[pipeline.__path__[0]],
        artifacts={"package": str(scratch / "package")},
        signature=_signature(example, first),
        input_example=(example, {"task": first}),
        pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
        model_config={"model": edited.model, "tasks": params.derived.datasets, **SETTINGS},
    )


def _signature(example: Images, task: str) -> ModelSignature:
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string, "class"),
        ColSpec(DataType.long, "index"),
        ColSpec(DataType.double, "probability"),
        ColSpec(Array(DataType.double), "probabilities"),
    ]
    return ModelSignature(
        Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
        Schema(outputs),
        ParamSchema([ParamSpec("task", DataType.string, task)]),
    )


def _register(store: Store, params: Parameters, edited: Edited, name: str, model: Path) -> ModelVersion:
    client = store.client
    tags = {
        "tauflow.model": edited.model,
        "tauflow.paradigm": edited.paradigm,
        "tauflow.edit": edit_text(edited.edit),
        "tauflow.evaluated_in": params.paradigm[edited.paradigm].evaluated_in,
        "tauflow.merging": str(params.paradigm[edited.paradigm].merging or "none"),
        "tauflow.suite": params.suite,
    }
    run = client.create_run(
        store.experiment(params.suite), tags={"tauflow.kind": "model", **tags}, run_name=f"register {name}"
    )
    logged = {"seed": params.seed, **{f"alpha.{task}": alpha for task, alpha in edited.edit.items()}}
    client.log_batch(run.info.run_id, params=[Param(key, str(value)) for key, value in logged.items()])
    client.log_artifacts(run.info.run_id, str(model), ARTIFACT)
    _create_if_new(client, name)
    registered = client.create_model_version(
        name,
        f"{run.info.artifact_uri}/{ARTIFACT}",
        run.info.run_id,
        tags,
        description=f"{tags['tauflow.edit']} of {edited.model}, {edited.paradigm}; for "
        f"{', '.join(params.derived.datasets)}.",
    )
    client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.FINISHED))
    return registered


def _create_if_new(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
