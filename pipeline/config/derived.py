"""What ``params.yaml`` derives from its other entries because DVC can iterate only over what stands in it.

``conf/hydra_plugins`` computes these entries when parameters are composed; the schema checks them.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def derive(
    models: Sequence[str],
    tasks: Sequence[str],
    control: str,
    paradigms: Sequence[str],
    recipe_of: Mapping[str, str],
    regularised: Mapping[str, bool],
) -> dict[str, Any]:
    """The derived entries by name.

    datasets: the tasks and the control, which are prepared.
    recipes: what the chosen paradigms' task vectors are made by, each once.
    plain_recipes, regularised_recipes: those without and with a regulariser; only the latter may read other tasks'
    images.
    evaluations: model, paradigm and recipe of every evaluation, by the name that its stages carry.

    Args:
        models: the chosen models.
        tasks: the suite's tasks.
        control: the control task.
        paradigms: the chosen paradigms.
        recipe_of: the recipe of every paradigm.
        regularised: of every recipe, whether it has a regulariser.
    """
    needed = list(dict.fromkeys(recipe_of[paradigm] for paradigm in paradigms))
    return {
        "datasets": [*tasks, control],
        "recipes": needed,
        "plain_recipes": [recipe for recipe in needed if not regularised[recipe]],
        "regularised_recipes": [recipe for recipe in needed if regularised[recipe]],
        "evaluations": {
            f"{model}-{paradigm}": {"model": model, "paradigm": paradigm, "recipe": recipe_of[paradigm]}
            for model in models
            for paradigm in paradigms
        },
    }
