"""Recognise a weights file by its first bytes, whatever its suffix."""

import re
from pathlib import Path
from typing import Literal
from zipfile import BadZipFile, ZipFile

from pipeline.config.names import short
from pipeline.errors import UserError

Kind = Literal["safetensors", "torch"]

READ = "safetensors files and archives of torch.save (torch 1.6 or later)"

_HEAD = 512
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickle of its magic number
# The longest header that the safetensors library reads.
_MAX_HEADER = 100_000_000
_BOM = b"\xef\xbb\xbf"
# How the text of a pointer begins, whatever its line ends; Git LFS was once called Hawser.
_POINTERS = {
    rb"version https://(git-lfs|hawser)\b": (
        "a Git LFS pointer, not the weights; run `git lfs pull` where it was cloned"
    ),
    rb"# xet version": "a pointer to Xet storage, not the weights; run `git xet checkout` where it was cloned",
    rb"[./]*(\.git)?/annex/objects/": "a git-annex pointer, not the weights; run `git annex get` where it was cloned",
    rb"(\w+:.*\n|[ -].*\n)*?outs:\s+- (md5|hash|etag|checksum|size|path):": (
        "a DVC pointer, not the weights; run `dvc pull` where it was cloned"
    ),
}
# First bytes of other formats.
_OTHERS = {
    _OLD_TORCH: "in torch.save's format before torch 1.6; save it again with a later torch",
    b"\x80": "a pickle that torch.save did not write; save its tensors as safetensors",
    b"GGUF": "a GGUF file, whose weights are quantised; take the original weights",
    b"\x89HDF": "an HDF5 file; convert it to safetensors",
    b"\x93NUMPY": "a NumPy array; convert it to safetensors",
    b"\x1f\x8b": "compressed with gzip; decompress it",
    b"BZh": "compressed with bzip2; decompress it",
    b"\xfd7zXZ": "compressed with xz; decompress it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; decompress it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"%PDF": "a PDF document; download the weights instead",
}


def file_kind(file: Path) -> Kind:
    """Return which of the two readable formats a file has.

    Raises:
        UserError: the file has neither format; the message names a known one.
    """
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    if not head:
        raise UserError(f"{file}: empty (0 bytes); download or copy it again")
    if head.startswith(b"PK"):
        return _checked_zip(file)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_HEADER:
        return "safetensors"
    raise UserError(f"{file}: {_described(head)}")


def _described(head: bytes) -> str:
    for beginning, description in _OTHERS.items():
        if head.startswith(beginning):
            return description
    text = head.removeprefix(_BOM).lstrip()
    for beginning, description in _POINTERS.items():
        if re.match(beginning, text):
            return description
    if text.startswith(b"<"):
        return "a web page (HTML or XML), not the weights; download the file itself"
    if text[:1] in (b"{", b"["):
        return "JSON text, not weights; name the weights, or the folder with them"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it"
    # A protocol buffer whose first fields are ONNX's version and producer.
    if head[:1] == b"\x08" and head[2:3] in (b"\x12", b"\x1a", b":"):
        return "an ONNX model; take the original weights"
    if 8 <= len(head) < _HEAD and head.isascii() and b"\0" not in head:
        return f"text, not weights: {short(head.decode())}; download the file itself"
    return f"not a format that is read; these are {READ}"


def _checked_zip(file: Path) -> Kind:
    try:
        with ZipFile(file) as archive:
            names = archive.namelist()
    except (BadZipFile, NotImplementedError, ValueError):
        raise UserError(f"{file}: a zip archive that is cut short or damaged; download or copy it again") from None
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    root = pickles[0].removesuffix("data.pkl") if pickles else ""
    if any(name == f"{root}constants.pkl" or name.startswith(f"{root}code/") for name in names):
        raise UserError(f"{file}: a TorchScript archive, which holds code; save the module's state_dict() instead")
    if len(pickles) == 1:
        return "torch"
    if names and all(name.endswith(".npy") for name in names):
        raise UserError(f"{file}: NumPy arrays (.npz); convert it to safetensors")
    raise UserError(f"{file}: a zip archive that torch.save did not write; unpack it, or name another file")
