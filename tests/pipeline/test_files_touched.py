"""Count the files that an addition takes, and run it: one of each kind, from outside, in the tiny study."""

from collections.abc import Callable, Mapping

import pandas as pd
import pytest

from pipeline.io.arrays import read_arrays
from tests.pipeline import additions
from tests.pipeline.additions import Touched, replace, write
from tests.pipeline.conftest import OVERRIDES, Project

pytestmark = pytest.mark.pipeline

SECTION = '''"""The section of an analysis that was added."""

import pandas as pd

from pipeline.report.inputs import Study
from pipeline.report.page.blocks import Block, Table


def blocks(study: Study, model: str) -> list[Block]:
    """Return a table."""
    recipes = len(study.models[model].analyses.orthogonality)
    return [Table("sparsity", pd.DataFrame({"recipes": [str(recipes)]}), "Zeros of task vectors.")]
'''


def shown_analysis(project: Project) -> Touched:
    """Add an analysis with a section of the report."""
    sections, line = "pipeline/report/page/sections/__init__.py", '    SectionEntry("Cost and accuracy"'
    imported = "import accuracy, analyses, context"
    return {
        *additions.analysis(project),
        *write(project, "pipeline/report/page/sections/sparsity.py", SECTION),
        *replace(project, sections, imported, f"{imported}, sparsity"),
        *replace(project, sections, line, f'    SectionEntry("Sparsity", sparsity.blocks),\n{line}'),
    }


# By axis: what adds one of it, how many files that may take beside a line in a suite, what a study says that has it,
# and instances of its own stages, in their order.
CASES: Mapping[str, tuple[Callable[[Project], Touched], int, list[str], list[str]]] = {
    "model": (additions.model, 1, ["models=[mini-clip,another]"], ["pretrained@another", "head@another-textures"]),
    "task": (
        additions.task,
        1,
        ["tasks=[another,textures]", "+epochs.another=1", "prepare.resolution=32"],
        ["download@another", "prepare@another", "head@mini-clip-another", "finetune@mini-clip-another-standard"],
    ),
    "paradigm": (
        additions.paradigm,
        1,
        ["paradigm=another", "paradigms=[another]"],
        ["finetune@mini-clip-textures-another", "task_vector@mini-clip-textures-another"],
    ),
    "selection": (
        additions.selection,
        1,
        ["paradigm=norms", "paradigms=[norms]"],
        ["finetune@mini-clip-textures-norms"],
    ),
    "regulariser": (
        additions.regulariser,
        1,
        ["paradigm=short", "paradigms=[short]"],
        ["finetune@mini-clip-textures-short"],
    ),
    "merging method": (
        additions.merging_method,
        1,
        ["paradigm=strongest", "paradigms=[strongest]"],
        ["merge@mini-clip-strongest", "single_task@mini-clip-strongest"],
    ),
    "edit space": (additions.space, 5, ["paradigm=halved", "paradigms=[halved]"], ["single_task@mini-clip-halved"]),
    "analysis": (
        shown_analysis,
        6,
        [],
        ["sparsity@mini-clip-standard", "sparsity@mini-clip-tau_jp", "report"],
    ),
}

# The paradigm that names what was added, by axis.
NAMED_BY = {
    "selection": additions.selecting,
    "regulariser": additions.regularised,
    "merging method": additions.merging_paradigm,
    "edit space": additions.evaluated_in_space,
}


def only_layer_norms_moved(project: Project) -> None:
    trained, _ = read_arrays(project.root / "data" / "checkpoints" / "mini-clip" / "norms" / "textures.safetensors")
    assert trained
    assert all(".ln_" in name for name in trained)


def one_task_decides_each_entry(project: Project) -> None:
    directory = project.root / "data" / "task_vectors" / "mini-clip" / "strongest"
    first, second = (read_arrays(directory / f"{task}.safetensors")[0] for task in ("optdigits", "textures"))
    assert any(tensor.any() for tensor in first.values())
    for name, tensor in first.items():
        both = (tensor != 0) & (second[name] != 0)
        assert (abs(tensor) == abs(second[name]))[both].all()


def analysis_is_shown(project: Project) -> None:
    table = pd.read_csv(project.root / "data" / "analyses" / "mini-clip" / "sparsity" / "standard.csv")
    assert table["task"].tolist() == ["optdigits", "textures"]
    page = (project.root / "reports" / "index.html").read_text("utf-8")
    assert "Sparsity" in page
    assert "sparsity@mini-clip-standard" in page


# Evidence that the addition ran, by axis.
SEEN = {
    "selection": only_layer_norms_moved,
    "merging method": one_task_decides_each_entry,
    "analysis": analysis_is_shown,
}


@pytest.mark.parametrize("axis", CASES)
def test_an_addition_takes_few_files_and_runs(clone: Project, axis: str) -> None:
    add, most, choices, instances = CASES[axis]
    touched = add(clone)
    assert clone.run("git", "status", "--porcelain", "--untracked-files=all").stdout.count("\n") >= len(touched)
    assert len(touched) <= most, touched
    if axis in NAMED_BY:
        NAMED_BY[axis](clone)
    if choices:
        clone.run("python", "-m", "tauflow.cli", "compose", *OVERRIDES, *choices)
    assert clone.repro("--single-item", *instances) == instances
    if axis in SEEN:
        SEEN[axis](clone)
