"""Inputs that DVC takes for unchanged: damaged behind its back, or a valid file of another in their place."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.io.arrays import write_arrays
from pipeline.measurements import Measurement, to_frame, write_frame
from tauflow.dvc.guard import HEADER
from tauflow.dvc.verification import check_inputs, check_origin

ALPHA = Path("reports/mini-clip/standard/alpha.json")
CURVES = Path("data/measurements/mini-clip/standard/negation_curves")
MAKER = "alpha_search@mini-clip-standard"


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file and a directory that dvc.lock records, as DVC writes it."""
    monkeypatch.chdir(tmp_path)
    ALPHA.parent.mkdir(parents=True)
    ALPHA.write_text(json.dumps({"alpha": {"addition": 0.35, "negation": {"icons": 0.4}}}))
    CURVES.mkdir(parents=True)
    (CURVES / "icons.csv").write_text("alpha,target,control\n0.000000,0.917000,0.500000\n")
    listing = json.dumps([{"md5": md5((CURVES / "icons.csv").read_bytes()), "relpath": "icons.csv"}]).encode()
    cache = Path(".dvc/cache/files/md5") / md5(listing)[:2]
    cache.mkdir(parents=True)
    (cache / f"{md5(listing)[2:]}.dir").write_bytes(listing)
    Path("dvc.lock").write_text(
        f"{HEADER}  {MAKER}:\n    cmd: python -m stages.alpha_search\n    deps:\n    - path: {CURVES}\n"
        f"      hash: md5\n      md5: {'0' * 32}\n      size: 1\n    outs:\n"
        f"    - path: {ALPHA}\n      hash: md5\n      md5: {md5(ALPHA.read_bytes())}\n      size: 1\n"
        f"    - path: {CURVES}\n      hash: md5\n      md5: {md5(listing)}.dir\n      size: 1\n      nfiles: 1\n"
    )


@pytest.mark.parametrize("path", [ALPHA, CURVES / "icons.csv"], ids=["file", "file of a directory"])
def test_half_zeroed_with_its_time_and_size_kept(path: Path) -> None:
    check_inputs([ALPHA, CURVES.parent, Path("pipeline/io")], [MAKER])
    before, content = path.stat(), path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + b" " * (len(content) - len(content) // 2))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    message = rf"{path}: damaged or changed, its content is not what dvc\.lock records; restore it with `dvc checkout"
    with pytest.raises(UserError, match=message):
        check_inputs([ALPHA, CURVES.parent], [MAKER])
    check_inputs([ALPHA, CURVES.parent], ["alpha_search@mini-clip-ntk"])  # dvc.lock keeps other studies' entries


VECTOR = {"model": "mini-clip", "recipe": "standard", "tasks": ["icons"]}
OTHERS = {
    "data/task_vectors/mini-clip/standard/icons.safetensors": [
        ({**VECTOR, "tasks": ["signs"]}, "belongs to task 'signs', not to 'icons'"),
        ({**VECTOR, "tasks": ["icons", "signs"]}, "belongs to task 'icons.signs', not to 'icons'"),
        ({**VECTOR, "model": "ViT-B-32"}, "belongs to model 'ViT-B-32', not to 'mini-clip'"),
        ({**VECTOR, "recipe": "ntk"}, "belongs to recipe 'ntk', not to 'standard'"),
        ({"model": "mini-clip", "paradigm": "ntk", "tasks": ["icons"]}, "belongs to recipe 'ntk'"),
    ],
    "data/checkpoints/mini-clip/standard/icons.safetensors": [
        ({**VECTOR, "tasks": ["signs"]}, "belongs to task 'signs', not to 'icons'"),
    ],
    "data/heads/mini-clip/icons.safetensors": [
        ({"model": "mini-clip", "task": "signs"}, "belongs to task 'signs'"),
        ({"model": "ViT-B-32", "task": "icons"}, "belongs to model 'ViT-B-32'"),
    ],
    "data/tasks/test/icons.safetensors": [
        ({"task": "icons", "split": "train"}, "belongs to split 'train'"),
        ({"task": "signs", "split": "test"}, "belongs to task 'signs'"),
    ],
    "data/features/test/mini-clip/ntk/icons.safetensors": [
        ({"model": "mini-clip", "recipe": "ntk", "split": "val", "task": "icons"}, "belongs to split 'val'"),
        ({"model": "mini-clip", "recipe": "tau_jp", "split": "test", "task": "icons"}, "belongs to recipe 'tau_jp'"),
    ],
    "data/models/mini-clip/image_encoder.safetensors": [({"model": "ViT-B-32"}, "belongs to model 'ViT-B-32'")],
    "data/correctness/mini-clip/standard/single_task.safetensors": [
        ({"model": "mini-clip", "paradigm": "ntk"}, "belongs to paradigm 'ntk'"),
    ],
}


@pytest.mark.parametrize(
    ("place", "metadata", "message"),
    [(place, metadata, message) for place, cases in OTHERS.items() for metadata, message in cases],
)
def test_a_valid_file_of_another_is_refused(place: str, metadata: dict[str, object], message: str) -> None:
    write_arrays(Path(place), {"weight": np.zeros(3, np.float32)}, metadata)
    with pytest.raises(UserError, match=rf"{place}: {message}.*; restore it with `dvc checkout"):
        check_inputs([Path(place).parent], [])


def test_its_own_file_and_one_that_says_nothing_pass() -> None:
    own = Path("data/task_vectors/mini-clip/standard/icons.safetensors")
    write_arrays(own, {"weight": np.zeros(3, np.float32)}, VECTOR)
    check_origin(own)
    elsewhere = own.with_name("signs.safetensors")
    shutil.copy(own, elsewhere)
    with pytest.raises(UserError, match="belongs to task 'icons', not to 'signs'"):
        check_origin(elsewhere)
    elsewhere.write_bytes(b"no safetensors, which its reader says")
    check_origin(elsewhere)


def test_another_tasks_card() -> None:
    card = Path("data/tasks/card/icons.json")
    card.parent.mkdir(parents=True)
    card.write_text('{"name": "signs"}')
    with pytest.raises(UserError, match="belongs to task 'signs', not to 'icons'"):
        check_inputs([card], [])


MINE = Measurement("mini-clip", "standard", "", "", 0, "addition", "tuned", "mean", "", "", "", "accuracy", 0.5)
COSINE = replace(MINE, paradigm="", recipe="standard", benchmark="cosine")
TABLES = {
    "data/measurements/mini-clip/standard/addition.csv": (MINE, "paradigm", "ntk"),
    "data/measurements/mini-clip/comparison.csv": (MINE, "model", "ViT-B-32"),
    "data/analyses/mini-clip/standard/incremental/order_0/incremental.csv": (MINE, "model", "ViT-B-32"),
    "data/analyses/mini-clip/geometry/standard/geometry.csv": (COSINE, "recipe", "ntk"),
}


@pytest.mark.parametrize(("place", "case"), TABLES.items())
def test_measurements_of_another(place: str, case: tuple[Measurement, str, str]) -> None:
    """One row is enough; names that the place does not fix may differ."""
    row, key, other = case
    write_frame(Path(place), to_frame([row, replace(row, metric="normalized")]))
    check_inputs([Path(place)], [])
    write_frame(Path(place), to_frame([row, replace(row, **{key: other})]))
    with pytest.raises(UserError, match=rf"{place}: belongs to {key} '{other}', not to '.*'; restore it"):
        check_inputs([Path(place)], [])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\0", b"model,paradigm\nmini-clip\n", b'"' * 200_000])
def test_a_table_that_cannot_be_read_is_left_to_its_reader(content: bytes) -> None:
    path = Path("data/measurements/mini-clip/standard/addition.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    check_origin(path)


def test_a_directory_that_the_cache_does_not_list() -> None:
    """As in DVC's temporary copies of queued experiments, or with a cache elsewhere."""
    shutil.rmtree(".dvc")
    check_inputs([CURVES], [MAKER])
    (CURVES / "icons.csv").write_text("alpha,target,control\n0.000000,0.517000,0.500000\n")
    with pytest.raises(UserError, match=rf"{CURVES}: damaged or changed, its files are not what dvc\.lock records"):
        check_inputs([CURVES], [MAKER])
