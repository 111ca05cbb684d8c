"""Mistakes of ``tauflow classify``; its predictions are tested on the real pipeline's results."""

from pathlib import Path

import pytest

from tests.cli.conftest import Run

EDIT = ["--edit", "textures=1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "classify: give either --edit TASK=α,... or --sum"),
        (["--edit", "mnist=1"], "--edit: unknown task 'mnist'; choose from optdigits, textures"),
        ([*EDIT, "--vector", "v.safetensors"], "--vector already names the edit; leave out --edit"),
        ([*EDIT, "--task", "mnist"], "--task: unknown task 'mnist'; choose from optdigits, textures, emoji"),
        ([*EDIT, "--task", "emoji", "--classes", "cat,dog"], "--task and --classes both name the classes"),
        ([*EDIT, "--template", "a {}"], "--template: needs --classes, whose prompt it is"),
        ([*EDIT, "--classes", "cat"], "--classes: 'cat' does not name two or more different classes"),
        ([*EDIT, "--classes", "cat,,dog"], "--classes: 'cat,,dog' does not name"),
        ([*EDIT, "--classes", "cat,cat"], "--classes: 'cat,cat' does not name"),
        ([*EDIT, "--classes", "cat,dog", "--template", "a cat"], "--template: 'a cat' is not a template"),
        ([*EDIT, "--classes", "cat,dog", "--template", "{} {0}"], "--template: '{} {0}' is not a template"),
        (
            ["--edit", "textures=1,optdigits=1"],
            "classify: the classes are not determined; give --task optdigits or --classes NAME,...",
        ),
        (EDIT, "absent.png: no such file or folder"),
    ],
)
def test_mistakes_are_one_line(project: Path, run: Run, arguments: list[str], message: str) -> None:
    result = run("classify", "absent.png", *arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_a_folder_without_images(project: Path, run: Run) -> None:
    Path("photos/.hidden").mkdir(parents=True)
    Path("photos/notes.txt").write_text("no picture")
    Path("photos/.hidden/a.png").write_bytes(b"")
    result = run("classify", "photos", *EDIT)
    assert result.exit_code == 1
    assert "photos: no image files below this folder" in result.stderr
