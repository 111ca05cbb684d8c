"""Import checkpoints of other projects as task vectors of the pipeline."""

from collections.abc import Callable, Sequence
from pathlib import Path

from artifacts import layout
from artifacts.evaluation.edit_spaces import read_encoder
from pipeline.editing import read_task_vector, write_task_vector
from pipeline.errors import UserError
from pipeline.foreign.checkpoint import ForeignCheckpoint, read_foreign
from pipeline.foreign.importing import Imported, import_task_vector
from pipeline.foreign.pools import Pool, fetch_checkpoint
from pipeline.models import load_model_definition
from pipeline.models.encoders import ImageEncoder, architecture_config
from pipeline.sources.record import DownloadRecord

# Relative norm ‖τ‖/‖θ₀‖ above which a checkpoint was not fine-tuned from θ₀: that of unrelated weights is about 1.4.
MAX_RELATIVE_NORM = 0.5


def import_checkpoint(checkpoint: Path, prefix: str, model: str, recipe: str, task: str) -> tuple[Path, Imported]:
    """Write a checkpoint's task vector; return its path and the details of the import.

    Args:
        checkpoint: a file or folder.
        prefix: the beginning of the names of the tensors to take; empty for all.
        model, recipe, task: the model, recipe and task of the vector.

    Raises:
        UserError: the checkpoint cannot be read or is not of this model, θ₀ is missing, or the vector exists.
    """
    path = layout.imported(model, recipe, task)
    if path.exists():
        raise UserError(f"{path}: exists already; delete it, or choose another --name")
    imported = to_task_vector(read_foreign(checkpoint).under(prefix), read_encoder(model), model, recipe, task)
    write_task_vector(path, imported.vector)
    return path, imported


def import_pool(
    pool: Pool, model: str, tasks: Sequence[str], folder: Path | None, report: Callable[[Path, Imported], None]
) -> list[str]:
    """Write the task vectors of a pool's checkpoints and the records of their files; vectors that are there are kept.

    Args:
        pool: the pool, whose name becomes that of the recipe.
        model: the model that the checkpoints were fine-tuned from.
        tasks: the tasks whose checkpoints are wanted.
        folder: where the files of a pool in a folder are.
        report: called for each checkpoint that was read.

    Returns:
        The tasks whose vectors were there already.

    Raises:
        UserError: the pool is of another model or lacks a task, θ₀ is missing, or a checkpoint cannot be fetched,
            differs from its record, is not of this model, or does not start from θ₀.
    """
    _check_fits(pool, model, tasks)
    encoder = read_encoder(model)
    kept = []
    for task in tasks:
        path, record_file = layout.imported(model, pool.name, task), layout.pool_record(pool.name, model, task)
        known = DownloadRecord.read(record_file)
        if known is not None and path.exists():
            _check_recorded(path, known, record_file)
            kept.append(task)
            continue
        weights, record = fetch_checkpoint(pool, task, folder, known)
        imported = to_task_vector(read_foreign(weights), encoder, model, pool.name, task)
        if imported.relative_norm > MAX_RELATIVE_NORM:
            raise UserError(
                f"{_origin(record)}: is {imported.relative_norm:.0%} of ‖θ₀‖ away from {model}, as unrelated weights "
                "are, so it was not fine-tuned from it; choose another --model"
            )
        record.write(record_file)
        write_task_vector(path, imported.vector)
        report(path, imported)
    return kept


def to_task_vector(
    checkpoint: ForeignCheckpoint, encoder: ImageEncoder, model: str, recipe: str, task: str
) -> Imported:
    """Return a checkpoint's task vector.

    Args:
        checkpoint: its configuration, if it has one, must name the model's activation.
        encoder: the model's encoder at θ₀.
        model, recipe, task: the model, recipe and task of the vector.

    Raises:
        UserError: as for :func:`pipeline.foreign.importing.import_task_vector`.
    """
    quick_gelu = bool(architecture_config(load_model_definition(model)).get("quick_gelu", False))
    return import_task_vector(checkpoint, encoder, quick_gelu, model, recipe, task)


def _check_fits(pool: Pool, model: str, tasks: Sequence[str]) -> None:
    if pool.model not in (None, model):
        raise UserError(f"pool {pool.name}: is for model {pool.model}, not {model}; choose another pool or --model")
    for task in tasks:
        if task not in pool.tasks:
            raise UserError(
                f"pool {pool.name}: has no checkpoint of task {task!r}; compose with tasks from {', '.join(pool.tasks)}"
            )


def _check_recorded(path: Path, known: DownloadRecord, record_file: Path) -> None:
    """Check that a vector that is there was made from the recorded file."""
    origin = read_task_vector(path).provenance.imported_from or ""
    if not any(origin.endswith(file.sha256) for file in known.files.values()):
        raise UserError(f"{path}: was not made from the file that {record_file} records; delete it and import it again")


def _origin(record: DownloadRecord) -> str:
    return f"{record.origin} at {record.commit[:12]}" if record.commit else next(iter(record.files))
