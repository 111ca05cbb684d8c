"""Shell completion of names from this repository's params.yaml; empty if the file is missing or invalid."""

from typing import Any

from artifacts.workspace import PARAMETERS


def models(incomplete: str) -> list[str]:
    """Complete models of params.yaml."""
    return _starting(incomplete, _parameters().get("models", []))


def paradigms(incomplete: str) -> list[str]:
    """Complete paradigms of params.yaml."""
    return _starting(incomplete, _parameters().get("paradigms", []))


def recipes(incomplete: str) -> list[str]:
    """Complete recipes of params.yaml."""
    return _starting(incomplete, _parameters().get("derived", {}).get("recipes", []))


def pools(incomplete: str) -> list[str]:
    """Complete pools of published checkpoints."""
    from pipeline.foreign.pools import pool_names  # imports huggingface_hub

    return _starting(incomplete, pool_names())


def tasks(incomplete: str) -> list[str]:
    """Complete tasks that have task vectors."""
    return _starting(incomplete, _parameters().get("tasks", []))


def datasets(incomplete: str) -> list[str]:
    """Complete tasks and the control."""
    return _starting(incomplete, _parameters().get("derived", {}).get("datasets", []))


def task_list(incomplete: str) -> list[str]:
    """Complete the last name in a comma-separated list of tasks and the control: ``icons,si`` → ``icons,signs``."""
    chosen, comma, last = incomplete.rpartition(",")
    datasets = _parameters().get("derived", {}).get("datasets", [])
    choices = datasets if comma else ["all", *datasets]
    return [f"{chosen}{comma}{name}" for name in _starting(last, choices) if name not in chosen.split(",")]


def edit(incomplete: str) -> list[str]:
    """Complete the last task of an edit: ``icons=0.4,si`` → ``icons=0.4,signs=``."""
    chosen, comma, last = incomplete.rpartition(",")
    used = {part.split("=")[0] for part in chosen.split(",")}
    return [f"{chosen}{comma}{task}=" for task in tasks(last) if task not in used]


def _parameters() -> dict[str, Any]:
    from pipeline.config import read_yaml  # imports pydantic
    from pipeline.errors import UserError

    try:
        content = read_yaml(PARAMETERS)
    except (FileNotFoundError, UserError):
        return {}
    return content if isinstance(content, dict) else {}


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
