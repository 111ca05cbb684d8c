"""Bringing pre-trained weights of a known hash: from this repository or from the Hugging Face hub."""

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

from pipeline.errors import UserError
from pipeline.files import file_sha256
from pipeline.models.registry import HubWeights, ModelDefinition


def fetch_weights(definition: ModelDefinition, root: Path) -> Path:
    """The verified file of a model's pre-trained weights (both towers).

    Hub files come through huggingface_hub: resumable, cached in its own cache, from ``HF_ENDPOINT`` if set.

    Args:
        definition: the model.
        root: the repository's root, which committed paths are relative to.

    Raises:
        UserError: the file is missing, cannot be fetched, or is not the one that the definition names.
    """
    weights = definition.weights
    path = _download(weights) if isinstance(weights, HubWeights) else root / weights.path
    actual = file_sha256(path)
    if actual != weights.sha256:
        raise UserError(
            f"model {definition.name}: {path} has SHA-256 {actual} but its definition names {weights.sha256}; "
            "delete the file and fetch it again"
        )
    return path


def _download(weights: HubWeights) -> Path:
    what = f"{weights.repository}/{weights.filename} at {weights.revision[:12]}"
    try:
        return Path(hf_hub_download(weights.repository, weights.filename, revision=weights.revision))
    except GatedRepoError:
        raise UserError(f"{what}: access is gated; accept its terms on the hub and set HF_TOKEN") from None
    except LocalEntryNotFoundError as error:
        why = " ".join(str(error.__cause__ or error).split())
        raise UserError(
            f"{what}: the hub cannot be reached ({why}); check the network, HF_ENDPOINT, HF_HUB_OFFLINE"
        ) from None
    except Exception as error:  # the hub's, or whatever the HTTP library below it raises
        raise UserError(f"{what}: cannot be fetched: {' '.join(str(error).split())}") from None
