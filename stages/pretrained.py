"""pretrained@model: a model's pre-trained weights, verified and split into its two towers."""

from pathlib import Path

from safetensors.numpy import load_file

from artifacts import layout
from pipeline.io.arrays import fingerprint, write_arrays
from pipeline.models import load_model_definition
from pipeline.models.encoders import build_clip, load_weights, split_towers
from pipeline.sources.weights import fetch_weights
from tauflow.running.stage import run_stage


def main() -> None:
    """Fetch and verify the weights, check that they fit the architecture, and split the towers."""
    with run_stage() as stage:
        (model,) = stage.keys("model")
        definition = load_model_definition(model)
        path = fetch_weights(definition, Path())
        state = load_file(path)
        load_weights(build_clip(definition), state, str(path))
        image, text = split_towers(state)
        origin = {"model": model, "version": definition.version, "source_sha256": definition.weights.sha256}
        write_arrays(layout.image_encoder(model), image, origin)
        write_arrays(layout.text_encoder(model), text, origin)
        print(f"{model}: θ₀ {fingerprint(image)[:12]}, {sum(a.size for a in image.values()):,} parameters")
        stage.journal.metrics({"parameters": sum(a.size for a in image.values())})


if __name__ == "__main__":
    main()
