"""What ``params.yaml`` derives from its other entries because DVC can iterate only over what stands in it.

``conf/hydra_plugins`` computes these entries when parameters are composed; the schema checks them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class _Recipe(Protocol):
    @property
    def regulariser(self) -> object: ...


@runtime_checkable
class _Paradigm(Protocol):
    @property
    def recipe(self) -> str: ...
    @property
    def evaluated_in(self) -> str: ...


@runtime_checkable
class Chosen(Protocol):
    """The entries that others follow from, whether of the schema or of Hydra's composition."""

    @property
    def models(self) -> Sequence[str]: ...
    @property
    def tasks(self) -> Sequence[str]: ...
    @property
    def control(self) -> str: ...
    @property
    def paradigms(self) -> Sequence[str]: ...
    @property
    def paradigm(self) -> Mapping[str, _Paradigm]: ...
    @property
    def recipe(self) -> Mapping[str, _Recipe]: ...


def derive(chosen: Chosen) -> dict[str, Any]:
    """The derived entries by name.

    datasets: the tasks and the control, which are prepared.
    recipes: what the chosen paradigms' task vectors are made by, each once.
    plain_recipes, regularised_recipes: those without and with a regulariser; only the latter may read other tasks'
    images.
    tangent_recipes: those whose task vectors edit in tangent space, so that their tangent features are needed.
    evaluations: model, paradigm and recipe of every evaluation, by the name that its stages carry, and what it takes
    its edits from on val and on test.
    """
    recipe_of = {name: chosen.paradigm[name].recipe for name in chosen.paradigms}
    in_tangent_space = [name for name in chosen.paradigms if chosen.paradigm[name].evaluated_in == "tangent"]
    needed = list(dict.fromkeys(recipe_of.values()))
    return {
        "datasets": [*chosen.tasks, chosen.control],
        "recipes": needed,
        "plain_recipes": [name for name in needed if chosen.recipe[name].regulariser is None],
        "regularised_recipes": [name for name in needed if chosen.recipe[name].regulariser is not None],
        "tangent_recipes": list(dict.fromkeys(recipe_of[name] for name in in_tangent_space)),
        "evaluations": {
            f"{model}-{paradigm}": {
                "model": model,
                "paradigm": paradigm,
                "recipe": recipe,
                **{split: _edits(split, paradigm in in_tangent_space) for split in ("val", "test")},
            }
            for model in chosen.models
            for paradigm, recipe in recipe_of.items()
        },
    }


def _edits(split: str, in_tangent_space: bool) -> str:
    """The directory under data/ that edits are made from: DVC has no conditional dependencies."""
    return f"features/{split}" if in_tangent_space else "task_vectors"
