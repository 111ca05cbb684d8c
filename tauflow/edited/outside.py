"""Tasks that are not of the study: their images and heads, made when they are first asked for."""

import hashlib
import json
from pathlib import Path

from artifacts import layout
from artifacts.workspace import home
from pipeline.config import Parameters
from pipeline.evaluation.prediction import Benchmark
from pipeline.images import Split, read_split
from pipeline.models import load_model_definition
from pipeline.models.encoders import load_clip
from pipeline.models.heads import build_head, read_head, write_head
from pipeline.preparation import Destination, prepare, read_raw
from pipeline.sources.download import Roots, download
from pipeline.sources.record import DownloadRecord
from pipeline.tasks import TaskCard, load_task


def read_outside(params: Parameters, model: str, task: str, split: Split, size: int) -> Benchmark:
    """Return a split of a task that is not of the study, with the model's head for it.

    Both are made as the stages make them, below ``.tauflow/outside``, in a folder for the present definitions of
    task and model and the present settings of ``prepare``.

    Args:
        params: the parameters of the study.
        model: a model, whose stage `pretrained` has run.
        task: a task with a definition.
        split: the split.
        size: height and width of the images that the model takes.

    Raises:
        UserError: the images cannot be obtained or decoded, or a file of the model is missing.
    """
    settings = params.prepare.model_copy(update={"resolution": params.prepare.resolution or size})
    definition, clip = load_task(task), load_model_definition(model)
    made_from = [part.model_dump(mode="json") for part in (definition, clip, settings)]
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    folder = home() / ".tauflow" / "outside" / f"{task}-{key[:12]}"
    head, card = folder / f"head-{model}.safetensors", folder / "card.json"

    def path(name: Split) -> Path:
        return folder / f"{name}.safetensors"

    if not card.exists():
        raw = folder / "raw"
        download(definition, Roots(Path(), layout.MINI_SOURCES), raw, DownloadRecord.read(layout.record(task)))
        prepare(definition, read_raw(definition, raw), Destination(path, card), settings, False)
    if not head.exists():
        task_card = TaskCard.read(card)
        whole = load_clip(clip, layout.image_encoder(model), layout.text_encoder(model))
        built = build_head(whole, clip, task_card.classes, task_card.templates)
        write_head(head, built, {"model": model, "task": task, "version": task_card.version})
    classifier = read_head(head)
    return Benchmark.of_images(task, read_split(path(split), len(classifier.classes)), classifier)
