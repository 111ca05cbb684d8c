"""localisation@model: localisation of the eigenfunctions of the empirical NTK, at pre-trained and random weights."""

import numpy as np
import pandas as pd
import torch

from artifacts import layout
from artifacts.evaluation.benchmarks import read_images
from artifacts.evaluation.edit_spaces import read_encoder
from pipeline.analysis.localisation import ntk_gram, pairwise_localisation, random_encoder
from pipeline.measurements import write_frame
from pipeline.models import load_model_definition
from pipeline.models.devices import prepare_device
from tauflow.running.stage import run_stage


def main() -> None:
    """Compute a kernel over all tasks' images per set of weights; write the leading eigenfunctions of every pair."""
    with run_stage() as stage:
        (model,) = stage.keys("model")
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
        # Image sizes differ between tasks.
        images = torch.cat([encoders["pretrained"].fit(torch.from_numpy(sample.inputs)) for sample in samples])
        frames = []
        for weights, encoder in encoders.items():
            gram = ntk_gram(encoder, images, settings.memory * 2**20, prepare_device(params.device))
            frame = pairwise_localisation(gram, owners, settings.eigenfunctions)
            frames.append(frame.assign(weights=weights))
            energy = frame["first_energy"].to_numpy()
            larger = float(np.maximum(energy, 1 - energy).mean())
            stage.journal.metrics({f"localisation.{weights}": larger})
            print(f"{stage.name}: {weights} weights, {larger:.1%} of an eigenfunction's energy on one task")
        write_frame(layout.localisation(model), pd.concat(frames))


if __name__ == "__main__":
    main()
