"""The models that exist: one YAML file each in ``pipeline/definitions/models/``."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.config import load_yaml
from pipeline.errors import UserError

DEFINITIONS = Path(__file__).parents[1] / "definitions" / "models"

Text = Annotated[str, Field(min_length=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PerChannel = tuple[float, float, float]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CommittedWeights(_Frozen):
    """A safetensors file in this repository; ``path`` is relative to its root."""

    kind: Literal["committed"]
    path: Path
    sha256: Sha256


class HubWeights(_Frozen):
    """A safetensors file in a Hugging Face repository, at a fixed commit."""

    kind: Literal["hub"]
    repository: Text
    filename: Annotated[str, Field(pattern=r".\.safetensors$")]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    sha256: Sha256


class ModelDefinition(_Frozen):
    """A CLIP architecture with pre-trained weights.

    ``architecture`` names an open_clip configuration, and ``pretrained`` the tag under which open_clip lists its
    weights, if it does; ``vocabulary`` is a BPE file beside the definition where it is not open_clip's own; ``mean``
    and ``std`` normalise RGB in [0, 1].
    """

    name: Text
    version: Annotated[int, Field(ge=1)]
    architecture: Text
    pretrained: Text | None = None
    vocabulary: Path | None = None
    weights: Annotated[CommittedWeights | HubWeights, Field(discriminator="kind")]
    mean: PerChannel
    std: PerChannel
    licence: Text
    citation: Text


def model_names() -> list[str]:
    """The names of all models, sorted."""
    return sorted(path.stem for path in DEFINITIONS.glob("*.yaml"))


def load_model_definition(name: str) -> ModelDefinition:
    """The definition of a model.

    Raises:
        UserError: there is no such model, or its file is wrong.
    """
    path = DEFINITIONS / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"model {name!r} is unknown; legal are {', '.join(model_names())}")
    definition = load_yaml(path, ModelDefinition)
    if definition.name != name:
        raise UserError(f"{path}: name is {definition.name!r} but must be the file's, {name!r}")
    return definition
