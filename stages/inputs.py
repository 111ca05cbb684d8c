"""What the evaluation stages read: benchmarks and the edit space of a paradigm."""

from pipeline.config import Parameters
from pipeline.devices import prepare_device
from pipeline.editing import read_task_vector
from pipeline.editing.spaces import EditSpace, make_edit_space
from pipeline.errors import UserError
from pipeline.evaluation import Benchmark
from pipeline.models import load_model_definition
from pipeline.models.encoders import load_image_encoder
from pipeline.models.heads import read_head
from pipeline.tasks import Split, read_split
from tauflow import layout


def read_benchmark(model: str, task: str, split: Split) -> Benchmark:
    """A split of a task with the model's head for it.

    Raises:
        UserError: a file is missing or damaged.
    """
    head = read_head(layout.head(model, task))
    return Benchmark(task, read_split(layout.split(task, split), len(head.classes)), head)


def read_edit_space(model: str, paradigm: str, recipe: str, params: Parameters) -> EditSpace:
    """The edit space of a paradigm, with its recipe's task vectors in the order of the tasks in the parameters.

    Raises:
        UserError: a file is missing or damaged, or a vector starts from another θ₀.
    """
    encoder = load_image_encoder(load_model_definition(model), layout.image_encoder(model))
    vectors = [read_task_vector(layout.task_vector(model, recipe, task)) for task in params.tasks]
    for task, vector in zip(params.tasks, vectors, strict=True):
        if vector.provenance.base_sha256 != encoder.sha256:
            raise UserError(
                f"{layout.task_vector(model, recipe, task)}: belongs to θ₀ {vector.provenance.base_sha256[:12]}, "
                f"not to {encoder.sha256[:12]} in {layout.image_encoder(model)}; run `dvc repro`"
            )
    return make_edit_space(params.paradigm[paradigm].evaluated_in, encoder, vectors, prepare_device(params.device))
