"""Checkpoints in every kind of container, and files that are not checkpoints."""

import copy
import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from pipeline.editing import write_task_vector
from pipeline.errors import UserError
from pipeline.foreign.checkpoint import read_foreign
from pipeline.foreign.importing import Imported, import_task_vector
from pipeline.models.checkpoints import write_tensors
from pipeline.models.encoders import ImageEncoder
from tests.foreign.test_importing import VISION, linearised, prefixed


def imported(path: Path, encoder: ImageEncoder, prefix: str = "") -> Imported:
    return import_task_vector(read_foreign(path).under(prefix), encoder, False, "tiny", "theirs", "digits")


def refusal(path: Path, encoder: ImageEncoder, prefix: str = "") -> str:
    """The message without the path; it is one line, and does not advise executing the file."""
    with pytest.raises(UserError) as error:
        imported(path, encoder, prefix)
    line = str(error.value)
    assert line.isprintable()
    assert "weights_only" not in line
    assert "add_safe_globals" not in line
    assert len(line) < 500
    return line.removeprefix(f"{path}: ")


def assert_is(result: Imported, tau: Mapping[str, Tensor]) -> None:
    assert result.vector.tensors.keys() == tau.keys()
    for name, tensor in result.vector.tensors.items():
        torch.testing.assert_close(tensor, tau[name], atol=1e-6, rtol=0)


class Wrapper(nn.Module):
    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


WRAPPERS = ["model", "model_state_dict", "state_dict", "net", "network", "module", "encoder", "ema", "weights", "a.b"]
OTHERS = {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}, "args": None}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_state_dict_is_found_under_any_key(
    wrapper: str, tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    for content in (tuned.state_dict(), tuned.get_submodule("visual").state_dict(), tuned, [tuned.state_dict()]):
        for nested in ({wrapper: content}, {**OTHERS, wrapper: content}, {"outer": {wrapper: {"inner": content}}}):
            torch.save(nested, tmp_path / "a.pt")
            assert_is(imported(tmp_path / "a.pt", encoder), tau)


@pytest.mark.parametrize("part", ["exp_avg", "optimizer_states", "grads", "momentum_buffer", "optim.state.exp_avg_sq"])
def test_moments_and_gradients_are_no_second_encoder(
    part: str, tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    """They have the names of the weights, as training states of FSDP do."""
    others = {f"{part}.{name}": tensor + 1 for name, tensor in tuned.state_dict().items()}
    torch.save({**others, **tuned.state_dict()}, tmp_path / "a.pt")
    assert_is(imported(tmp_path / "a.pt", encoder), tau)


@pytest.mark.parametrize("key", ["_orig_mod", "transformer._orig_mod", "module._orig_mod", "_fsdp_wrapped_module"])
def test_names_of_wrapping_modules_are_passed_over(
    key: str, tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    outer, _, inner = key.rpartition(".")
    state = {
        (name.replace(f"{outer}.", f"{key}.", 1) if outer == "transformer" else f"{key}.{name}"): tensor
        for name, tensor in tuned.state_dict().items()
    }
    assert any(inner in name for name in state)
    torch.save(state, tmp_path / "a.pt")
    assert_is(imported(tmp_path / "a.pt", encoder), tau)


def pairs(kind: str, tuned: nn.Module, origin: nn.Module) -> dict[str, Any]:
    """Two encoders in one file, called one and other."""
    other = copy.deepcopy(tuned)
    for parameter in other.parameters():
        parameter.add_(0.01)
    states = {"one": tuned.state_dict(), "other": other.state_dict()}
    flat = {f"{key}.{name}": tensor for key, state in states.items() for name, tensor in state.items()}
    base = dict(origin.named_parameters())
    return {
        "prefixes": flat,
        "the other first": dict(reversed(flat.items())),
        "one incomplete": {name: t for name, t in flat.items() if name != "one.visual.proj"},
        "one by three tensors": {
            name: t
            for name, t in flat.items()
            if not name.startswith("one.") or "visual.transformer.resblocks.0.ln_" in name
        },
        "the other by three tensors": {
            name: t
            for name, t in flat.items()
            if not name.startswith("other.") or "visual.transformer.resblocks.0.attn." in name
        },
        "attention only": {name: t for name, t in flat.items() if "visual." in name and ".attn." in name},
        "mappings": {**OTHERS, **states},
        "a list": dict(enumerate(states.values())),
        "modules": {"one": tuned, "other": other},
        "linearised": {
            f"{key}.{name}": tensor
            for key, state in {"one": dict(tuned.named_parameters()), "other": dict(other.named_parameters())}.items()
            for name, tensor in linearised([n for n in base if n.startswith("visual.")], state, base).items()
        },
        "Hugging Face's": {
            f"{key}.{name}": tensor + shift
            for shift, key in enumerate(("one", "other"))
            for name, tensor in CLIPVisionModel(CLIPVisionConfig(**VISION)).state_dict().items()
        },
        "Hugging Face's, one partly": {
            f"{key}.{name}": tensor + shift
            for shift, key in enumerate(("one", "other"))
            for name, tensor in CLIPVisionModel(CLIPVisionConfig(**VISION)).state_dict().items()
            if key == "other" or "patch_embedding" in name or "encoder.layers.0" in name
        },
        "two libraries": {
            **prefixed(tuned.state_dict(), "one."),
            **prefixed(CLIPVisionModel(CLIPVisionConfig(**VISION)).state_dict(), "other."),
        },
    }[kind]


KINDS = [
    *("one by three tensors", "the other by three tensors", "Hugging Face's, one partly"),
    *("prefixes", "the other first", "one incomplete", "attention only", "mappings", "a list", "modules"),
    *("linearised", "Hugging Face's", "two libraries"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_of_two_encoders_none_is_guessed(
    kind: str, tmp_path: Path, tuned: nn.Module, origin: nn.Module, encoder: ImageEncoder
) -> None:
    torch.save(pairs(kind, tuned, origin), tmp_path / "a.pt")
    line = refusal(tmp_path / "a.pt", encoder)
    names = ("0", "1") if kind == "a list" else ("one", "other")
    assert line.startswith("holds 2 image encoders, named ")
    assert line.endswith("; choose with --prefix")
    assert all(f"'{name}." in line for name in names)
    if kind == "Hugging Face's, one partly":
        return  # Hugging Face's part cannot be told from another network, so it is not read alone
    vectors = [imported(tmp_path / "a.pt", encoder, prefix).vector for prefix in (names[0], f"{names[1]}.")]
    assert vectors[0].norm() != vectors[1].norm()


def test_an_encoder_without_a_prefix_beside_another_cannot_be_chosen(
    tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder
) -> None:
    bare = dict(tuned.get_submodule("visual").state_dict())
    teacher = {f"teacher.{name}": tensor + 0.01 for name, tensor in bare.items()}
    for content in ({**bare, **teacher}, {**bare, **dict(list(teacher.items())[:3])}):
        torch.save(content, tmp_path / "a.pt")
        assert refusal(tmp_path / "a.pt", encoder) == (
            "holds 2 image encoders, named '', 'teacher.'; choose with --prefix, or save the one you want alone"
        )


def test_equal_parts_of_an_encoder_are_no_second_one(
    tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    state = tuned.state_dict()
    part = {f"again.{name}": tensor.clone() for name, tensor in state.items() if ".attn." in name}
    torch.save({**part, **{f"model.{name}": tensor for name, tensor in state.items()}}, tmp_path / "a.pt")
    assert_is(imported(tmp_path / "a.pt", encoder), tau)


def test_a_prefix_takes_the_part_it_names(
    tmp_path: Path, tuned: nn.Module, origin: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    torch.save(pairs("prefixes", tuned, origin), tmp_path / "a.pt")
    for prefix in ("one", "one.", "one.visual", "one.visual."):
        result = imported(tmp_path / "a.pt", encoder, prefix)
        assert_is(result, tau)
        assert str(result.vector.provenance.imported_from).startswith(f"a.pt, {prefix.rstrip('.')}.*, SHA-256 ")
    for prefix in ("on", "three.", "ne.visual"):
        line = refusal(tmp_path / "a.pt", encoder, prefix)
        assert line == f"no tensor's name starts with '{prefix.rstrip('.')}.'; choose --prefix from 'one.', 'other.'"


def test_one_encoder_under_two_names_is_one(
    tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    state = tuned.state_dict()
    torch.save({"model": state, "module": {name: t.clone() for name, t in state.items()}}, tmp_path / "a.pt")
    assert_is(imported(tmp_path / "a.pt", encoder), tau)
    torch.save({"model": state, "again": state}, tmp_path / "a.pt")
    assert_is(imported(tmp_path / "a.pt", encoder), tau)


def test_two_tensors_of_one_name_are_refused(tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder) -> None:
    torch.save({"model": tuned.state_dict(), "model.visual.proj": torch.ones(2)}, tmp_path / "a.pt")
    assert refusal(tmp_path / "a.pt", encoder) == (
        "has two tensors called 'model.visual.proj'; save it with distinct names"
    )


def sharded(folder: Path, state: Mapping[str, Tensor], kind: str = "safetensors") -> list[Path]:
    """As Hugging Face writes them: two shards and an index."""
    folder.mkdir(exist_ok=True)
    stem = "model" if kind == "safetensors" else "pytorch_model"
    names, shards = list(state), [folder / f"{stem}-0000{i}-of-00002.{kind}" for i in (1, 2)]
    weight_map = {}
    for shard, part in zip(shards, (names[::2], names[1::2]), strict=True):
        content = {name: state[name].contiguous() for name in part}
        save_file(content, shard) if kind == "safetensors" else torch.save(content, shard)
        weight_map |= dict.fromkeys(part, shard.name)
    index = folder / f"{stem}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return [index, *shards]


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_are_read_by_their_index(
    kind: str, tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    index, first, second = sharded(tmp_path / "a", tuned.state_dict(), kind)
    for path in (tmp_path / "a", index):
        result = imported(path, encoder)
        assert_is(result, tau)
        assert str(result.vector.provenance.imported_from).startswith(f"{index.name}, SHA-256 ")
    assert refusal(first, encoder) == (
        "shard 1 of 2 by its name; name the folder, or the index (*.index.json) beside it, or rename the file if it is "
        "whole"
    )
    assert refusal(second, encoder).startswith("shard 2 of 2 by its name; ")
    sha256 = read_foreign(index).sha256
    content = json.loads(index.read_text())
    index.write_text(json.dumps({**content, "weight_map": {**content["weight_map"], "more": first.name}}))
    assert refusal(index, encoder) == f"{first}: {index.name} disagrees about 'more'; download both again"
    index.write_text(json.dumps(content))
    first.unlink()
    assert refusal(index, encoder) == f"{first}: no such file, but {index.name} names it; download all shards"
    index.unlink()
    assert refusal(tmp_path / "a", encoder) == "has shards, but no index (*.index.json) of them; download it as well"
    sharded(tmp_path / "a", {name: tensor + 1 for name, tensor in tuned.state_dict().items()}, kind)
    assert read_foreign(index).sha256 != sha256


@pytest.mark.parametrize(
    ("name", "shard"),
    [
        ("model_00001_of_00002.safetensors", "1 of 2"),
        ("model.00001-of-00002.safetensors", "1 of 2"),
        ("model-00002-OF-00002.safetensors", "2 of 2"),
        ("model-00001-of-00002(1).safetensors", "1 of 2"),
        ("model-00001-of-00002", "1 of 2"),
        ("model-1of12.safetensors", "1 of 12"),
        ("model_part1.safetensors", "part1"),
        ("part-2.bin", "part-2"),
        ("consolidated.00.pth", "consolidated.00"),
        ("mp_rank_00_model_states.pt", "mp_rank_00"),
        ("model.safetensors.00001", "00001"),
    ],
)
def test_a_shard_is_known_by_its_name_and_refused(
    name: str, shard: str, tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder
) -> None:
    torch.save({n: t for n, t in tuned.state_dict().items() if ".attn." in n}, tmp_path / name)
    assert refusal(tmp_path / name, encoder).startswith(f"shard {shard} by its name; name the folder, or the index")
    if (tmp_path / name).suffix in (".safetensors", ".pth", ".pt", ".bin"):
        assert refusal(tmp_path, encoder).startswith("has shards, but no index")


@pytest.mark.parametrize("name", ["department1.pt", "best of 3.pt", "model-00001-of-00001.safetensors", "proof1.pt"])
def test_other_names_are_not_those_of_shards(
    name: str, tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    torch.save(tuned.state_dict(), tmp_path / name)
    assert_is(imported(tmp_path / name, encoder), tau)


def test_an_index_of_a_variant_is_an_index(
    tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    index, *_ = sharded(tmp_path / "a", tuned.state_dict())
    variant = index.rename(index.with_name("model.safetensors.index.fp16.json"))
    for path in (variant, tmp_path / "a"):
        assert_is(imported(path, encoder), tau)


@pytest.mark.parametrize(
    "content",
    ["[]", "", "{", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 1}}', '{"weight_map": []}', "\xff", "[" * 10**5],
)
def test_what_is_not_an_index_is_refused(content: str, tmp_path: Path, encoder: ImageEncoder) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(content, encoding="latin-1")
    assert refusal(path, encoder).startswith("not an index of shards")


@pytest.mark.parametrize("name", ["../a.safetensors", "/etc/passwd", "b/a.safetensors", "..", ""])
def test_shards_lie_beside_their_index(name: str, tmp_path: Path, encoder: ImageEncoder) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"visual.proj": name}}))
    assert refusal(path, encoder).startswith((f"names the shard {name!r}; ", f"{tmp_path}"))


@pytest.mark.parametrize("name", ["a.SAFETENSORS", "a.pt", "a", "a.PTH", "model.bin", "weights.ckpt"])
def test_the_content_and_not_the_suffix_tells_the_format(
    name: str, tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    path = tmp_path / name
    state = {key: tensor.contiguous() for key, tensor in tuned.state_dict().items()}
    for save in (save_file, torch.save):
        save(state, path)
        assert_is(imported(path, encoder), tau)


def test_a_folder_has_one_weights_file(
    tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    assert refusal(tmp_path, encoder) == ("has no weights (.bin, .ckpt, .pt, .pth, .safetensors); name the file itself")
    (tmp_path / "README.md").write_text("# A model")
    torch.save(tuned.state_dict(), tmp_path / "epoch_1.PT")
    assert_is(imported(tmp_path, encoder), tau)
    torch.save(tuned.state_dict(), tmp_path / "epoch_2.pt")
    assert refusal(tmp_path, encoder) == "has several weights files; name one of 'epoch_1.PT', 'epoch_2.pt'"
    for name in ("optimizer.pt", "scheduler.pt", "rng_state_0.pth", "training_args.bin"):
        torch.save({"a": torch.ones(1)}, tmp_path / name)
    (tmp_path / "epoch_1.PT").unlink()
    assert_is(imported(tmp_path, encoder), tau)


def test_the_same_weights_for_other_libraries_are_noted(
    tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    state = {name: tensor.contiguous() for name, tensor in tuned.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    assert imported(tmp_path, encoder).notes == ()
    for name in ("pytorch_model.bin", "open_clip_pytorch_model.bin"):
        torch.save({"a": torch.ones(1)}, tmp_path / name)
    (tmp_path / "optimizer.pt").write_bytes(b"")
    result = imported(tmp_path, encoder)
    assert_is(result, tau)
    others = "'open_clip_pytorch_model.bin', 'pytorch_model.bin'"
    assert result.notes == (f"model.safetensors was read, and not {others} beside it; they usually hold the same",)
    sharded(tmp_path / "shards", state)
    sharded(tmp_path / "shards", state, "bin")
    result = imported(tmp_path / "shards", encoder)
    assert_is(result, tau)
    assert "'pytorch_model-00001-of-00002.bin', 'pytorch_model-00002-of-00002.bin'" in result.notes[0]


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ("best.pt", "has 'best.pt' beside {}; name the file instead of the folder"),
        ("model.fp16.safetensors", "has 'model.fp16.safetensors' beside {}; name the file instead of the folder"),
        (
            "adapter_model.safetensors",
            "has an adapter, 'adapter_model.safetensors', beside {}; merge it into the weights, or name the file "
            "itself",
        ),
    ],
)
def test_no_other_weights_lie_beside_those_of_a_folder(
    other: str, message: str, indexed: bool, tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder
) -> None:
    state = {name: tensor.contiguous() for name, tensor in tuned.state_dict().items()}
    if indexed:
        sharded(tmp_path, state)
    else:
        save_file(state, tmp_path / "model.safetensors")
    save_file(state, tmp_path / other)
    name = "model.safetensors.index.json" if indexed else "model.safetensors"
    assert refusal(tmp_path, encoder) == message.format(name)


def test_a_whole_file_beside_an_index_of_its_kind_is_refused(
    tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder
) -> None:
    state = {name: tensor.contiguous() for name, tensor in tuned.state_dict().items()}
    sharded(tmp_path, state)
    save_file(state, tmp_path / "model.safetensors")
    assert refusal(tmp_path, encoder).startswith("has 'model.safetensors' beside model.safetensors.index.json; name")


def other_files() -> dict[str, tuple[bytes, str]]:
    """Files that are not checkpoints, and how their refusals begin."""
    pack, tar, npz, arrays = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(pack, "w") as archive:
        archive.writestr("model/weights.txt", "1")
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    np.savez(npz, a=np.ones(2))
    np.save(arrays, np.ones(2))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 605000000\n"
    odd = json.dumps({"visual.proj": {"dtype": "I4", "shape": [2, 2], "data_offsets": [0, 2]}}).encode()
    return {
        "a pointer": (pointer, "a Git LFS pointer, not the weights; run `git lfs pull`"),
        "a pointer with a byte order mark": (b"\xef\xbb\xbf" + pointer, "a Git LFS pointer, not the weights"),
        "an old pointer": (pointer.replace(b"git-lfs", b"hawser"), "a Git LFS pointer, not the weights"),
        "a link of git-annex": (b"../../.git/annex/objects/aa/bb/SHA256E-s3--ab.pt/x", "a git-annex pointer, not"),
        "a pointer of DVC 3": (b"outs:\r\n- hash: md5\r\n  md5: ab\r\n", "a DVC pointer, not the weights"),
        "a pointer of DVC with a hash": (b"md5: ab\nouts:\n- size: 3\n  md5: ab\n", "a DVC pointer, not the weights"),
        "a pointer of DVC import": (b"deps:\n- path: b\nouts:\n- md5: ab\n", "a DVC pointer, not the weights"),
        "JSON with a brace in ninth place": (b'{"data":{"error":"x"}}', "JSON text, not weights; name the weights"),
        "a page with a brace in ninth place": (b"<script>{a}", "a web page (HTML or XML), not the weights"),
        "an unknown type": (
            len(odd).to_bytes(8, "little") + odd + bytes(2),
            "tensor 'visual.proj' is of type 'I4', which",
        ),
        "a page": (b"<!DOCTYPE html><html>Quota exceeded</html>", "a web page (HTML or XML), not the weights"),
        "an indented page": (b"\xef\xbb\xbf\n  <html>", "a web page (HTML or XML), not the weights"),
        "an answer in XML": (b'<?xml version="1.0"?><Error/>', "a web page (HTML or XML), not the weights"),
        "an answer in JSON": (b'{"error": "Not found"}', "JSON text, not weights; name the weights"),
        "nothing": (b"", "empty (0 bytes); download or copy it again"),
        "one byte": (b"P", "not a format that is read; these are safetensors files and archives of torch.save"),
        "text": (b"Entry not found", "text, not weights: 'Entry not found'; download the file itself"),
        "a pointer of git-annex": (b"/annex/objects/SHA256E-s3--ab.pt\n", "a git-annex pointer, not the weights"),
        "a pointer of Xet": (b"# xet version 0\nfilesize = 3\n", "a pointer to Xet storage, not the weights"),
        "a pointer of DVC": (b"outs:\n- md5: ab\n  path: a.pt\n", "a DVC pointer, not the weights"),
        "zeros": (bytes(100), "not a format that is read"),
        "GGUF": (b"GGUF\x03\x00\x00\x00", "a GGUF file, whose weights are quantised"),
        "ONNX": (b"\x08\x07\x12\x07pytorch", "an ONNX model"),
        "HDF5": (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        "a zip": (pack.getvalue(), "a zip archive that torch.save did not write"),
        "a cut zip": (pack.getvalue()[:-10], "a zip archive that is cut short or damaged"),
        "npz": (npz.getvalue(), "NumPy arrays (.npz); convert it to safetensors"),
        "npy": (arrays.getvalue(), "a NumPy array; convert it to safetensors"),
        "tar": (tar.getvalue(), "a tar archive; unpack it"),
        "gzip": (gzip.compress(b"a"), "compressed with gzip; decompress it"),
        "a pickle": (b"\x80\x04K\x01.", "a pickle that torch.save did not write"),
        "a header without an end": (b"\xff\xff\x00\x00\x00\x00\x00\x00{}", "cut short: 10 of 65,543 bytes are there"),
        "a header that is not JSON": (b"\x02\x00\x00\x00\x00\x00\x00\x00{{", "damaged, or not a safetensors file"),
        "a header of a list": (b'\x08\x00\x00\x00\x00\x00\x00\x00{"a":[]}', "damaged, or not a safetensors file"),
        "a deep header": (b"\x0a\x00\x00\x00\x00\x00\x00\x00" + b'{"a":[[[[[', "damaged, or not a safetensors file"),
        "no tensors": (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "holds no tensors; name a checkpoint"),
    }


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".onnx", ""])
@pytest.mark.parametrize("kind", other_files())
def test_a_file_of_something_else_says_what_it_is(
    kind: str, suffix: str, tmp_path: Path, encoder: ImageEncoder
) -> None:
    content, message = other_files()[kind]
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert refusal(tmp_path / f"a{suffix}", encoder).startswith(message)


def test_files_of_torch_that_are_not_read(tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder) -> None:
    path = tmp_path / "a.pt"
    torch.save(tuned.state_dict(), path, _use_new_zipfile_serialization=False)
    assert refusal(path, encoder) == "in torch.save's format before torch 1.6; save it again with a later torch"
    torch.jit.script(nn.Linear(2, 2)).save(str(path))
    assert refusal(path, encoder) == ("a TorchScript archive, which holds code; save the module's state_dict() instead")
    torch.save([1, 2], path)
    assert refusal(path, encoder) == "holds no tensors; name a checkpoint of an image encoder"


@pytest.mark.parametrize("save", [torch.save, save_file])
def test_a_file_cut_anywhere_is_refused(
    save: Callable[..., None], tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder
) -> None:
    path = tmp_path / "a.bin"
    save({name: tensor.contiguous() for name, tensor in tuned.state_dict().items()}, path)
    content = path.read_bytes()
    for end in [*range(12), *np.linspace(12, len(content) - 1, 40).astype(int)]:
        path.write_bytes(content[:end])
        line = refusal(path, encoder)
        assert line.startswith(("empty", "not a format", "a zip archive that is cut", "cut short", "damaged"))


def test_what_is_not_a_file(tmp_path: Path, encoder: ImageEncoder) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "loop.pt").symlink_to(tmp_path / "loop.pt")
    for name, message in (("pipe.pt", "not a regular file"), ("loop.pt", "no such file"), ("none\x1b[1m", "no such")):
        with pytest.raises(UserError, match=message):
            imported(tmp_path / name, encoder)


ODD: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "int8": (lambda t: t.to(torch.int8), "is int8; save it as float16, bfloat16, float32, float64"),
    "uint8": (lambda t: t.to(torch.uint8), "is uint8; save it as"),
    "int64": (lambda t: t.to(torch.int64), "is int64; save it as"),
    "bool": (lambda t: t.to(torch.bool), "is bool; save it as"),
    "float8": (lambda t: t.to(torch.float8_e4m3fn), "is float8_e4m3fn; save it as"),
    "complex": (lambda t: t.to(torch.complex64), "is complex64; save it as"),
    "quantised": (lambda t: torch.quantize_per_tensor(t, 0.01, 0, torch.qint8), "is quantised; save it as a dense one"),
    "per channel": (
        lambda t: torch.quantize_per_channel(t, torch.ones(len(t)), torch.zeros(len(t)), 0, torch.quint8),
        "is quantised; save it as a dense one",
    ),
    "sparse": (lambda t: t.to_sparse(), "is sparse; save it as a dense one"),
    "sparse rows": (lambda t: t.to_sparse_csr(), "is sparse; save it as a dense one"),
    "expanded": (lambda t: t[:1].clone().expand(t.shape), "is expanded beyond what is stored; save it as a dense one"),
    "huge": (lambda t: torch.ones(1).expand(10**15), "is expanded beyond what is stored; save it as a dense one"),
    "meta": (lambda t: t.to("meta"), "is a meta tensor, which has no values; save it as a dense one"),
    "NaN": (lambda t: t * float("nan"), "holds NaN or infinity; the checkpoint is of no use"),
    "infinity": (lambda t: t / 0, "holds NaN or infinity; the checkpoint is of no use"),
    "beyond float32": (lambda t: (t.double() + 1) * 1e300, "holds NaN or infinity; the checkpoint is of no use"),
}


@pytest.mark.filterwarnings("ignore:torch.quantize_per", "ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("kind", ODD)
def test_a_tensor_that_holds_no_usable_weights_is_refused(
    kind: str, tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder
) -> None:
    change, message = ODD[kind]
    state = tuned.state_dict()
    state["visual.proj"] = change(state["visual.proj"])
    torch.save(state, tmp_path / "a.pt")
    line = refusal(tmp_path / "a.pt", encoder)
    assert "proj'" in line
    assert message in line


@pytest.mark.filterwarnings("ignore:torch.quantize_per", "ignore:Sparse CSR tensor support")
def test_an_odd_tensor_elsewhere_does_not_matter(
    tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    others = {f"other.{kind}": change(torch.ones(2, 2)) for kind, (change, _) in ODD.items() if kind != "meta"}
    torch.save({**others, "model": tuned.state_dict()}, tmp_path / "a.pt")
    assert_is(imported(tmp_path / "a.pt", encoder), tau)


def test_a_difference_is_taken_as_the_vector_itself(
    tmp_path: Path, encoder: ImageEncoder, tau: dict[str, Tensor]
) -> None:
    torch.save({"visual.proj": torch.zeros(32, 16), **prefixed(tau, "visual.")}, tmp_path / "a.pt")
    result = imported(tmp_path / "a.pt", encoder)
    assert result.was_difference
    assert result.unmoved == ["proj"]
    assert result.vector.tensors.keys() == tau.keys()
    assert all(tensor.equal(tau[name]) for name, tensor in result.vector.tensors.items())
    torch.save({name: torch.zeros_like(tensor) for name, tensor in tau.items()}, tmp_path / "a.pt")
    assert refusal(tmp_path / "a.pt", encoder).startswith("no tensor differs from θ₀")


def test_files_of_tauflow_say_what_they_are(tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder) -> None:
    """A checkpoint holds θ, a task vector τ; both know their θ₀, their task and their space."""
    torch.save(tuned.state_dict(), tmp_path / "a.pt")
    vector = imported(tmp_path / "a.pt", encoder).vector
    provenance = replace(vector.provenance, space="tangent", imported_from=None)
    path = tmp_path / "a.safetensors"
    state = tuned.get_submodule("visual").state_dict()
    write_tensors(path, {name: state[name] for name in vector.tensors}, provenance)
    checkpoint = imported(path, encoder)
    write_task_vector(path, replace(vector, provenance=provenance))
    difference = imported(path, encoder)
    assert (checkpoint.was_difference, difference.was_difference) == (False, True)
    for file in (checkpoint, difference):
        assert all(tensor.equal(vector.tensors[name]) for name, tensor in file.vector.tensors.items())
        assert file.base_is_known
        assert file.vector.provenance.space == "tangent"
    for change, message in (
        ({"base_sha256": "b" * 64}, "belongs to θ₀ bbbbbbbbbbbb of tiny, not to "),
        ({"tasks": ("signs",)}, "is of signs and not of digits; choose another --task"),
        ({"tasks": ("digits", "signs")}, "is of digits + signs and not of digits; choose another --task"),
    ):
        write_task_vector(path, replace(vector, provenance=replace(provenance, **change)))
        assert refusal(path, encoder).startswith(message)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "damaged" in refusal(path, encoder)


@pytest.mark.parametrize("name", ["config.json", "open_clip_config.json"])
@pytest.mark.parametrize(
    "content", ["[]", "3", "null", "{", "", "\xff", "[" * 10**5, '{"model_type": "clip", "vision_config": []}', None]
)
def test_a_configuration_that_is_none_is_refused(
    name: str, content: str | None, tmp_path: Path, tuned: nn.Module, encoder: ImageEncoder
) -> None:
    torch.save(tuned.state_dict(), tmp_path / "a.pt")
    path = tmp_path / name
    if content is None:
        path.mkdir()
    else:
        content = content if name == "config.json" else content.replace('"vision_config"', '"model_cfg"')
        path.write_text(content, encoding="latin-1")
    line = refusal(tmp_path / "a.pt", encoder)
    assert line.startswith(f"{path}: ")
    assert line.endswith("; remove it unless it belongs to the weights")


def test_control_characters_of_names_are_quoted(tmp_path: Path, encoder: ImageEncoder) -> None:
    torch.save({"\x1b[31mred\n": torch.ones(1), "a" * 10_000: torch.ones(1)}, tmp_path / "a.pt")
    assert r"'\x1b[31mred\n', 'aaaaa" in refusal(tmp_path / "a.pt", encoder)
