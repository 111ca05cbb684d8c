"""Imported task vectors through the real DAG: evaluated like any other, and a start for fine-tuning."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.analysis.geometry import cosine_matrix
from pipeline.editing import read_task_vector
from pipeline.io.arrays import read_arrays
from tests.pipeline.conftest import Project
from tests.pipeline.test_training import kill_midway, resume_files

pytestmark = pytest.mark.pipeline

MODEL = "mini-clip"
TASKS = ("optdigits", "textures")
CONTINUED, IMPORTED = "finetune_continued@mini-clip-textures-onwards", "task_vector_imported@mini-clip-textures-theirs"
THEIRS = """# @package _global_
paradigms: [theirs]
imported:
  theirs: { trained_in: weight }
paradigm:
  theirs: { recipe: theirs, merging: null, evaluated_in: weight, negation_grid: null }
"""
ONWARDS = """# @package _global_
# τJp from published checkpoints on.
defaults:
  - tau_jp
  - theirs
  - _self_
paradigms: [theirs, onwards]
recipe:
  onwards:
    trainable: all
    trained_in: tangent
    regulariser: ${recipe.tau_jp.regulariser}
    extension: null
    start: theirs
schedule:
  onwards: { lr: 3e-4, length: 1.0 }
paradigm:
  onwards: { recipe: onwards, merging: null, evaluated_in: tangent, negation_grid: null }
"""


@pytest.fixture
def foreign(clone: Project) -> Project:
    """The project after `tauflow import` of what its own recipe `standard` trained, as others would have saved it."""
    base, _ = read_arrays(clone.root / "data" / "models" / MODEL / "image_encoder.safetensors")
    for task in TASKS:
        tuned, _ = read_arrays(clone.root / "data" / "checkpoints" / MODEL / "standard" / f"{task}.safetensors")
        state = {f"model.visual.{name}": torch.from_numpy(tuned.get(name, base[name])) for name in base}
        torch.save(state, clone.root / f"{task}.pt")
        clone.run("tauflow", "import", f"{task}.pt", "--task", task, "--name", "theirs")
    clone.run("dvc", "add", f"data/imported/{MODEL}/theirs")
    for name, content in (("theirs", THEIRS), ("onwards", ONWARDS)):
        (clone.root / "conf" / "paradigm" / f"{name}.yaml").write_text(content)
    return clone


def test_an_imported_paradigm_is_one_file_and_is_evaluated_like_any_other(foreign: Project) -> None:
    """Nothing trains for it; the numbers are those of the recipe that made the checkpoints."""
    ran = foreign.experiment("paradigm=theirs", "paradigms=[theirs]")
    assert {name for name in ran if "theirs" not in name} <= {"report", "summary", "comparison@mini-clip"}
    kinds = {name.partition("@")[0] for name in ran}
    assert {"task_vector_imported", "single_task", "alpha_search", "addition", "negation", "disentanglement"} <= kinds
    assert not any(kind.startswith(("finetune", "prepare", "head")) or kind == "task_vector" for kind in kinds)
    for table in ("measurements/{}/single_task.csv", "measurements/{}/addition.csv", "analyses/{}/heatmaps.csv"):
        root, _, rest = table.partition("/{}/")
        theirs, ours = (
            pd.read_csv(foreign.root / "data" / root / MODEL / paradigm / rest) for paradigm in ("theirs", "standard")
        )
        theirs, ours = (frame.drop(columns="paradigm", errors="ignore") for frame in (theirs, ours))
        pd.testing.assert_frame_equal(theirs, ours)


def test_fine_tuning_starts_from_an_imported_vector_and_resumes(foreign: Project) -> None:
    foreign.run("tauflow", "compose", "suite=tiny", "paradigm=onwards", "paradigms=[theirs,onwards]")
    ran = foreign.repro("task_vector@mini-clip-textures-onwards")
    assert [name for name in ran if "finetune" in name] == [CONTINUED]
    vector, start = (
        read_task_vector(foreign.root / "data" / "task_vectors" / MODEL / recipe / "textures.safetensors")
        for recipe in ("onwards", "theirs")
    )
    assert vector.provenance.base_sha256 == start.provenance.base_sha256
    further = {name: tensor - start.tensors.get(name, 0) for name, tensor in vector.tensors.items()}
    norm = sum(float(tensor.square().sum()) for tensor in further.values()) ** 0.5
    assert norm > 0
    assert cosine_matrix([vector, start])[0, 1] > 0.5  # so it has not forgotten where it came from
    curve = pd.read_csv(foreign.root / "data" / "training" / MODEL / "onwards" / "textures.csv")
    fresh = pd.read_csv(foreign.root / "data" / "training" / MODEL / "tau_jp" / "textures.csv")
    assert curve.loc[0, "loss"] < fresh.loc[0, "loss"]  # pyright: ignore[reportOperatorIssue]
    assert curve["penalty"].iloc[0] > 0  # of θ − θ₀, which is not zero from the first step on

    path = foreign.root / "data" / "checkpoints" / MODEL / "onwards" / "textures.safetensors"
    expected = path.read_bytes()
    path.unlink()
    kill_midway(foreign, CONTINUED)
    output = foreign.stage(CONTINUED).stdout
    assert "of them before it was resumed" in output
    assert path.read_bytes() == expected
    assert resume_files(foreign) == []

    changed = Path(foreign.root / "data" / "imported" / MODEL / "theirs" / "textures.safetensors")
    (foreign.root / "again.pt").write_bytes((foreign.root / "optdigits.pt").read_bytes())
    changed.unlink()
    foreign.run("tauflow", "import", "again.pt", "--task", "textures", "--name", "theirs")
    stale = foreign.run("dvc", "status", IMPORTED).stdout
    assert "modified" in stale


def test_an_imported_vector_that_does_not_fit_stops_its_stage(foreign: Project) -> None:
    foreign.run("tauflow", "compose", "suite=tiny", "paradigm=theirs", "paradigms=[theirs]")
    foreign.set_parameter("imported.theirs.trained_in", "tangent")
    result = foreign.stage(IMPORTED, check=False)
    assert result.returncode == 1
    assert "was trained in weight space, but imported.theirs says tangent" in result.stderr
    foreign.set_parameter("imported.theirs.trained_in", "weight")
    imported = foreign.root / "data" / "imported" / MODEL / "theirs"
    (imported / "textures.safetensors").unlink()
    (imported / "textures.safetensors").write_bytes((imported / "optdigits.safetensors").read_bytes())
    result = foreign.stage(IMPORTED, check=False)
    assert "is of optdigits and not of textures; import it again" in result.stderr
    (imported / "textures.safetensors").unlink()
    result = foreign.stage(IMPORTED, check=False)
    assert "textures.safetensors: no such file; make it with `tauflow import`" in result.stderr
    assert np.all([line.startswith("error: ") for line in result.stderr.strip().splitlines()])
