"""Check whether stages ran on their present inputs, by the hashes of inputs and outputs in dvc.lock.

After a definition has changed or a training has run again, results are older than their inputs until the evaluation
has run too. dvc.lock and git suffice to tell, so a fresh clone or a commit can be judged as well.
"""

import hashlib
import itertools
from collections import ChainMap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from artifacts.catalogue import TABLES
from artifacts.instances import read_instances
from artifacts.workspace import git
from pipeline.config import Parameters
from pipeline.errors import UserError
from tauflow.dvc.lockfile import Entry, outputs, parse_lock, read_lock_strictly
from tauflow.dvc.verification import directory_files, directory_md5

_DEFINITIONS = "pipeline/definitions/"
_IMPORTED = "data/imported/"
# The table of headlines does not wait for these stages.
_LATER = {*(table.stage for table in TABLES if not table.headline), "report"}
# Maximum number of other studies' files in a directory; every combination of them is tried.
_MAX_OTHERS = 12


def check_table(params: Parameters, revision: str | None, table: Path, content: str, where: str, remedy: str) -> None:
    """Check that a table of headlines is the one that dvc.lock records, made from a study's present inputs.

    Args:
        params: the parameters of the study.
        revision: the commit to look at; ``None``: the working tree.
        table: the path of the table.
        content: its text.
        where: the table, for the message.
        remedy: what to do, for the message.

    Raises:
        UserError: it is older than its inputs, or not the recorded one.
    """
    lineage = Lineage.of_study(params, revision)
    older = next(lineage.changed(lineage.headline_stages), None)
    if older is not None:
        _, path = older
        raise UserError(f"{where}: these are the results of another {path}, which has changed since; {remedy}")
    recorded = outputs(lineage.lock.get("summary", {})).get(table.as_posix())
    if recorded is not None and recorded != hashlib.md5(content.encode("utf-8")).hexdigest():
        raise UserError(f"{where}: not the table that dvc.lock records; {remedy}")


@dataclass(frozen=True)
class Lineage:
    """The recorded inputs and outputs of a study's stage instances.

    Args:
        lock: the entries of dvc.lock, also of other studies.
        stages: the kind of each stage instance of the study, by name.
        revision: the commit to look at; ``None``: the working tree.
    """

    lock: Mapping[str, Entry]
    stages: Mapping[str, str]
    revision: str | None
    _judged: dict[tuple[str, str | None], bool] = field(default_factory=dict)

    @classmethod
    def of_study(cls, params: Parameters, revision: str | None = None) -> "Lineage":
        """Read the lineage of the study of these parameters.

        Raises:
            UserError: dvc.lock is damaged.
        """
        if revision is None:
            lock = read_lock_strictly(Path())
        else:
            lock = parse_lock(git("cat-file", "blob", f"{revision}:./dvc.lock"))
        return cls(lock, {name: i.stage for name, i in read_instances(params).items()}, revision)

    @property
    def headline_stages(self) -> list[str]:
        """The stage instances that the table of headlines waits for, and its own."""
        return [name for name, stage in self.stages.items() if stage not in _LATER]

    def changed(self, names: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield the stage instance and path of each input that differs now from the one it ran on."""
        for name in names:
            for dependency in self.lock.get(name, {}).get("deps", []):
                path, recorded = dependency["path"], dependency.get("md5")
                if (path, recorded) not in self._judged:
                    self._judged[path, recorded] = self._is_current(path, recorded)
                if not self._judged[path, recorded]:
                    yield name, path

    @cached_property
    def _outputs(self) -> dict[str, str]:
        """Hashes of the study's outputs by path."""
        return {path: md5 for name in self.stages for path, md5 in outputs(self.lock.get(name, {})).items()}

    @cached_property
    def _others(self) -> dict[str, str]:
        """Hashes of the outputs of other studies, which may lie in the same directories."""
        everything = {path: md5 for entry in self.lock.values() for path, md5 in outputs(entry).items()}
        return {path: md5 for path, md5 in everything.items() if path not in self._outputs}

    def _is_current(self, path: str, recorded: str | None) -> bool:
        if path.startswith(_DEFINITIONS):
            return recorded == _definition_md5(path, self.revision)
        if path.startswith(_IMPORTED):
            return self.revision is not None or not Path(path).exists() or recorded == _dvc_md5(path)
        if path in self._outputs:
            return recorded == self._outputs[path]
        return self._holds_current(path, recorded)

    def _holds_current(self, directory: str, recorded: str | None) -> bool:
        """Return whether a directory of several stages' outputs can have had this hash with the study's present ones.

        The hash covers what other studies left in it. If that cannot be determined, the answer is yes.
        """
        own = _below(directory, self._outputs)
        others = _below(directory, self._others)
        if not own:
            return True  # no stage of the study writes here
        files, left = self._files(own), [self._files({path: md5}) for path, md5 in others.items()]
        if files is None or None in left or len(left) > _MAX_OTHERS:
            return True
        for number in (0, *range(len(left), 0, -1)):
            for chosen in itertools.combinations(filter(None, left), number):
                if directory_md5(ChainMap(files, *chosen)) == recorded:
                    return True
        # Files that dvc.lock does not know; DVC itself would not run the stage again.
        return self.revision is None and Path(directory).is_dir() and _dvc_md5(directory) == recorded

    def _files(self, hashes: Mapping[str, str]) -> dict[str, str] | None:
        """Return the hashes of files, with those in directories; ``None`` if DVC's list of a directory is not here."""
        files = {path: md5 for path, md5 in hashes.items() if not md5.endswith(".dir")}
        for path, md5 in hashes.items():
            if md5.endswith(".dir"):
                inside = directory_files(md5, self._cache) if self._cache else None
                if inside is None:
                    return None
                files |= {f"{path}/{name}": each for name, each in inside.items()}
        return files

    @cached_property
    def _cache(self) -> Path | None:
        """DVC's cache, wherever it is configured to be; ``None`` if this is not a DVC repository."""
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        try:
            with Repo() as repo:
                return Path(repo.cache.local.path)
        except DvcException:
            return None


def _below(directory: str, hashes: Mapping[str, str]) -> dict[str, str]:
    return {path.removeprefix(f"{directory}/"): md5 for path, md5 in hashes.items() if path.startswith(f"{directory}/")}


def _dvc_md5(path: str) -> str | None:
    """Return DVC's hash of the present content of a path."""
    from dvc.dependency.base import Dependency
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.stage import Stage

    try:
        with Repo() as repo:
            return Dependency(Stage(repo), path).get_hash().value
    except (DvcException, OSError):
        return None


def _definition_md5(path: str, revision: str | None) -> str | None:
    """Return DVC's hash of a file or directory that git keeps; ``None`` if it is not there."""
    files = _working_files(path) if revision is None else _committed_files(path, revision)
    if set(files) == {""}:
        return hashlib.md5(files[""]).hexdigest()
    return directory_md5({name: hashlib.md5(content).hexdigest() for name, content in files.items()}) if files else None


def _working_files(path: str) -> dict[str, bytes]:
    """Return contents by path below ``path``; a file itself has the key ``""``."""
    root = Path(path)
    if root.is_file():
        return {"": root.read_bytes()}
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def _committed_files(path: str, revision: str) -> dict[str, bytes]:
    listed = git("ls-tree", "-r", "-z", "--name-only", revision, "--", f"./{path}") or b""
    names = [name for name in listed.decode("utf-8", "surrogateescape").split("\0") if name]
    contents = {name: git("cat-file", "blob", f"{revision}:./{name}") or b"" for name in names}
    return {name.removeprefix(path).lstrip("/"): content for name, content in contents.items()}
