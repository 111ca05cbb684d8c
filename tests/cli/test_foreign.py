"""``tauflow import`` and ``tauflow export`` on mini-clip itself."""

from pathlib import Path

import open_clip
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from torch import Tensor

from pipeline.editing import TaskVector, read_task_vector, write_task_vector
from pipeline.files import fingerprint, write_arrays
from pipeline.models import load_model_definition
from pipeline.models.checkpoints import Provenance
from pipeline.models.encoders import build_clip, split_towers
from tauflow import layout
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
    made = {}
    for task, imported_from in zip(TASKS, (None, "finetuned.pt, SHA-256 ab"), strict=True):
        origin = Provenance(MODEL, (task,), RECIPE, "weight", sha256, 0, "c" * 64, imported_from)
        tensors = {n: 0.1 * torch.randn(t.shape, generator=random) for n, t in base.items() if "ln_" in n}
        made[task] = TaskVector(tensors, origin)
        write_task_vector(layout.task_vector(MODEL, RECIPE, task), made[task])
    return made


@pytest.fixture
def weight_space(project: Path) -> None:
    """The paradigm `standard` besides those of the project's parameters, which edit in tangent space."""
    content = yaml.safe_load(Path("params.yaml").read_text())
    content["paradigms"].append("standard")
    for name in ("evaluations", "incremental_evaluations"):
        for key, entry in list(content[name].items()):
            if "posthoc" in key:
                edits = {"val": "task_vectors", "test": "task_vectors"}
                content[name][key.replace("posthoc", "standard")] = {**entry, "paradigm": "standard", **edits}
    content["paradigm"]["standard"] = {"recipe": RECIPE, "evaluated_in": "weight", "negation_grid": None}
    Path("params.yaml").write_text(yaml.safe_dump(content))


def saved(state: State, **changed: Tensor) -> Path:
    torch.save({**state, **changed}, "finetuned.pt")
    return Path("finetuned.pt")


def test_an_import_says_what_moved(state: State, run: Run) -> None:
    moved = {n: t + 0.01 for n, t in state.items() if n.startswith("visual.") and n.endswith("ln_1.weight")}
    result = run("import", str(saved(state, **moved)), "--task", "textures", "--name", "theirs")
    assert result.exit_code == 0, result.output
    path = Path("data/imported/mini-clip/theirs/textures.safetensors")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{path}: 4 tensors moved, ‖τ‖ 0.2263, of ‖θ₀‖ ")
    assert lines[1] == "moved: transformer.resblocks.*.ln_1.weight"
    assert lines[2].startswith("equal to θ₀: class_embedding, positional_embedding, proj, conv1.weight, ")
    assert lines[3].startswith("Next: `dvc add data/imported/mini-clip/theirs`, and a paradigm")
    assert result.stderr == (
        "note: the file does not carry the θ₀ that it was trained from, so nobody can check here that it is this one\n"
    )
    vector = read_task_vector(path)
    assert set(vector.tensors) == {name.removeprefix("visual.") for name in moved}
    assert (vector.provenance.paradigm, vector.provenance.tasks) == ("theirs", ("textures",))


def test_an_import_notes_what_is_odd(state: State, run: Run) -> None:
    random = {n: torch.randn_like(t).half() for n, t in state.items() if n.startswith("visual.") and n != "visual.proj"}
    torch.save(random, "a.pt")
    result = run("import", "a.pt", "--task", "textures", "--name", "theirs")
    assert result.exit_code == 0
    notes = result.stderr.splitlines()
    assert notes[0] == "note: not in the file, so they stay at θ₀: proj"
    assert notes[2].startswith("note: θ lies as far from θ₀ as unrelated weights do")
    assert notes[3].startswith("note: the file is of lower precision than float32")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "mnist", "--name", "a"], "--task: task 'mnist' is unknown; legal are optdigits, textures"),
        (["--task", "textures", "--name", "../a"], "--name: '../a' is no name for a recipe; use letters, digits and _"),
        (["--task", "textures", "--name", "ntk"], "--name: 'ntk' is a recipe that trains; choose another name"),
        (["--task", "textures", "--name", "a", "--model", "x"], "--model: 'x' is not in params.yaml"),
        (["--task", "textures", "--name", "there"], "there/textures.safetensors: exists already; delete it"),
        (["--task", "textures", "--name", "a"], "finetuned.pt: every tensor equals θ₀"),
    ],
)
def test_mistakes_of_an_import_are_one_line(state: State, run: Run, arguments: list[str], message: str) -> None:
    there = layout.imported(MODEL, "there", "textures")
    there.parent.mkdir(parents=True)
    there.touch()
    result = run("import", str(saved(state)), *arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert [path for path in Path("data/imported").rglob("*") if path.is_file()] == [there]


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
    found = open_clip.create_model("local-dir:made/edited").state_dict()
    build_clip(load_model_definition(MODEL)).load_state_dict(found)
    assert found.keys() == state.keys()
    moved = {f"visual.{name}" for name in vectors["optdigits"].tensors}
    assert all(found[name].equal(tensor) for name, tensor in state.items() if name not in moved)
    for name in moved:
        one, other = (vectors[task].tensors[name.removeprefix("visual.")] for task in TASKS)
        torch.testing.assert_close(found[name], state[name] + 0.5 * one - 0.25 * other)
    card = Path("made/edited/README.md").read_text()
    assert "| optdigits | 0.5 | standard | weight space | 0 | `" in card
    assert "| textures | -0.25 | standard | weight space | unknown | `" in card
    assert "| finetuned.pt, SHA-256 ab |" in card
    assert vectors["textures"].provenance.base_sha256 in card
    assert "- mini-clip: Apache-2.0. " in card
    assert "- The checkpoint of textures was imported: its own licence applies." in card
    assert sorted(path.name for path in Path("made").iterdir()) == ["edited"]


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
        (["--paradigm", "standard"], "export: say what, either --edit TASK=α,... or --sum"),
        (["--sum", "--paradigm", "standard"], "reports/mini-clip/standard/alpha.json: no such file"),
        (
            ["--edit", "textures=1"],
            "--paradigm posthoc: edits in tangent space, f(x; θ₀) + J(x)Στ, which is no encoder",
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


@pytest.mark.usefixtures("vectors", "weight_space")
def test_a_failed_export_leaves_nothing(state: State, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tauflow.exporting.write_text", full)
    before = sorted(Path().rglob("*"))
    result = run("export", "--edit", "textures=1", "--paradigm", "standard", "--out", "edited")
    assert isinstance(result.exception, OSError)
    assert sorted(Path().rglob("*")) == before
