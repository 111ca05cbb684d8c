"""Files: never half-written, never read damaged."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from pipeline.errors import UserError
from pipeline.io.arrays import fingerprint, map_arrays, read_arrays, write_arrays, write_streamed
from pipeline.io.files import atomic_write, file_sha256, read_json, write_json, write_text

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([[1, 2], [3, 4]], np.uint8),
    "flags": np.array([True, False, True]),
    "scalar": np.float64(2.5).reshape(()),
    "empty": np.empty((0, 3), np.int64),
}
METADATA = {"task": "digits", "version": 3, "classes": ["null", "één"]}

WRITE = """
import sys
from pathlib import Path
import numpy as np
from pipeline.io.arrays import write_arrays
names = {f"name-{i}" for i in range(20)}
write_arrays(Path(sys.argv[1]), {n: np.full(3, len(n)) for n in names}, {n: n for n in names})
"""


def one_line(error: pytest.ExceptionInfo[UserError], path: Path) -> str:
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "arrays.safetensors"
    write_arrays(path, ARRAYS, METADATA)
    return path


def test_arrays_come_back(written: Path) -> None:
    arrays, metadata = read_arrays(written)
    assert metadata == METADATA
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        np.testing.assert_array_equal(arrays[name], array)


@given(
    st.dictionaries(
        st.text("abc.", min_size=1, max_size=4),
        hnp.arrays(
            st.sampled_from([np.float32, np.float64, np.uint8, np.int64, np.int16, np.bool_]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
        ),
        max_size=4,
    )
)
def test_any_arrays_come_back_bit_by_bit(
    tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, np.ndarray]
) -> None:
    path = tmp_path_factory.mktemp("arrays") / "a.safetensors"
    write_arrays(path, arrays, {})
    arrays_read, _ = read_arrays(path)
    assert {n: (a.dtype, a.shape, a.tobytes()) for n, a in arrays_read.items()} == {
        n: (a.dtype, a.shape, a.tobytes()) for n, a in arrays.items()
    }


def test_non_contiguous_arrays_come_back(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_arrays(tmp_path / "t", {"t": array.T, "s": array[:, ::2]}, {})
    arrays_read, _ = read_arrays(tmp_path / "t")
    np.testing.assert_array_equal(arrays_read["t"], array.T)
    np.testing.assert_array_equal(arrays_read["s"], array[:, ::2])


def test_same_content_gives_same_bytes_in_every_process(tmp_path: Path, root: Path) -> None:
    contents = []
    for seed in ("1", "2"):
        path = tmp_path / seed
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", WRITE, str(path)], check=True, env=environment, cwd=root)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


def test_order_of_entries_does_not_matter(tmp_path: Path) -> None:
    write_arrays(tmp_path / "1", ARRAYS, METADATA)
    write_arrays(tmp_path / "2", dict(reversed(ARRAYS.items())), dict(reversed(METADATA.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@pytest.mark.parametrize("existed", [True, False])
def test_failed_write_leaves_things_as_they_were(existed: bool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if existed:
        path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p.read_text() for p in tmp_path.iterdir()] == (["old"] if existed else [])


def test_file_is_not_seen_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename within one directory is atomic
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_text_and_json(tmp_path: Path) -> None:
    write_text(tmp_path / "t", "α\n")
    assert (tmp_path / "t").read_bytes() == "α\n".encode()
    write_json(tmp_path / "j", {"b": [1, 2.5], "a": "α"})
    assert (tmp_path / "j").read_text(encoding="utf-8") == '{\n  "a": "α",\n  "b": [\n    1,\n    2.5\n  ]\n}\n'
    assert read_json(tmp_path / "j") == {"a": "α", "b": [1, 2.5]}


def test_broken_json(tmp_path: Path) -> None:
    path = tmp_path / "j.json"
    path.write_text('{"a": 1')
    with pytest.raises(UserError, match="not valid JSON") as error:
        read_json(path)
    one_line(error, path)


def test_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "none"
    for reader in (read_arrays, read_json, file_sha256):
        with pytest.raises(UserError, match="no such file") as error:
            reader(path)
        assert f"dvc checkout {path}" in one_line(error, path)


def test_every_truncation_is_noticed(written: Path) -> None:
    content = written.read_bytes()
    for size in [0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1]:
        written.write_bytes(content[:size])
        with pytest.raises(UserError) as error:
            read_arrays(written)
        one_line(error, written)


def test_every_flipped_bit_is_noticed_or_changes_nothing(written: Path) -> None:
    content = written.read_bytes()
    noticed = 0
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 7)
        written.write_bytes(damaged)
        try:
            arrays, metadata = read_arrays(written)
        except UserError as error:
            noticed += 1
            assert "\n" not in str(error)  # noqa: PT017
            assert str(error).startswith(f"{written}: ")  # noqa: PT017
        else:  # such as the case of a hexadecimal digit in the header
            assert metadata == METADATA
            assert {n: a.tobytes() for n, a in arrays.items()} == {n: a.tobytes() for n, a in ARRAYS.items()}
    assert noticed > 0.99 * len(content)


def test_changed_metadata_is_noticed(written: Path) -> None:
    content = written.read_bytes()
    assert content.count(b"digits") == 1
    written.write_bytes(content.replace(b"digits", b"digitz"))
    with pytest.raises(UserError, match="SHA-256") as error:
        read_arrays(written)
    one_line(error, written)


@given(st.integers(0, 7), st.lists(st.integers(0, 3), max_size=5))
def test_streamed_blocks_give_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, labels: int, blocks: list[int]
) -> None:
    images = np.random.default_rng(labels).integers(0, 256, (sum(blocks), 3, 2), dtype=np.uint8)
    others = {"labels": np.arange(labels), "scores": np.ones(3, np.float32)}
    directory = tmp_path_factory.mktemp("streamed")
    write_arrays(directory / "whole", {"images": images, **others}, METADATA)
    parts = np.split(images, np.cumsum(blocks)[:-1]) if blocks else []
    write_streamed(directory / "streamed", "images", images.shape, iter(parts), others, METADATA)
    assert (directory / "streamed").read_bytes() == (directory / "whole").read_bytes()


def test_a_stream_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="6 bytes less"):
        write_streamed(tmp_path / "s", "images", (4, 3), iter([np.zeros((2, 3), np.uint8)]), {}, {})
    assert list(tmp_path.iterdir()) == []


def test_mapped_arrays_are_those_that_were_written(tmp_path: Path) -> None:
    path = tmp_path / "a"
    images = np.arange(60, dtype=np.uint8).reshape(5, 3, 4)
    write_arrays(path, {"images": images, "labels": np.arange(5), "none": np.empty((0, 3), np.uint8)}, METADATA)
    content = path.read_bytes()
    arrays, metadata = map_arrays(path)
    assert metadata == METADATA
    np.testing.assert_array_equal(arrays["images"], images)
    np.testing.assert_array_equal(arrays["labels"], np.arange(5))
    assert arrays["none"].shape == (0, 3)
    arrays["images"][0] = 9  # a copy's page, as for an array in memory
    assert path.read_bytes() == content
    path.unlink()  # as DVC does before it writes another
    np.testing.assert_array_equal(arrays["images"][1:], images[1:])


def test_mapped_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_arrays(path, {"images": np.arange(60, dtype=np.uint8)}, {})
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match="damaged"):
        map_arrays(path)
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="SHA-256"):
        map_arrays(path)
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        map_arrays(path)


def memory() -> int:
    """Bytes that this process holds, the page cache's left out."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")]
    return int(line.split()[1]) << 10


def test_mapping_takes_no_memory_for_unused_arrays(tmp_path: Path) -> None:
    path, shape = tmp_path / "a", (96, 1 << 20)
    write_streamed(path, "images", shape, (np.full((1, shape[1]), i, np.uint8) for i in range(96)), {}, {})
    before = memory()
    arrays, _ = map_arrays(path)
    assert memory() - before < 8 << 20
    assert arrays["images"][95, 7] == 95


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"tauflow": "[1]"}, {"tauflow": "{"}])
def test_foreign_file(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": np.ones(3)}, path, metadata)
    with pytest.raises(UserError) as error:
        read_arrays(path)
    one_line(error, path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04pickle" * 10])
def test_no_safetensors_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        read_arrays(path)
    one_line(error, path)


def test_fingerprint_depends_on_everything_but_the_order() -> None:
    array = np.arange(4, dtype=np.float32)
    base = fingerprint({"a": array, "b": array})
    assert fingerprint({"b": array, "a": array}) == base
    others = [
        {"a": array},
        {"a": array, "c": array},
        {"a": array, "b": array.reshape(2, 2)},
        {"a": array, "b": array.view(np.int32)},
        {"a": array, "b": -array},
    ]
    assert len({base, *map(fingerprint, others)}) == 1 + len(others)


def test_sha256_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_sha256(tmp_path / "abc") == expected


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o027, 0o077])
def test_files_have_the_rights_that_the_umask_gives(umask: int, tmp_path: Path) -> None:
    """A shared group can write with 002, and with 077 no other user can read; the same holds for directories."""
    before = os.umask(umask)
    try:
        write_text(tmp_path / "sub" / "text", "a")
        write_json(tmp_path / "json", {})
        write_arrays(tmp_path / "arrays", ARRAYS, METADATA)
        write_streamed(tmp_path / "streamed", "a", (1,), [np.zeros(1, np.uint8)], {}, {})
        (tmp_path / "plain").touch()
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 5
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {oct(0o666 & ~umask)}
    assert oct((tmp_path / "sub").stat().st_mode & 0o777) == oct(0o777 & ~umask)


def test_a_file_belongs_to_the_group_of_a_shared_directory(tmp_path: Path) -> None:
    group = os.getgid() if os.getuid() else 12345
    os.chown(tmp_path, -1, group)
    tmp_path.chmod(0o2775)
    write_text(tmp_path / "text", "a")
    assert (tmp_path / "text").stat().st_gid == group


def test_a_long_name_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("x" * 255), "a")
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000])
def test_damaged_json_is_one_short_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not valid JSON") as error:
        read_json(path)
    assert len(one_line(error, path)) < 500


def test_a_directory_in_place_of_json(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Is a directory"):
        read_json(tmp_path)
