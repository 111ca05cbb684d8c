"""Read the tensors of a ``torch.save`` archive without executing code that its pickle names.

A pickle is a program that names functions and calls them. Here every name resolves to one of a few tensor builders, or
to an inert stand-in that accepts any arguments and does nothing. So pickled modules and training states can be read
even if their classes are not installed, and nothing is imported or run.
"""

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor

from pipeline.errors import UserError

# Errors that a damaged or hostile pickle can raise.
_DAMAGE = (
    *(pickle.UnpicklingError, BadZipFile, EOFError, ArithmeticError, AttributeError, LookupError),
    *(MemoryError, OSError, RuntimeError, TypeError, ValueError),
)


@dataclass(frozen=True)
class Unreadable:
    """A tensor that is not dense; ``kind`` says what it is."""

    kind: str


class Inert(dict[Any, Any]):
    """Stand-in for an instance of a class, or for the result of a function, that is not loaded.

    state: the attributes that its pickle sets.
    """

    state: object = None

    def __new__(cls, *_: object, **__: object) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        self.state = state

    def append(self, item: object) -> None:
        """Take an item as a list does."""
        self[len(self)] = item

    def __hash__(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] (as a key or in a set)
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class _Sealed:
    """An object whose attributes a pickle cannot set."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it changes what reads it")


@dataclass(frozen=True, slots=True)
class _Builder(_Sealed):
    build: Callable[..., object]

    def __call__(self, *arguments: object) -> object:
        return self.build(*arguments)

    __setstate__ = _Sealed.__setstate__


@dataclass(frozen=True, slots=True)
class _Element(_Sealed):
    """The element type of a storage."""

    dtype: torch.dtype

    __setstate__ = _Sealed.__setstate__


@dataclass(frozen=True, slots=True)
class _Storage(_Sealed):
    """The bytes of tensors, and the type that they are read as.

    changed: what was computed from the bytes; all tensors share it, so that no number of them takes more memory.
    """

    content: Tensor
    dtype: torch.dtype
    changed: dict[tuple[torch.dtype, frozenset[str]], Tensor]

    def elements(self, marks: frozenset[str]) -> Tensor:
        """Return the values, changed as torch's marks say: it may store the negative or the conjugate of a tensor.

        Raises:
            NotImplementedError: a mark is unknown, or does not exist for this type.
        """
        if marks - {"neg", "conj"}:
            raise NotImplementedError
        stored = self.content.view(self.dtype)
        if not marks:
            return stored
        if (self.dtype, marks) not in self.changed:
            conjugate = stored.conj_physical() if "conj" in marks else stored
            self.changed[self.dtype, marks] = conjugate.neg() if "neg" in marks else conjugate
        return self.changed[self.dtype, marks]

    __setstate__ = _Sealed.__setstate__


def read_archive(path: Path) -> object:
    """Return what a zip archive of ``torch.save`` holds: tensors, containers and :class:`Inert` objects.

    Raises:
        UserError: the archive is damaged, or was saved on a big-endian machine.
    """
    try:
        with ZipFile(path) as archive:
            (pickled,) = (name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl"))
            root = pickled.removesuffix("data.pkl")
            order = f"{root}byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise UserError(f"{path}: was saved on a big-endian machine; save it again on a little-endian one")
            return _Unpickler(archive, root).load()
    except _DAMAGE as error:
        # Their messages recommend settings of torch.load that would execute the file.
        raise UserError(f"{path}: damaged ({type(error).__name__} in its pickle); download or copy it again") from None


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: ZipFile, root: str) -> None:
        content = _entry(archive, f"{root}data.pkl")
        for opcode, argument, _ in pickletools.genops(content):
            # The unpickler allocates as many slots as the memo index requires.
            if "PUT" in opcode.name and int(argument or 0) > len(content):
                raise pickle.UnpicklingError("an index beyond its size")
        super().__init__(io.BytesIO(content))
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}
        self._changed: dict[str, dict[tuple[torch.dtype, frozenset[str]], Tensor]] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get(f"{module}.{name}", Inert)

    def persistent_load(self, pid: Any) -> _Storage:
        kind, element, key, _, count = pid
        if kind != "storage":
            raise pickle.UnpicklingError("a reference to something other than a storage")
        if key not in self._storages:
            content = _entry(self._archive, f"{self._root}data/{key}")
            self._storages[key] = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0).byte()
        if len(self._storages[key]) != count * element.dtype.itemsize:
            raise pickle.UnpicklingError("a storage of another size")
        return _Storage(self._storages[key], element.dtype, self._changed.setdefault(key, {}))


def _entry(archive: ZipFile, name: str) -> bytearray:
    """Read an entry, checking its CRC-32; torch never compresses, so a compressed one could be a zip bomb."""
    if archive.getinfo(name).compress_type != ZIP_STORED:
        raise BadZipFile(name)
    return bytearray(archive.read(name))


def _dense(
    storage: _Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    _grad: bool = False,
    _hooks: object = None,
    bits: Mapping[str, bool] | None = None,
    *_: object,
) -> Tensor | Unreadable:
    marks = frozenset(mark for mark, is_set in (bits or {}).items() if is_set)
    try:
        elements = storage.elements(marks)
    except NotImplementedError:
        return Unreadable(f"marked as {', '.join(map(str, sorted(marks)))}")
    if math.prod(size) > len(elements):
        return Unreadable("expanded beyond what is stored")  # copying it could take any amount of memory
    return elements.as_strided(size, stride, offset)


def _dense_of_type(
    storage: _Storage,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    _grad: bool,
    _hooks: object,
    element: _Element,
    bits: Mapping[str, bool] | None = None,
    *_: object,
) -> Tensor | Unreadable:
    return _dense(_Storage(storage.content, element.dtype, storage.changed), offset, size, stride, bits=bits)


def _first(value: object, *_: object) -> object:
    return value


def _subclass(build: Callable[..., object], _type: object, arguments: tuple[object, ...], *_: object) -> object:
    return build(*arguments)


def _unreadable(kind: str) -> Callable[..., object]:
    return lambda *_: Unreadable(kind)


_STORAGES = {
    **{"Double": torch.float64, "Float": torch.float32, "Half": torch.float16, "BFloat16": torch.bfloat16},
    **{"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8},
    **{"Bool": torch.bool, "ComplexDouble": torch.complex128, "ComplexFloat": torch.complex64},
    **{"QInt8": torch.qint8, "QUInt8": torch.quint8, "QInt32": torch.qint32},
    **{"QUInt4x2": torch.quint4x2, "QUInt2x4": torch.quint2x4},
}
_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
_REBUILT: dict[str, Callable[..., object]] = {
    "_utils._rebuild_tensor": _dense,
    "_utils._rebuild_tensor_v2": _dense,
    "_utils._rebuild_tensor_v3": _dense_of_type,
    "_utils._rebuild_parameter": _first,
    "_utils._rebuild_parameter_with_state": _first,
    "_utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "_tensor._rebuild_from_type": _subclass,
    "_tensor._rebuild_from_type_v2": _subclass,
    "_utils._rebuild_qtensor": _unreadable("quantised"),
    "_utils._rebuild_sparse_tensor": _unreadable("sparse"),
    "_utils._rebuild_sparse_csr_tensor": _unreadable("sparse"),
    "_utils._rebuild_meta_tensor_no_storage": _unreadable("a meta tensor, which has no values"),
    "_utils._rebuild_nested_tensor": _unreadable("a nested tensor"),
    "_utils._rebuild_wrapper_subclass": _unreadable("of a subclass of Tensor"),
    "_utils._rebuild_device_tensor_from_numpy": _unreadable("of a device that is not supported"),
}
_KNOWN: dict[str, object] = {
    "torch.storage.UntypedStorage": _Element(torch.uint8),
    **{f"torch.{name}Storage": _Element(dtype) for name, dtype in _STORAGES.items()},
    **{name: _Element(dtype) for name, dtype in _DTYPES.items()},
    **{f"torch.{name}": _Builder(build) for name, build in _REBUILT.items()},
    "torch.Size": _Builder(lambda size=(): tuple(size)),
    **{f"{module}.set": _Builder(lambda items=(): set(items)) for module in ("builtins", "__builtin__")},
}
