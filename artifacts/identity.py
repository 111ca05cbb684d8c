"""The identity of a study: the parameters that its results belong to, written beside them."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.config import Parameters, trained_recipe


class StudyIdentity(BaseModel):
    """The parameters that a table of results belongs to.

    ``settings`` holds every other parameter that changes a number in the table, by section of ``params.yaml``; the
    device and what only divides work (``evaluation``, ``resume``) are not among them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    suite: str
    models: list[str]
    paradigms: list[str]
    tasks: list[str]
    control: str
    seed: int
    settings: dict[str, Any]

    def __str__(self) -> str:
        return f"suite {self.suite}, seed {self.seed}: {', '.join(self.models)}; {', '.join(self.paradigms)}"


def identity_path(table: Path) -> Path:
    """Return the path of a table's identity: ``results.study.json`` for ``results.csv``."""
    return table.with_suffix(".study.json")


def headline_identity(params: Parameters) -> StudyIdentity:
    """Return the identity of the table that ``summary`` writes."""
    recipes = [name for name in params.derived.recipes if name in params.recipe or name in params.imported]
    return StudyIdentity(
        suite=params.suite,
        models=params.models,
        paradigms=params.paradigms,
        tasks=params.tasks,
        control=params.control,
        seed=params.seed,
        settings={
            "prepare": _dump(params.prepare),
            "finetune": _dump(params.finetune),
            "search": _dump(params.search),
            "intervals": _dump(params.intervals),
            "epochs": {task: params.epochs[task] for task in params.tasks},
            "paradigm": {name: _dump(params.paradigm[name]) for name in params.paradigms},
            "recipe": {name: _dump(trained_recipe(params, name)) for name in recipes if name not in params.imported},
            "imported": {name: _dump(recipe) for name, recipe in params.imported.items() if name in recipes},
        },
    )


def study_identity(params: Parameters) -> StudyIdentity:
    """Return the identity of the table that ``report`` writes; its analyses depend on more parameters."""
    identity = headline_identity(params)
    analyses = {
        "analysis": _dump(params.analysis),
        "disentanglement": _dump(params.disentanglement),
        "localisation": _dump(params.localisation),
        "arrivals": params.derived.arrivals,
        "merging_grid": _dump(params.merging_grid),
    }
    return identity.model_copy(update={"settings": {**identity.settings, **analyses}})


def _dump(section: BaseModel) -> dict[str, Any]:
    return section.model_dump(mode="json")
