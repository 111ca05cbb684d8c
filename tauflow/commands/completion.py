"""What the shell completes: names of this repository's parameters. Silent where there are none."""

from typing import Any

import yaml

from tauflow.workspace import PARAMETERS


def models(incomplete: str) -> list[str]:
    """Models of params.yaml."""
    return _starting(incomplete, _parameters().get("models", []))


def paradigms(incomplete: str) -> list[str]:
    """Paradigms of params.yaml."""
    return _starting(incomplete, _parameters().get("paradigms", []))


def recipes(incomplete: str) -> list[str]:
    """Recipes of params.yaml."""
    return _starting(incomplete, _parameters().get("recipes", []))


def tasks(incomplete: str) -> list[str]:
    """Tasks that have task vectors."""
    return _starting(incomplete, _parameters().get("tasks", []))


def task_list(incomplete: str) -> list[str]:
    """The last of tasks and control separated by commas: ``icons,si`` → ``icons,signs``."""
    done, comma, last = incomplete.rpartition(",")
    named = ["all", *_parameters().get("datasets", [])] if not comma else _parameters().get("datasets", [])
    return [f"{done}{comma}{name}" for name in _starting(last, named) if name not in done.split(",")]


def edit(incomplete: str) -> list[str]:
    """The last task of an edit: ``icons=0.4,si`` → ``icons=0.4,signs=``."""
    done, comma, last = incomplete.rpartition(",")
    used = {part.split("=")[0] for part in done.split(",")}
    return [f"{done}{comma}{task}=" for task in tasks(last) if task not in used]


def _parameters() -> dict[str, Any]:
    try:
        content = yaml.safe_load(PARAMETERS.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
