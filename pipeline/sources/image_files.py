"""Find the image files of a folder: every file is an image of one class, left out for a reason, or refused.

Links are followed. A link that leads nowhere, a directory that is reached twice, or an image of the folder under two
names, is refused.
"""

import errno
import os
import re
import stat
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import UserError
from pipeline.tasks.text import printable

# Suffixes of files of the formats in decoding.FORMATS.
SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm"),
    )
)

# Suffixes of images of other formats.
_UNREADABLE = frozenset(
    (
        *(".heic", ".heif", ".avif", ".jp2", ".jxl", ".svg", ".ico", ".tga", ".psd"),
        *(".dng", ".cr2", ".nef", ".arw"),
    )
)

# Names of directories of splits, in any case, optionally followed by "set" or a number.
_WORDS = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev", "development"),
    "test": ("test", "testing", "tst", "eval", "evaluation"),
}
_SPLITS = {word: split for split, words in _WORDS.items() for word in words}
_SPLIT_NAME = re.compile(rf"({'|'.join(_SPLITS)})[ _.-]*(?:set|split|data|images?)?[ _.-]*\d*")

# Files that systems and programs leave behind, besides names that begin with a dot.
_HIDDEN = frozenset(
    (
        *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "@eadir", "#recycle", "$recycle.bin"),
        *("system volume information", "lost+found", "__pycache__"),
    )
)

Labelled = list[tuple[Path, int]]


def composed(name: str) -> str:
    """Return a name in Unicode's composed form, in which file names are compared."""
    return unicodedata.normalize("NFC", name)


def split_of(name: str) -> str | None:
    """Return the split that a directory's name means, such as ``val`` for ``Valid``."""
    match = _SPLIT_NAME.fullmatch(unicodedata.normalize("NFKC", name).casefold().strip())
    return _SPLITS[match[1]] if match else None


def is_hidden(path: Path) -> bool:
    """Return whether a file or directory is hidden, or belongs to a system or a program."""
    return path.name.startswith(".") or path.name.casefold() in _HIDDEN


def is_image(path: Path) -> bool:
    """Return whether a file's name is an image's."""
    return path.suffix.casefold() in SUFFIXES


def is_directory(path: Path, where: str, *, follow: bool = True) -> bool:
    """Return whether a path is a directory or, with ``follow``, a link to one.

    Raises:
        UserError: the path is a link that leads nowhere, or the operating system does not tell.
    """
    try:
        return stat.S_ISDIR(path.stat(follow_symlinks=follow).st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) and path.is_symlink():
            raise UserError(f"{where}: {printable(path)} is a link that leads nowhere; mend or delete it") from None
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return False
        raise cannot_be_read(path, error, where) from None


def cannot_be_read(path: Path, error: OSError, where: str) -> UserError:
    """Return the error for a file or directory that the operating system does not let be read."""
    return UserError(f"{where}: {printable(path)} cannot be read ({error.strerror})")


@dataclass(frozen=True)
class Contents:
    """Images with their labels, and the files left out, by reason."""

    images: Labelled = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    def leave_out(self, files: list[Path], reason: str) -> None:
        """Leave out files."""
        if files:
            self.left_out.setdefault(reason, []).extend(files)

    def with_left_out(self, other: "Contents") -> "Contents":
        """Return the same images, with the files that ``other`` left out added."""
        reasons = [*self.left_out, *(reason for reason in other.left_out if reason not in self.left_out)]
        return Contents(
            self.images,
            {reason: [*self.left_out.get(reason, []), *other.left_out.get(reason, [])] for reason in reasons},
        )

    def describe_left_out(self, folder: Path) -> str:
        """Describe the files left out: their number, the reason and the first names; ``nothing`` if there are none."""
        parts = []
        for reason, paths in self.left_out.items():
            names = [printable(path.relative_to(folder)) for path in paths[:3]]
            parts.append(f"{len(paths)} {reason} ({', '.join(names)}{', …' if len(paths) > 3 else ''})")
        return ", ".join(parts) or "nothing"


class ImageFolder:
    """A directory of classes, or of splits that hold classes.

    Args:
        root: the directory.
        labels: the label of each name that a class's directory may have.
        where: prefix of error messages.
    """

    def __init__(self, root: Path, labels: Mapping[str, int], where: str) -> None:
        self.root = root
        self.where = where
        self._real_root = root.resolve()
        self._labels = {composed(name): label for name, label in labels.items()}
        self._directories: dict[Path, Path] = {}
        self._files: dict[Path, Path] = {}

    def splits(self) -> dict[str, Path]:
        """Return the directories of splits, by split; none if the folder holds the classes themselves.

        Raises:
            UserError: two directories mean one split, a file is called as a split, or there are classes or images
                beside directories of splits.
        """
        directories = self._directories_of(self.root)
        named = [path for path in directories if split_of(path.name) is not None]
        for path in self._entries(self.root):
            split = split_of(path.name)
            if split is not None and not path.suffix and path not in named:
                raise self._refusal(
                    path, f"means {split} but is not a directory; put the directory in its place, or delete it"
                )
        if self._are_classes(directories, named):
            return {}
        by_split: dict[str, Path] = {}
        for path in named:
            split = str(split_of(path.name))
            if split in by_split:
                raise self._refusal(
                    path, f"means {split}, as {printable(by_split[split].name)!r} does; keep one of them"
                )
            by_split[split] = path
        beside = [path for path in directories if path not in named and self._may_hold_images(path)]
        if by_split and beside:
            names = ", ".join(repr(printable(path.name)) for path in named)
            raise self._refusal(
                beside[0],
                f"stands beside directories of splits ({names}); move it into one of them or out of the folder",
            )
        return by_split

    def outside_classes(self, directory: Path) -> Contents:
        """Return the files left out of a directory of splits or classes, outside of these.

        Raises:
            UserError: an image or a link that leads nowhere lies there.
        """
        contents = Contents()
        for path in self._entries(directory):
            if is_hidden(path):
                contents.leave_out(self.files_below(path), "hidden")
            elif not self._is_directory(path):
                if is_image(path):
                    raise self._refusal(path, "is an image outside the directories of classes; move it into one")
                contents.leave_out([path], self._why_no_image(path))
            elif directory == self.root and not self._may_hold_images(path) and split_of(path.name) is None:
                contents.leave_out(self.files_below(path), "in a directory without images")
        return contents

    def classes(self, directory: Path) -> Contents:
        """Return the images of a directory of classes, in a fixed order.

        Raises:
            UserError: its directories are not the classes, or a file or link in it cannot be taken.
        """
        if directory != self.root:
            self._enter(directory)
        contents = Contents()
        for label, path in enumerate(self._class_directories(directory)):
            self._enter(path)
            self._read(path, label, contents)
        return contents

    def files_below(self, path: Path) -> list[Path]:
        """Return a file or link itself, or the files below a directory.

        A hidden directory that cannot be read, such as ``lost+found``, counts as a file.

        Raises:
            UserError: a directory that is not hidden cannot be read.
        """
        return sorted(Path(directory, name) for directory, _, names in self._walk(path) for name in names)

    def _walk(self, path: Path) -> list[tuple[str, list[str], list[str]]]:
        """Return directories, each with the names of its directories and of its files, as ``os.walk`` does."""
        if path != self.root and not is_directory(path, self.where, follow=False):
            return [(str(path.parent), [], [path.name])]
        unreadable: list[tuple[str, list[str], list[str]]] = []

        def failed(error: OSError) -> None:
            directory = Path(error.filename or path)
            if not self._is_below_hidden(directory):
                raise cannot_be_read(directory, error, self.where)
            unreadable.append((str(directory.parent), [], [directory.name]))

        return [*os.walk(path, onerror=failed), *unreadable]

    def _class_directories(self, directory: Path) -> list[Path]:
        by_label: dict[int, Path] = {}
        unknown: list[Path] = []
        for path in self._directories_of(directory):
            label = self._label(path)
            if label is None:
                unknown.append(path)
            elif label in by_label:
                raise self._refusal(path, f"is the same class as {printable(by_label[label].name)!r}; merge the two")
            else:
                by_label[label] = path
        absent = [name for name, label in self._labels.items() if label not in by_label]
        if unknown or absent:
            problems = [f"no directory {absent[0]!r}"] if absent else []
            problems += [f"'{printable(unknown[0].name)}' is not a class"] if unknown else []
            raise self._refusal(
                directory,
                f"does not hold the classes: {' and '.join(problems)}; name the directories as the classes, or list "
                "them in source.directories",
            )
        return [by_label[label] for label in sorted(by_label)]

    def _label(self, path: Path) -> int | None:
        return self._labels.get(composed(path.name))

    def _read(self, directory: Path, label: int, contents: Contents) -> None:
        """Add the files below a class."""
        for path in self._entries(directory):
            if is_hidden(path):
                contents.leave_out(self.files_below(path), "hidden")
            elif self._is_directory(path):
                self._check_below_a_class(path, label)
                self._enter(path)
                self._read(path, label, contents)
            elif is_image(path) and path.is_file():
                self._check_image(path)
                contents.images.append((path, label))
            else:
                contents.leave_out([path], self._why_no_image(path))

    def _check_below_a_class(self, path: Path, label: int) -> None:
        if split_of(path.name) is not None:
            raise self._refusal(path, "is called as a split but lies below a class; put classes below splits")
        if self._label(path) not in (None, label):
            raise self._refusal(path, "is called as a class but lies below another one; move or rename it")

    def _check_image(self, path: Path) -> None:
        try:
            str(path.relative_to(self.root)).encode()
        except UnicodeEncodeError:
            raise self._refusal(path, "has a name that is not UTF-8; rename it") from None
        other = self._files.setdefault(path.resolve(), path)
        if other != path:
            raise self._refusal(path, f"is the same file as {printable(other.relative_to(self.root))}; delete the link")

    def _enter(self, directory: Path) -> None:
        """Remember a directory, which must not have been entered before."""
        real = directory.resolve()
        if self._real_root.is_relative_to(real):
            raise self._refusal(directory, "is a link to a directory that contains it; delete the link")
        other = self._directories.setdefault(real, directory)
        if other != directory:
            name = printable(other.relative_to(self.root))
            raise self._refusal(directory, f"is the same directory as {name}; delete the link")

    def _are_classes(self, directories: list[Path], named: list[Path]) -> bool:
        """Return whether directories named as splits are classes: all classes are there, and none is below these."""
        labels = {self._label(path) for path in directories}
        below = {self._label(entry) for path in named for entry in self._directories_of(path)}
        all_there = labels >= set(self._labels.values())
        return all_there and None not in {self._label(path) for path in named} and below <= {None}

    def _may_hold_images(self, directory: Path) -> bool:
        """Return whether a directory holds images, links to directories, or directories named as classes."""
        if directory.is_symlink() or self._label(directory) is not None:
            return True
        found = False
        for parent, directories, names in self._walk(directory):
            for path in (Path(parent, name) for name in directories):
                link = not is_directory(path, self.where, follow=False)
                found |= link or self._label(path) is not None
            for path in (Path(parent, name) for name in names):
                found |= is_image(path) or _is_unreadable_image(path)
                if not self._is_below_hidden(path):
                    self._is_directory(path)  # refuses a link that leads nowhere
        return found

    def _is_below_hidden(self, path: Path) -> bool:
        """Return whether a path is hidden, or one of the directories that it lies in."""
        return any(is_hidden(Path(part)) for part in path.relative_to(self.root).parts)

    def _directories_of(self, directory: Path) -> list[Path]:
        return [path for path in self._entries(directory) if not is_hidden(path) and self._is_directory(path)]

    def _is_directory(self, path: Path) -> bool:
        return is_directory(path, self.where)

    def _entries(self, directory: Path) -> list[Path]:
        try:
            return sorted(directory.iterdir())
        except OSError as error:
            raise cannot_be_read(directory, error, self.where) from None

    def _why_no_image(self, path: Path) -> str:
        """Return why a file is left out; an image of a format that cannot be read is refused."""
        if not path.is_file():
            return "not a file"
        if _is_unreadable_image(path):
            raise self._refusal(
                path,
                "is an image of a format that cannot be read; convert it to PNG or JPEG, or move it out of the folder",
            )
        return "not named as an image"

    def _refusal(self, path: Path, problem: str) -> UserError:
        return UserError(f"{self.where}: {printable(path)} {problem}")


def _is_unreadable_image(path: Path) -> bool:
    return path.suffix.casefold() in _UNREADABLE
