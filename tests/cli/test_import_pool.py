"""``tauflow import-pool``: published checkpoints from a hub on loopback, in the layout of tanganke/clip-vit-*."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.numpy import load_file
from safetensors.torch import save
from torch import Tensor

from artifacts import layout
from pipeline.editing import read_task_vector
from pipeline.foreign import pools
from pipeline.foreign.huggingface import clip_model
from pipeline.foreign.huggingface_config import clip_config
from pipeline.foreign.pools import load_pool, pool_names
from pipeline.io.arrays import write_arrays
from pipeline.io.files import read_json
from pipeline.models import load_model_definition
from pipeline.models.encoders import architecture_config, split_towers
from pipeline.tasks import task_names
from tests.cli.conftest import MODEL, TASKS, Run
from tests.hub import Hub, private_hub, sha256

State = dict[str, Tensor]
REPOSITORIES = {task: f"someone/clip-vit_{task}" for task in TASKS}
POOL = {
    **{"name": "theirs", "description": "of a test", "model": MODEL, "notes": {"textures": "trained otherwise"}},
    **{"source": {"kind": "hub", "revision": "main", "repositories": REPOSITORIES}, "dtd": "clean"},
    **{"licence": "none", "citation": "none"},
}


@pytest.fixture
def towers(project: Path, root: Path) -> tuple[State, State]:
    """mini-clip's image and text encoder, which are where the pipeline has them."""
    arrays = load_file(root / load_model_definition(MODEL).weights.path)  # pyright: ignore[reportAttributeAccessIssue]
    image, text = split_towers(arrays)
    write_arrays(layout.image_encoder(MODEL), image, {})
    write_arrays(layout.text_encoder(MODEL), text, {})
    return ({n: torch.from_numpy(a) for n, a in image.items()}, {n: torch.from_numpy(a) for n, a in text.items()})


@pytest.fixture
def define(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The definitions of pools: one, of two tasks."""
    folder = tmp_path / "definitions"
    folder.mkdir()
    monkeypatch.setattr(pools, "_DEFINITIONS", folder)
    (folder / "theirs.yaml").write_text(yaml.safe_dump(POOL))
    return folder


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with private_hub(tmp_path, monkeypatch) as server:
        yield server


def vision_model(image: State, text: State, **changed: object) -> dict[str, bytes]:
    """The files of a CLIPVisionModel: no projection, no text tower, every name behind ``vision_model.``."""
    definition = load_model_definition(MODEL)
    tensors = {n: t for n, t in clip_model(image, text).items() if n.startswith("vision_model.")}
    config = clip_config(definition, architecture_config(definition))["vision_config"]
    config |= {"architectures": ["CLIPVisionModel"], "torch_dtype": "float32", **changed}
    return {
        ".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
        "README.md": b"# Model Card\n",
        "config.json": json.dumps(config, indent=2).encode(),
        "model.safetensors": save(tensors, {"format": "pt"}),
    }


def tuned(image: State, seed: int) -> State:
    """θ₀ moved a little, as fine-tuning moves it; the projection stays."""
    random = torch.Generator().manual_seed(seed)
    return {
        name: tensor if name == "proj" else tensor + 0.01 * tensor.std() * torch.randn(tensor.shape, generator=random)
        for name, tensor in image.items()
    }


def publish(hub: Hub, towers: tuple[State, State], first_seed: int = 0) -> dict[str, State]:
    image, text = towers
    states = {task: tuned(image, first_seed + number) for number, task in enumerate(TASKS)}
    for task, state in states.items():
        hub.publish(REPOSITORIES[task], vision_model(state, text))
    return states


def one_line(run: Run, *arguments: str) -> str:
    """The line of an import that fails."""
    result = run("import-pool", *arguments)
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    return line.removeprefix("error: ")


def vectors() -> list[Path]:
    return sorted(path for path in Path("data/imported").rglob("*.safetensors"))


def test_every_task_of_the_suite_arrives_with_its_record(
    towers: tuple[State, State], define: Path, hub: Hub, run: Run
) -> None:
    states = publish(hub, towers)
    result = run("import-pool", "theirs")
    assert result.exit_code == 0, result.output
    assert "note: textures: trained otherwise\n" in result.stderr
    assert result.stdout.splitlines()[-1].startswith("Next: commit data/records/pools/theirs/mini-clip, `dvc add ")
    for task, state in states.items():
        files = hub.repositories[REPOSITORIES[task]]
        record = read_json(layout.pool_record("theirs", MODEL, task))
        assert record["commit"] == hub.commit(REPOSITORIES[task])
        assert {name: entry["sha256"] for name, entry in record["files"].items()} == {
            name: sha256(files[name]) for name in ("config.json", "model.safetensors")
        }
        vector = read_task_vector(layout.imported(MODEL, "theirs", task))
        assert (vector.provenance.recipe, vector.provenance.tasks) == ("theirs", (task,))
        assert vector.tensors.keys() == state.keys() - {"proj"}
        for name, tensor in vector.tensors.items():
            torch.testing.assert_close(tensor, state[name] - towers[0][name], atol=1e-6, rtol=0)
    requests = len(hub.requests)
    again = run("import-pool", "theirs")
    assert "there already: optdigits, textures" in again.stdout
    assert len(hub.requests) == requests


def test_what_is_recorded_stays(towers: tuple[State, State], define: Path, hub: Hub, run: Run) -> None:
    """The branch moves on; a new machine, without the vectors and the cache, does not follow it."""
    publish(hub, towers)
    assert run("import-pool", "theirs").exit_code == 0
    before = {path: path.read_bytes() for path in vectors()}
    publish(hub, towers, first_seed=10)
    for path in before:
        path.unlink()
    assert run("import-pool", "theirs").exit_code == 0
    assert {path: path.read_bytes() for path in vectors()} == before
    # To follow it, delete the record; the vector that is there is then not of the recorded file.
    layout.pool_record("theirs", MODEL, "textures").unlink()
    layout.imported(MODEL, "theirs", "textures").unlink()
    assert run("import-pool", "theirs").exit_code == 0
    moved = layout.imported(MODEL, "theirs", "textures")
    assert moved.read_bytes() != before[moved]
    moved.write_bytes(before[moved])
    assert "was not made from the file that data/records/pools/" in one_line(run, "theirs")


def test_other_content_than_the_record_is_refused(
    towers: tuple[State, State], define: Path, hub: Hub, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub, towers)
    assert run("import-pool", "theirs").exit_code == 0
    layout.imported(MODEL, "theirs", "textures").unlink()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another-cache"))
    repository = REPOSITORIES["textures"]
    hub.tampered["config.json"] = hub.repositories[repository]["config.json"].replace(b"CLIP", b"PLIC")
    line = one_line(run, "theirs")
    assert line.startswith(f"{repository}/config.json at {hub.commit(repository)[:12]}: has SHA-256 ")
    assert [path.stem for path in vectors()] == ["optdigits"]


def test_a_pool_on_another_base_is_refused(towers: tuple[State, State], define: Path, hub: Hub, run: Run) -> None:
    image, text = towers
    random = torch.Generator().manual_seed(3)
    unrelated = {n: t.mean() + t.std() * torch.randn(t.shape, generator=random) for n, t in image.items()}
    hub.publish(REPOSITORIES["optdigits"], vision_model(unrelated, text))
    line = one_line(run, "theirs")
    assert line.startswith(f"{REPOSITORIES['optdigits']} at {hub.commit(REPOSITORIES['optdigits'])[:12]}: is ")
    assert line.endswith("so it was not fine-tuned from it; choose another --model")
    other = "gelu" if architecture_config(load_model_definition(MODEL)).get("quick_gelu") else "quick_gelu"
    hub.publish(REPOSITORIES["optdigits"], vision_model(tuned(image, 0), text, hidden_act=other))
    assert "model.safetensors: was trained with " in one_line(run, "theirs")
    assert vectors() == []
    assert not Path("data/records").exists()


def test_mistakes_are_one_line(towers: tuple[State, State], define: Path, hub: Hub, run: Run) -> None:
    publish(hub, towers)
    assert one_line(run, "unheard") == "unknown pool 'unheard'; choose from theirs"
    repository = REPOSITORIES["textures"]
    hub.publish(repository, {"config.json": b"{}", "pytorch_model.bin": b""})
    assert one_line(run, "theirs").endswith("has no model.safetensors; correct the pool's definition")
    (define / "theirs.yaml").write_text(yaml.safe_dump({**POOL, "model": "ViT-B-32"}))
    assert one_line(run, "theirs").startswith("pool theirs: is for model ViT-B-32, not mini-clip; choose")
    fewer = {**POOL, "source": {**POOL["source"], "repositories": {"optdigits": "a/b"}}}
    (define / "theirs.yaml").write_text(yaml.safe_dump(fewer))
    assert one_line(run, "theirs").startswith("pool theirs: has no checkpoint of task 'textures'; compose with tasks")


def test_pickled_checkpoints_in_a_folder(towers: tuple[State, State], define: Path, run: Run, tmp_path: Path) -> None:
    """As the archives of task_vectors and TALL-masks have them: a folder per data set below that of the model."""
    files = {task: f"{task.title()}Val/nonlinear_finetuned.pt" for task in TASKS}
    content = {**POOL, "model": None, "dtd": "leaky", "source": {"kind": "folder", "files": files}}
    (define / "theirs.yaml").write_text(yaml.safe_dump(content))
    assert one_line(run, "theirs") == "pool theirs: its files are in a folder; name it with --folder"
    folder = tmp_path / "checkpoints"
    assert one_line(run, "theirs", "--folder", str(folder)).endswith("no such file; correct --folder")
    for number, task in enumerate(TASKS):
        path = folder / files[task]
        path.parent.mkdir(parents=True)
        torch.save({f"model.visual.{n}": t for n, t in tuned(towers[0], number).items()}, path)
    assert run("import-pool", "theirs", "--folder", str(folder)).exit_code == 0
    assert [path.stem for path in vectors()] == TASKS
    layout.imported(MODEL, "theirs", "textures").unlink()
    torch.save({f"model.visual.{n}": t for n, t in tuned(towers[0], 9).items()}, folder / files["textures"])
    assert "not the recorded one; get the published file again" in one_line(run, "theirs", "--folder", str(folder))


def test_the_pools_that_come_with_the_project(root: Path) -> None:
    def suite(name: str) -> set[str]:
        return set(yaml.safe_load((root / "conf" / "suite" / f"{name}.yaml").read_text())["tasks"])

    tasks = {name: set(load_pool(name).tasks) for name in pool_names()}
    assert tasks == {
        **dict.fromkeys(("public_b16", "public_b32", "public_l14"), suite("public20")),
        **{"tall_masks": suite("paper20"), "task_vectors": suite("paper8")},
    }
    assert set.union(*tasks.values()) <= set(task_names())
    repositories = load_pool("public_b32").source.repositories  # pyright: ignore[reportAttributeAccessIssue]
    assert repositories["cars"] == "tanganke/clip-vit-base-patch32_stanford-cars"
    assert repositories["oxford_pets"] == "tanganke/clip-vit-base-patch32_oxford-iiit-pet"
    assert [load_pool(name).model for name in sorted(tasks)[:3]] == ["ViT-B-16", "ViT-B-32", "ViT-L-14"]
    assert [name for name in tasks if load_pool(name).dtd == "leaky"] == ["tall_masks"]
