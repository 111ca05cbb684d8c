"""Whether a dataset's own classes are ours, in the same order: another order would be a wrong number."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import metadata_load

from pipeline.errors import UserError


def check_class_names(ours: Sequence[str], theirs: Sequence[str] | None, where: str) -> str:
    """Compare names, be they written with other capitals or underscores; the result says what was found.

    Raises:
        UserError: there are more or fewer, or one of ours is the name of another label.
    """
    if theirs is None:
        return "the dataset carries no names: not compared"
    if len(theirs) != len(ours):
        raise UserError(f"{where}: the dataset has {len(theirs)} classes, its definition {len(ours)}")
    labels = {_plain(name): label for label, name in enumerate(theirs)}
    elsewhere = [label for label, name in enumerate(ours) if labels.get(_plain(name), label) != label]
    if elsewhere:
        first = elsewhere[0]
        raise UserError(
            f"{where}: label {first} is {theirs[first]!r} in the dataset but {ours[first]!r} in the definition, where "
            f"label {labels[_plain(ours[first])]} should be called so; put the names into the dataset's order"
        )
    unknown = [label for label, name in enumerate(ours) if _plain(name) not in labels]
    if not unknown:
        return f"all {len(ours)} as in the definition"
    first = unknown[0]
    return (
        f"{len(unknown)} of {len(ours)} are called otherwise, the first is label {first}: {theirs[first]!r} in the "
        f"dataset, {ours[first]!r} in the definition"
    )


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def names_in_parquet(path: Path, label: str) -> list[str] | None:
    """The names of the labels that a parquet file's schema carries, as the library `datasets` writes them."""
    metadata = pq.read_schema(path).metadata or {}
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    names = features.get(label, {}).get("names")
    return None if names is None else [str(name) for name in names]


def names_in_card(readme: Path, label: str, configuration: str) -> list[str] | None:
    """The names of the labels in a dataset card; of several configurations, those of the one called so."""
    information = (metadata_load(readme) or {}).get("dataset_info", {})
    entries: list[dict[str, Any]] = information if isinstance(information, list) else [information]
    if len(entries) > 1:
        entries = [entry for entry in entries if entry.get("config_name") == configuration]
    for feature in (entries[0] if entries else {}).get("features", []):
        if feature.get("name") == label and isinstance(feature.get("dtype"), dict):
            names = feature["dtype"].get("class_label", {}).get("names")
            return None if names is None else [str(names[key]) for key in sorted(names, key=int)]
    return None
