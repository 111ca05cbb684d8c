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
    "imported_recipes",
    "trained_recipes",
    "plain_recipes",
    "regularised_recipes",
    "continued",
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
    @property
    def start(self) -> str | None: ...


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
    def imported(self) -> Mapping[str, object]: ...
    @property
    def incremental(self) -> _Incremental: ...


def needed_recipes(chosen: Chosen) -> list[str]:
    """What the chosen paradigms' task vectors are made by, and what these start from, each once."""
    named = [chosen.paradigm[name].recipe for name in chosen.paradigms]
    starts = [chosen.recipe[name].start for name in named if name not in chosen.imported]
    return list(dict.fromkeys([*named, *(start for start in starts if start is not None)]))


def derive(chosen: Chosen) -> dict[str, Any]:
    """The derived entries by name.

    datasets: the tasks and the control, which are prepared.
    recipes: what the chosen paradigms' task vectors are made by, and what these start from, each once.
    imported_recipes, trained_recipes: those whose task vectors were imported, and the rest.
    plain_recipes, regularised_recipes: of those that train from θ₀, the ones without and with a regulariser that sees
    other tasks' images; only the latter may read them.
    continued: model, task, recipe and start of every fine-tuning that starts from another recipe's task vector.
    tangent_recipes: those whose task vectors edit in tangent space, so that their tangent features are needed.
    evaluations: model, paradigm and recipe of every evaluation, by the name that its stages carry, and what it takes
    its edits from on val and on test.
    arrivals: the tasks in every order in which they arrive, drawn with its seed.
    incremental_recipes: in every order each regularised recipe is one of its own, since its regulariser sees only tasks
    that have arrived; incremental_tangent_recipes: those that edit in tangent space.
    incremental_evaluations: as ``evaluations``, in every order; plain recipes give the same task vectors in all. A
    regularised recipe with a start has none: its regulariser has seen all tasks.
    """
    recipe_of = {name: chosen.paradigm[name].recipe for name in chosen.paradigms}
    in_tangent_space = [name for name in chosen.paradigms if chosen.paradigm[name].evaluated_in == "tangent"]
    needed = needed_recipes(chosen)
    trained = [name for name in needed if name not in chosen.imported]
    regularisers = {name: chosen.recipe[name].regulariser for name in trained}
    seeing_others = [name for name, of in regularisers.items() if of is not None and of.others is not None]
    starts = {name: start for name in trained if (start := chosen.recipe[name].start) is not None}
    regularised = [name for name in seeing_others if name not in starts]
    tangent = list(dict.fromkeys(recipe_of[name] for name in in_tangent_space))

    def evaluation(model: str, paradigm: str, recipe: str) -> dict[str, str]:
        # The directory under data/ that edits are made from: DVC has no conditional dependencies.
        edits = {s: f"features/{s}" if paradigm in in_tangent_space else "task_vectors" for s in ("val", "test")}
        return {"model": model, "paradigm": paradigm, "recipe": recipe, **edits}

    return {
        "datasets": [*chosen.tasks, chosen.control],
        "recipes": needed,
        "imported_recipes": [name for name in needed if name in chosen.imported],
        "trained_recipes": trained,
        "plain_recipes": [name for name in trained if name not in seeing_others and name not in starts],
        "regularised_recipes": regularised,
        "continued": {
            f"{model}-{task}-{recipe}": {"model": model, "task": task, "recipe": recipe, "start": start}
            for model in chosen.models
            for task in chosen.tasks
            for recipe, start in starts.items()
        },
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
            if not (recipe in starts and recipe in seeing_others)
            for seed in chosen.incremental.orders
        },
    }
