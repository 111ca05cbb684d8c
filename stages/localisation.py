"""localisation@model: where the eigenfunctions of the empirical NTK live, at pre-trained and at random weights."""

import numpy as np
import pandas as pd
import torch
import typer

from pipeline.analysis.localisation import ntk_gram, pairwise_localisation, random_encoder
from pipeline.devices import prepare_device
from pipeline.measurements import write_frame
from pipeline.models import load_model_definition
from stages.edits import read_encoder
from stages.inputs import read_images
from tauflow import layout
from tauflow.stage import run_stage


def main(model: str) -> None:
    """One kernel over all tasks' images for either weights; the leading eigenfunctions of every pair of tasks."""
    with run_stage("localisation", model, used=["tasks", "localisation"]) as stage:
        params = stage.params
        settings = params.localisation
        samples = [
            read_images(model, task, "test").sample(settings.images, params.analysis.seed) for task in params.tasks
        ]
        owners = [sample.task for sample in samples for _ in range(len(sample))]
        encoders = {
            "pretrained": read_encoder(model),
            "random": random_encoder(load_model_definition(model), settings.random_seed),
        }
        # Tasks need not have images of one size.
        images = torch.cat([encoders["pretrained"].fit(torch.from_numpy(sample.inputs)) for sample in samples])
        frames = []
        for weights, encoder in encoders.items():
            gram = ntk_gram(encoder, images, settings.memory * 2**20, prepare_device(params.device))
            found = pairwise_localisation(gram, owners, settings.eigenfunctions)
            frames.append(found.assign(weights=weights))
            energy = found["first_energy"].to_numpy()
            larger = float(np.maximum(energy, 1 - energy).mean())
            stage.journal.metrics({f"localisation.{weights}": larger})
            print(f"{stage.name}: {weights} weights, {larger:.1%} of an eigenfunction's energy on one task")
        write_frame(layout.localisation(model), pd.concat(frames))


if __name__ == "__main__":
    typer.run(main)
