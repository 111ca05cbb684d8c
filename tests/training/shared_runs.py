"""Fine-tunings to run on one process or on several: ``torchrun … shared_runs.py DIRECTORY`` writes what each gives.

Imports nothing of the tests, so that it also runs as a script.
"""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip.transformer as oc
import torch
from torch import Tensor

from pipeline.config import FinetuneSettings, OtherTasks, PaddedCrop, Recipe, RegulariserSettings, ResizedCrop
from pipeline.errors import UserError
from pipeline.images import LabelledImages
from pipeline.io.arrays import fingerprint, write_arrays
from pipeline.io.files import write_json
from pipeline.models.checkpoints import Space
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head
from pipeline.models.registry import CommittedWeights, ModelDefinition
from pipeline.paradigms import TrainableEncoder, make_trainable
from pipeline.tangent import GenericTangent
from pipeline.training import Plan, Processes, ResumeFile, StepRecord, TrainingData, finetune, joined, regulariser

CPU = torch.device("cpu")
DEFINITION = ModelDefinition(
    name="tiny",
    version=1,
    architecture="none",
    weights=CommittedWeights(kind="committed", path=Path("no/such.safetensors"), sha256="0" * 64),
    mean=(0.5, 0.4, 0.3),
    std=(0.25, 0.3, 0.35),
    licence="Apache-2.0",
    citation="none",
)


@regulariser("test_shared_pull")
def pull(encoder: TrainableEncoder, images: Tensor | None, options: object) -> Tensor:
    """‖τ‖², which needs no images."""
    assert images is None
    return torch.stack([tau.square().sum() for tau in encoder.tau().values()]).sum()


def tau_jp(mode: str, batch_size: int, norm: str = "l2") -> RegulariserSettings:
    others = {"tasks": ["a", "b"], "control": "c", "arrivals": None, "mode": mode, "batch_size": batch_size}
    return RegulariserSettings(name="tau_jp", weight=0.4, options={"norm": norm}, others=OtherTasks(**others))


@dataclass(frozen=True)
class Run:
    """A recipe and a batch.

    generic: an encoder that only ``torch.func.jvp`` linearises.
    rest: images in the incomplete last batch of an epoch.
    """

    space: Space
    regulariser: RegulariserSettings | None = None
    batch_size: int = 8
    trainable: str = "all"
    generic: bool = False
    rest: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


# Odd batches are shared unequally; of a batch of one image of another task, the second process gets nothing.
RUNS: dict[str, Run] = {
    "weight": Run("weight"),
    "weight, odd": Run("weight", batch_size=7),
    "resized crops": Run("weight", settings={"augmentation": ResizedCrop(kind="resized_crop", scale=(0.5, 1.0))}),
    "cyclic, checkpointed": Run("tangent", tau_jp("cyclic", 3), settings={"checkpointing": True}),
    "attention": Run("weight", trainable="attention", batch_size=9),
    "tangent": Run("tangent"),
    "tangent, odd": Run("tangent", batch_size=7),
    "cyclic": Run("tangent", tau_jp("cyclic", 4)),
    "cyclic, odd": Run("tangent", tau_jp("cyclic", 3), batch_size=5),
    "cyclic, one image": Run("tangent", tau_jp("cyclic", 1)),
    "strict": Run("tangent", tau_jp("strict", 4)),
    "strict, odd": Run("tangent", tau_jp("strict", 3, norm="squared"), batch_size=7),
    "strict in weight space": Run("weight", tau_jp("strict", 3)),
    "no images": Run("tangent", RegulariserSettings(name="test_shared_pull", weight=3.0, options={}, others=None)),
    "generic": Run("tangent", generic=True),
    "generic, cyclic": Run("tangent", tau_jp("cyclic", 3), batch_size=7, generic=True),
    "rest of three": Run("weight", rest=3),
    # The second process has no image of the last batch of an epoch.
    "rest of one": Run("weight", rest=1),
    "rest of one, resized": Run(
        "weight", rest=1, settings={"augmentation": ResizedCrop(kind="resized_crop", scale=(0.5, 1.0))}
    ),
    "rest of one, tangent": Run("tangent", rest=1, settings={"checkpointing": True}),
    "rest of one, cyclic": Run("tangent", tau_jp("cyclic", 1), batch_size=5, rest=1),
    "rest of one, strict in weight space": Run("weight", tau_jp("strict", 3), rest=1, settings={"checkpointing": True}),
    "rest of one, generic": Run("tangent", generic=True, rest=1),
}


RESUMED = ["cyclic, odd", "rest of one, cyclic"]


def encoder(generic: bool) -> ImageEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        visual = oc.VisionTransformer(
            image_size=16, patch_size=8, width=16, layers=2, heads=2, mlp_ratio=2.0, output_dim=8,
            final_ln_after_pool=generic,
        )  # fmt: skip
        with torch.no_grad():
            for parameter in visual.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return ImageEncoder(visual, DEFINITION, "0" * 64)


def images(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 16, 16), dtype=np.uint8)


def run(
    name: str, accumulation: int, processes: Processes, resume: ResumeFile | None = None, stop: int | None = None
) -> tuple[dict[str, Tensor], list[StepRecord]]:
    """θ and the curve of three epochs."""
    options = RUNS[name]
    settings = FinetuneSettings(
        lr=None, batch_size=options.batch_size, weight_decay=0.1, steps=None, warmup=0.1, warmup_steps=None,
        max_grad_norm=0.5, augmentation=PaddedCrop(kind="padded_crop", padding=1), precision="fp32",
        accumulation=accumulation, processes=processes.count, checkpointing=False, compile=False,
    ).model_copy(update=options.settings)  # fmt: skip
    recipe = Recipe(
        trainable=options.trainable,
        trained_in=options.space,
        regulariser=options.regulariser,
        extension=None,
        start=None,
    )
    trainable = make_trainable(encoder(options.generic), recipe)
    if options.space == "tangent":
        assert isinstance(trainable._propagate, GenericTangent) == options.generic  # pyright: ignore[reportAttributeAccessIssue]
    n = 2 * options.batch_size + options.rest
    weight = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    data = TrainingData(
        LabelledImages(images(n, 0), np.arange(n, dtype=np.int64) % 3),
        Head(10 * torch.nn.functional.normalize(weight, dim=1), ["a", "b", "c"]),
        {task: images(size, size) for task, size in (("a", 5), ("b", 4), ("c", 3))},
    )

    def on_step(record: StepRecord) -> None:
        if record.step == stop:
            raise InterruptedError

    plan = Plan(settings, 1e-3, 3.0, 0, options.regulariser)
    return finetune(trainable, data, plan, CPU, on_step, resume, processes)


def main(directory: Path) -> None:
    """Every run, once with 1 and once with 2 micro-batches; one that is stopped and resumed; one that is refused."""
    torch.set_num_threads(1)
    with joined() as processes:
        results = {
            f"{name}, {accumulation}": run(name, accumulation, processes) for name in RUNS for accumulation in (1, 2)
        }
        for name in RESUMED:
            resume = ResumeFile(directory / f"resume {name}.safetensors", "key", 2)
            try:
                run(name, 2, processes, resume, stop=4)
            except InterruptedError:
                results[f"{name}, resumed"] = run(name, 2, processes, resume)
        try:
            run("weight", 5, processes)
        except UserError as error:
            refused = str(error)
        else:
            refused = "not refused"
        fingerprints = {
            name: fingerprint({n: t.numpy() for n, t in theta.items()}) for name, (theta, _) in results.items()
        }
        write_json(directory / f"process_{processes.rank}.json", {"theta": fingerprints, "refused": refused})
        if processes.rank == 0:
            for name, (theta, curve) in results.items():
                records = {"curve": [asdict(record) for record in curve]}
                write_arrays(directory / f"{name}.safetensors", {n: t.numpy() for n, t in theta.items()}, records)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
