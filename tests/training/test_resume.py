"""A fine-tuning that is stopped at any step and started again ends with the same bytes as an uninterrupted one."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.config import Extension, FinetuneSettings, PaddedCrop, Recipe
from pipeline.errors import UserError
from pipeline.io.arrays import read_arrays
from pipeline.training import Plan, ResumeFile, StepRecord, resume_key

Result = tuple[dict[str, Tensor], list[StepRecord]]
Train = Callable[..., Result]
Recipes = Mapping[str, Recipe]

KINDS = ["weight", "tangent", "cyclic", "strict in weight space"]
STEPS = 8
# Several epochs: orders, AdamW's state and the schedule all matter.
OPTIONS = {"epochs": 4.0, "weight_decay": 0.1, "warmup": 0.5}


class Stopped(Exception):
    """The process was killed here."""


def bits(result: Result) -> tuple[dict[str, bytes], list[StepRecord]]:
    """θ byte by byte, in its order, and the curve with all digits."""
    return {name: tensor.numpy().tobytes() for name, tensor in result[0].items()}, result[1]


@pytest.fixture(scope="module")
def uninterrupted(train: Train, recipes: Recipes) -> Mapping[str, Result]:
    return {kind: train(recipes[kind], **OPTIONS) for kind in KINDS}


def run(train: Train, recipe: Recipe, resume: ResumeFile | None, stop: int | None = None) -> tuple[Result | None, int]:
    """The result, or ``None`` if it was stopped after the update of step ``stop``; and how many steps it made."""
    steps_run = 0

    def on_step(record: StepRecord) -> None:
        nonlocal steps_run
        steps_run += 1
        if record.step == stop:
            raise Stopped

    try:
        return train(recipe, resume=resume, on_step=on_step, **OPTIONS), steps_run
    except Stopped:
        return None, steps_run


@pytest.mark.parametrize("kind", KINDS)
@given(interval=st.integers(1, STEPS + 1), stops=st.lists(st.integers(0, STEPS - 1), max_size=3))
@example(interval=1, stops=[STEPS - 1])
@example(interval=3, stops=[4, 4, 7])
@settings(max_examples=8)
def test_a_stopped_run_ends_with_the_same_bytes(
    train: Train,
    recipes: Recipes,
    uninterrupted: Mapping[str, Result],
    kind: str,
    interval: int,
    stops: list[int],
) -> None:
    """However often it is stopped, and wherever; it repeats only the steps since it last saved."""
    with tempfile.TemporaryDirectory() as directory:
        resume = ResumeFile(Path(directory) / "resume.safetensors", "key", interval)
        saved = 0
        for stop in stops:
            result, steps_run = run(train, recipes[kind], resume, stop)
            if stop < saved:  # that step was behind it
                assert result is not None
                saved = STEPS // interval * interval
                continue
            assert result is None
            assert steps_run == stop + 1 - saved
            saved = max(saved, stop // interval * interval)
        result, steps_run = run(train, recipes[kind], resume)
        assert steps_run == STEPS - saved
        assert result is not None
        assert bits(result) == bits(uninterrupted[kind])


def test_an_ended_run_has_nothing_left_to_do(train: Train, recipes: Recipes, tmp_path: Path) -> None:
    """As one that was killed after its last step and before its outputs were written."""
    resume = ResumeFile(tmp_path / "resume.safetensors", "key", STEPS)
    first, steps_run = run(train, recipes["tangent"], resume)
    again, made_again = run(train, recipes["tangent"], resume)
    assert (steps_run, made_again) == (STEPS, 0)
    assert first is not None
    assert again is not None
    assert bits(first) == bits(again)


def test_saving_changes_nothing(
    train: Train, recipes: Recipes, uninterrupted: Mapping[str, Result], tmp_path: Path
) -> None:
    for interval in (1, 3):
        path = tmp_path / "below" / f"{interval}.safetensors"  # a directory that is made when it is needed
        result, _ = run(train, recipes["weight"], ResumeFile(path, "key", interval))
        assert result is not None
        assert bits(result) == bits(uninterrupted["weight"])
        arrays, metadata = read_arrays(path)
        assert len(arrays["curve"]) == STEPS // interval * interval
        assert metadata == {"key": "key"}
        assert [p.name for p in path.parent.iterdir() if p.suffix != ".safetensors"] == []


def test_nothing_is_saved_before_the_interval(train: Train, recipes: Recipes, tmp_path: Path) -> None:
    resume = ResumeFile(tmp_path / "resume.safetensors", "key", STEPS + 1)
    run(train, recipes["weight"], resume)
    assert not resume.path.exists()
    resume.delete()  # which a run that ended does in any case


def test_the_state_of_another_run_is_not_used(
    train: Train, recipes: Recipes, uninterrupted: Mapping[str, Result], tmp_path: Path
) -> None:
    """It has another key; and it is replaced."""
    path = tmp_path / "resume.safetensors"
    run(train, recipes["weight"], ResumeFile(path, "old", 2), stop=5)
    result, steps_run = run(train, recipes["weight"], ResumeFile(path, "new", 2))
    assert steps_run == STEPS
    assert result is not None
    assert bits(result) == bits(uninterrupted["weight"])
    assert read_arrays(path)[1] == {"key": "new"}


def test_a_deleted_state_is_forgotten(train: Train, recipes: Recipes, tmp_path: Path) -> None:
    resume = ResumeFile(tmp_path / "resume.safetensors", "key", 2)
    run(train, recipes["weight"], resume, stop=5)
    resume.delete()
    assert run(train, recipes["weight"], resume)[1] == STEPS


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """One bit of the last array."""
    return content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]


@pytest.mark.parametrize("damage", [truncated, flipped, lambda content: b""])
def test_a_damaged_state_is_one_line(
    damage: Callable[[bytes], bytes], train: Train, recipes: Recipes, tmp_path: Path
) -> None:
    resume = ResumeFile(tmp_path / "resume.safetensors", "key", 2)
    run(train, recipes["weight"], resume, stop=5)
    resume.path.write_bytes(damage(resume.path.read_bytes()))
    with pytest.raises(UserError) as error:
        run(train, recipes["weight"], resume)
    assert str(error.value) == f"{resume.path}: damaged; delete it to start the fine-tuning again"
    resume.delete()
    assert run(train, recipes["weight"], resume)[1] == STEPS


@pytest.fixture
def inputs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "theta", tmp_path / "head", tmp_path / "train"]
    for path in paths:
        path.write_bytes(path.name.encode() * 9)
    return paths


@pytest.fixture
def parameters(finetune_settings: FinetuneSettings, recipes: Recipes) -> dict[str, Any]:
    """The description that the stages hash."""
    plan = Plan(finetune_settings, 1e-3, 2.0, 0, recipes["cyclic"].regulariser)
    return {"plan": asdict(plan), "recipe": recipes["cyclic"], "device": "cpu", "code": "c" * 64}


def test_the_key_of_the_same_run_is_the_same(parameters: dict[str, Any], inputs: list[Path]) -> None:
    reordered = {name: parameters[name] for name in reversed(parameters)}
    assert resume_key(parameters, inputs) == resume_key(reordered, inputs[::-1])


SETTINGS: dict[str, object] = {
    **{"lr": 1e-4, "batch_size": 9, "weight_decay": 0.2, "steps": 9, "warmup": 0.2, "warmup_steps": 3},
    **{"max_grad_norm": 2.0, "augmentation": PaddedCrop(kind="padded_crop", padding=2), "precision": "bf16"},
    **{"accumulation": 2, "processes": 2, "checkpointing": True, "compile": True},
}


def test_the_key_changes_with_every_parameter(
    parameters: dict[str, Any], recipes: Recipes, inputs: list[Path], finetune_settings: FinetuneSettings
) -> None:
    """And no two of the changes give the same."""
    assert SETTINGS.keys() == FinetuneSettings.model_fields.keys()
    plans: list[dict[str, Any]] = [{"lr": 1e-4}, {"epochs": 2.5}, {"steps": 7}, {"seed": 1}, {"regulariser": None}]
    plans += [{"regulariser": recipes["strict"].regulariser}]
    plans += [{"settings": finetune_settings.model_copy(update={name: value})} for name, value in SETTINGS.items()]
    changes: list[dict[str, Any]] = [{"plan": {**parameters["plan"], **change}} for change in plans]
    changes += [{"device": "cuda"}, {"code": "d" * 64}, {"recipe": recipes["strict"]}, {"recipe": recipes["tangent"]}]
    for name in ("a", "b"):
        extension = Extension(path="mine.py", sha256=name * 64)
        changes.append({"recipe": recipes["cyclic"].model_copy(update={"extension": extension})})
    keys = {resume_key({**parameters, **change}, inputs) for change in [{}, *changes]}
    assert len(keys) == 1 + len(changes)


def test_the_key_changes_with_every_input(parameters: dict[str, Any], inputs: list[Path], tmp_path: Path) -> None:
    """Its bytes, its place, and which they are."""
    keys = [resume_key(parameters, inputs), resume_key(parameters, inputs[:2])]
    for path in inputs:
        before = path.read_bytes()
        path.write_bytes(before[:-1] + b"!")
        keys.append(resume_key(parameters, inputs))
        path.write_bytes(before)
    assert resume_key(parameters, inputs) == keys[0]
    inputs[2].rename(tmp_path / "other")
    keys.append(resume_key(parameters, [*inputs[:2], tmp_path / "other"]))
    assert len(set(keys)) == len(keys)
    with pytest.raises(UserError, match=r"train: no such file"):
        resume_key(parameters, inputs)
