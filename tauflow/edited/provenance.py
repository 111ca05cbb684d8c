"""Check that the artifacts of an edit belong to the present study and not to another one with the same names."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts import layout
from artifacts.workspace import PARAMETERS
from pipeline.errors import UserError
from tauflow.dvc.lineage import Lineage
from tauflow.dvc.lockfile import flatten, parameters, same_value
from tauflow.dvc.verification import check_inputs

if TYPE_CHECKING:
    from pipeline.config import Parameters

# Sections that divide or place the work without changing what is computed.
_FREE = ("device", "evaluation", "resume")
# Entries of dvc.yaml that make the task vectors of a recipe.
_TRAINED = ("finetune", "task_vector")


def check_edit(
    params: "Parameters",
    model: str,
    paradigm: str,
    tasks: Sequence[str],
    others: Sequence[str] = (),
    evaluated: Sequence[str] = (),
) -> None:
    """Check that the artifacts of an edit were made with the present parameters and inputs, according to ``dvc.lock``.

    Args:
        params: the present parameters.
        model: the edited model.
        paradigm: the paradigm of the task vectors.
        tasks: the tasks whose vectors are added.
        others: further stage instances whose outputs are used.
        evaluated: stage instances whose outputs the edit is evaluated with, of any parameters.

    Raises:
        UserError: a stage ran with other parameters, or on inputs that have changed since; or a file belongs to
            another task, model or recipe than its path names.
    """
    check_inputs(_files(params, model, paradigm, tasks), ())
    lineage = Lineage.of_study(params)
    chosen = params.paradigm[paradigm]
    # A merged task vector is made of all tasks'.
    sources = params.tasks if chosen.merging else tasks
    trainings = {f"{model}-{task}-{chosen.recipe}" for task in sources}
    trained = [name for name in lineage.lock if name.startswith(_TRAINED) and name.partition("@")[2] in trainings]
    stages = [*others, *trained, f"merge@{model}-{paradigm}"]
    current = dict(flatten(params.model_dump(mode="json")))
    for stage in stages:
        for key, value in parameters(lineage.lock.get(stage, {})).items():
            if key in current and key.partition(".")[0] not in _FREE and not same_value(current[key], value):
                raise UserError(
                    f"{stage}: its output is of another study, whose {key} is {value}; {PARAMETERS} has "
                    f"{current[key]}; run `tauflow repro {stage}`"
                )
    for stage, path in lineage.changed([f"pretrained@{model}", *stages, *evaluated]):
        raise UserError(
            f"{stage}: its output is of another {path}, which has changed since; run `tauflow repro {stage}`"
        )


def _files(params: "Parameters", model: str, paradigm: str, tasks: Sequence[str]) -> Iterator[Path]:
    """Yield every file of a model that commands read for an edit."""
    recipe = params.vectors_of(paradigm)
    yield from (layout.image_encoder(model), layout.text_encoder(model))
    yield from (layout.task_vector(model, recipe, task) for task in tasks)
    yield layout.correctness(model, paradigm, "single_task")
    for task in params.derived.datasets:
        yield from (layout.task_card(task), layout.head(model, task))
        for split in ("val", "test"):
            yield from (layout.split(task, split), layout.features(model, recipe, split, task))
