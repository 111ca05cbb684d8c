"""geometry@model-recipe: cosine similarities of task vectors, and their orthogonality with each task's data."""

import itertools
from dataclasses import asdict

import numpy as np
import torch
import typer

from pipeline.analysis.geometry import cosine_matrix, input_moments, orthogonality_frame
from pipeline.devices import prepare_device
from pipeline.files import write_json
from pipeline.measurements import MEAN, Recorder, to_frame, write_frame
from stages.edits import read_encoder, read_vectors
from stages.inputs import read_images
from tauflow import layout
from tauflow.stage import run_stage


def main(model: str, recipe: str) -> None:
    """Compare flattened task vectors, and each linear layer's update with its inputs at θ₀ on test images."""
    with run_stage("geometry", model, recipe, used=["recipe", "tasks", "analysis"]) as stage:
        params = stage.params
        encoder, device = read_encoder(model), prepare_device(params.device)
        vectors = [vector.to(device) for vector in read_vectors(model, recipe, params.tasks, encoder.sha256)]
        samples = (
            read_images(model, task, "test").sample(params.analysis.images, params.analysis.seed)
            for task in params.tasks
        )
        moments = (
            (sample.task, input_moments(encoder, torch.from_numpy(sample.inputs), params.evaluation.batch_size, device))
            for sample in samples
        )
        responses = orthogonality_frame(dict(zip(params.tasks, vectors, strict=True)), moments)
        cosines = cosine_matrix(vectors)

        recorder = Recorder(model, recipe, params.seed)
        rows = [
            recorder.number("cosine", "none", f"{first}+{second}", "cosine", cosines[a, b])
            for (a, first), (b, second) in itertools.combinations(enumerate(params.tasks), 2)
        ]
        others = cosines[~np.eye(len(cosines), dtype=bool)]
        rows.append(recorder.number("cosine", "none", MEAN, "cosine", float(others.mean())))
        own = (responses["vector"] == responses["data"]).to_numpy()
        for metric, chosen in (("response_own", own), ("response_other", ~own)):
            mean = float(responses["response"].to_numpy()[chosen].mean())
            rows.append(recorder.number("orthogonality", "none", MEAN, metric, mean))
        write_frame(layout.geometry(model, recipe) / "orthogonality.csv", responses)
        write_frame(layout.geometry(model, recipe) / "geometry.csv", to_frame(rows))
        origins = {task: asdict(vector.provenance) for task, vector in zip(params.tasks, vectors, strict=True)}
        write_json(layout.geometry(model, recipe) / "vectors.json", origins)
        means = {row.metric: row.value for row in rows if row.task == MEAN}
        stage.journal.metrics(means)
        print(f"{stage.name}: " + ", ".join(f"{name} {value:.3f}" for name, value in means.items()))


if __name__ == "__main__":
    typer.run(main)
