"""Records of downloads, kept in git as ``data/records/<task>.json``. A later download must have the same files."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import UserError
from pipeline.io.files import read_json, write_json
from pipeline.sources.file_record import FileRecord
from pipeline.tasks.registry import SplitFiles


class SplitCounts(BaseModel):
    """Counts of a folder's image files: packed into a split, and left out, by reason."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: int
    left_out: dict[str, int]


class DownloadRecord(BaseModel):
    """The origin of a task's images.

    origin: a hub repository, or the kind of the source.
    revision: revision of a hub dataset, from its definition.
    commit: commit of a hub dataset, to which the revision resolved at the first download.
    selected: files of a hub dataset that its definition selects.
    class_names: the result of comparing the source's own class names with the definition's.
    files: files by path, in the repository or in ``data/raw/<task>``.
    counts: counts of a folder's files, by split.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: str
    revision: str | None = None
    commit: str | None = None
    selected: dict[str, SplitFiles] | None = None
    class_names: str | None = None
    files: dict[str, FileRecord]
    counts: dict[str, SplitCounts] | None = Field(default=None, exclude_if=lambda counts: counts is None)

    @classmethod
    def read(cls, path: Path) -> "DownloadRecord | None":
        """Read the record of an earlier download; return ``None`` if there was none.

        Raises:
            UserError: the file is not a record.
        """
        if not path.exists():
            return None
        try:
            return cls.model_validate(read_json(path))
        except ValidationError as error:
            raise UserError(
                f"{path}: not a record of a download ({error.errors()[0]['msg']}); get it again with "
                f"`git checkout {path}`, or delete it to record what is there now"
            ) from None

    def write(self, path: Path) -> None:
        """Write the record as JSON."""
        write_json(path, self.model_dump(mode="json"))
