"""Fetch pre-trained weights of a known hash from this repository or from the Hugging Face hub."""

from pathlib import Path

from pipeline.errors import UserError
from pipeline.io.files import file_sha256
from pipeline.models.registry import HubWeights, ModelDefinition
from pipeline.sources.hub import fetch_file


def fetch_weights(definition: ModelDefinition, root: Path) -> Path:
    """Return the verified file of a model's pre-trained weights (both towers).

    Args:
        definition: the model.
        root: the repository's root, to which committed paths are relative.

    Raises:
        UserError: the file is missing, cannot be fetched, or has another hash than the definition.
    """
    weights = definition.weights
    if isinstance(weights, HubWeights):
        path = fetch_file(weights.repository, weights.filename, weights.revision, "model")
    else:
        path = root / weights.path
    actual = file_sha256(path)
    if actual != weights.sha256:
        raise UserError(
            f"model {definition.name}: {path} has SHA-256 {actual} but its definition names {weights.sha256}; "
            "delete the file and fetch it again"
        )
    return path
