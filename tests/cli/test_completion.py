"""Help and completion: complete, and quick."""

import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tauflow.cli import app
from tauflow.commands import completion
from tests.cli.conftest import Run

COMMANDS = [
    ["plan"],
    ["compare"],
    ["evaluate"],
    ["doctor"],
    *(["vectors", name] for name in ("list", "show", "combine")),
]
HEAVY = "import sys, tauflow.cli; print(*sorted({'torch', 'dvc', 'mlflow', 'numpy', 'pandas'} & set(sys.modules)))"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example(run: Run, command: list[str]) -> None:
    text = " ".join(run(*command, "--help").output.split())
    assert f"For example: tauflow {' '.join(command)}" in text


def test_nothing_heavy_is_imported_before_a_command_runs() -> None:
    command = [sys.executable, "-c", HEAVY]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == []


@pytest.mark.parametrize(
    ("complete", "incomplete", "expected"),
    [
        (completion.models, "", ["mini-clip"]),
        (completion.paradigms, "p", ["posthoc"]),
        (completion.recipes, "s", ["standard"]),
        (completion.tasks, "", ["optdigits", "textures"]),
        (completion.edit, "opt", ["optdigits="]),
        (completion.edit, "optdigits=0.4,", ["optdigits=0.4,textures="]),
        (completion.task_list, "a", ["all"]),
        (completion.task_list, "emoji,", ["emoji,optdigits", "emoji,textures"]),
    ],
)
def test_names_of_the_parameters(project: Path, complete, incomplete: str, expected: list[str]) -> None:
    assert complete(incomplete) == expected


@pytest.mark.parametrize("content", [None, "", "a: [", "[]"])
def test_silence_without_parameters(project: Path, content: str | None) -> None:
    Path("params.yaml").unlink()
    if content is not None:
        Path("params.yaml").write_text(content)
    assert completion.paradigms("") == []
    assert completion.edit("") == []


def test_the_shell_asks_for_them(project: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """As bash does."""
    for name, value in {
        "_TAUFLOW_COMPLETE": "complete_bash",
        "COMP_WORDS": "tauflow evaluate --paradigm n",
        "COMP_CWORD": "3",
    }.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-c", "from tauflow.cli import app; app(prog_name='tauflow')"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout.split() == ["ntk"]


def test_every_option_that_names_something_completes() -> None:
    names = {"model", "paradigm", "recipe", "edit", "tasks", "task"}
    command = typer.main.get_command(app)
    commands = [*command.commands.values(), *command.commands["vectors"].commands.values()]  # pyright: ignore[reportAttributeAccessIssue]
    options = [option for listed in commands for option in listed.params if option.name in names]
    assert len(options) >= 9
    assert all(option._custom_shell_complete is not None for option in options)
