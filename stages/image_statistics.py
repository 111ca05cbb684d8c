"""image_statistics@model-paradigm-task: a statistic of a task's images that a paradigm's merging method needs."""

from dataclasses import replace
from typing import cast

import numpy as np
import torch

from artifacts import layout
from artifacts.evaluation.edit_spaces import read_encoder, read_vectors
from pipeline.images import Split, read_unlabelled
from pipeline.io.progress import progress
from pipeline.io.tensor_files import TensorFile
from pipeline.merging import task_statistics, write_statistics
from pipeline.models.devices import prepare_device
from pipeline.models.heads import read_head
from tauflow.running.stage import run_stage


def main() -> None:
    """Run the task's single-task model on its images, without their labels."""
    with run_stage() as stage:
        model, paradigm, task, recipe, name = stage.keys("model", "paradigm", "task", "recipe", "split")
        params = stage.params
        chosen = params.paradigm[paradigm].merging.images  # pyright: ignore[reportOptionalMemberAccess]
        space = params.paradigm[paradigm].evaluated_in
        assert chosen is not None
        assert chosen.statistic is not None
        encoder = read_encoder(model).to(prepare_device(params.device))
        (vector,) = read_vectors(model, recipe, [task], encoder.sha256)
        images = read_unlabelled(layout.split(task, cast(Split, name)))
        drawn = np.random.default_rng(chosen.seed).permutation(len(images))[: chosen.count]
        batches = torch.from_numpy(images[np.sort(drawn)]).split(params.evaluation.batch_size)
        statistics = task_statistics(
            chosen.statistic,
            encoder,
            vector,
            read_head(layout.head(model, task)),
            progress(batches, f"{chosen.statistic} of {task}", len(batches)),
            space,
            chosen.seed,
        )
        sha256 = TensorFile(layout.task_vector(model, recipe, task)).sha256
        origin = {"model": model, "task": task, "recipe": recipe, "space": space, "vector_sha256": sha256}
        origin |= {"split": name, "seed": chosen.seed}
        write_statistics(layout.image_statistics(model, paradigm, task), replace(statistics, origin=origin))
        print(f"{stage.name}: {chosen.statistic} of {len(drawn)} images of {name}")


if __name__ == "__main__":
    main()
