"""The papers' suite holds their protocols: numbers here are typed from the papers and their code, not from conf/."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import LegalNames, load_parameters
from pipeline.models import model_names
from pipeline.tasks import task_names

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
    found = content["finetune"]
    expected = {"batch_size": 128, "weight_decay": 0.1, "warmup_steps": 200, "max_grad_norm": 1.0, "steps": None}
    assert {key: found[key] for key in expected} == expected
    assert found["augmentation"] == {"kind": "resized_crop", "scale": [0.9, 1.0]}
    assert found["batch_size"] // found["accumulation"] == (64 if model == "vit_l_14" else 128)
    assert found["lr"] is None
    assert {recipe: content["schedule"][recipe]["lr"] for recipe in content["recipes"]} == dict.fromkeys(
        content["recipes"], 1e-5
    )
    assert {content["schedule"][recipe]["length"] for recipe in content["recipes"]} == {1.0}


def test_tau_jp(composed: Composed) -> None:
    """λ and 16 images of each other task and of ImageNet; no α above 1 was searched by the published code."""
    content = composed("suite=paper8", "model=vit_b_32", "paradigm=all")
    for name, mode in (("tau_jp", "cyclic"), ("tau_jp_strict", "strict")):
        regulariser = content["recipe"][name]["regulariser"]
        assert regulariser["weight"] == 0.1
        others = {"tasks": sorted(EPOCHS), "control": "imagenet", "mode": mode, "batch_size": 16}
        assert regulariser["others"] == others
        assert content["paradigm"][name]["negation_grid"] == {"min": 0.0, "max": 3.0, "points": 61}
    assert content["search"]["addition"] == content["search"]["negation"] == {"min": 0.0, "max": 1.0, "points": 21}
    assert content["search"]["control_retention"] == 0.95
    assert content["analysis"]["images"] == 2048
    assert content["disentanglement"]["grid"] == {"min": -3.0, "max": 3.0, "points": 20}


def test_alternatives_are_one_override_each(composed: Composed) -> None:
    """2,000 steps for every task; the warm-up of the released code; L/14's smaller batches of other tasks."""
    content = composed(
        *("suite=paper8", "model=vit_l_14", "paradigm=tau_jp", "finetune.steps=2000", "finetune.warmup_steps=500"),
        *("finetune.accumulation=4", "recipe.tau_jp.regulariser.others.batch_size=4"),
    )
    assert (content["finetune"]["steps"], content["finetune"]["warmup_steps"]) == (2000, 500)
    assert content["finetune"]["accumulation"] == 4
    assert content["recipe"]["tau_jp"]["regulariser"]["others"]["batch_size"] == 4


@pytest.mark.parametrize("model", MODELS)
def test_it_is_legal(composed: Composed, model: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(composed("suite=paper8", f"model={model}", "paradigm=all")), encoding="utf-8")
    parameters = load_parameters(path, LegalNames(task_names(), model_names()))
    assert len(parameters.evaluations) == len(parameters.paradigms) == 9
