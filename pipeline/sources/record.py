"""What was downloaded, kept in git: ``data/records/<task>.json``. A later download must bring the same."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import UserError
from pipeline.files import file_sha256, read_json, write_json
from pipeline.tasks.registry import SplitFiles


class FileRecord(BaseModel):
    """A file's size in bytes and its SHA-256."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileRecord":
        """Of a file on this machine."""
        return cls(bytes=path.stat().st_size, sha256=file_sha256(path))


class Record(BaseModel):
    """Where a task's images come from.

    origin: a hub repository, or the kind of the source.
    revision, commit: of a hub dataset, as its definition says and what that stood for at the first download.
    selected: of a hub dataset, which files its definition asked for.
    class_names: what comparing the source's own names of the classes with ours showed.
    files: by path, in the repository or in ``data/raw/<task>``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: str
    revision: str | None = None
    commit: str | None = None
    selected: dict[str, SplitFiles] | None = None
    class_names: str | None = None
    files: dict[str, FileRecord]

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """The record of an earlier download, ``None`` if there was none.

        Raises:
            UserError: the file is no record.
        """
        if not path.exists():
            return None
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            raise UserError(
                f"{path}: no record of a download ({error.errors()[0]['msg']}); get it again with "
                f"`git checkout {path}`, or delete it to record what is there now"
            ) from None

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        write_json(path, self.model_dump(mode="json"))
