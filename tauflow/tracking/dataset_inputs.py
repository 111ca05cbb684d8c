"""The dataset inputs of MLflow runs: the splits that a stage instance read, as DVC knows them."""

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from mlflow.data.dataset_source_registry import get_dataset_source_from_json
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from artifacts.layout import DATA
from tauflow.dvc.lockfile import Entry

SPLITS = ("train", "val", "test")
ALL_TASKS = "all tasks"


def dataset_inputs(entry: Entry) -> list[DatasetInput]:
    """Return an input for every split among a stage's dependencies, without reading images.

    Its name is the task (``all tasks`` for a directory), its digest is DVC's MD5, its context is the split.
    """
    return [_input(dep, split, name) for dep in entry.get("deps", []) for split, name in _split(dep["path"])]


def _split(path: str) -> Iterator[tuple[str, str]]:
    """Yield the split and the task if the path is ``data/tasks/<split>[/<task>.safetensors]``."""
    try:
        split, *task = PurePosixPath(path).relative_to(DATA / "tasks").parts
    except ValueError:
        return
    if split in SPLITS:
        yield split, PurePosixPath(task[0]).stem if task else ALL_TASKS


def _input(dep: dict[str, Any], split: str, name: str) -> DatasetInput:
    source = get_dataset_source_from_json(json.dumps({"uri": dep["path"]}), "local")
    described = MetaDataset(source, name, digest=dep["md5"]).to_dict()
    profile = {"bytes": dep.get("size"), "files": dep.get("nfiles", 1), "restore": f"dvc pull {dep['path']}"}
    dataset = Dataset(**described, profile=json.dumps(profile))
    return DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, split)])
