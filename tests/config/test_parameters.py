"""params.yaml as it is read: broken files, and grids."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import Grid, LegalNames, Parameters, load_parameters
from pipeline.errors import UserError
from pipeline.models import model_names
from pipeline.tasks import task_names

Content = dict[str, Any]

ROOT = Path(__file__).parents[2]


def check(content: object, tmp_path: Path) -> Parameters:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return load_parameters(path, LegalNames(task_names(), model_names()))


def test_the_parameters_of_the_committed_study_are_legal(study_parameters: Path) -> None:
    parameters = load_parameters(study_parameters, LegalNames(task_names(), model_names()))
    assert parameters.suite == "mini"


@pytest.mark.parametrize("given", [None, 1e-3, "3e-4"])
def test_a_learning_rate_for_all_recipes_may_be_given(given: object, content: Content, tmp_path: Path) -> None:
    """PyYAML reads 3e-4, without a dot, as text."""
    content["finetune"]["lr"] = given
    assert check(content, tmp_path).finetune.lr == (None if given is None else float(str(given)))


def test_several_mistakes_are_counted(content: Content, tmp_path: Path) -> None:
    content["seed"] = -1
    content["device"] = "tpu"
    with pytest.raises(UserError, match=r"\(and 1 more\)$"):
        check(content, tmp_path)


def test_names_are_checked_only_against_known_ones(content: Content, tmp_path: Path) -> None:
    content["models"] = ["of-another-machine"]
    for key in ("evaluations", "merging_evaluations", "incremental_evaluations"):
        content["derived"][key] = {
            name.replace("mini-clip", "of-another-machine"): {**entry, "model": "of-another-machine"}
            for name, entry in content["derived"][key].items()
        }
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    assert load_parameters(path).models == ["of-another-machine"]


@pytest.mark.parametrize("text", ["tasks: [a, b", "a: b: c", "\t- x", "seed: 0\n  suite: x"])
def test_broken_yaml_gives_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="not valid YAML") as error:
        load_parameters(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "line " in str(error.value)


@pytest.mark.parametrize("content", [b"", b"- a\n", b"text", b"\xff\xfe\x00"])
def test_a_file_that_is_no_mapping_gives_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_parameters(path)
    assert str(error.value).startswith(f"{path}: ")
    assert ": :" not in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    with pytest.raises(UserError) as error:
        load_parameters(path)
    assert str(error.value) == f"{path}: no such file; run from the root of the repository"


bounds = st.floats(0, 10).map(lambda x: round(x, 3))


@given(bounds, bounds, st.integers(2, 60))
def test_grid_values(a: float, b: float, points: int) -> None:
    low, high = min(a, b), max(a, b)
    values = Grid(min=low, max=high, points=points).values()
    assert len(values) == points
    assert values == sorted(values)
    assert values[0] == low
    assert values[-1] == high
    assert all(low <= value <= high for value in values)
    if high - low > 1e-3:
        assert len(set(values)) == points
        gaps = [after - before for before, after in itertools.pairwise(values)]
        assert max(gaps) - min(gaps) < 1e-8


def test_default_grid_prints_short() -> None:
    assert Grid(min=0, max=1, points=21).values() == [i / 20 for i in range(21)]


def test_one_point() -> None:
    assert Grid(min=0.3, max=0.3, points=1).values() == [0.3]
