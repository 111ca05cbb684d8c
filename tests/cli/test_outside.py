"""Edits on tasks that are not of the study, and edits of merged paradigms, with mini-clip's own weights."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

from artifacts import layout
from pipeline.config import load_parameters
from pipeline.editing import TaskVector, write_task_vector
from pipeline.io.arrays import fingerprint, read_arrays, write_arrays
from pipeline.models import load_model_definition
from pipeline.models.checkpoints import Provenance
from pipeline.models.encoders import build_clip, split_towers
from tauflow.dvc.composition import compose
from tauflow.edited.classify import open_edited
from tauflow.edited.edit import Edited
from tests.cli.conftest import MODEL, RECIPE, TASKS, Run
from tests.conftest import ROOT

OUTSIDE = "icons"
MOVED = "transformer.resblocks.0.mlp.c_fc.weight"


@pytest.fixture
def vectors(project: Path) -> dict[str, TaskVector]:
    """Task vectors of mini-clip, whose towers are on the disk, in a project with the mini suite's sources."""
    Path("data").mkdir()
    Path("data/mini").symlink_to(ROOT / "data" / "mini")
    image, text = split_towers(load_file("data/mini/mini-clip.safetensors"))
    write_arrays(layout.image_encoder(MODEL), image, {})
    write_arrays(layout.text_encoder(MODEL), text, {})
    random, base = torch.Generator().manual_seed(0), fingerprint(image)
    made = {}
    for task in TASKS:
        delta = 0.02 * torch.randn(image[MOVED].shape, generator=random)
        made[task] = TaskVector({MOVED: delta}, Provenance(MODEL, (task,), RECIPE, "weight", base, 0, "c" * 64))
    return made


@torch.no_grad()
def test_a_task_outside_the_study_is_prepared_and_evaluated(vectors: dict[str, TaskVector], run: Run) -> None:
    write_task_vector(Path("mine.safetensors"), 2.0 * vectors["optdigits"])
    arguments = ("evaluate", "--vector", "mine.safetensors", "--tasks", OUTSIDE, "--format", "csv")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    row = pd.read_csv(io.StringIO(result.stdout[result.stdout.index("task,images") :])).set_index("task").loc[OUTSIDE]
    (folder,) = Path(".tauflow/outside").iterdir()
    images, labels = (read_arrays(folder / "test.safetensors")[0][name] for name in ("images", "labels"))
    head = torch.from_numpy(read_arrays(folder / f"head-{MODEL}.safetensors")[0]["weight"])
    definition = load_model_definition(MODEL)
    clip = build_clip(definition).eval()
    state = {name: torch.from_numpy(array) for name, array in load_file("data/mini/mini-clip.safetensors").items()}
    pixels = torch.from_numpy(images).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (definition.mean, definition.std))
    for column, scale in (("zero-shot", 0.0), ("edited", 2.0)):
        moved = state[f"visual.{MOVED}"] + scale * vectors["optdigits"].tensors[MOVED]
        clip.load_state_dict({**state, f"visual.{MOVED}": moved})
        answers = (clip.get_submodule("visual")((pixels - mean) / std) @ head.T).argmax(1).numpy()
        assert row[column] == pytest.approx(100 * np.mean(answers == labels), abs=100 / len(labels) + 0.051), column
    assert row["images"] == len(labels)
    assert row["zero-shot"] != row["edited"]
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert run(*arguments).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == kept  # prepared once
    unknown = run(*arguments[:4], "icosn")
    assert unknown.exit_code == 1
    assert unknown.stderr.startswith("error: --tasks: unknown task 'icosn'; choose from optdigits, textures, emoji, ")


def test_an_edit_of_a_merged_paradigm_takes_the_merged_vectors(vectors: dict[str, TaskVector]) -> None:
    """They lie under the paradigm's name, and not under its recipe's."""
    compose(ROOT, ["suite=tiny", "paradigm=standard_ties"], Path("params.yaml"))
    for task, vector in vectors.items():
        write_task_vector(layout.task_vector(MODEL, "standard_ties", task), vector)
        write_task_vector(layout.task_vector(MODEL, RECIPE, task), -3.0 * vector)
    params = load_parameters(Path("params.yaml"))
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    embedded = []
    for source in (Edited(MODEL, "standard_ties", {"textures": 1.0}), Path("same.safetensors")):
        if isinstance(source, Path):
            write_task_vector(source, vectors["textures"])
        space = open_edited(params, source).space
        embedded += [embeddings for _, _, embeddings in space.embeddings(torch.ones(1, 1), [images])]
    torch.testing.assert_close(*embedded)
