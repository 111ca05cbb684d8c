"""Datasets from the hub through the real huggingface_hub, from a server on loopback."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from pipeline.errors import UserError
from pipeline.sources import hub as hub_module
from pipeline.sources.class_names import names_in_parquet
from pipeline.sources.download import Roots, download
from pipeline.sources.file_record import FileRecord
from pipeline.sources.record import DownloadRecord
from pipeline.tasks import TaskDefinition
from pipeline.tasks.registry import HubSource
from tests.hub import REPOSITORY, SOURCE, TOKEN, Hub, card, encoded, parquet, private_hub, sha256, use

NAMES = ["guinea_pig", "Cat", "dog"]
CLASSES = ["guinea pig", "cat", "dog"]


def shard(seed: int, names: list[str] | None = NAMES, images: int = 6) -> bytes:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (images, 5, 7, 3), dtype=np.uint8)
    return parquet([encoded(image) for image in pixels], [i % 3 for i in range(images)], names)


def pets(names: list[str] | None = NAMES) -> dict[str, bytes]:
    files = {f"data/train-0000{i}-of-00003.parquet": shard(i, names) for i in range(3)}
    return {
        **files,
        "data/test-00000-of-00001.parquet": shard(9, names),
        "README.md": b"# pets\n",
        ".gitattributes": b"",
    }


def defined(**changes: Any) -> TaskDefinition:
    content = {
        **{"name": "pets", "version": 1, "description": "pets", "classes": CLASSES, "templates": ["a {}"]},
        **{"source": {**SOURCE, **changes}, "origin": "here", "licence": "none", "citation": "none"},
    }
    return TaskDefinition.model_validate(content)


class Place(NamedTuple):
    """The directory that a test downloads to, and its hub."""

    raw: Path
    hub: Hub

    def get(self, known: DownloadRecord | None = None, **changes: Any) -> DownloadRecord:
        return download(defined(**changes), Roots(Path(), Path()), self.raw, known)

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.raw)): path.read_bytes() for path in self.raw.rglob("*.parquet")}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with private_hub(tmp_path, monkeypatch) as hub:
        hub.publish(REPOSITORY, pets())
        yield Place(tmp_path / "raw" / "pets", hub)


def refused(place: Place, known: DownloadRecord | None = None, **changes: Any) -> str:
    """The one line of a download that fails and leaves everything as it was."""
    before = place.files()
    with pytest.raises(UserError) as error:
        place.get(known, **changes)
    line = str(error.value)
    assert "\n" not in line
    assert place.files() == before
    left = [] if not place.raw.parent.exists() else [path.name for path in place.raw.parent.iterdir()]
    assert left in ([], ["pets"])
    return line


def test_files_arrive_with_their_record(place: Place) -> None:
    record = place.get()
    files = pets()
    assert place.files() == {
        f"{path.split('/')[1].split('-')[0]}/{path.replace('/', '-')}": content
        for path, content in files.items()
        if path.endswith(".parquet")
    }
    assert record.commit == place.hub.commit(REPOSITORY)
    assert record.class_names == "all 3 as in the definition"
    assert {path: (file.bytes, file.sha256) for path, file in record.files.items()} == {
        path: (len(content), sha256(content)) for path, content in files.items() if path.endswith(".parquet")
    }


def test_record_comes_back(place: Place, tmp_path: Path) -> None:
    record = place.get()
    assert DownloadRecord.read(tmp_path / "record.json") is None
    record.write(tmp_path / "record.json")
    assert DownloadRecord.read(tmp_path / "record.json") == record
    (tmp_path / "record.json").write_text('{"origin": 3}')
    with pytest.raises(UserError, match=r"not a record of a download .* delete it to record what is there now$"):
        DownloadRecord.read(tmp_path / "record.json")


def test_the_recorded_commit_is_taken_although_the_branch_moved_on(place: Place) -> None:
    record = place.get()
    before = place.files()
    place.hub.publish(REPOSITORY, {**pets(), "data/train-00000-of-00003.parquet": shard(77)})
    lose_cache(place)
    assert place.get(record) == record
    assert place.files() == before
    assert not any("/api/" in request for request in place.hub.requests[-8:])


def lose_cache(place: Place) -> None:
    """Another machine, which has nothing in its cache."""
    cache = Path(constants.HF_HUB_CACHE)
    cache.rename(cache.with_name(f"cache-{len(place.hub.requests)}"))


def test_what_is_in_the_cache_needs_no_server(place: Place) -> None:
    record = place.get()
    requests = len(place.hub.requests)
    assert place.get(record) == record
    assert len(place.hub.requests) == requests


def test_another_revision_in_the_definition_is_recorded_anew(place: Place) -> None:
    record = place.get()
    place.hub.publish(REPOSITORY, {**pets(), "data/train-00000-of-00003.parquet": shard(77)})
    newest = place.hub.commit(REPOSITORY)
    moved = place.get(record, revision=newest)
    assert (moved.revision, moved.commit) == (newest, newest)
    assert moved.files != record.files
    # Deleting the record moves a branch on as well.
    assert place.get(None).commit == newest
    assert place.get(record).commit == record.commit


def test_more_files_are_added_at_the_recorded_commit(place: Place) -> None:
    train, test = {"files": "data/train-*.parquet", "first": 2}, {"files": "data/test-*.parquet", "first": None}
    record = place.get(splits={"train": train, "val": None, "test": test})
    assert sorted(record.files) == [
        "data/test-00000-of-00001.parquet",
        "data/train-00000-of-00003.parquet",
        "data/train-00001-of-00003.parquet",
    ]
    place.hub.publish(REPOSITORY, {**pets(), "data/train-00000-of-00003.parquet": shard(77)})
    more = place.get(record)
    assert more.commit == record.commit
    assert len(more.files) == 4
    assert record.files.items() <= more.files.items()


@pytest.mark.parametrize("failure", [429, 500, 502, 503, "cut"])
def test_a_busy_hub_is_asked_again(failure: int | str, place: Place) -> None:
    place.hub.failures = [(failure, "")] * 2
    assert place.get().commit == place.hub.commit(REPOSITORY)
    assert place.hub.failures == []
    assert len(place.files()) == 4


def test_pauses_grow(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(hub_module.time, "sleep", pauses.append)
    place.hub.failures = [(503, "")] * 1000
    line = refused(place)
    assert line.startswith(f"{REPOSITORY} at main: cannot be fetched: ")
    assert "503" in line
    assert pauses == [1, 4, 16, *pauses[3:]]
    assert len([request for request in place.hub.requests if "/api/" in request]) == 4


@pytest.mark.parametrize("failure", [429, 500, "cut"])
def test_a_hub_that_never_delivers(failure: int | str, place: Place) -> None:
    record = place.get()
    lose_cache(place)
    place.hub.failures = [(failure, "")] * 100_000
    line = refused(place, record)
    assert line.startswith(f"{REPOSITORY}/data/train-00000-of-00003.parquet at {place.hub.commit(REPOSITORY)[:12]}: ")
    place.hub.failures = []
    assert place.get(record) == record


def test_a_cut_file_goes_on_where_it_broke_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 64)
    record = place.get()
    lose_cache(place)
    place.hub.failures = [("cut", "")]
    place.hub.ranges.clear()
    assert place.get(record) == record
    first, second, *others = place.hub.ranges
    assert first is None
    assert second is not None
    assert (
        0
        < int(second.removeprefix("bytes=").removesuffix("-"))
        <= len(pets()["data/train-00000-of-00003.parquet"]) // 2
    )
    assert others == [None] * 3


@pytest.mark.parametrize(
    ("failure", "message"), [((404, "RepoNotFound"), "404"), ((404, "RevisionNotFound"), "404"), ((403, ""), "403")]
)
def test_a_refusal_is_not_asked_again(failure: tuple[int, str], message: str, place: Place) -> None:
    place.hub.failures = [failure] * 1000
    line = refused(place)
    assert message in line
    assert len(place.hub.requests) == 1


def test_gated_datasets_want_a_token(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.hub.gated.add(REPOSITORY)
    line = refused(place)
    assert line.endswith("access is gated; accept its terms on the hub and set HF_TOKEN")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert place.get().commit == place.hub.commit(REPOSITORY)


def test_no_server(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    use("http://127.0.0.1:9", monkeypatch)
    assert refused(place).startswith(f"{REPOSITORY} at main: cannot be fetched: ")


def test_offline(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    files = {path: FileRecord(bytes=1, sha256="0" * 64) for path in pets() if path.endswith(".parquet")}
    source = defined().source
    assert isinstance(source, HubSource)
    commit = place.hub.commit(REPOSITORY)
    record = DownloadRecord(
        origin=REPOSITORY, revision="main", commit=commit, selected=source.splits.named(), files=files
    )
    assert "HF_HUB_OFFLINE" in refused(place, record)
    assert place.hub.requests == []


@pytest.mark.parametrize("recorded", [False, True])
def test_another_content_is_refused_and_not_kept(recorded: bool, place: Place) -> None:
    name = "data/train-00001-of-00003.parquet"
    record = place.get() if recorded else None
    if recorded:
        lose_cache(place)
    content = pets()[name]
    place.hub.tampered[name] = content[:-1] + bytes([content[-1] ^ 1])
    line = refused(place, record)
    assert f"{REPOSITORY}/{name} at " in line
    assert f"has SHA-256 {sha256(place.hub.tampered[name])} but should have {sha256(content)}" in line
    place.hub.tampered.clear()
    assert place.get(record).files[name].sha256 == sha256(content)


def test_a_hub_that_is_too_slow_is_asked_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    record = place.get()
    lose_cache(place)
    place.hub.slow = 3
    assert place.get(record) == record
    assert place.hub.slow == 0


def test_pattern_that_matches_nothing(place: Place) -> None:
    splits = {
        "train": {"files": "data/train-*.parquet", "first": None},
        "val": {"files": "data/valid-*.parquet", "first": None},
        "test": {"files": "data/test-*.parquet", "first": None},
    }
    assert "no file matches data/valid-*.parquet; correct splits.val" in refused(place, splits=splits)


def test_a_disk_that_is_too_small(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    line = refused(place)
    assert line.startswith(f"task pets: {REPOSITORY}: its files: 0.00 GB are needed at ")
    assert line.endswith("0.00 GB are free")
    assert "4 files, 0.00 GB; 0.00 GB to download" in capsys.readouterr().out
    assert not any("/resolve/" in request for request in place.hub.requests)


def test_another_disk_than_the_cache_gets_copies(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*paths: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", fail)
    place.get()
    assert sorted(place.files().values()) == sorted(c for p, c in pets().items() if p.endswith(".parquet"))


def test_class_names_in_another_order_are_refused(place: Place) -> None:
    place.hub.publish(REPOSITORY, pets(["cat", "guinea pig", "dog"]))
    line = refused(place)
    assert f"{REPOSITORY}/data/train-00000-of-00003.parquet: label 0 is 'cat' in the dataset" in line
    assert "'guinea pig' in the definition; the dataset has that name at label 1" in line


def test_other_number_of_classes(place: Place) -> None:
    place.hub.publish(REPOSITORY, pets([*NAMES, "bird"]))
    assert "the dataset has 4 classes, its definition 3" in refused(place)


def test_one_split_with_another_order_is_noticed(place: Place) -> None:
    files = {**pets(), "data/test-00000-of-00001.parquet": shard(9, ["dog", "cat", "guinea pig"])}
    place.hub.publish(REPOSITORY, files)
    assert "data/test-00000-of-00001.parquet: label 0 is 'dog'" in refused(place)


def test_other_names_are_a_warning(place: Place, capsys: pytest.CaptureFixture) -> None:
    place.hub.publish(REPOSITORY, pets(["cavy", "cat", "dog"]))
    message = "1 of 3 have other names; the first is label 0: 'cavy' in the dataset, 'guinea pig' in the definition"
    assert place.get().class_names == message
    assert f"warning: task pets: {REPOSITORY}: class names: {message}" in capsys.readouterr().out


def test_the_definition_may_know_the_datasets_own_names(place: Place) -> None:
    place.hub.publish(REPOSITORY, pets(["Cavia", "Felis", "Canis"]))
    assert place.get(class_names=["Cavia", "Felis", "Canis"]).class_names == "all 3 as in the definition"
    assert "label 0 is 'Cavia'" in refused(place, class_names=["Felis", "Cavia", "Canis"])


def test_names_come_from_the_card_where_files_carry_none(place: Place) -> None:
    place.hub.publish(REPOSITORY, {**pets(None), "README.md": card(["dog", "cat", "guinea pig"])})
    assert "label 0 is 'dog'" in refused(place)
    place.hub.publish(REPOSITORY, {**pets(None), "README.md": card(NAMES)})
    assert place.get().class_names == "all 3 as in the definition"


def test_a_dataset_without_names_is_said_to_be_unchecked(place: Place, capsys: pytest.CaptureFixture) -> None:
    place.hub.publish(REPOSITORY, pets(None))
    assert place.get().class_names == "the dataset has no names that can be read: not compared"
    assert "warning" in capsys.readouterr().out


NO_PARQUET = {
    "web page": (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
    "nothing": (b"", "an empty file"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "a Git LFS pointer"),
    "half": (shard(1)[:300], "a damaged one"),
    "no footer": (shard(1)[:-8], "a damaged one"),
    "text": (b"image,label\n", "something else"),
}


@pytest.mark.parametrize("case", NO_PARQUET)
def test_files_that_are_not_parquet(case: str, place: Place) -> None:
    content, kind = NO_PARQUET[case]
    name = "data/train-00001-of-00003.parquet"
    place.hub.publish(REPOSITORY, {**pets(), name: content})
    line = refused(place)
    assert f"{REPOSITORY}/{name} at {place.hub.commit(REPOSITORY)[:12]}: not a parquet file, but {kind}; " in line


ODD_INFORMATION = [
    *(b"{", b"[]", b"null", b'{"info": 3}', b'{"info": {"features": []}}', b'{"info": {"features": {"label": 1}}}'),
    *(b'{"info": {"features": {"label": {"names": 5}}}}', b'{"info": {"features": {"label": {"names": "abc"}}}}'),
    *(b"\xff\xfe", b"[" * 100_000),
]


@pytest.mark.parametrize("information", ODD_INFORMATION, ids=range(len(ODD_INFORMATION)))
def test_odd_metadata_in_parquet_is_no_names(information: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"label": [1]}).replace_schema_metadata({b"huggingface": information}), path)
    assert names_in_parquet(path, "label", "x") is None


ODD_CARDS = [
    *(
        b"",
        b"\xff\xfe\x00",
        b"---\n{\n---\n",
        b"---\n- 1\n---\n",
        b"---\ndataset_info: 3\n---\n",
        b"---\na: b: c\n---\n",
    ),
    *(
        b"---\ndataset_info:\n  features: 3\n---\n",
        b"---\ndataset_info:\n- 1\n- 2\n---\n",
        b"---\ndataset_info: []\n---\n",
    ),
    b"---\ndataset_info:\n  features:\n  - name: label\n    dtype:\n      class_label: 5\n---\n",
    b"---\ndataset_info:\n  features:\n  - name: label\n    dtype:\n      class_label:\n        names: {a: b}\n---\n",
    b"<!DOCTYPE html><html></html>",
]


@pytest.mark.parametrize("content", ODD_CARDS, ids=range(len(ODD_CARDS)))
def test_an_odd_card_is_no_names(content: bytes, place: Place, capsys: pytest.CaptureFixture) -> None:
    place.hub.publish(REPOSITORY, {**pets(None), "README.md": content})
    assert place.get().class_names == "the dataset has no names that can be read: not compared"
    assert capsys.readouterr().out.count("warning: ") == 1
