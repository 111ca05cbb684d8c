"""Find the image files of a folder: every file is an image of one class, left out for a reason, or refused.

Links are followed. A directory that is reached twice, or an image of the folder under two names, is refused.
"""

import os
import re
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


def files_below(path: Path) -> list[Path]:
    """Return a file or link itself, or the files below a directory."""
    if path.is_symlink() or not path.is_dir():
        return [path]
    return sorted(Path(directory, name) for directory, _, names in os.walk(path) for name in names)


@dataclass(frozen=True)
class Contents:
    """Images with their labels, and the files left out, by reason."""

    images: Labelled = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    def leave_out(self, path: Path, reason: str) -> None:
        """Leave out a file, or all files of a directory."""
        if files := files_below(path):
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
            UserError: two directories mean one split, or there are classes or images beside them.
        """
        directories = [path for path in self._entries(self.root) if path.is_dir() and not is_hidden(path)]
        named = [path for path in directories if split_of(path.name) is not None]
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
            raise self._refusal(beside[0], f"stands beside directories of splits ({names}); move it into one of them")
        return by_split

    def outside_classes(self, directory: Path) -> Contents:
        """Return the files left out of a directory of splits or classes, outside of these.

        Raises:
            UserError: an image lies there.
        """
        contents = Contents()
        for path in self._entries(directory):
            if is_hidden(path):
                contents.leave_out(path, "hidden")
            elif not path.is_dir():
                if is_image(path):
                    raise self._refusal(path, "is an image outside the directories of classes; move it into one")
                contents.leave_out(path, _why_no_image(path))
            elif directory == self.root and not self._may_hold_images(path) and split_of(path.name) is None:
                contents.leave_out(path, "in a directory without images")
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

    def _class_directories(self, directory: Path) -> list[Path]:
        by_label: dict[int, Path] = {}
        unknown: list[Path] = []
        for path in self._entries(directory):
            if is_hidden(path) or not path.is_dir():
                continue
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
                contents.leave_out(path, "hidden")
            elif path.is_dir():
                self._check_below_a_class(path, label)
                self._enter(path)
                self._read(path, label, contents)
            elif is_image(path) and (path.is_file() or not path.exists()):
                self._check_image(path)
                contents.images.append((path, label))
            else:
                contents.leave_out(path, _why_no_image(path))

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
        try:
            real = path.resolve(strict=True)
        except (OSError, RuntimeError):
            raise self._refusal(path, "is a link that leads nowhere; mend or delete it") from None
        other = self._files.setdefault(real, path)
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
        below = {self._label(entry) for path in named for entry in self._entries(path) if entry.is_dir()}
        all_there = labels >= set(self._labels.values())
        return all_there and None not in {self._label(path) for path in named} and below <= {None}

    def _may_hold_images(self, directory: Path) -> bool:
        if directory.is_symlink() or self._label(directory) is not None:
            return True
        return any(is_image(path) for path in files_below(directory))

    def _entries(self, directory: Path) -> list[Path]:
        try:
            return sorted(directory.iterdir())
        except OSError as error:
            raise self._refusal(directory, f"cannot be read ({error.strerror})") from None

    def _refusal(self, path: Path, problem: str) -> UserError:
        return UserError(f"{self.where}: {printable(path)} {problem}")


def _why_no_image(path: Path) -> str:
    return "not named as an image" if path.is_file() else "not a file"
