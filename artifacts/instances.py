"""Read stage instances from dvc.yaml: DVC's name, and the model, task, recipe … of each."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Parameters, read_yaml
from pipeline.errors import UserError

PIPELINE = Path("dvc.yaml")
_ITEM = re.compile(r"\$\{item\.(\w+)\}")
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")


@dataclass(frozen=True)
class Instance:
    """One instance of a stage.

    Args:
        name: DVC's name, such as ``addition@mini-clip-ntk``.
        stage: the entry of ``dvc.yaml``, ``addition``.
        keys: values of its matrix, ``{"model": "mini-clip", "paradigm": "ntk", …}``.
        params: the parameters that it depends on, by dotted name.
        deps: the files and directories that it depends on.
    """

    name: str
    stage: str
    keys: Mapping[str, str]
    params: Sequence[str] = ()
    deps: Sequence[str] = ()


def read_instances(params: Parameters, path: Path = PIPELINE) -> dict[str, Instance]:
    """Return every stage instance of ``dvc.yaml`` for these parameters by name, in DVC's order.

    Raises:
        UserError: there is no such file, or it is not valid YAML.
    """
    try:
        stages = read_yaml(path)["stages"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run this from the root of the project") from None
    content = params.model_dump(mode="json")
    instances = {}
    for stage, entry in stages.items():
        for suffix, keys in _expand(entry, content):
            name = f"{stage}@{suffix}" if suffix else stage
            params_of, deps = (
                [_ITEM.sub(lambda match, keys=keys: keys[match.group(1)], text) for text in declared]
                for declared in (entry.get("do", entry).get(section, []) for section in ("params", "deps"))
            )
            instances[name] = Instance(name, stage, keys, params_of, deps)
    return instances


def _expand(entry: Mapping[str, Any], content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the suffix and the values of each instance of an entry, as DVC expands ``matrix`` and ``foreach``."""
    if "matrix" in entry:
        axes = {axis: _resolve(values, content) for axis, values in entry["matrix"].items()}
        for values in itertools.product(*axes.values()):
            yield "-".join(map(str, values)), dict(zip(axes, map(str, values), strict=True))
    elif "foreach" in entry:
        items: Mapping[str, Mapping[str, str]] = _resolve(entry["foreach"], content)
        for suffix, keys in items.items():
            yield suffix, dict(keys)
    else:
        yield "", {}


def _resolve(values: str | Sequence[str], content: Any) -> Any:
    """Return what ``${a.b}`` refers to; lists stand for themselves."""
    reference = _REFERENCE.fullmatch(values) if isinstance(values, str) else None
    if reference is None:
        return values
    for key in reference.group(1).split("."):
        content = content[key]
    return content
