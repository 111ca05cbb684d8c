"""Find the tensors in the nested content of a checkpoint, and name them by their path."""

from collections.abc import Iterator, Mapping

from torch import Tensor

from pipeline.foreign.pickles import Inert, Unreadable

# Attributes of a pickled ``nn.Module``.
_TENSORS = ("_parameters", "_buffers")
_CHILDREN = "_modules"
_NOT_SAVED = "_non_persistent_buffers_set"
# Modules that torch wraps around others, which leave their names in the state dict.
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


# Deeper containers are not searched: state dicts are nearer the top, and paths would become long.
_DEEPEST = 64


def named_tensors(content: object) -> Iterator[tuple[str, Tensor | Unreadable]]:
    """Yield every tensor inside nested mappings, sequences and pickled modules, named by its path joined with dots.

    A pickled module contributes what its ``state_dict()`` would hold. A container that occurs twice is visited once.
    """
    seen: set[int] = set()
    pending: list[tuple[tuple[str, ...], object]] = [((), content)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, Tensor | Unreadable):
            yield ".".join(part for part in ".".join(path).split(".") if part not in _WRAPPERS), value
        elif id(value) not in seen and len(path) < _DEEPEST:
            seen.add(id(value))
            pending.extend(reversed([((*path, _name(key)), child) for key, child in _children(value)]))


def _name(key: object) -> str:
    return str(key) if isinstance(key, str | int) else type(key).__name__


def _children(value: object) -> Iterator[tuple[object, object]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    if isinstance(value, Inert) and isinstance(value.state, Mapping):
        yield from _attributes(value.state)


def _attributes(state: Mapping[object, object]) -> Iterator[tuple[object, object]]:
    if _CHILDREN not in state:
        yield from state.items()
        return
    not_saved = state.get(_NOT_SAVED)
    left_out = not_saved if isinstance(not_saved, set) else set()
    for kind in (*_TENSORS, _CHILDREN):
        entries = state.get(kind)
        if isinstance(entries, Mapping):
            yield from ((name, child) for name, child in entries.items() if name not in left_out)
