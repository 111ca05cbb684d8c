"""A selection and a regulariser from a file outside the package, and what may be wrong with such a file."""

import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.config import Extension, FinetuneSettings, Recipe, RegulariserSettings
from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.models.checkpoints import Space
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head
from pipeline.paradigms import make_trainable, selection
from pipeline.training import Plan, StepRecord, TrainingData, finetune, regulariser

CPU = torch.device("cpu")
EncoderFactory = Callable[[], ImageEncoder]
RecipeFactory = Callable[..., Recipe]

SOURCE = '''
"""Trains the projection and the class token, and pulls them back to θ₀."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.paradigms import selection
from pipeline.training import regulariser


@dataclass
class Kept:
    names: tuple[str, ...]


KEPT = Kept(("proj", "class_embedding"))


@selection("test_ends")
def is_an_end(name: str) -> bool:
    return name in KEPT.names


@regulariser("test_pull")
def pull(encoder, images, options):
    assert images is None
    return options["strength"] * sum(tau.square().sum() for tau in encoder.tau().values())
'''


@pytest.fixture(autouse=True)
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove registrations of a test after it."""
    for registry in (selection, regulariser):
        monkeypatch.setattr(registry, "_functions", dict(registry._functions))


def written(path: Path, source: str = SOURCE) -> Extension:
    path.write_text(source, encoding="utf-8")
    return Extension(path=str(path), sha256=sha256(source.encode()).hexdigest())


@pytest.fixture
def train(
    tmp_path: Path,
    make_encoder: EncoderFactory,
    make_recipe: RecipeFactory,
    make_head: Callable[..., Head],
    make_images: Callable[..., LabelledImages],
    finetune_settings: FinetuneSettings,
) -> Callable[[Space, float], tuple[list[StepRecord], list[float]]]:
    """Trains with the extension and a λ; gives the records and ‖τ‖² after every step."""

    def run(space: Space, weight: float) -> tuple[list[StepRecord], list[float]]:
        pull = RegulariserSettings(name="test_pull", weight=weight, options={"strength": 3.0}, others=None)
        model = make_trainable(
            make_encoder(), make_recipe(space, pull, "test_ends", written(tmp_path / "my_recipe.py"))
        )
        assert sorted(model.trained) == ["class_embedding", "proj"]
        squares = []

        def on_step(record: StepRecord) -> None:
            squares.append(sum(float(tau.detach().double().square().sum()) for tau in model.tau().values()))

        plan = Plan(finetune_settings, 1e-2, 6.0, 0, pull)
        _, records = finetune(model, TrainingData(make_images(16), make_head(2)), plan, CPU, on_step)
        return records, squares

    return run


@pytest.mark.parametrize("space", ["weight", "tangent"])
def test_an_extension_is_used_from_end_to_end(
    train: Callable[[Space, float], tuple[list[StepRecord], list[float]]], space: Space
) -> None:
    records, squares = train(space, 10.0)
    # The curve's penalty of a step is the one before that step.
    assert [record.penalty for record in records] == pytest.approx([0, *(3 * s for s in squares[:-1])], rel=1e-5)
    _, free = train(space, 0.0)
    assert squares[-1] < 0.5 * free[-1]


def test_the_hash_of_what_params_yaml_says_is_required(
    tmp_path: Path, make_encoder: EncoderFactory, make_recipe: RecipeFactory
) -> None:
    """Before anything of the file is run."""
    path = tmp_path / "mine.py"
    extension = written(path, "")
    path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(UserError) as error:
        make_trainable(make_encoder(), make_recipe(extension=extension))
    line = str(error.value)
    assert line.startswith(
        f"{path}: its SHA-256 is {sha256(path.read_bytes()).hexdigest()}, but params.yaml has {extension.sha256}; "
    )
    assert "params.yaml" in line
    assert "\n" not in line
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module", "ModuleNotFoundError while loading it: No module named 'no_such_module'"),
        ("def f(:", "SyntaxError while loading it: "),
        ("raise ValueError('two\\nlines')", "ValueError while loading it: two lines"),
    ],
)
def test_a_file_that_fails(
    source: str, message: str, tmp_path: Path, make_encoder: EncoderFactory, make_recipe: RecipeFactory
) -> None:
    path = tmp_path / "mine.py"
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: {message}')}") as error:
        make_trainable(make_encoder(), make_recipe(extension=written(path, source)))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path, make_encoder: EncoderFactory, make_recipe: RecipeFactory) -> None:
    extension = Extension(path=str(tmp_path / "gone.py"), sha256="0" * 64)
    with pytest.raises(UserError, match=f"^{re.escape(str(tmp_path / 'gone.py'))}: no such file; ") as error:
        make_trainable(make_encoder(), make_recipe(extension=extension))
    assert "\n" not in str(error.value)
    assert "dvc" not in str(error.value)  # which does not have it


def test_a_file_that_is_no_python(tmp_path: Path, make_encoder: EncoderFactory, make_recipe: RecipeFactory) -> None:
    extension = written(tmp_path / "mine.txt")
    with pytest.raises(UserError, match=r"mine\.txt: not a Python file; the name of an extension ends in \.py$"):
        make_trainable(make_encoder(), make_recipe(extension=extension))


def test_a_selection_that_the_extension_lacks(
    tmp_path: Path, make_encoder: EncoderFactory, make_recipe: RecipeFactory
) -> None:
    extension = written(tmp_path / "mine.py")
    with pytest.raises(UserError, match=r"^unknown selection 'test_end'; choose from .*test_ends"):
        make_trainable(make_encoder(), make_recipe(trainable="test_end", extension=extension))


def test_two_extensions_may_have_the_same_file_name(
    tmp_path: Path, make_encoder: EncoderFactory, make_recipe: RecipeFactory, base: dict[str, Tensor]
) -> None:
    """The second one is loaded too, and not taken for the first."""
    for folder, tensor in (("a", "proj"), ("b", "class_embedding")):
        (tmp_path / folder).mkdir()
        source = SOURCE.replace("test_ends", f"test_{folder}").replace('("proj", "class_embedding")', f'("{tensor}",)')
        extension = written(tmp_path / folder / "mine.py", source)
        model = make_trainable(make_encoder(), make_recipe(trainable=f"test_{folder}", extension=extension))
        assert list(model.trained) == [tensor]


def test_an_extension_cannot_take_the_name_of_a_built_in(
    tmp_path: Path, make_encoder: EncoderFactory, make_recipe: RecipeFactory
) -> None:
    extension = written(tmp_path / "mine.py", SOURCE.replace("test_ends", "attention"))
    with pytest.raises(
        UserError, match=r"mine\.py: selection 'attention' is already defined by Tauflow; choose another name$"
    ):
        make_trainable(make_encoder(), make_recipe(trainable="attention", extension=extension))
