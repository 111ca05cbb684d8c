"""Read what a stage uses off its sources, without running them: parameters and modules."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "artifacts", "stages", "tauflow")
# Functions that get all parameters and use these. The instances of a DAG follow from the models and paradigms; what
# headlines say of other parameters goes to MLflow alone, and to no file.
USED_BY = {"read_instances": {"models", "paradigms"}, "paradigm_headlines": {"models", "paradigms"}}


@cache
def tree(module: str) -> ast.Module:
    """Return the syntax tree of a module of this project."""
    path = source(module)
    assert path is not None, f"{module} is not a module of this project"
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def source(module: str) -> Path | None:
    """Return the file of a module, relative to the project; ``None`` if there is none."""
    parts = module.split(".")
    candidates = (Path(*parts).with_suffix(".py"), Path(*parts, "__init__.py"))
    return next((path for path in candidates if parts[0] in PACKAGES and (ROOT / path).is_file()), None)


def parameters(function: str, module: ast.Module) -> set[str]:
    """Return the dotted paths of the parameters that a function uses, here and where it hands all of them to.

    ``params.epochs[task]`` is ``epochs.*``.

    Raises:
        AssertionError: all parameters go where this cannot follow them.
    """
    definition, home = _definition(function, module)
    parents = {child: node for node in ast.walk(definition) for child in ast.iter_child_nodes(node)}
    paths: set[str] = set()
    for node in ast.walk(definition):
        if _is_params(node):
            keys, node = _climb(node, parents)
            if keys:
                paths.add(".".join(keys))
            else:
                paths |= _handed_over(node, parents, home)
        elif _is_stage(node) and not isinstance(parents[node], ast.Attribute):
            paths |= _handed_over(node, parents, home)
    return paths


def _is_params(node: ast.AST) -> bool:
    """Return whether a node reads ``params`` or ``stage.params``."""
    match node:
        case ast.Name(id="params", ctx=ast.Load()) | ast.Attribute(value=ast.Name(id="stage"), attr="params"):
            return True
    return False


def _is_stage(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "stage" and isinstance(node.ctx, ast.Load)


def _climb(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> tuple[list[str], ast.AST]:
    """Return the attributes and subscripts that are taken of a node, and the expression of all of them."""
    keys: list[str] = []
    while isinstance(parent := parents[node], ast.Attribute | ast.Subscript) and parent.value is node:
        keys.append(parent.attr if isinstance(parent, ast.Attribute) else "*")
        node = parent
    return keys, node


def _handed_over(node: ast.AST, parents: dict[ast.AST, ast.AST], home: ast.Module) -> set[str]:
    """Return what is used of all parameters that go to a function, or get the name ``params`` in this one."""
    parent = parents[node]
    if isinstance(parent, ast.Tuple):
        position, parent = parent.elts.index(node), parents[parent]  # pyright: ignore[reportArgumentType]
        assert isinstance(parent, ast.Assign)
        (names,) = parent.targets
        assert isinstance(names, ast.Tuple)
        target: ast.AST = names.elts[position]
    elif isinstance(parent, ast.Assign):
        (target,) = parent.targets
    else:
        if isinstance(parent, ast.keyword):
            parent = parents[parent]
        assert isinstance(parent, ast.Call), "all parameters are used at once"
        called = parent.func
        if isinstance(called, ast.Subscript) and isinstance(called.value, ast.Name):
            names, home = _entries(called.value.id, home)
        else:
            assert isinstance(called, ast.Name), "all parameters go to something that is not a plain function"
            names = [called.id]
        return {path for name in names for path in USED_BY.get(name) or parameters(name, home)}
    assert isinstance(target, ast.Name), "all parameters are stored"
    assert target.id == "params", "all parameters get a second name"
    return set()


def _entries(table: str, module: ast.Module) -> tuple[list[str], ast.Module]:
    """Return the functions in a table of functions by name, and the table's module."""
    for node in module.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict(values=values)) if name == table:
                return [value.id for value in values if isinstance(value, ast.Name)], module
            case ast.ImportFrom(module=str(source_module), names=names) if table in [alias.name for alias in names]:
                return _entries(table, tree(source_module))
    raise AssertionError(f"{table} is not a table of this project")


def _definition(name: str, module: ast.Module) -> tuple[ast.FunctionDef, ast.Module]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            arguments = {argument.arg for argument in node.args.args}
            assert name == "main" or arguments & {"params", "stage"}, "all parameters get a second name"
            return node, module
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            assert node.module is not None
            return _definition(name, tree(node.module))
    raise AssertionError(f"{name} is not a function of this project")


def modules(script: str) -> set[Path]:
    """Return the files of this project that a module imports, itself and what these import included.

    Modules that hold nothing but a docstring, and imports for type checkers, cannot change what runs.
    """
    waiting, seen = [script], set[str]()
    while waiting:
        module = waiting.pop()
        if module not in seen and source(module):
            seen.add(module)
            waiting += _imports(tree(module))
    return {path for module in seen if (path := source(module)) and len(tree(module).body) > 1}


def _imports(module: ast.Module) -> set[str]:
    """Return the modules, and the packages around them, that a module may import; names may be modules too."""
    typed_only = {
        child
        for node in ast.walk(module)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.walk(node)
    }
    names = set[str]()
    for node in ast.walk(module):
        if node in typed_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {".".join(name.split(".")[:depth]) for name in names for depth in range(1, name.count(".") + 2)}
