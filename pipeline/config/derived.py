"""What ``params.yaml`` derives from its other entries because DVC can iterate only over what stands in it.

``conf/hydra_plugins`` computes these entries when parameters are composed; the schema checks them.
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

# The derived entries, in the order in which `derive` gives them.
DERIVED = (
    "datasets",
    "recipes",
    "plain_recipes",
    "regularised_recipes",
    "tangent_recipes",
    "evaluations",
    "arrivals",
    "incremental_recipes",
    "incremental_tangent_recipes",
    "incremental_evaluations",
)


@runtime_checkable
class _Regulariser(Protocol):
    @property
    def others(self) -> object: ...


@runtime_checkable
class _Recipe(Protocol):
    @property
    def regulariser(self) -> _Regulariser | None: ...


@runtime_checkable
class _Paradigm(Protocol):
    @property
    def recipe(self) -> str: ...
    @property
    def evaluated_in(self) -> str: ...


@runtime_checkable
class _Incremental(Protocol):
    @property
    def orders(self) -> Sequence[int]: ...


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
    @property
    def incremental(self) -> _Incremental: ...


def derive(chosen: Chosen) -> dict[str, Any]:
    """The derived entries by name.

    datasets: the tasks and the control, which are prepared.
    recipes: what the chosen paradigms' task vectors are made by, each once.
    plain_recipes, regularised_recipes: those without and with a regulariser that sees other tasks' images; only the
    latter may read them.
    tangent_recipes: those whose task vectors edit in tangent space, so that their tangent features are needed.
    evaluations: model, paradigm and recipe of every evaluation, by the name that its stages carry, and what it takes
    its edits from on val and on test.
    arrivals: the tasks in every order in which they arrive, drawn with its seed.
    incremental_recipes: in every order each regularised recipe is one of its own, since its regulariser sees only tasks
    that have arrived; incremental_tangent_recipes: those that edit in tangent space.
    incremental_evaluations: as ``evaluations``, in every order; plain recipes give the same task vectors in all.
    """
    recipe_of = {name: chosen.paradigm[name].recipe for name in chosen.paradigms}
    in_tangent_space = [name for name in chosen.paradigms if chosen.paradigm[name].evaluated_in == "tangent"]
    needed = list(dict.fromkeys(recipe_of.values()))
    regularisers = {name: chosen.recipe[name].regulariser for name in needed}
    regularised = [name for name, of in regularisers.items() if of is not None and of.others is not None]
    tangent = list(dict.fromkeys(recipe_of[name] for name in in_tangent_space))

    def evaluation(model: str, paradigm: str, recipe: str) -> dict[str, str]:
        # The directory under data/ that edits are made from: DVC has no conditional dependencies.
        edits = {s: f"features/{s}" if paradigm in in_tangent_space else "task_vectors" for s in ("val", "test")}
        return {"model": model, "paradigm": paradigm, "recipe": recipe, **edits}

    return {
        "datasets": [*chosen.tasks, chosen.control],
        "recipes": needed,
        "plain_recipes": [name for name in needed if name not in regularised],
        "regularised_recipes": regularised,
        "tangent_recipes": tangent,
        "evaluations": {
            f"{model}-{paradigm}": evaluation(model, paradigm, recipe)
            for model in chosen.models
            for paradigm, recipe in recipe_of.items()
        },
        "arrivals": {
            f"order_{seed}": random.Random(seed).sample(list(chosen.tasks), len(chosen.tasks))
            for seed in chosen.incremental.orders
        },
        "incremental_recipes": [
            f"{recipe}_order_{seed}" for recipe in regularised for seed in chosen.incremental.orders
        ],
        "incremental_tangent_recipes": [
            f"{recipe}_order_{seed}"
            for recipe in regularised
            if recipe in tangent
            for seed in chosen.incremental.orders
        ],
        "incremental_evaluations": {
            f"{model}-{paradigm}-{seed}": {
                **evaluation(model, paradigm, f"{recipe}_order_{seed}" if recipe in regularised else recipe),
                "order": str(seed),
            }
            for model in chosen.models
            for paradigm, recipe in recipe_of.items()
            for seed in chosen.incremental.orders
        },
    }
