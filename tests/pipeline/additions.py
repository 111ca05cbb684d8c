"""Additions to a project from outside: a model, a task, a paradigm and so on, as docs/how_to/ describes them.

Each function writes what its page says and returns the files that it wrote or changed, a model's folder counted once.
"""

import shutil

import numpy as np
import yaml

from tauflow.dvc.composition import compose
from tests.hub import encoded
from tests.pipeline.conftest import OVERRIDES, Project

Touched = set[str]

SELECTION = """
from pipeline.paradigms import selection

@selection("layer_norms")
def is_layer_norm(name):
    return ".ln_" in name
"""
REGULARISER = """
from pipeline.training import regulariser

@regulariser("length")
def length(encoder, images, options):
    return sum(tensor.square().sum() for tensor in encoder.tau().values())
"""
TASK = """name: another
version: 1
description: Painted tiles
classes: ["green", "red"]
templates: ["a {} tile"]
source: { kind: folder, path: own, directories: null, image_size: null, test_fraction: 0.2 }
origin: here
licence: none
citation: none
"""
MERGING_METHOD = """
from pipeline.merging import Context, Deltas, merging

@merging("strongest")
def strongest(deltas: Deltas, context: Context) -> Deltas:
    return deltas * (deltas.abs() == deltas.abs().amax(0))
"""
PARADIGM = """# @package _global_
defaults: [main, _self_]
paradigms: [standard, posthoc, tau_jp, {name}]
recipe:
  {name}:
    trainable: {trainable}
    trained_in: weight
    regulariser: {regulariser}
    extension: {extension}
    start: null
schedule:
  {name}: {{ lr: 3e-4, length: 0.5 }}
paradigm:
  {name}: {{ recipe: {name}, merging: null, evaluated_in: weight, negation_grid: null }}
"""
MERGING_PARADIGM = """# @package _global_
defaults: [main, _self_]
paradigms: [standard, posthoc, tau_jp, strongest]
paradigm:
  strongest:
    recipe: standard
    merging: {{ name: strongest, options: {{}}, images: null, modifiers: [], extension: {extension} }}
    evaluated_in: weight
    negation_grid: null
"""
ANALYSIS = '''"""How many of a task vector's values are zero."""

from torch import Tensor


def sparsity(tensors: dict[str, Tensor]) -> float:
    """Return the share of values that are zero."""
    zeros = sum(int((tensor == 0).sum()) for tensor in tensors.values())
    return zeros / sum(tensor.numel() for tensor in tensors.values())
'''
STAGE = '''"""sparsity@model-recipe: the share of a task vector's values that are zero."""

import pandas as pd

from artifacts import layout
from artifacts.catalogue import TABLES
from pipeline.analysis.sparsity import sparsity
from pipeline.editing import read_task_vector
from pipeline.measurements import write_frame
from tauflow.running.stage import run_stage


def main() -> None:
    """Count in every task vector of a recipe."""
    with run_stage() as stage:
        model, recipe = stage.keys("model", "recipe")
        paths = {task: layout.task_vector(model, recipe, task) for task in stage.params.tasks}
        shares = {task: sparsity(dict(read_task_vector(path).tensors)) for task, path in paths.items()}
        (table,) = (table for table in TABLES if table.stage == stage.instance.stage)
        write_frame(table.path(stage.instance.keys), pd.DataFrame({"task": list(shares), "share": shares.values()}))


if __name__ == "__main__":
    main()
'''
ENTRY = {
    "matrix": {"model": "${models}", "recipe": "${derived.recipes}"},
    "cmd": "python -m stages.sparsity",
    "deps": [
        *("stages/sparsity.py", "pipeline/io", "pipeline/models", "pipeline/editing"),
        *(
            "pipeline/analysis/sparsity.py",
            "pipeline/measurements.py",
            "data/task_vectors/${item.model}/${item.recipe}",
        ),
    ],
    "params": ["tasks"],
    "outs": ["data/analyses/${item.model}/sparsity/${item.recipe}.csv"],
}


def write(project: Project, path: str, content: str) -> Touched:
    """Write a file of the project."""
    (project.root / path).parent.mkdir(parents=True, exist_ok=True)
    (project.root / path).write_text(content, encoding="utf-8")
    return {path}


def replace(project: Project, path: str, old: str, new: str) -> Touched:
    """Replace the first occurrence of a text in a file of the project."""
    text = (project.root / path).read_text(encoding="utf-8")
    assert old in text
    return write(project, path, text.replace(old, new, 1))


def model(project: Project) -> Touched:
    """Add a model of mini-clip's architecture and weights."""
    models = project.root / "pipeline" / "definitions" / "models"
    shutil.copytree(models / "mini-clip", models / "another")
    replace(project, "pipeline/definitions/models/another/model.yaml", "name: mini-clip", "name: another")
    return {"pipeline/definitions/models/another/"}


def task(project: Project) -> Touched:
    """Add a task of two classes of images, which are not files of the project."""
    random = np.random.default_rng(0)
    for number in range(60):
        path = project.root / "own" / ("red" if number % 2 else "green") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 120, (32, 32, 3), dtype=np.uint8)
        pixels[..., number % 2] += 100
        path.write_bytes(encoded(pixels))
    return write(project, "pipeline/definitions/tasks/another.yaml", TASK)


def suite(project: Project) -> Touched:
    """Add a suite with that task."""
    lines = (
        "# @package _global_\ndefaults: [tiny, _self_]\nsuite: own\ntasks: [another, textures]\nepochs: {another: 3}\n"
    )
    return write(project, "conf/suite/own.yaml", lines)


def paradigm(
    project: Project, name: str = "another", trainable: str = "all", regulariser: str = "null", extension: str = "null"
) -> Touched:
    """Add a paradigm, beside those of the study."""
    content = PARADIGM.format(name=name, trainable=trainable, regulariser=regulariser, extension=extension)
    return write(project, f"conf/paradigm/{name}.yaml", content)


def selection(project: Project) -> Touched:
    """Add a selection of parameters."""
    return write(project, "extensions/norms.py", SELECTION)


def regulariser(project: Project) -> Touched:
    """Add a regulariser."""
    return write(project, "extensions/length.py", REGULARISER)


def merging_method(project: Project) -> Touched:
    """Add a merging method."""
    return write(project, "extensions/strongest.py", MERGING_METHOD)


def extended(path: str) -> str:
    """Return what a recipe says to load an extension."""
    return f'{{ path: {path}, sha256: "${{sha256:{path}}}" }}'


def selecting(project: Project) -> Touched:
    """Add a paradigm whose recipe names the selection."""
    return paradigm(project, "norms", "layer_norms", extension=extended("extensions/norms.py"))


def regularised(project: Project) -> Touched:
    """Add a paradigm whose recipe names the regulariser."""
    penalty = "{ name: length, weight: 0.01, options: {}, others: null }"
    return paradigm(project, "short", regulariser=penalty, extension=extended("extensions/length.py"))


def merging_paradigm(project: Project) -> Touched:
    """Add a paradigm that merges by the method."""
    content = MERGING_PARADIGM.format(extension=extended("extensions/strongest.py"))
    return write(project, "conf/paradigm/strongest.yaml", content)


def analysis(project: Project) -> Touched:
    """Add an analysis of task vectors, whose table the report lists."""
    dag = yaml.safe_dump({"sparsity": ENTRY}, sort_keys=False)
    entry = "".join(f"  {line}\n" for line in dag.splitlines())
    table = '    StageTable("sparsity", "analyses/{model}/sparsity/{recipe}.csv", "sparsity", measurements=False),\n'
    return {
        *write(project, "pipeline/analysis/sparsity.py", ANALYSIS),
        *write(project, "stages/sparsity.py", STAGE),
        *replace(project, "dvc.yaml", "\n  # One table of every number;", f"\n{entry}\n  # One table of every number;"),
        *replace(
            project, "artifacts/catalogue.py", '    StageTable("localisation"', f'{table}    StageTable("localisation"'
        ),
    }


HALVED = '''"""Edits of the weights that go half as far."""

from pipeline.editing.spaces import WeightSpace


class HalvedSpace(WeightSpace):
    """Take half of every coefficient."""

    def embeddings(self, coefficients, batches):
        return super().embeddings(coefficients / 2, batches)
'''
READER = """
SPACES = {**SPACES, "halved": HalvedSpace}
"""
IN_HALVED_SPACE = """# @package _global_
defaults: [standard, _self_]
paradigms: [halved]
paradigm:
  halved: { recipe: standard, merging: null, evaluated_in: halved, negation_grid: null }
"""


def space(project: Project) -> Touched:
    """Add an edit space over images."""
    reader, name = "artifacts/evaluation/edit_spaces.py", 'evaluated_in: Literal["weight", "tangent"'
    with (project.root / reader).open("a") as file:
        file.write(READER)
    line = "from pipeline.editing.spaces import"
    return {
        *write(project, "pipeline/editing/halved.py", HALVED),
        *replace(project, reader, line, f"from pipeline.editing.halved import HalvedSpace\n{line}"),
        *replace(project, "pipeline/config/parameters.py", name, f'{name}, "halved"'),
    }


def evaluated_in_space(project: Project) -> Touched:
    """Add a paradigm that is evaluated in the space."""
    return write(project, "conf/paradigm/halved.yaml", IN_HALVED_SPACE)


def composed(project: Project, *overrides: str) -> None:
    """Compose the study anew, with these overrides after its own."""
    compose(project.root, [*OVERRIDES, *overrides])
