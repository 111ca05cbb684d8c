"""Records of single files that were downloaded."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.io.files import file_sha256


class FileRecord(BaseModel):
    """A file's size in bytes and its SHA-256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileRecord":
        """Return the record of a file on this machine."""
        return cls(bytes=path.stat().st_size, sha256=file_sha256(path))
