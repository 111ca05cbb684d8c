"""Read the inputs of an evaluation: a paradigm's edit space, and benchmarks in the form that the space takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from artifacts import layout
from artifacts.evaluation.edit_spaces import SPACES, read_weight_space
from pipeline.config import Parameters
from pipeline.editing.features import read_features
from pipeline.editing.spaces import FeatureSpace, WeightSpace
from pipeline.errors import UserError
from pipeline.evaluation.prediction import Benchmark
from pipeline.images import Split, read_split
from pipeline.models.devices import prepare_device
from pipeline.models.heads import read_head


def read_images(model: str, task: str, split: Split) -> Benchmark:
    """Return a split of a task as images, with the model's head for it."""
    head = read_head(layout.head(model, task))
    return Benchmark.of_images(task, read_split(layout.split(task, split), len(head.classes)), head)


@dataclass(frozen=True)
class Inputs:
    """A paradigm's edit space, over task vectors in the parameters' order of tasks, and its benchmarks.

    features_of: the recipe whose tangent features the space takes; ``None`` if it takes images.
    """

    space: WeightSpace | FeatureSpace
    model: str
    features_of: str | None

    def benchmark(self, task: str, split: Split) -> Benchmark:
        """Return a split of a task."""
        images = read_images(self.model, task, split)
        if self.features_of is None:
            return images
        path = layout.features(self.model, self.features_of, split, task)
        features = read_features(path, self.space.size)
        if len(features) != len(images):
            raise UserError(f"{path}: {len(features)} images, but the split has {len(images)}; run `dvc repro`")
        return Benchmark(task, features, images.labels, images.head)

    def benchmarks(self, tasks: Sequence[str], split: Split) -> list[Benchmark]:
        """Return the same split of several tasks."""
        return [self.benchmark(task, split) for task in tasks]


def read_inputs(params: Parameters, model: str, paradigm: str, recipe: str) -> Inputs:
    """Return the inputs of a paradigm. In tangent space, benchmarks are the tangent features from the stage `features`.

    Raises:
        UserError: a file is missing or damaged, or a vector starts from another θ₀.
    """
    name = params.paradigm[paradigm].evaluated_in
    if name == "tangent":
        return Inputs(FeatureSpace(len(params.tasks), prepare_device(params.device), params.evaluation), model, recipe)
    return Inputs(read_weight_space(params, model, recipe, SPACES[name]), model, None)
