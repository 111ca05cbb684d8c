"""Definitions of models: one folder each in ``pipeline/definitions/models/``, on which only its stages depend."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config import Definition, NamedDefinition, load_definition

DEFINITIONS = Path(__file__).parents[1] / "definitions" / "models"
FILE = "model.yaml"

Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PerChannel = tuple[float, float, float]


class CommittedWeights(Definition):
    """A safetensors file in this repository; ``path`` is relative to its root."""

    kind: Literal["committed"]
    path: Path
    sha256: Sha256


class HubWeights(Definition):
    """A safetensors file in a Hugging Face repository, at a fixed commit."""

    kind: Literal["hub"]
    repository: Text
    filename: Annotated[str, Field(pattern=r".\.safetensors$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    sha256: Sha256


class ModelDefinition(NamedDefinition):
    """A CLIP architecture with pre-trained weights.

    ``architecture`` names a configuration of open_clip, or a file ``<architecture>.json`` of the same form in the
    model's folder; ``pretrained`` is open_clip's tag of the weights, if it lists them; ``vocabulary`` is a BPE file in
    the folder, if it is not open_clip's; ``mean`` and ``std`` normalise RGB in [0, 1].
    """

    version: Annotated[int, Field(ge=1)]
    architecture: Text
    pretrained: Text | None = None
    vocabulary: Path | None = None
    weights: Annotated[CommittedWeights | HubWeights, Field(discriminator="kind")]
    mean: PerChannel
    std: PerChannel
    licence: Text
    citation: Text

    @property
    def folder(self) -> Path:
        """Return the folder with the definition and the files that it names."""
        return DEFINITIONS / self.name


def model_names() -> list[str]:
    """Return the names of all models, sorted."""
    return sorted(_files())


def load_model_definition(name: str) -> ModelDefinition:
    """Return the definition of a model.

    Raises:
        UserError: there is no such model, or its file is invalid.
    """
    return load_definition("model", name, _files(), ModelDefinition)


def _files() -> dict[str, Path]:
    return {path.parent.name: path for path in DEFINITIONS.glob(f"*/{FILE}")}
