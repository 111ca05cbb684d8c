"""Tiny CLIPs with random weights, of both activations, and a fine-tuned image encoder in other projects' formats."""

import copy
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import open_clip
import pytest
import torch
from torch import Tensor, nn

from pipeline.io.arrays import fingerprint
from pipeline.models.encoders import ImageEncoder, build_clip
from pipeline.models.registry import ModelDefinition

# As in task_vectors: the CLIP without its text transformer, and image transformations.
MODELING = """
import torch, open_clip

class ImageEncoder(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model
        self.train_preprocess = open_clip.image_transform(32, is_train=True)
        self.val_preprocess = open_clip.image_transform(32, is_train=False)
        self.cache_dir = None
"""
THEIRS = "src_of_another_project"

Definitions = Callable[..., ModelDefinition]


@pytest.fixture(scope="session")
def define(
    tiny_config: dict, tiny_definition: ModelDefinition, tmp_path_factory: pytest.TempPathFactory
) -> Definitions:
    """Makes definitions of the tiny architecture with changes to its configuration, which open_clip then knows."""

    def made(name: str, **changes: object) -> ModelDefinition:
        config = {**tiny_config}
        for key, value in changes.items():
            part, _, inner = key.partition("__")
            config[part] = {**config[part], inner: value} if inner else value
        path = tmp_path_factory.mktemp("architectures") / f"{name}.json"
        path.write_text(json.dumps(config))
        open_clip.add_model_config(path)
        return tiny_definition.model_copy(update={"name": name, "architecture": name})

    return made


@pytest.fixture(scope="session")
def clip_of() -> Callable[[ModelDefinition], nn.Module]:
    """Makes the CLIP of a definition with random weights, no two tensors alike: fresh biases are all zero."""

    def made(definition: ModelDefinition) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            clip = build_clip(definition).requires_grad_(False)
            for parameter in clip.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return clip

    return made


@pytest.fixture(scope="session")
def origin(clip_of: Callable[[ModelDefinition], nn.Module], tiny_definition: ModelDefinition) -> nn.Module:
    """The pre-trained CLIP; not to be changed."""
    return clip_of(tiny_definition)


@pytest.fixture(scope="session")
def encoder(origin: nn.Module, tiny_definition: ModelDefinition) -> ImageEncoder:
    """Its image encoder, at θ₀."""
    visual = copy.deepcopy(origin.get_submodule("visual"))
    return ImageEncoder(visual, tiny_definition, fingerprint({n: t.numpy() for n, t in visual.state_dict().items()}))


@pytest.fixture(scope="session")
def tau(encoder: ImageEncoder) -> dict[str, Tensor]:
    """The tensors that another project's fine-tuning moved: everything but the projection."""
    random = torch.Generator().manual_seed(2)
    state = encoder.visual.state_dict()
    return {n: 0.05 * torch.randn(t.shape, generator=random) for n, t in state.items() if n != "proj"}


@pytest.fixture
def tuned(origin: nn.Module, tau: dict[str, Tensor]) -> nn.Module:
    """The fine-tuned CLIP, as it would be before it is saved; a fresh one."""
    clip = copy.deepcopy(origin)
    for name, parameter in clip.get_submodule("visual").named_parameters():
        if name in tau:
            parameter.add_(tau[name])
    return clip


@pytest.fixture
def pickled(tmp_path: Path) -> Callable[[nn.Module], Path]:
    """Saves a CLIP as task_vectors do: a pickled module of a class that does not exist afterwards."""

    def save(clip: nn.Module) -> Path:
        module = sys.modules[THEIRS] = ModuleType(THEIRS)
        exec(MODELING, module.__dict__)
        if hasattr(clip, "transformer"):
            del clip.transformer
        try:
            torch.save(module.ImageEncoder(clip), tmp_path / "finetuned.pt")
        finally:
            del sys.modules[THEIRS]
        return tmp_path / "finetuned.pt"

    return save
