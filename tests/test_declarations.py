"""dvc.yaml declares what the stages use, and no more: parameters, code, data."""

import ast
import re
import shutil
from itertools import pairwise
from typing import Any

import pytest
import yaml

from artifacts.instances import read_instances
from pipeline.config import Parameters, load_parameters
from tauflow.dvc.composition import compose
from tests.declarations import ROOT, modules, parameters, source, tree

DAG: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
STAGES: dict[str, dict[str, Any]] = {name: stage.get("do", stage) for name, stage in DAG.items()}
# Code that cannot change a result, as dvc.yaml says.
FREE = (
    *("pipeline/__init__.py", "pipeline/errors.py", "pipeline/config/", "stages/__init__.py", "tauflow/"),
    *(f"artifacts/{name}.py" for name in ("__init__", "layout", "workspace", "instances", "catalogue")),
)
# Parameters that cannot change a result. A resumed run ends with the same bytes as an uninterrupted one
# (tests/training/test_resume.py), however often it saved.
FREE_PARAMETERS = ("resume",)
GIVEN = ("data/mini", "data/imported", "reports/seeds", "benchmarks")
# All paradigms, an imported recipe, one that starts from it, and merged vectors, so that every stage has instances.
PARADIGM = """# @package _global_
defaults: [all, _self_]
paradigms: [standard, posthoc, ntk, tau_jp, theirs, onwards, added, propagated, weighed]
imported:
  theirs: { trained_in: weight }
recipe:
  onwards: { trainable: all, trained_in: tangent, regulariser: null, extension: null, start: theirs }
schedule:
  onwards: { lr: 3e-4, length: 1.0 }
paradigm:
  theirs: { recipe: theirs, merging: null, evaluated_in: weight, negation_grid: null }
  onwards: { recipe: onwards, merging: null, evaluated_in: tangent, negation_grid: null }
  added:
    recipe: standard
    merging: &ties { name: ties, options: {}, images: null, modifiers: [], extension: null }
    evaluated_in: weight
    negation_grid: null
  weighed:
    recipe: standard
    merging:
      name: regmean
      options: {}
      images: { statistic: gram, split: train, count: 4, seed: 0 }
      modifiers: []
      extension: null
    evaluated_in: weight
    negation_grid: null
  propagated: { recipe: ntk, merging: *ties, evaluated_in: tangent, negation_grid: null }
"""


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Parameters:
    """A study in which every stage has instances."""
    root = tmp_path_factory.mktemp("composed")
    shutil.copytree(ROOT / "conf", root / "conf", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "conf" / "paradigm" / "everything.yaml").write_text(PARADIGM)
    compose(root, ["suite=tiny", "paradigm=everything"])
    return load_parameters(root / "params.yaml")


def entries(stage: str, kind: str) -> list[str]:
    """Return the paths or parameters that a stage declares, without their options."""
    declared = STAGES[stage].get(kind, [])
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in declared]


def filled(stage: str, kinds: tuple[str, ...], params: Parameters) -> list[str]:
    """Return the same for every instance, one after another."""
    keys = [instance.keys for instance in read_instances(params, ROOT / "dvc.yaml").values() if instance.stage == stage]
    assert keys, f"{stage} has no instance here"
    return [
        re.sub(r"\$\{item\.(\w+)\}", lambda match: item[match[1]], entry)  # noqa: B023
        for item in keys
        for kind in kinds
        for entry in entries(stage, kind)
    ]


def script(stage: str) -> str:
    """Return the module that a stage runs; several stages may share one."""
    return STAGES[stage]["cmd"].split()[2]


def covers(declared: str, used: str) -> bool:
    return used == declared or used.startswith(f"{declared}.")


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_names_a_script_and_nothing_else(stage: str) -> None:
    """No name of a user's reaches a shell; the script is a dependency."""
    assert re.fullmatch(r"python -m stages\.\w+", STAGES[stage]["cmd"])
    assert str(source(script(stage))) in entries(stage, "deps")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_parameters_it_uses(stage: str) -> None:
    """Others would make it run again for nothing."""
    used = parameters("main", tree(script(stage)))
    used = {path for path in used if not any(covers(free, path) for free in FREE_PARAMETERS)}
    declared = [re.sub(r"\w*\$\{item\.\w+\}", "*", entry) for entry in entries(stage, "params")]
    assert {path for path in used if not any(covers(entry, path) for entry in declared)} == set()
    assert {entry for entry in declared if not any(covers(entry, p) or covers(p, entry) for p in used)} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_declared_parameters_exist(stage: str, params: Parameters) -> None:
    for entry in filled(stage, ("params",), params):
        value: Any = params.model_dump(mode="json")
        for key in entry.split("."):
            assert key in value, entry
            value = value[key]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_code_it_imports(stage: str) -> None:
    """Other code would make it run again for nothing, as would a package that it does not import."""
    used = {str(path) for path in modules(script(stage))}
    declared = [path for path in entries(stage, "deps") if path.split("/")[0] in ("pipeline", "artifacts", "stages")]
    code = [path for path in declared if not path.startswith("pipeline/definitions/")]

    def within(path: str, entry: str) -> bool:
        return path == entry or path.startswith(f"{entry}/")

    undeclared = {path for path in used if not any(within(path, entry) for entry in code)}
    assert {path for path in undeclared if not path.startswith(FREE)} == set()
    assert {entry for entry in code if not any(within(path, entry) for path in used)} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_data_comes_from_another_stage_or_from_git(stage: str, params: Parameters) -> None:
    outputs = {path for name in STAGES for path in filled(name, ("outs", "metrics", "plots"), params)}
    for path in filled(stage, ("deps",), params):
        if path.startswith(("data/", "reports/")) and not path.startswith(GIVEN):
            assert any(out == path or out.startswith(f"{path}/") for out in outputs), f"nothing makes {path}"
        elif not path.startswith("data/imported"):
            assert path.startswith("reports/seeds") or (ROOT / path).exists(), path


def test_no_two_instances_write_the_same_file(params: Parameters) -> None:
    """Nor one into a directory that is another's output."""
    outputs = sorted(path for stage in STAGES for path in filled(stage, ("outs", "metrics", "plots"), params))
    assert [after for before, after in pairwise(outputs) if after == before or after.startswith(f"{before}/")] == []


def test_the_stages_that_train_differ_only_in_the_data_they_may_read() -> None:
    plain, *others = (STAGES[name] for name in STAGES if name.startswith("finetune"))
    data = {
        "data/tasks/train",
        "data/tasks/train/${item.task}.safetensors",
        "data/task_vectors/${item.model}/${item.start}/${item.task}.safetensors",
    }
    assert len(others) == 2
    for other in others:
        assert set(plain["deps"]) ^ set(other["deps"]) <= data
        assert [plain[kind] for kind in ("cmd", "params", "outs", "plots")] == [
            other[kind] for kind in ("cmd", "params", "outs", "plots")
        ]


# The reading of sources itself.

SOURCE = """
from artifacts.catalogue import tables

def main():
    with run_stage() as stage:
        params, settings = stage.params, stage.params.analysis
        f(params.search.addition, stage.params.seed, params.epochs[params.control])
        for task in params.tasks:
            g(params)
            h(stage.name, stage)
        list(tables(params))

def g(params):
    return params.device

def h(name, stage):
    stage.journal.metrics(stage.params.intervals.seed)
"""


def test_parameters_are_found_in_helpers_too() -> None:
    assert parameters("main", ast.parse(SOURCE)) == {
        *("analysis", "search.addition", "seed", "epochs.*", "control", "tasks", "device", "intervals.seed"),
        *("models", "paradigms"),
    }


@pytest.mark.parametrize(
    "line",
    [
        *("x = [params]", "return params", "copy = params", "a.b(params)", "f(x=params)"),
        *("return stage", "copy = stage", "a.b(stage)", "f(stage)\ndef f(other):\n    return other.params"),
    ],
)
def test_all_parameters_at_once_are_noticed(line: str) -> None:
    with pytest.raises(AssertionError):
        parameters("main", ast.parse(f"def main(params, stage):\n    {line}\n"))


def test_imports_are_found_through_packages() -> None:
    paths = {str(path) for path in modules("stages.head")}
    assert {"pipeline/models/heads.py", "pipeline/models/__init__.py", "pipeline/models/devices.py"} <= paths
    assert "pipeline/images/images.py" not in {str(path) for path in modules("artifacts.layout")}
