"""The papers' benchmark as a project: nine tasks from a hub on loopback, all paradigms, a CLIP of random weights.

Images are generated, in the datasets' real schemas. By hand, at the true size of a model, on a GPU with the protocol's
batches and all paradigms, or on two cores with less:

    python -m tests.pipeline.paper8 --model ViT-B-32 --device cuda --jobs 10
    python -m tests.pipeline.paper8 --model ViT-B-32 --device cpu --jobs 2 --train 24 --test 4 --templates 4 \
        --override paradigm=main --override finetune.batch_size=8
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import open_clip
import pandas as pd
import torch
import typer
import yaml
from safetensors.torch import save_file
from torch import nn

from pipeline.models.devices import prepare_device
from pipeline.models.encoders import ImageEncoder, architecture_config
from pipeline.models.heads import build_head
from pipeline.models.registry import ModelDefinition, load_model_definition
from pipeline.preparation.decoding import decode
from pipeline.tasks import TaskDefinition, load_task
from pipeline.tasks.registry import HubSource
from tauflow.dvc.composition import compose
from tests.hub import TOKEN, encoded, parquet, serving
from tests.pipeline import dag
from tests.pipeline.conftest import Project, copy_project

TASKS = ["cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn"]
MODEL = "random"
# Two steps per task, and as little of everything else as there can be.
OVERRIDES = [
    "suite=paper8",
    "paradigm=all",
    f"models=[{MODEL}]",
    "finetune.steps=2",
    "finetune.warmup_steps=1",
    "search.addition.points=2",
    "search.negation.points=2",
    "disentanglement.grid.points=2",
    "analysis.images=2",
    "intervals.resamples=20",
    "localisation.images=2",
    "localisation.eigenfunctions=2",
]
Labeller = Callable[[list[bytes]], list[int]]


@dataclass(frozen=True)
class Sizes:
    """Images of a task, and templates of ImageNet's prompts; ``None``: all."""

    train: int
    test: int
    templates: int | None = None


def image(random: np.random.Generator, size: int | None, channels: int) -> bytes:
    """A file of the dataset's size or, where that differs, of any."""
    height, width = (size, size) if size else random.integers(200, 300, 2)
    pixels = random.integers(0, 256, (height, width, channels), dtype=np.uint8)
    return encoded(pixels[..., 0], "PNG") if channels == 1 else encoded(pixels, "PNG" if size else "JPEG")


def files(source: HubSource, names: list[str], channels: int, label: Labeller, sizes: Sizes) -> dict[str, bytes]:
    """A dataset as on the hub: shards with its own class names, and a card."""
    random = np.random.default_rng(0)
    contents = {"README.md": b"# A dataset\n"}
    for split, chosen in source.splits.named().items():
        shards = (chosen.first or 1) + 1 if split == "train" else 1  # one more than are wanted
        for number in range(shards):
            count = (sizes.train if split == "train" else sizes.test) // (chosen.first or 1) + 1
            images = [image(random, source.image_size, channels) for _ in range(count)]
            name = chosen.files.replace("*", f"{number:05}-of-{shards:05}")
            contents[name] = parquet(images, label(images), names, source.label, source.image)
    return contents


def labeller(definition: TaskDefinition, source: HubSource, clip: nn.Module, model: ModelDefinition) -> Labeller:
    """Calls every image what the model takes it for: an accuracy of zero could not be normalised."""
    device = clip.get_parameter("logit_scale").device
    encoder = ImageEncoder(clip.get_submodule("visual"), model, "").to(device)
    weight = build_head(clip, model, definition.classes, definition.templates).weight
    size = source.image_size or 224

    def label(images: list[bytes]) -> list[int]:
        pixels = torch.from_numpy(np.stack([decode(content, size, source.image_size) for content in images]))
        with torch.no_grad():
            return (nn.functional.normalize(encoder(pixels.to(device)), dim=1) @ weight.T).argmax(1).tolist()

    return label


def in_turn(images: list[bytes]) -> list[int]:
    """Calls the images by the thousand classes, one after the other."""
    return [number % 1000 for number in range(len(images))]


def published(definition: TaskDefinition, clip: nn.Module, model: ModelDefinition, sizes: Sizes) -> dict[str, bytes]:
    """A task's dataset."""
    source = definition.source
    assert isinstance(source, HubSource)
    if definition.name == "imagenet":  # its head takes long, and the control may be at chance
        assert source.class_names is not None
        return files(source, source.class_names, 3, in_turn, sizes)
    channels = 1 if definition.name == "mnist" else 3
    return files(source, definition.classes, channels, labeller(definition, source, clip, model), sizes)


def add_model(project: Project, architecture: Mapping[str, Any]) -> tuple[nn.Module, ModelDefinition]:
    """The definition, architecture and weights of a model like ViT-B/32 but for its sizes, initialised at random."""
    models = project.root / "pipeline" / "definitions" / "models"
    (models / MODEL).mkdir()
    (models / MODEL / f"{MODEL}.json").write_text(json.dumps(architecture))
    open_clip.add_model_config(models / MODEL / f"{MODEL}.json")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        clip = open_clip.create_model(MODEL, pretrained=None).eval()
    weights = project.root / "data" / "mini" / "random.safetensors"
    save_file(clip.state_dict(), weights)
    definition = yaml.safe_load((models / "ViT-B-32" / "model.yaml").read_text())
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    definition |= {"name": MODEL, "architecture": MODEL, "pretrained": None}
    definition["weights"] = {"kind": "committed", "path": "data/mini/random.safetensors", "sha256": sha256}
    (models / MODEL / "model.yaml").write_text(yaml.safe_dump(definition))
    return clip, ModelDefinition.model_validate(definition)


@contextmanager
def served(
    root: Path, architecture: Mapping[str, Any], overrides: Sequence[str], sizes: Sizes, device: torch.device
) -> Iterator[tuple[Project, dict[str, str]]]:
    """A project in which nothing has run, and the environment in which its stages find the hub."""
    project = copy_project(root / "project")
    clip, model = add_model(project, architecture)
    clip = clip.to(device)
    imagenet = project.root / "pipeline" / "definitions" / "tasks" / "imagenet.yaml"
    definition = yaml.safe_load(imagenet.read_text())
    imagenet.write_text(yaml.safe_dump(definition | {"templates": definition["templates"][: sizes.templates]}))
    compose(project.root, [*OVERRIDES, *overrides])
    with serving() as hub:
        for name in [*TASKS, "imagenet"]:
            definition = load_task(name)
            content = published(definition, clip, model, sizes)
            assert isinstance(definition.source, HubSource)
            hub.publish(definition.source.repository, content)
            if len(definition.source.revision) == 40:  # a pinned commit
                hub.older[definition.source.revision] = content
        hub.gated.add("ILSVRC/imagenet-1k")
        yield (
            project,
            {
                "HF_ENDPOINT": hub.endpoint,
                "HF_HOME": str(root / "cache"),
                "HF_TOKEN": TOKEN,
                "HF_HUB_DISABLE_XET": "1",
                "NO_PROXY": "127.0.0.1",
            },
        )


def kinds(rows: pd.DataFrame) -> pd.DataFrame:
    """Instances, seconds in all, and the peaks of memory in GiB, by kind of stage."""
    by = rows.assign(stage=rows["name"].str.partition("@")[0]).groupby("stage", sort=False)
    table = by.agg(
        instances=("name", "size"), seconds=("seconds", "sum"), resident=("resident", "max"), gpu=("gpu", "max")
    )
    return table.assign(resident=table["resident"] / 2**30, gpu=table["gpu"] / 2**30).round(2)


def main(
    model: str = "ViT-B-32",
    device: str = "auto",
    jobs: int = 1,
    directory: Annotated[Path | None, typer.Option(help="With 50 GB for ViT-B-32.")] = None,
    train: Annotated[int, typer.Option(help="Images of train per task.")] = 160,
    test: Annotated[int, typer.Option(help="Images of test per task.")] = 32,
    templates: Annotated[
        int | None, typer.Option(help="Of ImageNet's prompts: all 80 take two cores 40 minutes.", show_default="all")
    ] = None,
    override: list[str] | None = None,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Run everything once and print what it took."""
    chosen = prepare_device(device)
    config = architecture_config(load_model_definition(model))
    overrides = [f"device={chosen.type}", f"prepare.control_train_images={train}", *(override or [])]
    with tempfile.TemporaryDirectory(dir=directory) as root:
        began = time.monotonic()
        sizes = Sizes(train, test, templates)
        with served(Path(root), config, overrides, sizes, chosen) as (project, environment):
            print(f"data and weights made in {time.monotonic() - began:.0f} s", flush=True)
            torch.cuda.empty_cache()
            rows, began = Path(root) / "rows.json", time.monotonic()
            command = [sys.executable, dag.__file__, str(project.root), "--jobs", str(jobs), "--json", str(rows)]
            environment |= {
                "TAUFLOW_TRACKER": "off",
                "OMP_NUM_THREADS": str(max(1, round((os.cpu_count() or 1) / jobs))),
            }
            subprocess.run(command, check=True, env={**os.environ, **environment})
            seconds = time.monotonic() - began
        actual = pd.read_json(rows)
        print(kinds(actual).to_string())
        print(f"{model} on {chosen}: {len(actual)} stage instances, {jobs} at once, {seconds:.0f} s")
        if json_file:
            json_file.write_text(rows.read_text())


if __name__ == "__main__":
    typer.run(main)
