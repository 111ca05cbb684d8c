"""The commands on the pages exist, with the options and the parameters that the pages give them."""

import ast
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pipeline.config import load_parameters
from pipeline.tasks.registry import TaskDefinition
from tauflow.cli import app
from tauflow.dvc.composition import compose
from tests.conftest import ROOT
from tests.docs.pages import PAGES, Block, Command, blocks, commands

# Capitals stand for what a reader puts there.
PLACEHOLDER = re.compile(r"^[A-Z][A-Z_]+$")


def command_of(words: list[str]) -> Any:
    """The command of ``tauflow`` that the first words name, which are taken away."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name = words.pop(0)
        assert name in command.commands, f"there is no `{name}`: {', '.join(command.commands)}"
        command = command.commands[name]
    return command


@pytest.mark.parametrize("shown", commands("tauflow"), ids=str)
def test_tauflow_understands(shown: Command) -> None:
    words = [word for word in shown.words if word != "…"]
    if PLACEHOLDER.match(words[0]) or words[0].startswith("--"):
        return
    command = command_of(words)
    if shown.whole:
        command.make_context(command.name, words)  # raises what a user would see
    elif not command.context_settings.get("ignore_unknown_options"):
        legal = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= legal


def overrides() -> list[tuple[str, tuple[str, ...]]]:
    """Return the overrides on pages for ``tauflow compose`` and ``dvc exp run -S``, a set per value of a sweep."""
    keys = []
    for command in commands("tauflow"):
        if command.words[0] == "compose":
            keys.append((str(command), command.words[1:]))
    for command in commands("dvc"):
        settings = [value for flag, value in zip(command.words, command.words[1:], strict=False) if flag == "-S"]
        if settings:
            keys.append((str(command), tuple(one_of(setting) for setting in settings)))
    return [(where, given) for where, given in keys if given and not any("KEY" in one for one in given)]


def one_of(setting: str) -> str:
    """The first value of a sweep such as ``seed=0,1,2``; a list in brackets is one value."""
    key, _, value = setting.partition("=")
    return setting if value.startswith("[") else f"{key}={value.split(',')[0]}"


@pytest.mark.parametrize(("where", "given"), [pytest.param(w, g, id=w) for w, g in overrides()])
def test_parameters_compose(where: str, given: tuple[str, ...], tmp_path: Path) -> None:
    known = {path.stem for path in (ROOT / "conf").rglob("*.yaml")}
    chosen = [value.split("=")[1] for value in given if re.match(r"(paradigm|suite|model)=", value)]
    if not set(chosen) <= known or any("pets" in value for value in given):
        pytest.skip("of a file that the reader writes")
    compose(ROOT, given, tmp_path / "params.yaml")
    load_parameters(tmp_path / "params.yaml")


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page, "python")], ids=str)
def test_python_on_the_pages_imports_what_exists(block: Block) -> None:
    imports: list[ast.stmt] = [n for n in ast.walk(ast.parse(block.text)) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert imports
    with warnings.catch_warnings(action="ignore"):  # of the libraries
        exec(compile(ast.Module(imports, []), str(block), "exec"), {})


@pytest.mark.parametrize("block", [b for page in PAGES for b in blocks(page, "yaml")], ids=str)
def test_yaml_on_the_pages_is_what_it_says(block: Block) -> None:
    """Definitions of tasks fit their schema, and all is YAML; paradigms and suites are composed where they are run."""
    content = yaml.safe_load(block.text)
    assert content
    if "classes" in content:
        TaskDefinition.model_validate(content)
