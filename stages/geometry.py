"""geometry@model-recipe: cosine similarities of task vectors, and their orthogonality with each task's data."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch

from artifacts import layout
from artifacts.catalogue import measurements_of
from artifacts.evaluation.benchmarks import read_images
from artifacts.evaluation.edit_spaces import read_encoder, read_vectors
from pipeline.analysis.geometry import cosine_matrix, input_moments, orthogonality_frame
from pipeline.io.files import write_json
from pipeline.measurements import MEAN, Recorder, Subject, to_frame, write_frame
from pipeline.models.devices import prepare_device
from tauflow.running.stage import run_stage


def main() -> None:
    """Compare flattened task vectors, and each linear layer's update with its inputs at θ₀ on test images."""
    with run_stage() as stage:
        model, recipe = stage.keys("model", "recipe")
        params = stage.params
        encoder, device = read_encoder(model), prepare_device(params.device)
        vectors = [vector.to(device) for vector in read_vectors(model, recipe, params.tasks, encoder.sha256)]

        def batches(images: np.ndarray) -> Sequence[torch.Tensor]:
            return torch.from_numpy(images).split(params.evaluation.batch_size)

        samples = (
            read_images(model, task, "test").sample(params.analysis.images, params.analysis.seed)
            for task in params.tasks
        )
        moments = ((sample.task, input_moments(encoder, batches(sample.inputs), device)) for sample in samples)
        responses = orthogonality_frame(dict(zip(params.tasks, vectors, strict=True)), moments)
        cosines = cosine_matrix(vectors)

        recorder = Recorder(model, params.seed, recipe=recipe)
        rows = [
            recorder.number("cosine", "none", Subject.of_pair(first, second), "cosine", cosines[a, b])
            for (a, first), (b, second) in itertools.combinations(enumerate(params.tasks), 2)
        ]
        others = cosines[~np.eye(len(cosines), dtype=bool)]
        rows.append(recorder.number("cosine", "none", Subject.of_mean(), "cosine", float(others.mean())))
        own = (responses["vector"] == responses["data"]).to_numpy()
        for metric, chosen in (("response_own", own), ("response_other", ~own)):
            mean = float(responses["response"].to_numpy()[chosen].mean())
            rows.append(recorder.number("orthogonality", "none", Subject.of_mean(), metric, mean))
        write_frame(layout.geometry(model, recipe) / "orthogonality.csv", responses)
        write_frame(measurements_of(stage.instance), to_frame(rows))
        origins = {task: asdict(vector.provenance) for task, vector in zip(params.tasks, vectors, strict=True)}
        write_json(layout.geometry(model, recipe) / "vectors.json", origins)
        means = {row.metric: row.value for row in rows if row.scope == MEAN}
        stage.journal.metrics(means)
        print(f"{stage.name}: " + ", ".join(f"{name} {value:.3f}" for name, value in means.items()))


if __name__ == "__main__":
    main()
