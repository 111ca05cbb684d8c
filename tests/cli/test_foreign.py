"""``tauflow import`` and ``tauflow export`` on mini-clip itself."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import Tensor

from artifacts import layout
from pipeline.config import load_parameters
from pipeline.editing import TaskVector, read_task_vector, write_task_vector
from pipeline.io.arrays import fingerprint, write_arrays
from pipeline.models import load_model_definition
from pipeline.models.checkpoints import Provenance
from pipeline.models.encoders import build_clip, split_towers
from tauflow.dvc.composition import compose
from tauflow.edited.classify import open_edited
from tauflow.edited.edit import Edited
from tests.cli.conftest import MODEL, RECIPE, TASKS, Run

State = dict[str, Tensor]


@pytest.fixture
def state(project: Path, root: Path) -> State:
    """mini-clip, whose two towers are where the pipeline has them."""
    arrays = load_file(root / load_model_definition(MODEL).weights.path)  # pyright: ignore[reportAttributeAccessIssue]
    image, text = split_towers(arrays)
    write_arrays(layout.image_encoder(MODEL), image, {})
    write_arrays(layout.text_encoder(MODEL), text, {})
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.fixture
def vectors(state: State) -> dict[str, TaskVector]:
    """Task vectors that move the layer norms, one of them imported."""
    base = {n.removeprefix("visual."): t for n, t in state.items() if n.startswith("visual.")}
    sha256 = fingerprint({n: t.numpy() for n, t in base.items()})
    random = torch.Generator().manual_seed(0)
    task_vectors = {}
    for task, imported_from in zip(TASKS, (None, "finetuned.pt, SHA-256 ab"), strict=True):
        origin = Provenance(MODEL, (task,), RECIPE, "weight", sha256, 0, "c" * 64, imported_from)
        tensors = {n: 0.1 * torch.randn(t.shape, generator=random) for n, t in base.items() if "ln_" in n}
        task_vectors[task] = TaskVector(tensors, origin)
        write_task_vector(layout.task_vector(MODEL, RECIPE, task), task_vectors[task])
    return task_vectors


@pytest.fixture(scope="module")
def parameters_with_standard(root: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("parameters") / "params.yaml"
    compose(root, ["suite=tiny", "paradigm=main", "paradigms=[posthoc,ntk,standard]"], path)
    return path.read_text(encoding="utf-8")


@pytest.fixture
def weight_space(project: Path, parameters_with_standard: str) -> None:
    """The paradigm `standard` besides those of the project's parameters, which edit in tangent space."""
    Path("params.yaml").write_text(parameters_with_standard, encoding="utf-8")


def saved(state: State, **changed: Tensor) -> Path:
    torch.save({**state, **changed}, "finetuned.pt")
    return Path("finetuned.pt")


def test_an_import_lists_moved_tensors(state: State, run: Run) -> None:
    moved = {n: t + 0.01 for n, t in state.items() if n.startswith("visual.") and n.endswith("ln_1.weight")}
    result = run("import", str(saved(state, **moved)), "--task", "textures", "--name", "theirs")
    assert result.exit_code == 0, result.output
    path = Path("data/imported/mini-clip/theirs/textures.safetensors")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{path}: 4 tensors moved, ‖τ‖ 0.2263, ")
    assert lines[0].endswith("% of ‖θ₀‖, trained in weight space")
    assert lines[1] == "moved: transformer.resblocks.*.ln_1.weight"
    assert lines[2].startswith("equal to θ₀: class_embedding, positional_embedding, proj, conv1.weight, ")
    assert lines[3].startswith("Next: `dvc add data/imported/mini-clip/theirs`, and a paradigm")
    assert result.stderr == (
        "note: the file does not hold the θ₀ that it was trained from, so it cannot be checked that it is this one\n"
    )
    vector = read_task_vector(path)
    assert set(vector.tensors) == {name.removeprefix("visual.") for name in moved}
    assert (vector.provenance.recipe, vector.provenance.tasks) == ("theirs", ("textures",))


def test_an_import_notes_oddities(state: State, run: Run) -> None:
    random = {n: torch.randn_like(t).half() for n, t in state.items() if n.startswith("visual.") and n != "visual.proj"}
    torch.save(random, "a.pt")
    result = run("import", "a.pt", "--task", "textures", "--name", "theirs")
    assert result.exit_code == 0
    notes = result.stderr.splitlines()
    assert notes[0] == "note: not in the file, so they stay at θ₀: proj"
    assert notes[2].startswith("note: θ is as far from θ₀ as unrelated weights are")
    assert notes[3].startswith("note: the file is of lower precision than float32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "mnist", "--name", "a"], "--task: unknown task 'mnist'; choose from optdigits, textures"),
        (["--task", "textures", "--name", "../a"], "--name: '../a' is not a name; use 1 to 64"),
        (["--task", "textures", "--name", "ntk"], "--name: 'ntk' is a recipe that trains; choose another name"),
        (["--task", "textures", "--name", "a", "--model", "x"], "--model: 'x' is not in params.yaml"),
        (["--task", "textures", "--name", "there"], "there/textures.safetensors: exists already; delete it"),
        (["--task", "textures", "--name", "a"], "finetuned.pt: no tensor differs from θ₀"),
    ],
)
def test_mistakes_of_an_import_are_one_line(state: State, run: Run, arguments: list[str], message: str) -> None:
    existing = layout.imported(MODEL, "there", "textures")
    existing.parent.mkdir(parents=True)
    existing.touch()
    result = run("import", str(saved(state)), *arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert [path for path in Path("data/imported").rglob("*") if path.is_file()] == [existing]


def test_of_two_encoders_one_is_chosen(state: State, run: Run) -> None:
    moved = {n: t + 0.01 for n, t in state.items() if n.endswith("ln_1.weight")}
    both = {
        f"{key}.{n}": t for key, part in (("student", {**state, **moved}), ("teacher", state)) for n, t in part.items()
    }
    torch.save(both, "a.pt")
    arguments = ("import", "a.pt", "--task", "textures", "--name", "theirs")
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr == (
        "error: a.pt: holds 2 image encoders, named 'student.visual.', 'teacher.visual.'; choose with --prefix\n"
    )
    assert not Path("data/imported").exists()
    result = run(*arguments, "--prefix", "student.")
    assert result.exit_code == 0, result.output
    assert "4 tensors moved, ‖τ‖ 0.2263" in result.stdout


def test_of_two_files_in_a_folder_the_one_that_is_read_is_noted(state: State, run: Run) -> None:
    Path("theirs").mkdir()
    moved = {n: t + 0.01 if n.endswith("ln_1.weight") else t for n, t in state.items()}
    save_file(moved, "theirs/model.safetensors")
    torch.save(state, "theirs/pytorch_model.bin")
    result = run("import", "theirs", "--task", "textures", "--name", "theirs")
    assert result.exit_code == 0, result.output
    assert "note: model.safetensors was read, and not 'pytorch_model.bin' beside it" in result.stderr


def test_a_difference_is_noted(state: State, run: Run) -> None:
    torch.save({n: torch.full_like(t, 1e-3) for n, t in state.items() if n.startswith("visual.")}, "a.pt")
    result = run("import", "a.pt", "--task", "textures", "--name", "theirs")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith(
        "note: the tensors are small beside θ₀, so the file is taken to hold τ = θ − θ₀ itself"
    )


def test_an_import_without_the_pretrained_model(project: Path, run: Run) -> None:
    torch.save({"visual.proj": torch.ones(1)}, "a.pt")
    result = run("import", "a.pt", "--task", "textures", "--name", "a")
    assert result.exit_code == 1
    assert "data/models/mini-clip/image_encoder.safetensors: no such file; restore it with" in result.stderr


@pytest.mark.usefixtures("weight_space")
def test_an_export_holds_the_edited_encoder_and_says_how_it_was_made(
    state: State, vectors: dict[str, TaskVector], run: Run
) -> None:
    """open_clip's own loader gives θ₀ + Σ α τ, and the text tower as it was."""
    result = run("export", "--edit", "optdigits=0.5,textures=-0.25", "--paradigm", "standard", "-o", "made/edited")
    assert result.exit_code == 0, result.output
    assert result.stdout == "made/edited: optdigits=0.5,textures=-0.25 of mini-clip, standard, for open_clip\n"
    exported = open_clip.create_model("local-dir:made/edited").state_dict()
    build_clip(load_model_definition(MODEL)).load_state_dict(exported)
    assert exported.keys() == state.keys()
    moved = {f"visual.{name}" for name in vectors["optdigits"].tensors}
    assert all(exported[name].equal(tensor) for name, tensor in state.items() if name not in moved)
    for name in moved:
        one, other = (vectors[task].tensors[name.removeprefix("visual.")] for task in TASKS)
        torch.testing.assert_close(exported[name], state[name] + 0.5 * one - 0.25 * other)
    card = Path("made/edited/README.md").read_text()
    assert "| optdigits | 0.5 | standard | weight space | 0 | `" in card
    assert "| textures | -0.25 | standard | weight space | unknown | `" in card
    assert "| finetuned.pt, SHA-256 ab |" in card
    assert vectors["textures"].provenance.base_sha256 in card
    assert "- mini-clip: Apache-2.0. " in card
    assert "- The checkpoint of textures was imported: its own licence applies." in card
    assert sorted(path.name for path in Path("made").iterdir()) == ["edited"]


@pytest.mark.usefixtures("vectors")
def test_the_lines_on_the_card_run_an_edit_in_tangent_space(state: State, run: Run) -> None:
    """open_clip's encoder and they embed as the study does."""
    edit = {"optdigits": 0.5, "textures": -2.0}
    result = run("export", "--edit", "optdigits=0.5,textures=-2", "--paradigm", "posthoc", "-o", "edited")
    assert result.exit_code == 0, result.output
    card = Path("edited/README.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", card, re.M | re.S)
    names: dict[str, Any] = {}
    fast = torch.backends.mha.get_fastpath_enabled()
    try:
        exec(code.replace("this/folder", "edited"), names)
        images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
        definition = load_model_definition(MODEL)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (definition.mean, definition.std))
        theirs = names["encode_image"]((images / 255 - mean) / std)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    space = open_edited(load_parameters(Path("params.yaml")), Edited(MODEL, "posthoc", edit)).space
    zero, ours = (next(iter(space.embeddings(torch.full((1, 1), one), [images])))[2] for one in (0.0, 1.0))
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    assert (ours - zero).norm() > 0.01 * zero.norm()
    assert "Loaded without the lines below, the model is the pre-trained one." in card


@pytest.mark.usefixtures("vectors", "weight_space")
def test_an_export_for_hugging_face(state: State, run: Run) -> None:
    arguments = ("export", "--edit", "textures=1", "--paradigm", "standard", "-f", "huggingface", "--out", "edited")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert {path.name for path in Path("edited").iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "preprocessor_config.json"),
        *("tokenizer_config.json", "vocab.json", "merges.txt"),
    }
    assert 'CLIPModel.from_pretrained("this/folder")' in Path("edited/README.md").read_text()
    again = run(*arguments)
    assert again.exit_code == 1
    assert again.stderr == "error: --out edited: exists already; choose another folder\n"


@pytest.mark.usefixtures("vectors", "weight_space")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--paradigm", "standard"], "export: give either --edit TASK=α,... or --sum"),
        (["--sum", "--paradigm", "standard"], "reports/mini-clip/standard/alpha.json: no such file"),
        (
            ["--edit", "textures=1", "--format", "huggingface"],
            "--paradigm posthoc: edits in tangent space, f(x; θ₀) + J(x)Στ, which weights alone cannot express",
        ),
        (["--edit", "textures=1", "--paradigm", "standard", "--out", "params.yaml/x"], "--out params.yaml/x: "),
    ],
)
def test_mistakes_of_an_export_are_one_line(state: State, run: Run, arguments: list[str], message: str) -> None:
    before = sorted(Path().rglob("*"))
    result = run("export", "--out", "edited", *arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("method", ["sum", "ties"])
def test_what_combine_wrote_is_exported(method: str, state: State, vectors: dict[str, TaskVector], run: Run) -> None:
    edit = ("--edit", "optdigits=0.5,textures=-0.25", "--method", method, "--out", "a.safetensors")
    assert run("vectors", "combine", MODEL, RECIPE, *edit).exit_code == 0
    Path("params.yaml").unlink()
    result = run("export", "--vector", "a.safetensors", "--out", "edited")
    assert result.exit_code == 0, result.output
    loaded = open_clip.create_model("local-dir:edited").state_dict()
    moved = {f"visual.{name}": tensor for name, tensor in read_task_vector(Path("a.safetensors")).tensors.items()}
    assert len(moved) == len(vectors["optdigits"].tensors)
    assert all(loaded[name].equal(tensor + moved.get(name, torch.zeros(()))) for name, tensor in state.items())
    recipe = RECIPE if method == "sum" else f"{RECIPE}_ties"
    assert f"| optdigits + textures | 1.0 | {recipe} | weight space | 0 | `" in Path("edited/README.md").read_text()


@pytest.mark.parametrize(
    ("changed", "arguments", "message"),
    [
        ({}, ["--edit", "textures=1"], "export: --vector already names the edit; leave out --edit"),
        ({"base_sha256": "f" * 64}, [], "--vector a.safetensors: belongs to θ₀ ffffffffffff, not to "),
        ({"space": "tangent"}, [], "--vector a.safetensors: was trained in tangent space"),
        ({"model": "unknown"}, [], "unknown model 'unknown'; choose from"),
        (None, [], "a.safetensors: no such file"),
    ],
)
def test_mistakes_of_exporting_a_vector_are_one_line(
    changed: dict[str, str] | None, arguments: list[str], message: str, vectors: dict[str, TaskVector], run: Run
) -> None:
    if changed is not None:
        vector = vectors["textures"]
        write_task_vector(Path("a.safetensors"), replace(vector, provenance=replace(vector.provenance, **changed)))
    before = sorted(Path().rglob("*"))
    result = run("export", "--vector", "a.safetensors", "--out", "edited", *arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert message in line
    assert sorted(Path().rglob("*")) == before


@pytest.mark.usefixtures("vectors", "weight_space")
@pytest.mark.parametrize("coefficient", ["1e39", "-1e39", "1e300"])
@pytest.mark.parametrize("command", ["open_clip", "huggingface", "combine"])
def test_an_edit_that_overflows_writes_nothing(command: str, coefficient: str, state: State, run: Run) -> None:
    before = sorted(Path().rglob("*"))
    edit = ("--edit", f"textures={coefficient},optdigits={coefficient}", "--out", "edited")
    if command == "combine":
        result = run("vectors", "combine", MODEL, RECIPE, *edit)
    else:
        result = run("export", "--paradigm", "standard", "--format", command, *edit)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert "holds NaN or infinity; " in line
    assert sorted(Path().rglob("*")) == before


@pytest.mark.usefixtures("vectors", "weight_space")
@pytest.mark.parametrize(
    ("writer", "fault"),
    [
        ("write_text", OSError(28, "No space left on device")),
        ("write_clip", SafetensorError("I/O error:\nNo space left")),
    ],
)
def test_a_failed_export_leaves_nothing(
    writer: str, fault: Exception, state: State, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise fault

    monkeypatch.setattr(f"tauflow.edited.export.{writer}", full)
    before = sorted(Path().rglob("*"))
    result = run("export", "--edit", "textures=1", "--paradigm", "standard", "--out", "edited")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: --out edited: cannot be written: ")
    assert "No space left" in line
    assert sorted(Path().rglob("*")) == before
