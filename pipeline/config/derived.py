"""Entries of ``params.yaml`` that follow from the others; DVC can only iterate over entries in the file.

``conf/hydra_plugins`` writes them, as ``derived``, when parameters are composed; the schema checks them.
"""

import random
from collections.abc import Iterable
from typing import TypeVar

from pydantic import model_validator

from pipeline.config.names import Name
from pipeline.config.parameters import Choices, Recipe, Schedule, Section

Item = TypeVar("Item")


class TrainedRecipe(Recipe):
    """A recipe with its schedule on this suite: all parameters that only its fine-tunings depend on."""

    schedule: Schedule


class MergedParadigm(Section):
    """A paradigm of a model whose recipe's task vectors are merged; they become ones of the paradigm's own name.

    images, heads: directories under ``data/`` with what the method sees of the tasks' images, and with the heads that
        it needs for that; the task vectors' own where it needs none.
    """

    model: Name
    paradigm: Name
    recipe: Name
    images: str
    heads: str


class ImageStatistic(Section):
    """A task's images under the model of its own task vector, for a paradigm whose merging method needs a statistic."""

    model: Name
    paradigm: Name
    task: Name
    recipe: Name
    split: str


class Evaluation(Section):
    """A paradigm of a model, and the directories under ``data/`` with the inputs of its edits on val and on test.

    DVC has no conditional dependencies: the directory says whether task vectors or tangent features are read.

    recipe: the name of the task vectors: the paradigm's if they are merged.
    unmerged: the recipe itself, whose single-task models normalise accuracies.
    """

    model: Name
    paradigm: Name
    recipe: Name
    unmerged: Name
    val: str
    test: str


class IncrementalEvaluation(Evaluation):
    """An evaluation while tasks arrive in one order."""

    order: Name


class Continuation(Section):
    """A fine-tuning that starts from another recipe's task vector."""

    model: Name
    task: Name
    recipe: Name
    start: Name


class Derived(Section):
    """The entries that DVC iterates over.

    datasets: the tasks and the control, which are prepared.
    recipes: recipes of the chosen paradigms' task vectors, and the recipes that these start from, each once; then the
        paradigms whose task vectors are merged.
    imported_recipes: recipes whose task vectors were imported.
    trained_recipes: all other recipes, and a variant of each regularised recipe per order of arrival, whose regulariser
        sees only the tasks that have arrived.
    plain_recipes: trained recipes that start from θ₀ and see no other task's images.
    regularised_recipes: trained recipes that start from θ₀ and see other tasks' images.
    tangent_recipes: recipes whose task vectors edit in tangent space, so that their tangent features are needed.
    recipe: every trained recipe by name.
    continued: fine-tunings that start from another recipe's task vector.
    image_statistics: statistics of images that merging methods need, by the name that their stages carry.
    merged: merges, by the name that their stages carry.
    evaluations: evaluations, by the name that their stages carry.
    arrivals: the tasks in each order of arrival, drawn with the order's seed.
    merging_evaluations: evaluations of the paradigms whose task vectors are merged by several methods.
    incremental_evaluations: evaluations in each order; none for a regularised recipe with a start, whose regulariser
        has seen all tasks, nor for a merged paradigm: merging the tasks so far would be another merge.
    """

    datasets: list[Name]
    recipes: list[Name]
    imported_recipes: list[Name]
    trained_recipes: list[Name]
    plain_recipes: list[Name]
    regularised_recipes: list[Name]
    tangent_recipes: list[Name]
    recipe: dict[str, TrainedRecipe]
    continued: dict[str, Continuation]
    image_statistics: dict[str, ImageStatistic]
    merged: dict[str, MergedParadigm]
    evaluations: dict[str, Evaluation]
    merging_evaluations: dict[str, Evaluation]
    arrivals: dict[str, list[str]]
    incremental_evaluations: dict[str, IncrementalEvaluation]


class Parameters(Choices):
    """The whole ``params.yaml``: the choices, and the entries derived from them."""

    derived: Derived

    @model_validator(mode="after")
    def _derived_entries_are_current(self) -> "Parameters":
        expected = derive(self)
        for key, value in expected:
            if getattr(self.derived, key) != value:
                shown = expected.model_dump(mode="json")[key]
                raise ValueError(
                    f"derived.{key}: follows from other entries and must be {shown}; "
                    "`tauflow compose` and `dvc exp run -S` write it"
                )
        return self


def order_name(seed: int) -> str:
    """Return the name of the order of arrival that is drawn with ``seed``."""
    return f"order_{seed}"


def incremental_name(recipe: str, order: str) -> str:
    """Return the name of the variant of a recipe whose regulariser sees only the tasks that have arrived."""
    return f"{recipe}_{order}"


def derive(chosen: Choices) -> Derived:
    """Return the derived entries."""
    needed = chosen.needed_recipes()
    recipe_of = {name: chosen.paradigm[name].recipe for name in chosen.paradigms}
    merged = chosen.merged_paradigms()
    compared = chosen.merging_grid.paradigms
    arriving = [recipe for name, recipe in recipe_of.items() if name not in merged]
    own = {name: trained_recipe(chosen, name) for name in needed if name not in chosen.imported}
    arrivals = {
        order_name(seed): random.Random(seed).sample(chosen.tasks, len(chosen.tasks))
        for seed in chosen.incremental.orders
    }
    regularised = [name for name, recipe in own.items() if recipe.sees_others and recipe.start is None]
    variants = {
        incremental_name(name, order): _with_arrivals(own[name], tasks)
        for name in regularised
        if name in arriving
        for order, tasks in arrivals.items()
    }
    in_tangent_space = {name for name in chosen.paradigms if chosen.paradigm[name].evaluated_in == "tangent"}
    tangent = [recipe_of[name] for name in chosen.paradigms if name in in_tangent_space]
    tangent += [
        incremental_name(name, order)
        for name in dict.fromkeys(recipe_of[name] for name in recipe_of if name in in_tangent_space - {*merged})
        if name in regularised
        for order in arrivals
    ]
    tangent += [name for name in merged if name in in_tangent_space]

    def evaluation(model: str, paradigm: str, recipe: str) -> dict[str, str]:
        edits = {s: f"features/{s}" if paradigm in in_tangent_space else "task_vectors" for s in ("val", "test")}
        unmerged = recipe_of[paradigm] if paradigm in merged else recipe
        return {"model": model, "paradigm": paradigm, "recipe": recipe, "unmerged": unmerged, **edits}

    def incremental(paradigm: str, order: str) -> str:
        recipe = recipe_of[paradigm]
        return incremental_name(recipe, order) if recipe in regularised else recipe

    def sees_all(recipe: str) -> bool:
        return recipe in own and own[recipe].sees_others and own[recipe].start is not None

    def evaluations(paradigms: list[str]) -> dict[str, Evaluation]:
        return _by_name(
            ((model, paradigm), Evaluation(**evaluation(model, paradigm, chosen.vectors_of(paradigm))))
            for model in chosen.models
            for paradigm in paradigms
        )

    return Derived(
        datasets=[*chosen.tasks, chosen.control],
        recipes=[*needed, *merged],
        imported_recipes=[name for name in needed if name in chosen.imported],
        trained_recipes=[*own, *variants],
        plain_recipes=[name for name, recipe in own.items() if not recipe.sees_others and recipe.start is None],
        regularised_recipes=[*regularised, *variants],
        tangent_recipes=list(dict.fromkeys(tangent)),
        recipe={**own, **variants},
        continued=_by_name(
            ((model, task, name), Continuation(model=model, task=task, recipe=name, start=recipe.start))
            for model in chosen.models
            for task in chosen.tasks
            for name, recipe in own.items()
            if recipe.start is not None
        ),
        image_statistics=_by_name(
            (
                (model, name, task),
                ImageStatistic(model=model, paradigm=name, task=task, recipe=recipe_of[name], split=images.split),
            )
            for model in chosen.models
            for name in merged
            if (images := chosen.paradigm[name].merging_images) is not None and images.statistic is not None
            for task in chosen.tasks
        ),
        merged=_by_name(((model, name), _merge(chosen, model, name)) for model in chosen.models for name in merged),
        evaluations=evaluations(chosen.paradigms),
        merging_evaluations=evaluations(
            [name for name in recipe_of if name not in merged and (compared is None or name in compared)]
        ),
        arrivals=arrivals,
        incremental_evaluations=_by_name(
            (
                (model, paradigm, order.removeprefix("order_")),
                IncrementalEvaluation(
                    **evaluation(model, paradigm, incremental(paradigm, order)), order=order.removeprefix("order_")
                ),
            )
            for model in chosen.models
            for paradigm in chosen.paradigms
            if paradigm not in merged and not sees_all(recipe_of[paradigm])
            for order in arrivals
        ),
    )


def trained_recipe(params: Choices, name: str) -> TrainedRecipe:
    """Return a chosen recipe with its schedule."""
    return TrainedRecipe(**params.recipe[name].model_dump(), schedule=params.schedule[name])


def _merge(chosen: Choices, model: str, paradigm: str) -> MergedParadigm:
    recipe, images = chosen.paradigm[paradigm].recipe, chosen.paradigm[paradigm].merging_images
    seen = heads = f"task_vectors/{model}/{recipe}"
    if images is not None and images.statistic is not None:
        seen = f"image_statistics/{model}/{paradigm}"
    elif images is not None:
        seen, heads = f"tasks/{images.split}", f"heads/{model}"
    return MergedParadigm(model=model, paradigm=paradigm, recipe=recipe, images=seen, heads=heads)


def _with_arrivals(recipe: TrainedRecipe, arrivals: list[str]) -> TrainedRecipe:
    """Return the same recipe with a regulariser that sees only the tasks that have arrived."""
    assert recipe.regulariser is not None
    assert recipe.regulariser.others is not None
    others = recipe.regulariser.others.model_copy(update={"arrivals": arrivals})
    return recipe.model_copy(update={"regulariser": recipe.regulariser.model_copy(update={"others": others})})


def _by_name(entries: Iterable[tuple[tuple[str, ...], Item]]) -> dict[str, Item]:
    """Key entries as DVC names instances, by their parts joined with hyphens; the schema refuses colliding names."""
    return {"-".join(parts): entry for parts, entry in entries}
