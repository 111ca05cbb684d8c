"""Merge checkpoints of one θ₀ into a CLIP for other libraries, without a study: no parameters, no training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.numpy import load_file
from torch import Tensor

from artifacts import layout
from artifacts.evaluation.benchmarks import read_images
from pipeline.config import Parameters
from pipeline.editing import TaskVector, read_task_vector, write_task_vector
from pipeline.editing.spaces import WeightSpace
from pipeline.errors import UserError
from pipeline.evaluation.intervals import bootstrap_accuracy, bootstrap_normalised
from pipeline.evaluation.prediction import predict
from pipeline.foreign.checkpoint import read_foreign
from pipeline.foreign.export import Format
from pipeline.foreign.importing import Imported
from pipeline.images import Split
from pipeline.io.arrays import fingerprint
from pipeline.merging import (
    Step,
    TaskImages,
    check_steps,
    merge_files,
    merge_sum,
    merge_with_images,
    merging_with_images,
)
from pipeline.models import ModelDefinition, load_model_definition
from pipeline.models.checkpoints import check_finite, read_base
from pipeline.models.devices import prepare_device
from pipeline.models.encoders import (
    ImageEncoder,
    build_clip,
    load_image_encoder,
    load_weights,
    split_towers,
)
from pipeline.models.registry import DEFINITIONS
from pipeline.sources.weights import fetch_weights
from pipeline.tasks import task_names
from tauflow.dvc.verification import check_inputs, check_origin
from tauflow.edited.evaluate import TaskResult, with_mean
from tauflow.edited.export import Ingredient, check_new, model_card, new_folder, write_model
from tauflow.edited.finite_space import FiniteSpace
from tauflow.edited.import_vector import to_task_vector

# The repository, to which the paths of committed weights are relative.
_ROOT = DEFINITIONS.parents[2]
# The recipe of checkpoints whose own is unknown.
RECIPE = "checkpoint"


@dataclass(frozen=True)
class Merge:
    """A merge of checkpoints.

    base: the model whose pre-trained weights θ₀ the checkpoints start from.
    checkpoints: files or folders, by task.
    prefix: the beginning of the names of the tensors to take; empty for all.
    method, modifiers: what is done to the task vectors, in this order.
    alpha: the coefficient of the merged vector.
    """

    base: str
    checkpoints: Mapping[str, Path]
    prefix: str
    method: Step
    modifiers: Sequence[Step]
    alpha: float


@dataclass(frozen=True)
class EvaluatedTasks:
    """Tasks to evaluate a merged model on, with the parameters of the repository that prepared them."""

    params: Parameters
    tasks: Sequence[str]


def merge_checkpoints(
    merge: Merge, form: Format, out: Path, evaluation: EvaluatedTasks | None, report: Callable[[Path, Imported], None]
) -> list[TaskResult]:
    """Write a CLIP with the image encoder θ₀ + α Σ τ merged into the new folder ``out``.

    Args:
        merge: what to merge, and how.
        form: the library that is to load it.
        out: the folder.
        evaluation: the tasks to evaluate on, if any.
        report: called for each checkpoint that was read.

    Returns:
        Accuracies of the evaluation; empty without one.

    Raises:
        UserError: ``out`` exists or cannot be created, a name or an option is wrong, θ₀ cannot be obtained, a
            checkpoint cannot be read or does not start from θ₀, a merged weight is NaN or infinite, the format cannot
            express the model, or what an evaluation needs is missing.
    """
    check_new(out)
    _check_method(merge)
    if evaluation:
        _check_prepared("--evaluate", merge.base, evaluation.tasks, "test")
    definition, encoder, text = pretrained(merge.base)
    with new_folder(out) as folder, TemporaryDirectory(dir=folder) as temporary:
        sources = {task: Path(temporary) / "vectors" / f"{task}.safetensors" for task in merge.checkpoints}
        ingredients = _import(merge, encoder, sources, report)
        if merge.method.name in merging_with_images.names():
            merged, record = _merge_with_images(merge, encoder, sources)
        else:
            merged, record = merge_files(sources, merge.method, merge.modifiers)
        total = merge.alpha * replace(merged, provenance=replace(merged.provenance, recipe=merge.method.name))
        image = total.apply({name: tensor.detach() for name, tensor in encoder.visual.state_dict().items()})
        check_finite(image, f"--alpha {merge.alpha:g}", "choose a smaller one")
        steps = {key: value for key, value in record.items() if key not in ("sources", "statistics")}
        entries = {"tangent": None, "merge": {"method": merge.method.name, "alpha": merge.alpha, **steps}}
        results = _evaluate(evaluation, merge.base, encoder, sources, total) if evaluation else []
        accuracies = {result.task: result.edited.value for result in results if result.task in task_names()}
        card = model_card(definition, form, encoder.sha256, ingredients, entries, accuracies)
        write_model(folder, form, definition, image, text, card)
        return results


def _check_method(merge: Merge) -> None:
    """Check the names and options of method and modifiers, and that the images that the method needs are here.

    Raises:
        UserError: one is unknown or wrong, needs statistics of images, or images are missing.
    """
    name = merge.method.name
    if name not in merging_with_images.names():
        check_steps(merge.method, merge.modifiers)
        return
    merging_with_images.find(name).options(merge.method.options)
    if merge.modifiers:
        raise UserError(f"--modifier {merge.modifiers[0].name}: {name} takes no modifiers; leave it out")
    _check_prepared(f"--method {name}:", merge.base, list(merge.checkpoints), "val")


def _merge_with_images(
    merge: Merge, encoder: ImageEncoder, sources: Mapping[str, Path]
) -> tuple[TaskVector, dict[str, Any]]:
    """Return the vector merged with the tasks' val images, and how it was made."""
    vectors = [read_task_vector(path) for path in sources.values()]
    images = {}
    for task in sources:
        benchmark = read_images(merge.base, task, "val")
        images[task] = TaskImages(benchmark.inputs, benchmark.labels, benchmark.head)
    merged = merge_with_images(vectors, encoder, images, merge.method)
    return merge_sum(merged.vectors, Step("sum")), merged.record


def pretrained(model: str) -> tuple[ModelDefinition, ImageEncoder, dict[str, Tensor]]:
    """Return a model's definition, image encoder at θ₀ and text tower: the stage's files, or the weights themselves."""
    definition = load_model_definition(model)
    image_file, text_file = layout.image_encoder(model), layout.text_encoder(model)
    if image_file.exists() and text_file.exists():
        check_inputs((image_file, text_file), ())
        return definition, load_image_encoder(definition, image_file), read_base(text_file)[0]
    path = fetch_weights(definition, _ROOT)
    state = load_file(path)
    clip = build_clip(definition)
    load_weights(clip, state, str(path))
    image, text = split_towers(state)
    encoder = ImageEncoder(clip.get_submodule("visual"), definition, fingerprint(image))
    return definition, encoder, {name: torch.from_numpy(array) for name, array in text.items()}


def _import(
    merge: Merge, encoder: ImageEncoder, sources: Mapping[str, Path], report: Callable[[Path, Imported], None]
) -> list[Ingredient]:
    """Write the checkpoints' task vectors to ``sources``, with one checkpoint in memory at a time."""
    ingredients: list[Ingredient] = []
    for task, path in merge.checkpoints.items():
        checkpoint = read_foreign(path).under(merge.prefix)
        for other in ingredients:
            if other.sha256 == checkpoint.sha256:
                raise UserError(f"--checkpoint {task}={path}: the same file as that of {other.task}; name another")
        imported = to_task_vector(checkpoint, encoder, merge.base, RECIPE, task)
        report(path, imported)
        write_task_vector(sources[task], imported.vector)
        ingredients.append(Ingredient.of_task(task, merge.alpha, imported.vector.provenance, checkpoint.sha256))
    return ingredients


def _check_prepared(option: str, model: str, tasks: Sequence[str], split: Split) -> None:
    """Check that a split and the heads of tasks are here.

    Raises:
        UserError: one is missing, or belongs to another task or model.
    """
    for task in tasks:
        for path in (layout.split(task, split), layout.head(model, task)):
            if not path.exists():
                raise UserError(
                    f"{option} {task}: {path}: no such file; make it with `dvc repro prepare@{task} "
                    f"head@{model}-{task}`"
                )
            check_origin(path)


def _evaluate(
    evaluation: EvaluatedTasks, model: str, encoder: ImageEncoder, sources: Mapping[str, Path], total: TaskVector
) -> list[TaskResult]:
    """Evaluate the merged encoder on each task's test images, beside θ₀ and the task's own unmerged checkpoint."""
    params = evaluation.params
    results = []
    for task in evaluation.tasks:
        own = [read_task_vector(sources[task])] if task in sources else []
        space = WeightSpace(encoder, [total, *own], prepare_device(params.device), params.evaluation)
        edits = torch.eye(1 + len(own))
        edits = torch.cat([torch.zeros_like(edits[:1]), edits])
        benchmark = read_images(model, task, "test")
        predictions = predict(FiniteSpace(space), edits, [benchmark], f"merged model on {task}")[task]
        zero_shot, merged, *single = predictions.correct()
        stream = params.tasks.index(task) if task in params.tasks else 0
        accuracies = [bootstrap_accuracy(c, params.intervals, stream) for c in (zero_shot, merged, *single)]
        normalised = bootstrap_normalised(merged, single[0], params.intervals, stream, task) if single else None
        results.append(
            TaskResult(task, accuracies[0], accuracies[1], normalised, single=accuracies[2] if single else None)
        )
    return with_mean(params, results)
