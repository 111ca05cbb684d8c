"""The papers' suite holds their protocols: numbers here are typed from the papers and their code, not from conf/."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from artifacts.instances import read_instances
from pipeline.config import FinetuneSettings, LegalNames, load_parameters
from pipeline.images import LabelledImages
from pipeline.models import model_names
from pipeline.tasks import task_names
from pipeline.training import Plan
from pipeline.training.batches import Batches
from tauflow.dvc.composition import compose
from tauflow.planning.task_sizes import task_size
from tests.conftest import ROOT

Composed = Callable[..., dict[str, Any]]

EPOCHS = {"cars": 35, "dtd": 76, "eurosat": 12, "gtsrb": 11, "mnist": 5, "resisc45": 15, "sun397": 14, "svhn": 4}
MODELS = {"vit_b_32": "ViT-B-32", "vit_b_16": "ViT-B-16", "vit_l_14": "ViT-L-14"}


@pytest.mark.parametrize("model", MODELS)
def test_protocol(composed: Composed, model: str) -> None:
    content = composed("suite=paper8", f"model={model}", "paradigm=all")
    assert content["models"] == [MODELS[model]]
    assert (content["tasks"], content["control"]) == (sorted(EPOCHS), "imagenet")
    assert content["epochs"] == EPOCHS
    assert content["prepare"]["resolution"] == 224
    assert (content["prepare"]["val_fraction"], content["prepare"]["val_max"]) == (0.1, 5000)
    settings = content["finetune"]
    expected = {"batch_size": 128, "weight_decay": 0.1, "warmup_steps": 200, "max_grad_norm": 1.0, "steps": None}
    expected["precision"] = "fp32"
    assert {key: settings[key] for key in expected} == expected
    assert settings["augmentation"] == {"kind": "resized_crop", "scale": [0.9, 1.0]}
    assert settings["batch_size"] // settings["accumulation"] == (64 if model == "vit_l_14" else 128)
    assert settings["lr"] is None
    assert {recipe: content["schedule"][recipe]["lr"] for recipe in content["derived"]["recipes"]} == dict.fromkeys(
        content["derived"]["recipes"], 1e-5
    )
    assert {content["schedule"][recipe]["length"] for recipe in content["derived"]["recipes"]} == {1.0}


def test_tau_jp(composed: Composed) -> None:
    """λ and 16 images of each other task and of ImageNet; no α above 1 was searched by the published code."""
    content = composed("suite=paper8", "model=vit_b_32", "paradigm=all")
    for name, mode in (("tau_jp", "cyclic"), ("tau_jp_strict", "strict")):
        regulariser = content["recipe"][name]["regulariser"]
        assert regulariser["weight"] == 0.1
        others = {"tasks": sorted(EPOCHS), "control": "imagenet", "arrivals": None, "mode": mode, "batch_size": 16}
        assert regulariser["others"] == others
        assert content["paradigm"][name]["negation_grid"] == {"min": 0.0, "max": 3.0, "points": 61}
    assert content["search"]["addition"] == content["search"]["negation"] == {"min": 0.0, "max": 1.0, "points": 21}
    assert content["search"]["control_retention"] == 0.95
    assert content["analysis"]["images"] == 2048
    assert content["disentanglement"]["grid"] == {"min": -3.0, "max": 3.0, "points": 20}


def test_alternatives_are_one_override_each(composed: Composed) -> None:
    """2,000 steps for every task; the warm-up of the released code; L/14's micro-batches of τJp; bf16."""
    content = composed(
        *("suite=paper8", "model=vit_l_14", "paradigm=tau_jp", "finetune.steps=2000", "finetune.warmup_steps=500"),
        *("finetune.accumulation=4", "finetune.precision=bf16"),
    )
    assert (content["finetune"]["steps"], content["finetune"]["warmup_steps"]) == (2000, 500)
    assert (content["finetune"]["accumulation"], content["finetune"]["precision"]) == (4, "bf16")
    # The published code takes 4 images of another task for each of 4 micro-batches.
    assert content["recipe"]["tau_jp"]["regulariser"]["others"]["batch_size"] == 4 * 4


@pytest.mark.parametrize(
    ("task", "train", "steps"),
    [("eurosat", 21600, 2028), ("eurosat", 21600 - 2160, 1824), ("dtd", 3760 - 376, 2052), ("cars", 8144 - 814, 2030)],
)
def test_steps_are_those_of_a_loader_that_keeps_the_last_batch(
    composed: Composed, finetune_settings: FinetuneSettings, task: str, train: int, steps: int
) -> None:
    """The published loaders keep it. EuroSAT: of all its training images, and without those that we hold out."""
    content = composed("suite=paper8", "model=vit_b_32", "paradigm=standard")
    size = content["finetune"]["batch_size"]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.empty(train, 0)), batch_size=size)
    images = LabelledImages(np.empty((train, 3, 0, 0), np.uint8), np.empty(train, np.int64))
    batches = Batches(images, size, finetune_settings.augmentation, seed=0)
    plan = Plan(finetune_settings, 1e-5, float(content["epochs"][task]), 0)
    assert plan.count_steps(batches.per_epoch) == content["epochs"][task] * len(loader) == steps


# TALL-masks: the tasks in its order, and the epochs of its finetune.py.
SIX = {"stl10": 60, "oxford_pets": 82, "flowers102": 147, "cifar100": 6, "pcam": 1, "fer2013": 10}
TWENTY = {"cifar10": 6, "food101": 4, "fashion_mnist": 5, "rendered_sst2": 39, "emnist": 2, "kmnist": 5}


@pytest.mark.parametrize(
    ("suite", "epochs"), [("paper14", EPOCHS | SIX), ("paper20", EPOCHS | SIX | TWENTY)], ids=["paper14", "paper20"]
)
def test_larger_suites_are_paper8_with_more_tasks(composed: Composed, suite: str, epochs: dict[str, int]) -> None:
    smaller, larger = (composed(f"suite={name}", "model=vit_b_32", "paradigm=all") for name in ("paper8", suite))
    assert larger["suite"] == suite
    assert larger["tasks"] == sorted(epochs)
    assert larger["epochs"] == epochs
    changed = {key for key in larger if larger[key] != smaller[key]}
    assert changed == {"suite", "tasks", "epochs", "recipe", "derived"}  # τJp sees the other tasks' images
    assert larger["recipe"]["tau_jp"]["regulariser"]["others"]["tasks"] == sorted(epochs)


def test_the_suite_of_the_public_pools(composed: Composed) -> None:
    paper, public = (composed(f"suite={name}", "model=vit_b_32")["tasks"] for name in ("paper20", "public20"))
    assert set(paper) - set(public) == {"emnist", "kmnist"}
    assert set(public) - set(paper) == {"emnist_letters", "kmnist_hiragana"}
    assert public == sorted(public)


@pytest.mark.parametrize("suite", ["paper14", "paper20", "public20"])
def test_the_whole_dag_of_a_larger_suite(suite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage instance of dvc.yaml, as `tauflow plan --estimate` lists them, with a size for every task."""
    compose(ROOT, [f"suite={suite}", "model=vit_b_32", "paradigm=all"], tmp_path / "params.yaml")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    parameters = load_parameters(tmp_path / "params.yaml", LegalNames(task_names(), model_names()))
    instances = read_instances(parameters)
    for task in parameters.tasks:
        assert task_size(parameters, task) is not None
        assert {f"download@{task}", f"prepare@{task}", f"finetune@ViT-B-32-{task}-standard"} <= set(instances)


@pytest.mark.parametrize("model", MODELS)
def test_it_is_legal(composed: Composed, model: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(composed("suite=paper8", f"model={model}", "paradigm=all")), encoding="utf-8")
    parameters = load_parameters(path, LegalNames(task_names(), model_names()))
    assert len(parameters.derived.evaluations) == len(parameters.paradigms) == 9
