"""``tauflow import-pool``: make task vectors from published checkpoints of all tasks."""

from pathlib import Path
from typing import Annotated

import typer

from artifacts import layout
from tauflow.commands import completion
from tauflow.commands.console import checked_parameters, chosen, note, one_line_errors
from tauflow.commands.edit_options import ModelOption
from tauflow.commands.import_vector import print_size


def import_pool(
    pool: Annotated[
        str,
        typer.Argument(
            help="A file of pipeline/definitions/pools.", show_default=False, autocompletion=completion.pools
        ),
    ],
    folder: Annotated[
        Path | None, typer.Option(help="Where the files are, if the pool is not on the hub.", show_default=False)
    ] = None,
    model: ModelOption = None,
) -> None:
    """Import the published checkpoints of all tasks of params.yaml, as task vectors of the recipe named like the pool.

    The first import records the commit and the SHA-256 of every file in data/records/pools; later ones take the same
    files or refuse. A checkpoint with another activation than the model, or that was fine-tuned from other weights, is
    refused. Vectors that are there already are kept (docs/checkpoints.md).

    For example: `tauflow import-pool public_b32`, after
    `tauflow compose suite=paper8 model=vit_b_32 paradigm=public_b32` and `dvc repro pretrained@ViT-B-32`.
    """
    parameters = checked_parameters()
    with one_line_errors():
        from pipeline.foreign.pools import load_pool  # imports torch
        from tauflow.edited.import_vector import import_pool as import_all

        definition = load_pool(pool)
        model = chosen("--model", model, parameters.models)
        kept = import_all(definition, model, parameters.tasks, folder, print_size)
    if kept:
        print(f"there already: {', '.join(kept)}")
    for task in parameters.tasks:
        if task in definition.notes:
            note(f"{task}: {definition.notes[task]}")
    if definition.dtd == "leaky" and "dtd" in parameters.tasks:
        note("dtd: test images were among those trained on; do not compare its accuracy with that of clean checkpoints")
    path, records = layout.imported(model, pool, "dtd").parent, layout.pool_record(pool, model, "dtd").parent
    print(f"Next: commit {records}, `dvc add {path}`, and run the study")
