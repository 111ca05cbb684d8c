"""dvc.yaml declares what the stages use: parameters and code, read off the sources without running them."""

import ast
import re
from functools import cache
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DAG: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# With what they do, be it for one instance, for each of a matrix or for each of a table.
STAGES: dict[str, dict[str, Any]] = {name: stage.get("do", stage) for name, stage in DAG.items()}
PARAMETERS: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
# An imported recipe and one that starts from it, so that their stages have instances too.
PARAMETERS |= {
    "imported": {"theirs": {"trained_in": "weight"}},
    "imported_recipes": ["theirs"],
    "continued": {"x": {"model": "mini-clip", "task": "icons", "recipe": "onwards", "start": "theirs"}},
    "schedule": {**PARAMETERS["schedule"], "onwards": PARAMETERS["schedule"]["tau_jp"]},
    "recipe": {**PARAMETERS["recipe"], "onwards": {**PARAMETERS["recipe"]["tau_jp"], "start": "theirs"}},
}
# What cannot change a result, as dvc.yaml says.
FREE = ("pipeline/__init__.py", "pipeline/errors.py", "pipeline/config/", "stages/__init__.py")
# Parameters that cannot change a result, so that nothing may be run again for them. A resumed run ends with the same
# bytes as an uninterrupted one (tests/training/test_resume.py), however often it saved.
FREE_PARAMETERS = ("resume",)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def script(stage: str) -> Path:
    """What the stage runs; two stages may share a script."""
    module = STAGES[stage]["cmd"].split()[2]
    return ROOT / f"{module.replace('.', '/')}.py"


def access(node: ast.expr) -> list[str] | None:
    """``params.epochs[task]`` and ``stage.params.epochs[task]`` are ``epochs.*``; anything else is ``None``."""
    match node:
        case ast.Name(id="params"):
            return []
        case ast.Attribute(value=ast.Name(id="stage"), attr="params"):
            return []
        case ast.Attribute(value=value, attr=attr):
            base = access(value)
            return None if base is None else [*base, attr]
        case ast.Subscript(value=value):
            base = access(value)
            return None if base is None else [*base, "*"]
    return None


def is_stage(node: ast.AST) -> bool:
    """Whether it is ``stage``, which holds all parameters."""
    return isinstance(node, ast.Name) and node.id == "stage" and isinstance(node.ctx, ast.Load)


class Accesses(ast.NodeVisitor):
    """The longest chains of attributes and subscripts on the parameters, and the calls that get all of them."""

    def __init__(self) -> None:
        self.paths: set[str] = set()
        self.passed_to: set[str] = set()
        self.whole = 0

    def visit(self, node: ast.AST) -> None:
        path = access(node) if isinstance(node, ast.expr) else None
        if path:
            self.paths.add(".".join(path))
            self.visit_subscripts(node)
        elif (path == [] and isinstance(getattr(node, "ctx", None), ast.Load)) or is_stage(node):
            self.whole += 1
        elif not (isinstance(node, ast.Attribute) and is_stage(node.value)):
            super().visit(node)

    def visit_subscripts(self, node: ast.AST) -> None:
        while isinstance(node, ast.Attribute | ast.Subscript):
            if isinstance(node, ast.Subscript):
                self.visit(node.slice)
            node = node.value

    def visit_Call(self, node: ast.Call) -> None:
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            if access(argument) == [] or is_stage(argument):
                assert isinstance(node.func, ast.Name), "all parameters go to something that is no plain function"
                self.passed_to.add(node.func.id)
                self.whole -= 1
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if access(node.value) == []:
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            assert names == ["params"], "the parameters have a second name"
            self.whole -= 1
        self.generic_visit(node)


def used_parameters(node: ast.AST, module: ast.Module) -> set[str]:
    """Dotted paths of the parameters that a piece of a stage uses, here and in the helpers it hands them to."""
    found = Accesses()
    found.visit(node)
    assert found.whole == 0, "all parameters are used in a way that this test cannot follow"
    paths = set(found.paths)
    for name in found.passed_to:
        function, home = definition(name, module)
        assert {argument.arg for argument in function.args.args} & {"params", "stage"}, "they have a second name"
        paths |= used_parameters(function, home)
    return paths


def definition(name: str, module: ast.Module) -> tuple[ast.FunctionDef, ast.Module]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node, module
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            assert node.module is not None
            assert node.module.startswith("stages."), f"all parameters go to {node.module}.{name}"
            return definition(name, tree(ROOT / f"{node.module.replace('.', '/')}.py"))
    raise AssertionError(f"{name} is not defined")


def declared_parameters(stage: str) -> list[str]:
    return [re.sub(r"\w*\$\{item\.\w+\}", "*", entry) for entry in STAGES[stage].get("params", [])]


def covers(declared: str, used: str) -> bool:
    return used == declared or used.startswith(f"{declared}.")


def test_the_reading_of_sources_finds_what_is_there() -> None:
    source = """
def main(task):
    with run_stage("x") as stage:
        params = stage.params
        f(params.search.addition, stage.params.seed, params.epochs[params.control])
        for task in params.tasks:
            g(params)
            h(stage.name, stage)

def g(params):
    return params.device

def h(name, stage):
    stage.journal.metrics(stage.params.intervals.seed)
"""
    module = ast.parse(source)
    assert used_parameters(module.body[0], module) == {
        "search.addition",
        "seed",
        "epochs.*",
        "control",
        "tasks",
        "device",
        "intervals.seed",
    }


def test_all_parameters_at_once_are_noticed() -> None:
    for line in (
        *("x = list(params.values)\n    y = [params]", "return params", "copy = params", "a.b(params)"),
        *("return stage", "copy = stage", "a.b(stage)", "f(stage)\ndef f(other):\n    return other.params"),
    ):
        module = ast.parse(f"def main(params, stage):\n    {line}\n")
        with pytest.raises(AssertionError):
            used_parameters(module, module)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_uses_only_declared_parameters(stage: str) -> None:
    module = tree(script(stage))
    used = used_parameters(definition("main", module)[0], module)
    declared = declared_parameters(stage)
    undeclared = {path for path in used if not any(covers(entry, path) for entry in (*declared, *FREE_PARAMETERS))}
    assert undeclared == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_only_parameters_it_uses(stage: str) -> None:
    """Others would make it run again for nothing, as those would that can change no result."""
    module = tree(script(stage))
    used = used_parameters(definition("main", module)[0], module)
    assert [entry for entry in declared_parameters(stage) if any(covers(free, entry) for free in FREE_PARAMETERS)] == []
    unused = {
        entry
        for entry in declared_parameters(stage)
        if not any(covers(entry, path) or covers(path, entry) for path in used)
    }
    assert unused == set()


@pytest.mark.parametrize("stage", STAGES)
def test_declared_parameters_exist(stage: str) -> None:
    for entry in instances(stage, STAGES[stage].get("params", [])):
        value: Any = PARAMETERS
        for part in entry.split("."):
            assert part in value, f"{entry} is not in params.yaml"
            value = value[part]


def items(stage: str) -> list[dict[str, str]]:
    """What ``item`` stands for in every instance of a stage."""
    content = DAG[stage]
    if "foreach" in content:
        return list(interpolated(content["foreach"]).values())
    matrix = {
        axis: values if isinstance(values, list) else interpolated(values)
        for axis, values in content.get("matrix", {}).items()
    }
    return [dict(zip(matrix, values, strict=True)) for values in product(*matrix.values())]


def interpolated(text: str) -> Any:
    """What ``${incremental.orders}`` stands for."""
    name = re.fullmatch(r"\$\{([\w.]+)\}", text)
    assert name is not None
    value = PARAMETERS
    for part in name[1].split("."):
        value = value[part]
    return value


def listed(stage: str, entries: list[Any]) -> list[str]:
    """Entries with the values of every instance put in, one instance after another; an entry's options are left out."""
    texts = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    found = []
    for item in items(stage):
        for text in texts:
            for name, value in item.items():
                text = text.replace(f"${{item.{name}}}", str(value))
            assert "${" not in text
            found.append(text)
    return found


def instances(stage: str, entries: list[Any]) -> set[str]:
    """The same, each once."""
    return set(listed(stage, entries))


def outputs(stage: str) -> list[str]:
    return [path for kind in ("outs", "metrics", "plots") for path in listed(stage, STAGES[stage].get(kind, []))]


def test_all_instances_of_a_stage_are_found() -> None:
    """By hand, for the committed parameters: eight tasks and a control, four recipes, five paradigms."""
    counts = {
        "prepare": 9,
        "pretrained": 1,
        "finetune": 24,
        "finetune_regularised": 8,
        "task_vector": 32,
        "task_vector_imported": 8,
        "finetune_continued": 1,
        "features": 6,
        "negation": 5,
        "finetune_incremental": 8,
        "task_vector_incremental": 8,
        "features_incremental": 2,
        "incremental": 5,
    }
    assert {stage: len(items(stage)) for stage in counts} == counts
    assert items("report") == [{}]
    assert instances("addition", ["${item.model}/${item.paradigm}/${item.recipe}"]) == {
        f"mini-clip/{paradigm}/{'standard' if paradigm == 'posthoc' else paradigm}"
        for paradigm in PARAMETERS["paradigms"]
    }


@pytest.mark.parametrize("stage", STAGES)
def test_command_and_dependencies_exist(stage: str) -> None:
    """The script gets what it takes, in its order."""
    main, _ = definition("main", tree(script(stage)))
    arguments = [f"${{item.{argument.arg}}}" for argument in main.args.args]
    assert STAGES[stage]["cmd"].split() == ["python", "-m", f"stages.{script(stage).stem}", *arguments]
    assert all(set(item) - {"val", "test"} == {argument.arg for argument in main.args.args} for item in items(stage))
    dependencies = instances(stage, STAGES[stage]["deps"])
    assert f"stages/{script(stage).stem}.py" in dependencies
    code = [path for path in dependencies if path.split("/")[0] in ("pipeline", "stages")]
    assert [path for path in code if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("stage", STAGES)
def test_data_comes_from_another_stage_or_from_git(stage: str) -> None:
    made = {path for name in STAGES for path in outputs(name)}
    for path in instances(stage, STAGES[stage]["deps"]):
        given = path.startswith(("data/mini", "data/imported", "reports/seeds"))
        if path.split("/")[0] in ("data", "reports") and not given:
            assert any(out == path or out.startswith(f"{path}/") for out in made), f"nothing makes {path}"


def test_no_two_instances_write_the_same_file() -> None:
    """Nor one into a directory that is another's output."""
    made = sorted(path for stage in STAGES for path in outputs(stage))
    assert [after for before, after in pairwise(made) if after == before or after.startswith(f"{before}/")] == []


def test_the_stages_that_train_differ_only_in_the_images_they_may_read() -> None:
    plain, regularised = (set(STAGES[stage]["deps"]) for stage in ("finetune", "finetune_regularised"))
    assert plain - regularised == {"stages/finetune.py", "data/tasks/train/${item.task}.safetensors"}
    assert regularised - plain == {"stages/finetune_regularised.py", "data/tasks/train"}
    for kind in ("params", "outs", "plots"):
        assert STAGES["finetune"][kind] == STAGES["finetune_regularised"][kind]


def test_what_starts_from_a_task_vector_trains_as_the_rest() -> None:
    rest, continued = STAGES["finetune_regularised"], STAGES["finetune_continued"]
    assert set(continued["deps"]) ^ set(rest["deps"]) == {
        "stages/finetune_regularised.py",
        "stages/finetune_continued.py",
        "data/task_vectors/${item.model}/${item.start}/${item.task}.safetensors",
    }
    for kind in ("params", "outs", "plots"):
        assert continued[kind] == rest[kind]


def test_incremental_learning_trains_as_the_rest() -> None:
    rest, incremental = STAGES["finetune_regularised"], STAGES["finetune_incremental"]
    assert set(rest["deps"]) ^ set(incremental["deps"]) == {
        "stages/finetune_regularised.py",
        "stages/finetune_incremental.py",
    }
    assert [*rest["params"], "arrivals.order_${item.order}"] == incremental["params"]


@pytest.mark.parametrize("stage", ["task_vector", "features"])
def test_stages_that_share_a_script_differ_only_in_their_instances(stage: str) -> None:
    assert {**STAGES[f"{stage}_incremental"], "matrix": None} == {**STAGES[stage], "matrix": None}


def imported(path: Path) -> set[Path]:
    """The files of this project that a file imports, directly; names may be modules or what they hold."""
    found = set()
    for node in ast.walk(tree(path)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] in ("pipeline", "stages"):
                packages = [Path(*parts[:depth], "__init__.py") for depth in range(1, len(parts) + 1)]
                found |= {p for p in (*packages, Path(*parts).with_suffix(".py")) if (ROOT / p).is_file()}
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_it_imports(stage: str) -> None:
    waiting, seen = [script(stage).relative_to(ROOT)], set()
    while waiting:
        path = waiting.pop()
        if path not in seen:
            seen.add(path)
            waiting.extend(imported(ROOT / path))
    declared = instances(stage, STAGES[stage]["deps"])
    undeclared = {
        str(path)
        for path in seen
        if not str(path).startswith(FREE)
        and not any(str(path) == entry or str(path).startswith(f"{entry}/") for entry in declared)
    }
    assert undeclared == set()


def test_import_reading_finds_submodules() -> None:
    found = {str(path) for path in imported(ROOT / "stages" / "head.py")}
    assert {"pipeline/models/heads.py", "pipeline/models/__init__.py", "pipeline/devices.py"} <= found


def test_tauflow_imports_no_stage_and_only_free_code() -> None:
    """It is no dependency of any stage, so it may not bring code that could change a result."""
    for name in ("stage", "journal", "layout", "workspace", "torchrun"):
        used = imported(ROOT / "tauflow" / f"{name}.py")
        typed_only = {Path("pipeline/tasks/__init__.py")} if name == "layout" else set()
        assert [str(path) for path in used - typed_only if not str(path).startswith(FREE)] == []
