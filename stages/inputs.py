"""What the evaluation stages read: a paradigm's edit space, and benchmarks in the form that it takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config import Parameters
from pipeline.devices import prepare_device
from pipeline.editing.features import read_features
from pipeline.editing.spaces import FeatureSpace, WeightSpace
from pipeline.errors import UserError
from pipeline.evaluation import Benchmark
from pipeline.models.heads import read_head
from pipeline.tasks import Split, read_split
from stages.edits import read_weight_space
from tauflow import layout


def read_images(model: str, task: str, split: Split) -> Benchmark:
    """A split of a task, as images, with the model's head for it.

    Raises:
        UserError: a file is missing or damaged.
    """
    head = read_head(layout.head(model, task))
    return Benchmark.of_images(task, read_split(layout.split(task, split), len(head.classes)), head)


@dataclass(frozen=True)
class Inputs:
    """A paradigm's edit space over the task vectors in the order of the tasks in the parameters, and its benchmarks.

    features_of: the recipe whose tangent features the space takes; ``None`` if it takes images.
    """

    space: WeightSpace | FeatureSpace
    model: str
    features_of: str | None

    def benchmark(self, task: str, split: Split) -> Benchmark:
        """A split of a task.

        Raises:
            UserError: a file is missing or damaged.
        """
        images = read_images(self.model, task, split)
        if self.features_of is None:
            return images
        path = layout.features(self.model, self.features_of, split, task)
        features = read_features(path, self.space.size)
        if len(features) != len(images):
            raise UserError(f"{path}: {len(features)} images, but the split has {len(images)}; run `dvc repro`")
        return Benchmark(task, features, images.labels, images.head)

    def benchmarks(self, tasks: Sequence[str], split: Split) -> list[Benchmark]:
        """The same split of several tasks."""
        return [self.benchmark(task, split) for task in tasks]


def read_inputs(params: Parameters, model: str, paradigm: str, recipe: str) -> Inputs:
    """In tangent space the stage `features` has run the encoder already.

    Raises:
        UserError: a file is missing or damaged, or a vector starts from another θ₀.
    """
    if params.paradigm[paradigm].evaluated_in == "weight":
        return Inputs(read_weight_space(params, model, recipe), model, None)
    return Inputs(FeatureSpace(len(params.tasks), prepare_device(params.device)), model, recipe)
