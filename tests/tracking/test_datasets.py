"""Dataset inputs of runs: the splits that a stage read."""

import json
from pathlib import Path

import mlflow.data
import pytest
import yaml

from tauflow.tracking import tracker
from tauflow.tracking.dataset_inputs import dataset_inputs
from tests.tracking.conftest import Store, finished_stage

DEPENDENCIES = [
    {"path": "data/tasks/train/signs.safetensors", "md5": "1" * 32, "size": 12},
    {"path": "data/tasks/val", "md5": "2" * 32 + ".dir", "size": 99, "nfiles": 3},
    {"path": "data/tasks/card/signs.json", "md5": "3" * 32, "size": 1},
    {"path": "data/heads/m/signs.safetensors", "md5": "4" * 32, "size": 1},
    {"path": "stages/finetune.py", "md5": "5" * 32, "size": 1},
]


def test_a_run_shows_the_splits_that_it_read(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_stage("finetune@a", workspace)
    entry = {"cmd": "python", "deps": DEPENDENCIES, "outs": []}
    (workspace / "dvc.lock").write_text(yaml.safe_dump({"stages": {"finetune@a": entry}}))
    assert tracker.track(0) == 0
    logged = Store().named("finetune@a").inputs
    assert logged is not None
    inputs = {dataset_input.dataset.name: dataset_input for dataset_input in logged.dataset_inputs}
    assert set(inputs) == {"signs", "all tasks"}
    train, every = inputs["signs"], inputs["all tasks"]
    assert train.dataset.digest == "1" * 32
    assert every.dataset.digest == "2" * 32 + ".dir"
    assert [(tag.key, tag.value) for tag in train.tags] == [("mlflow.data.context", "train")]
    assert [tag.value for tag in every.tags] == ["val"]
    profile = {"bytes": 99, "files": 3, "restore": "dvc pull data/tasks/val"}
    assert json.loads(every.dataset.profile or "") == profile

    monkeypatch.chdir(workspace)
    path = workspace / "data" / "tasks" / "train" / "signs.safetensors"
    path.parent.mkdir(parents=True)
    path.write_text("images")
    loaded = mlflow.data.get_source(train).load()  # pyright: ignore[reportAttributeAccessIssue]
    assert Path(loaded).read_text() == "images"


def test_a_stage_without_splits_has_none() -> None:
    assert dataset_inputs({}) == []
    assert dataset_inputs({"deps": DEPENDENCIES[2:]}) == []
