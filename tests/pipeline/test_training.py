"""Fine-tuning through its real stages: killed and resumed, on several processes, with parts from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.io.arrays import read_arrays
from tests.pipeline.conftest import Project

pytestmark = pytest.mark.pipeline

STANDARD = "finetune@mini-clip-textures-standard"
REGULARISED = "finetune_regularised@mini-clip-textures-tau_jp"
CHECKPOINTS = Path("data/checkpoints/mini-clip")


def resume_files(project: Project) -> list[Path]:
    return sorted((project.root / ".tauflow" / "resume").glob("*.safetensors"))


def kill_midway(project: Project, instance: str) -> None:
    """Start a fine-tuning, and kill it with SIGKILL as soon as it has saved something."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.finetune", instance],
        cwd=project.root,
        env={**os.environ, "TAUFLOW_TRACKER": "off"},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not resume_files(project):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("instance", [STANDARD, REGULARISED])
def test_a_killed_fine_tuning_is_resumed_and_ends_with_the_same_bytes(clone: Project, instance: str) -> None:
    outputs = [clone.root / item["path"] for item in clone.lock()[instance]["outs"]]
    expected = {path: path.read_bytes() for path in outputs}
    for path in outputs:
        path.unlink()
    kill_midway(clone, instance)
    assert not any(path.exists() for path in outputs)
    output = clone.stage(instance).stdout
    assert "of them before it was resumed" in output
    assert {path: path.read_bytes() for path in outputs} == expected
    assert resume_files(clone) == []


def test_a_regulariser_sees_only_tasks_that_have_arrived(clone: Project) -> None:
    """Optdigits arrives after textures: no image of the control is opened for it, and textures sees none of others."""
    assert yaml.safe_load((clone.root / "params.yaml").read_text())["derived"]["arrivals"]["order_0"] == [
        "textures",
        "optdigits",
    ]
    first, second = (
        clone.root / CHECKPOINTS / "tau_jp_order_0" / f"{t}.safetensors" for t in ("textures", "optdigits")
    )
    expected = first.read_bytes(), second.read_bytes()
    train = clone.root / "data" / "tasks" / "train"
    (train / "emoji.safetensors").unlink()
    clone.stage("finetune_regularised@mini-clip-optdigits-tau_jp_order_0")
    (train / "optdigits.safetensors").unlink()
    clone.stage("finetune_regularised@mini-clip-textures-tau_jp_order_0")
    assert (first.read_bytes(), second.read_bytes()) == expected
    penalties = [
        pd.read_csv(clone.root / "data" / "training" / "mini-clip" / "tau_jp_order_0" / f"{task}.csv")[
            "penalty"
        ].to_numpy()
        for task in ("textures", "optdigits")
    ]
    assert not np.any(penalties[0])
    assert np.all(penalties[1][1:] > 0)


def test_what_was_saved_with_other_parameters_is_not_resumed_from(clone: Project) -> None:
    kill_midway(clone, STANDARD)
    (stale,) = resume_files(clone)
    clone.set_parameter("finetune.lr", 1e-5)
    output = clone.stage(STANDARD).stdout
    assert "9 steps, last loss" in output
    assert resume_files(clone) == [stale]


def test_two_processes_of_torchrun_train_the_same_model(clone: Project) -> None:
    path = clone.root / CHECKPOINTS / "standard" / "textures.safetensors"
    base, _ = read_arrays(clone.root / "data" / "models" / "mini-clip" / "image_encoder.safetensors")
    alone, _ = read_arrays(path)
    clone.set_parameter("finetune.processes", 2)
    clone.repro("--single-item", STANDARD)
    shared, _ = read_arrays(path)
    # Not the same bits: the order of summation differs, and the key biases, whose gradient is zero but for rounding,
    # move anywhere in AdamW.
    moved = {name: tensor - base[name] for name, tensor in alone.items() if not name.endswith("in_proj_bias")}
    off = {name: shared[name] - alone[name] for name in moved}
    norm = {key: np.sqrt(sum((t**2).sum() for t in each.values())) for key, each in (("τ", moved), ("off", off))}
    assert norm["off"] < 0.02 * norm["τ"]
    journal = max((clone.root / ".tauflow" / "journal").glob("*.jsonl"))
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    steps = [event["step"] for event in events if event["event"] == "metrics" and "loss" in event["values"]]
    assert steps == list(range(9))  # one process logs, not two
    assert events[-1]["status"] == "FINISHED"


EXTENSION = """
from pipeline.paradigms import selection
from pipeline.training import regulariser

@selection("layer_norms")
def is_layer_norm(name):
    return ".ln_" in name

@regulariser("distance")
def distance(encoder, images, options):
    assert images is None
    return sum((p - encoder.base[n]).square().sum() for n, p in encoder.trained.items()) ** options["power"]
"""
PARADIGM = """# @package _global_
paradigms: [norms]
recipe:
  norms:
    trainable: layer_norms
    trained_in: tangent
    regulariser:
      name: distance
      weight: 0.01
      options: { power: 1 }
      others: null
    extension:
      path: extensions/norms.py
      sha256: ${sha256:extensions/norms.py}
    start: null
schedule:
  norms: { lr: 1e-3, length: 0.5 }
paradigm:
  norms:
    recipe: norms
    merging: null
    evaluated_in: tangent
    negation_grid: null
"""


def test_a_paradigm_is_one_yaml_file_and_its_parts_one_python_file(clone: Project) -> None:
    before = clone.lock()
    (clone.root / "extensions").mkdir()
    (clone.root / "extensions" / "norms.py").write_text(EXTENSION)
    (clone.root / "conf" / "paradigm" / "norms.yaml").write_text(PARADIGM)
    ran = clone.experiment("paradigm=norms", "paradigms=[norms]")
    assert {name for name in ran if "-norms" not in name} == {"report", "summary", "comparison@mini-clip"}
    assert {name.split("@")[0] for name in ran} == {
        *("finetune", "task_vector", "features", "single_task", "alpha_search", "addition", "negation"),
        *("disentanglement", "interference", "geometry", "merging_grid", "incremental"),
        *("comparison", "summary", "report"),
    }
    # Its penalty sees no other task's images.
    assert {name for name in ran if name.startswith("finetune")} == {
        "finetune@mini-clip-optdigits-norms",
        "finetune@mini-clip-textures-norms",
    }
    trained, _ = read_arrays(clone.root / CHECKPOINTS / "norms" / "textures.safetensors")
    assert trained
    assert all(".ln_" in name for name in trained)
    common = ("report", "summary", "comparison@mini-clip")
    unchanged = {name: entry for name, entry in before.items() if name not in common}
    assert unchanged.items() <= clone.lock().items()

    with (clone.root / "extensions" / "norms.py").open("a") as file:
        file.write("# changed\n")
    result = clone.stage("finetune@mini-clip-textures-norms", check=False)
    assert result.returncode == 1
    (line,) = result.stderr.strip().splitlines()
    assert "extensions/norms.py" in line
    assert "SHA-256" in line
