"""Compare a dataset's own class names with a definition's: a different order would give wrong results."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from huggingface_hub import metadata_load

from pipeline.errors import UserError

# Errors from reading metadata of an unexpected form.
_ODD_METADATA = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    StopIteration,
    OSError,
    RecursionError,
    yaml.YAMLError,
)


def check_class_names(ours: Sequence[str], theirs: Sequence[str] | None, where: str) -> str:
    """Compare names regardless of capitals, underscores and hyphens, and return the result in words.

    Args:
        ours: the definition's names, in the order of the labels.
        theirs: the dataset's names; ``None`` if it has none.
        where: prefix of error messages.

    Raises:
        UserError: the numbers differ, or one of our names is the dataset's name of another label.
    """
    if theirs is None:
        return "the dataset has no names that can be read: not compared"
    if len(theirs) != len(ours):
        raise UserError(f"{where}: the dataset has {len(theirs)} classes, its definition {len(ours)}")
    labels = {_plain(name): label for label, name in enumerate(theirs)}
    elsewhere = [label for label, name in enumerate(ours) if labels.get(_plain(name), label) != label]
    if elsewhere:
        first = elsewhere[0]
        raise UserError(
            f"{where}: label {first} is {theirs[first]!r} in the dataset but {ours[first]!r} in the definition; the "
            f"dataset has that name at label {labels[_plain(ours[first])]}; put the names into the dataset's order"
        )
    unknown = [label for label, name in enumerate(ours) if _plain(name) not in labels]
    if not unknown:
        return f"all {len(ours)} as in the definition"
    first = unknown[0]
    return (
        f"{len(unknown)} of {len(ours)} have other names; the first is label {first}: {theirs[first]!r} in the "
        f"dataset, {ours[first]!r} in the definition"
    )


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def names_in_parquet(path: Path, label: str, where: str) -> list[str] | None:
    """Return the names of the labels in a parquet file's schema, as the library ``datasets`` writes them.

    Returns:
        The names, or ``None`` if the schema has none that can be read.

    Raises:
        UserError: the file is not parquet.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (pa.ArrowException, OSError):
        raise UserError(
            f"{where}: not a parquet file, but {_kind(path)}; ask the dataset's owner, or correct source.splits"
        ) from None
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return _names(features[label]["names"])
    except _ODD_METADATA:
        return None


def names_in_card(readme: Path, label: str, configuration: str) -> list[str] | None:
    """Return the names of the labels in a dataset card.

    Args:
        readme: the card.
        label: the column of labels.
        configuration: the configuration whose names are read, if the card describes several.

    Returns:
        The names, or ``None`` if the card has none that can be read.
    """
    try:
        information = (metadata_load(readme) or {})["dataset_info"]
        entries = information if isinstance(information, list) else [information]
        if len(entries) > 1:
            entries = [entry for entry in entries if entry["config_name"] == configuration]
        column = next(feature for feature in entries[0]["features"] if feature["name"] == label)
        return _names(column["dtype"]["class_label"]["names"])
    except _ODD_METADATA:
        return None


def _names(names: object) -> list[str] | None:
    """Return names given as a list, or by label, in the order of the labels."""
    if isinstance(names, dict):
        by_label = {int(label): name for label, name in names.items()}
        names = [by_label[label] for label in range(len(by_label))]
    return [str(name) for name in names] if isinstance(names, list) and names else None


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if not start:
        return "an empty file"
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    return "a damaged one" if start.startswith(b"par1") else "something else"
