"""``tauflow merge`` on checkpoints of mini-clip in files of other projects, outside any study."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from artifacts import layout
from pipeline.editing import TaskVector, write_task_vector
from pipeline.images import LabelledImages, write_split
from pipeline.io.arrays import fingerprint, write_arrays
from pipeline.io.files import file_sha256
from pipeline.models import load_model_definition
from pipeline.models.checkpoints import Provenance
from pipeline.models.encoders import build_clip, split_towers
from pipeline.models.heads import Head, write_head
from tests.cli.conftest import MODEL, TASKS, Run

State = dict[str, Tensor]
MATRIX, BIAS = "visual.transformer.resblocks.0.mlp.c_fc.weight", "visual.ln_post.bias"
FILES = {"optdigits": "a.pt", "textures": "b.safetensors"}
CHECKPOINTS = [word for task, file in FILES.items() for word in ("--checkpoint", f"{task}={file}")]


@pytest.fixture
def state(root: Path) -> State:
    """mini-clip, as committed."""
    arrays = load_file(root / load_model_definition(MODEL).weights.path)  # pyright: ignore[reportAttributeAccessIssue]
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@pytest.fixture
def deltas(state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[State]:
    """An empty directory, which is also the current one, with a checkpoint per task; returns θ − θ₀ of each."""
    monkeypatch.chdir(tmp_path)
    random = torch.Generator().manual_seed(0)
    differences = []
    for file in FILES.values():
        tuned = {name: state[name] + 0.01 * torch.randn(state[name].shape, generator=random) for name in (MATRIX, BIAS)}
        write({**state, **tuned}, file)
        differences.append({name: tensor.double() - state[name].double() for name, tensor in tuned.items()})
    return differences


def write(state: Mapping[str, Tensor], file: str) -> None:
    if file.endswith(".safetensors"):
        save_file({name: tensor.numpy() for name, tensor in state.items()}, file)
    else:
        torch.save({"state_dict": dict(state)}, file)


def tsv_m(deltas: Sequence[Tensor]) -> Tensor:
    """The paper's construction with SVDs: leading directions of each task side by side, made orthogonal."""
    parts = [torch.linalg.svd(delta, full_matrices=False) for delta in deltas]
    rank = min(deltas[0].shape) // len(deltas)
    u, s = torch.cat([p[0][:, :rank] for p in parts], 1), torch.cat([p[1][:rank] for p in parts])
    v = torch.cat([p[2][:rank] for p in parts]).T

    def polar(x: Tensor) -> Tensor:
        left, _, right = torch.linalg.svd(x, full_matrices=False)
        return left @ right

    return polar(u) @ s.diag() @ polar(v).T


@pytest.mark.parametrize("method", ["sum", "tsv_m"])
def test_the_folder_is_the_merged_model(method: str, deltas: list[State], state: State, run: Run) -> None:
    """open_clip's loader gives θ₀ + α Σ τ, computed here in float64, and everything else as it was."""
    result = run("merge", "--method", method, *CHECKPOINTS, "--base", MODEL, "--alpha", "0.5", "--out", "made/merged")
    assert result.exit_code == 0, result.output
    assert f"made/merged: {method} of optdigits, textures on mini-clip, α = 0.5, for open_clip" in result.stdout
    loaded = open_clip.create_model("local-dir:made/merged").state_dict()
    build_clip(load_model_definition(MODEL)).load_state_dict(loaded)
    assert all(loaded[name].equal(tensor) for name, tensor in state.items() if name not in (MATRIX, BIAS))
    for name in (MATRIX, BIAS):
        both = [delta[name] for delta in deltas]
        total = both[0] + both[1] if method == "sum" else tsv_m(both) if name == MATRIX else (both[0] + both[1]) / 2
        torch.testing.assert_close(loaded[name].double(), state[name].double() + 0.5 * total, rtol=1e-6, atol=1e-6)
    assert sorted(path.name for path in Path("made").iterdir()) == ["merged"]
    names = {"README.md", "open_clip_config.json", "open_clip_model.safetensors"}
    assert {path.name for path in Path("made/merged").iterdir()} == names


def test_the_card_says_how_it_was_made(deltas: list[State], run: Run) -> None:
    how = ("--method", "ties", "--option", "keep=0.3", "--modifier", "svc:floor=0.2", "--modifier", "lines")
    result = run("merge", *how, *CHECKPOINTS, "--base", MODEL, "-o", "merged", "-f", "huggingface")
    assert result.exit_code == 0, result.output
    card = Path("merged/README.md").read_text("utf-8")
    assert "merged with ties: optdigits, textures" in card
    assert "α = 1.0" in card
    assert "| ties (merging method) | keep: 0.3 | own task |" in card
    assert "| svc (merging modifier) | floor: 0.2, " in card
    assert "| lines (merging modifier) | slope: 0.5 | own task |" in card
    for task, file in FILES.items():
        assert f"| {task} | {file} | `{file_sha256(Path(file))}` | weight space |" in card
    assert json.loads(Path("merged/config.json").read_text())["model_type"] == "clip"


def test_the_files_of_the_stage_are_the_same_base(deltas: list[State], state: State, run: Run) -> None:
    fetched = run("merge", *CHECKPOINTS, "--base", MODEL, "--out", "one")
    image, text = split_towers({name: tensor.numpy() for name, tensor in state.items()})
    write_arrays(layout.image_encoder(MODEL), image, {})
    write_arrays(layout.text_encoder(MODEL), text, {})
    result = run("merge", *CHECKPOINTS, "--base", MODEL, "--out", "other")
    assert (fetched.exit_code, result.exit_code) == (0, 0)
    for path in Path("one").iterdir():
        assert path.read_bytes() == (Path("other") / path.name).read_bytes()


@pytest.fixture
def prepared(deltas: list[State], parameters: str) -> None:
    """Parameters, test images and heads of the tasks."""
    Path("params.yaml").write_text(parameters, encoding="utf-8")
    random = np.random.default_rng(0)
    features = build_clip(load_model_definition(MODEL)).get_parameter("visual.proj").shape[1]
    for task in TASKS:
        weight = torch.from_numpy(random.standard_normal((4, features), np.float32))
        write_head(layout.head(MODEL, task), Head(weight, [f"class {i}" for i in range(4)]), {})
        images = random.integers(0, 256, (24, 3, 32, 32), dtype=np.uint8)
        for split in ("val", "test"):
            write_split(layout.split(task, split), LabelledImages(images, random.integers(0, 4, 24)), {})


def accuracy(clip: torch.nn.Module, task: str) -> float:
    """Accuracy on the stand-in images, in percent, with open_clip's own encoder."""
    definition = load_model_definition(MODEL)
    split, head = load_file(layout.split(task, "test")), load_file(layout.head(MODEL, task))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (definition.mean, definition.std))
    with torch.no_grad():
        embedded = clip.eval().get_submodule("visual")((torch.from_numpy(split["images"]) / 255 - mean) / std)
        logits = torch.nn.functional.normalize(embedded, dim=1) @ torch.from_numpy(head["weight"]).T
    return 100 * float((logits.argmax(1) == torch.from_numpy(split["labels"])).float().mean())


@pytest.mark.usefixtures("prepared")
def test_an_evaluation(state: State, deltas: list[State], run: Run) -> None:
    result = run("merge", *CHECKPOINTS, "--base", MODEL, "--out", "merged", "--evaluate", "optdigits,textures")
    assert result.exit_code == 0, result.output
    merged = open_clip.create_model("local-dir:merged")
    single = build_clip(load_model_definition(MODEL))
    rows = {row.split()[0]: row for row in result.stdout.splitlines() if row.strip()}
    for task, delta in zip(TASKS, deltas, strict=True):
        single.load_state_dict(state)
        zero_shot = accuracy(single, task)
        single.load_state_dict({**state, **{name: (state[name] + d).float() for name, d in delta.items()}})
        values = [zero_shot, accuracy(merged, task), accuracy(single, task)]
        values.append(100 * values[1] / values[2])
        shown = [
            float(word) for word in rows[task].replace(",", " ").split()[2:] if word[0] not in "[" and "]" not in word
        ]
        assert shown == pytest.approx(values, abs=0.051)
    assert "single-task" in result.stdout
    assert "mean over tasks" in result.stdout


@pytest.mark.parametrize("method", ["learned_coefficients", "regmean_plus_plus"])
@pytest.mark.usefixtures("prepared")
def test_methods_with_images_take_those_of_val(method: str, deltas: list[State], state: State, run: Run) -> None:
    for task in TASKS:
        layout.split(task, "test").unlink()
    options = ("--option", "steps=2", "--option", "per=task") if method == "learned_coefficients" else ()
    result = run("merge", *CHECKPOINTS, "--base", MODEL, "--out", "merged", "--method", method, *options)
    assert result.exit_code == 0, result.output
    assert "other tasks' unlabelled images" in Path("merged/README.md").read_text("utf-8")
    moved = open_clip.create_model("local-dir:merged").state_dict()[BIAS] - state[BIAS]
    factor = 0.3 if method == "learned_coefficients" else 0.5  # two steps of 0.001 from there; the average of a bias
    torch.testing.assert_close(moved.double(), factor * (deltas[0][BIAS] + deltas[1][BIAS]), rtol=0, atol=2e-4)


@pytest.mark.usefixtures("prepared")
def test_methods_with_images_and_none(run: Run) -> None:
    given = (*CHECKPOINTS, "--base", MODEL, "--out", "merged", "--method", "regmean_plus_plus")
    line = refused(run, *given, "--modifier", "lines")
    assert line == "error: --modifier lines: regmean_plus_plus takes no modifiers; leave it out"
    layout.split("textures", "val").unlink()
    line = refused(run, *given)
    assert line.startswith("error: --method regmean_plus_plus: textures: data/")
    assert line.endswith("no such file; make it with `dvc repro prepare@textures head@mini-clip-textures`")


@pytest.mark.usefixtures("prepared")
def test_a_vector_in_a_file_is_evaluated(state: State, deltas: list[State], run: Run) -> None:
    """As `vectors combine` writes it: the same accuracy as the encoder that `export` makes of it."""
    image, text = split_towers({name: tensor.numpy() for name, tensor in state.items()})
    write_arrays(layout.image_encoder(MODEL), image, {})
    write_arrays(layout.text_encoder(MODEL), text, {})
    origin = Provenance(MODEL, tuple(TASKS), "standard_ties", "weight", fingerprint(image), 0, "c" * 64)
    tensors = {name.removeprefix("visual."): (10 * delta).float() for name, delta in deltas[0].items()}
    write_task_vector(Path("v.safetensors"), TaskVector(tensors, origin))
    assert run("export", "--vector", "v.safetensors", "--out", "edited").exit_code == 0
    edited = accuracy(open_clip.create_model("local-dir:edited"), "textures")
    result = run("evaluate", "--vector", "v.safetensors", "--tasks", "textures", "--format", "csv")
    assert result.exit_code == 0, result.output
    title, row = (line.split(",") for line in result.stdout.splitlines())
    assert float(row[title.index("edited")]) == pytest.approx(edited, abs=0.051)
    assert "no normalised accuracy" in result.stderr
    both = run("evaluate", "--vector", "v.safetensors", "--edit", "textures=1")
    assert both.stderr == "error: evaluate: --vector already names the edit; leave out --edit, --model and --paradigm\n"
    neither = run("evaluate")
    assert neither.stderr == "error: evaluate: give either --edit TASK=α,... or --vector FILE\n"


@pytest.mark.parametrize("absent", ["split", "head"])
@pytest.mark.usefixtures("prepared")
def test_an_evaluation_of_what_is_not_prepared(absent: str, run: Run) -> None:
    (layout.split("textures", "test") if absent == "split" else layout.head(MODEL, "textures")).unlink()
    line = refused(run, *CHECKPOINTS, "--base", MODEL, "--out", "merged", "--evaluate", "textures")
    assert line.startswith("error: --evaluate textures: data/")
    assert line.endswith("no such file; make it with `dvc repro prepare@textures head@mini-clip-textures`")


@pytest.mark.usefixtures("prepared")
def test_an_evaluation_on_an_unknown_task(run: Run) -> None:
    line = refused(run, *CHECKPOINTS, "--base", MODEL, "--out", "merged", "--evaluate", "mnist")
    assert line.startswith("error: --evaluate: unknown task 'mnist'; choose from optdigits, textures")


def refused(run: Run, *arguments: str) -> str:
    """Run a merge that must fail and leave everything as it was; return the line that it says."""
    before = sorted(Path().rglob("*"))
    result = run("merge", *arguments)
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    assert [text for text in result.stderr.splitlines() if not text.startswith("note: ")] == [line]
    assert sorted(Path().rglob("*")) == before
    return line


GIVEN = (*CHECKPOINTS, "--base", MODEL, "--out", "new/merged")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*CHECKPOINTS[:2], *GIVEN[4:]), "--checkpoint: merging takes two or more, not 1; add another TASK=FILE"),
        ((*GIVEN, "--checkpoint", "textures=a.pt"), "--checkpoint: task 'textures' is named twice"),
        ((*GIVEN, "--checkpoint", "mnist=a.pt"), "--checkpoint mnist=a.pt: the same file as that of optdigits"),
        ((*GIVEN, "--checkpoint", "a.pt"), "--checkpoint: 'a.pt' is not TASK=FILE"),
        ((*GIVEN, "--checkpoint", "mnist="), "--checkpoint: 'mnist=' is not TASK=FILE"),
        ((*GIVEN, "--checkpoint", "../x=a.pt"), "--checkpoint: '../x' is not a name"),
        ((*GIVEN, "--checkpoint", "mnist=c.pt"), "c.pt: no such file; name a checkpoint"),
        ((*GIVEN, "--method", "tise"), "unknown merging method 'tise'; choose from average"),
        (
            (*GIVEN, "--method", "ties", "--option", "kep=1"),
            "merging method ties: unknown option 'kep'; choose from keep",
        ),
        ((*GIVEN, "--method", "ties", "--option", "keep=x"), "option keep is 'x' but should be a valid number"),
        ((*GIVEN, "--method", "ties", "--option", "keep=NaN"), "option keep is nan but should be a finite number"),
        ((*GIVEN, "--option", "keep"), "--option: 'keep' is not NAME=VALUE"),
        ((*GIVEN, "--option", "keep=1", "--option", "keep=2"), "--option: 'keep' is given twice"),
        ((*GIVEN, "--modifier", "svd"), "unknown merging modifier 'svd'; choose from lines, svc"),
        ((*GIVEN, "--modifier", "svc:flor=1"), "merging modifier svc: unknown option 'flor'"),
        ((*GIVEN, "--method", "fisher"), "merging method fisher: needs images of every task; choose from average"),
        ((*GIVEN, "--method", "regmean"), "merging method regmean: needs images of every task; choose from average"),
        ((*GIVEN, "--alpha", "inf"), "--alpha: inf is not a finite number"),
        ((*GIVEN, "--alpha", "1e300"), "--alpha 1e+300: tensor "),
        ((*GIVEN, "--base", "ViT-X"), "unknown model 'ViT-X'; choose from"),
        ((*GIVEN, "--out", "there"), "--out there: exists already; choose another folder"),
        ((*GIVEN, "--out", "a.pt/merged"), "--out a.pt/merged: cannot be written: "),
        ((*GIVEN, "--prefix", "teacher"), "no tensor's name starts with 'teacher.'; choose --prefix from"),
    ],
)
def test_mistakes_are_one_line(deltas: list[State], run: Run, arguments: tuple[str, ...], message: str) -> None:
    Path("there").mkdir()
    assert message in refused(run, *arguments)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("base", "c.pt: no tensor differs from θ₀"),
        ("nan", "tensor 'ln_post.bias'"),
        ("inf", "tensor 'ln_post.bias'"),
        ("shape", "choose another --model"),
        ("name", "holds no image encoder of this model"),
        ("damaged", "c.pt: "),
    ],
)
@pytest.mark.parametrize("method", ["sum", "tsv_m"])
def test_a_bad_checkpoint(fault: str, message: str, method: str, deltas: list[State], state: State, run: Run) -> None:
    changed = {
        "base": {},
        "nan": {BIAS: state[BIAS].clone().index_fill_(0, torch.tensor([0]), float("nan"))},
        "inf": {BIAS: state[BIAS].clone().index_fill_(0, torch.tensor([0]), float("inf"))},
        "shape": {MATRIX: state[MATRIX][1:]},
    }
    write({"x": torch.ones(2)} if fault == "name" else {**state, **changed.get(fault, {})}, "c.pt")
    if fault == "damaged":
        Path("c.pt").write_bytes(Path("c.pt").read_bytes()[:-100])
    line = refused(run, "--checkpoint", "mnist=c.pt", *GIVEN, "--method", method)
    assert message in line


def test_a_disk_that_is_full(deltas: list[State], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tauflow.edited.export.write_clip", full)
    line = refused(run, *GIVEN)
    assert line == "error: --out new/merged: cannot be written: No space left on device; choose another folder"
