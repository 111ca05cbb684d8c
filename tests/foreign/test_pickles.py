"""Archives of ``torch.save`` are read, and nothing in them is executed."""

import argparse
import builtins
import importlib.util
import os
import pickle
import sys
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.foreign import pickles
from pipeline.foreign.checkpoint import read_foreign
from tests.foreign.conftest import THEIRS


def test_a_pickled_module_is_read_without_its_class(tuned: nn.Module, pickled: Callable[[nn.Module], Path]) -> None:
    path = pickled(tuned)
    assert importlib.util.find_spec(THEIRS) is None
    with pytest.raises(pickle.UnpicklingError):  # torch itself reads it only by running it
        torch.load(path, weights_only=True)
    tensors = read_foreign(path).tensors
    assert THEIRS not in sys.modules
    expected = {f"model.{name}": tensor for name, tensor in tuned.state_dict().items()}
    assert tensors.keys() == expected.keys()
    assert all(isinstance(t, Tensor) and t.equal(expected[name]) for name, t in tensors.items())


def negative(tensor: Tensor) -> Tensor:
    """The negative of a tensor, stored as the tensor and a mark."""
    return torch._neg_view(tensor)  # pyright: ignore[reportPrivateImportUsage]


class Malicious:
    """Runs a function when an ordinary unpickler reads it."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("name", ["os.system", "builtins.exec", "builtins.eval", "builtins.getattr"])
def test_code_in_a_pickle_does_not_run(name: str, protocol: int, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "evil.pt"
    code = f"__import__('os').mkdir({str(marker)!r})"
    call = {
        "os.system": Malicious(os.system, f"mkdir {marker}"),
        "builtins.exec": Malicious(builtins.exec, code),
        "builtins.eval": Malicious(builtins.eval, code),
        "builtins.getattr": Malicious(builtins.getattr, Malicious(builtins.eval, code), "__class__"),
    }[name]
    torch.save({"visual.proj": torch.ones(2), "other": call}, path, pickle_protocol=protocol)
    torch.load(path, weights_only=False)
    assert marker.exists()  # so it does where pickles are trusted
    marker.rmdir()
    assert set(read_foreign(path).tensors) == {"visual.proj"}
    assert not marker.exists()


def archive(
    path: Path, pickled: bytes, others: Mapping[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED
) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in {"data.pkl": pickled, **(others or {})}.items():
            file.writestr(f"archive/{name}", content)
    return path


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def storage(kind: str, element: bytes) -> bytes:
    """A program that refers to storage 9, which no archive here has."""
    return b"\x80\x02(" + text(kind) + element + text("9") + text("cpu") + b"K\x01tQ."


REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
# Hostile programs that an unpickler in C would follow.
HOSTILE = {
    "an index of 2^31": b"\x80\x02}r\xff\xff\xff\x7f.",
    "an index of 10^9 in text": b"\x80\x02}p1000000000\n.",
    "attributes of a builder": b"\x80\x02" + REBUILD + b"}X\x01\x00\x00\x00aK\x01sb.",
    "slots of a builder": b"\x80\x02" + REBUILD + b"}}X\x05\x00\x00\x00buildK\x01s\x86b.",
    "attributes of a type": b"\x80\x02ctorch\nfloat32\n}X\x05\x00\x00\x00dtypeK\x01sb.",
    "slots of the stand-in": b"\x80\x02cos\nsystem\n}}X\x0c\x00\x00\x00__setstate__K\x01s\x86b.",
    "no end": b"\x80\x02}",
    "an empty stack": b"\x80\x020.",
    "a string beyond the end": b"\x80\x02X\xff\xff\xff\x7fa.",
    "a persistent id of text": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "a module as a storage": storage("module", b"cos\nsystem\n"),
    "a storage that is absent": storage("storage", b"ctorch\nFloatStorage\n"),
    "a storage of no type": storage("storage", b"cos\nsystem\n"),
    "an extension": b"\x80\x02\x82\x01.",
    "an unhashable key": b"\x80\x02}]K\x01s.",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_pickle_is_one_line_and_changes_nothing(kind: str, tmp_path: Path) -> None:
    before = dict(vars(pickles.Inert)), repr(pickles._KNOWN)
    with pytest.raises(UserError, match=r"a\.pt: damaged \(\w+ in its pickle\); download or copy it again$"):
        read_foreign(archive(tmp_path / "a.pt", HOSTILE[kind]))
    assert (dict(vars(pickles.Inert)), repr(pickles._KNOWN)) == before


def test_a_tensor_beyond_its_storage_or_in_a_compressed_entry_is_damage(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(4)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        pickled = file.read("a/data.pkl")
    for content, compression in ((bytes(8), zipfile.ZIP_STORED), (bytes(16), zipfile.ZIP_DEFLATED)):
        path = archive(tmp_path / "b.pt", pickled, {"data/0": content}, compression)
        with pytest.raises(UserError, match="damaged"):
            read_foreign(path)
    path = archive(tmp_path / "b.pt", pickled, {"byteorder": b"big", "data/0": bytes(16)})
    with pytest.raises(UserError, match="was saved on a big-endian machine"):
        read_foreign(path)


def test_a_flipped_bit_is_damage(tmp_path: Path) -> None:
    """torch does not look at the archive's checksums."""
    path = tmp_path / "a.pt"
    torch.save({"a": torch.full((64,), 3.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((64,), 3.0).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    assert not torch.load(path)["a"].equal(torch.full((64,), 3.0))
    with pytest.raises(UserError, match="damaged"):
        read_foreign(path)


def test_a_class_that_is_loaded_is_inert_too(tmp_path: Path) -> None:
    torch.save({"a": Path("x"), "b": torch.ones(1)}, tmp_path / "a.pt")
    archive = pickles.read_archive(tmp_path / "a.pt")
    assert isinstance(archive, dict)
    assert isinstance(archive["a"], pickles.Inert)
    assert archive["b"].equal(torch.ones(1))


class Attributes(dict):
    """As Lightning keeps hyper-parameters: a subclass of dict."""


def test_whatever_else_a_training_state_holds_does_not_matter(tmp_path: Path) -> None:
    others = {
        "counter": Counter("ab"),
        "default": defaultdict(list, a=[1]),
        "deque": deque([1, 2]),
        "numpy": np.arange(3),
        "number": np.float64(1),
        "namespace": argparse.Namespace(lr=1e-5),
        "attributes": Attributes(lr=1e-5),
        "set": {1, 2},
        "keys": {torch.float32: 1, Path("a"): 2, (1, 2): 3, None: 4},
        "device": torch.device("cpu"),
        "dtype": torch.bfloat16,
        "size": torch.Size([2, 3]),
        "bytes": b"\xff",
        "partial": OrderedDict(a=np.float32),
    }
    for protocol in (2, 3, 4, 5):
        torch.save({**others, "state_dict": {"a": torch.ones(1)}}, tmp_path / "a.pt", pickle_protocol=protocol)
        assert list(read_foreign(tmp_path / "a.pt").tensors) == ["state_dict.a"]


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(6.0).view(2, 3),
        torch.arange(6.0).view(2, 3).T,
        torch.arange(10.0)[3:7],
        torch.tensor(2.5),
        torch.empty(0, 3),
        torch.arange(3),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j]),
        torch.ones(2, dtype=torch.uint16),
        torch.ones(2).to(torch.float8_e4m3fn),
        *(torch.arange(3).to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int8)),
        nn.Parameter(torch.ones(2)),
        negative(torch.arange(6.0)).view(2, 3).T,
        nn.Parameter(negative(torch.ones(2))),
        torch.tensor([1 + 2j, 3 - 1j]).conj(),
        torch.tensor([1 + 2j, 3 - 1j]).conj().imag,
        negative(torch.tensor([1 + 2j]).conj()),
    ],
    ids=lambda t: f"{t.dtype} {list(t.shape)} {t.stride()} {t.is_neg()} {t.is_conj()}",
)
def test_every_dense_tensor_is_the_one_that_torch_reads(tensor: Tensor, tmp_path: Path) -> None:
    torch.save({"a": tensor, "b": tensor}, tmp_path / "a.pt")
    expected = torch.load(tmp_path / "a.pt")["a"]
    actual = read_foreign(tmp_path / "a.pt").tensors["a"]
    assert isinstance(actual, Tensor)
    assert (actual.dtype, actual.shape, actual.stride()) == (expected.dtype, expected.shape, expected.stride())
    assert actual.to(torch.complex128).equal(expected.detach().to(torch.complex128))


def test_negatives_of_one_storage_take_its_memory_once(tmp_path: Path) -> None:
    """Else a small file could take any amount of it."""
    stored = torch.arange(1000.0)
    torch.save([negative(stored[i:]) for i in range(100)], tmp_path / "a.pt")
    tensors = [t for t in read_foreign(tmp_path / "a.pt").tensors.values() if isinstance(t, Tensor)]
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
    assert all(tensor.equal(-stored[i:]) for i, tensor in enumerate(tensors))


def test_a_mark_that_cannot_be_followed_is_no_dense_tensor(tmp_path: Path) -> None:
    torch.save({"a": negative(torch.ones(2)), "b": torch.ones(1)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        content = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    pickled = content.pop("data.pkl").replace(b"neg", b"new")
    tensors = read_foreign(archive(tmp_path / "b.pt", pickled, content)).tensors
    assert tensors["a"] == pickles.Unreadable("marked as new")
    torch.save({"a": negative(torch.ones(2).to(torch.float8_e4m3fn))}, tmp_path / "a.pt")
    assert read_foreign(tmp_path / "a.pt").tensors["a"] == pickles.Unreadable("marked as neg")


def test_a_parameter_with_attributes_is_read(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(2))
    parameter.note = "kept"  # pyright: ignore[reportAttributeAccessIssue]
    torch.save({"a": parameter}, tmp_path / "a.pt")
    assert list(read_foreign(tmp_path / "a.pt").tensors) == ["a"]


def test_a_container_within_itself_ends(tmp_path: Path) -> None:
    loop: dict[str, object] = {"a": torch.ones(1)}
    loop["again"] = loop
    torch.save(loop, tmp_path / "a.pt")
    assert list(read_foreign(tmp_path / "a.pt").tensors) == ["a"]
    doubled: object = {"a": torch.ones(1)}
    for _ in range(50):
        doubled = {"left": doubled, "right": doubled}
    torch.save({"b": torch.ones(1), "doubled": doubled}, tmp_path / "a.pt")
    assert len(read_foreign(tmp_path / "a.pt").tensors) == 2


def test_buffers_that_a_module_does_not_save_are_left_out(tmp_path: Path) -> None:
    module = sys.modules["gone_afterwards"] = ModuleType("gone_afterwards")
    exec("import torch\nclass Theirs(torch.nn.Module): ...", module.__dict__)
    theirs = module.Theirs()
    theirs.register_buffer("kept", torch.ones(1))
    theirs.register_buffer("dropped", torch.ones(1), persistent=False)
    theirs.layer, theirs.nothing = nn.Linear(2, 2), None
    try:
        torch.save({"trainer": argparse.Namespace(model=theirs)}, tmp_path / "a.pt")
    finally:
        del sys.modules["gone_afterwards"]
    assert set(read_foreign(tmp_path / "a.pt").tensors) == {f"trainer.model.{name}" for name in theirs.state_dict()}


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_pickle_is_read_or_refused(seed: int, pickled: Callable[[nn.Module], Path], tuned: nn.Module) -> None:
    """Bytes are changed and the checksum is made to fit; an ordinary unpickler would execute what comes out."""
    path, random = pickled(tuned), np.random.default_rng(seed)
    with zipfile.ZipFile(path) as file:
        content = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
    original = content.pop("data.pkl")
    for _ in range(100):
        damaged = bytearray(original)
        for position in random.integers(0, len(damaged), random.integers(1, 4)):
            damaged[position] = random.integers(256)
        archive(path, bytes(damaged), content)
        try:
            read_foreign(path)
        except UserError as error:
            assert str(error).isprintable()  # noqa: PT017
