"""``dvc.lock`` after a kill: cut anywhere, empty, zeroed, with a copy of the same or of another study."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc import dvcfile
from dvc.utils.serialize import modify_yaml

from tauflow.dvc.guard import COPY, HEADER, guard_lock, replace_files

ENTRIES = 40


def entry(name: str, md5: str = "0") -> str:
    return (
        f"  {name}:\n    cmd: python -m stages.head\n    deps:\n    - path: pipeline/io\n      hash: md5\n"
        f"      md5: {md5 * 32}.dir\n      size: 123\n      nfiles: 5\n"
        f"    params:\n      params.yaml:\n        seed: 0\n"
        f"    outs:\n    - path: data/{name}.csv\n      hash: md5\n      md5: {md5 * 32}\n      size: 4567\n"
        f"    - path: data/{name}\n      hash: md5\n      md5: {md5 * 32}.dir\n      size: 890\n      nfiles: 2\n"
    )


def study(*names: str) -> str:
    return HEADER + "".join(entry(name) for name in names)


NAMES = [f"head@mini-clip-task{number}" for number in range(ENTRIES)]
WHOLE = study(*NAMES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    (tmp_path / "dvc.lock").write_text(WHOLE)
    guard_lock(tmp_path)
    assert (tmp_path / COPY).read_text() == WHOLE
    return tmp_path


def guarded(root: Path, content: str | bytes) -> str:
    """Return what becomes of a file with this content."""
    path = root / "dvc.lock"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    guard_lock(root)
    return path.read_text()


CUTS = sorted({0, 1, len(HEADER), len(WHOLE) - 1, *random.Random(0).sample(range(len(WHOLE)), 200)})


def test_cut_anywhere_it_is_whole_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = [i + 1 for i, character in enumerate(WHOLE) if character == "\n"]  # where a cut is valid YAML
    for end in sorted({*CUTS, *ends[:-1:5]}):
        assert guarded(root, WHOLE[:end]) == WHOLE, end
        output = capsys.readouterr().err
        assert output.count("\n") == 1, end
        assert f"dvc.lock was cut off, as by a kill while DVC wrote it; restored from {COPY}: 40 entries" in output


def test_cut_while_an_entry_changes_none_is_lost(root: Path) -> None:
    """Those before the cut are the new ones, those after it the old ones."""
    changed = WHOLE.replace(entry(NAMES[7]), entry(NAMES[7], "a"))
    for end in CUTS:
        lock = guarded(root, changed[:end])
        assert lock in (WHOLE, changed), end
        assert (lock == changed) == (end > changed.index(NAMES[8])), end
        guarded(root, WHOLE)


def test_cut_while_an_entry_is_new_the_others_stay(root: Path) -> None:
    longer = WHOLE + entry("report")
    for end in range(len(WHOLE) + 1, len(longer) - len("      nfiles: 2\n"), 7):
        lock = guarded(root, longer[:end])  # a part that is an entry of its own, such as a command, DVC completes
        assert lock == WHOLE or (lock == longer[:end] and lock.endswith("\n")), end
        (root / COPY).write_text(WHOLE)
    assert guarded(root, longer) == longer
    assert (root / COPY).read_text() == longer


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(b"\0" * len(WHOLE), id="all zeros"),
        pytest.param(WHOLE[:5000].encode() + b"\0" * 3000 + WHOLE[8000:].encode(), id="zeros within"),
        pytest.param(WHOLE[:5000].encode() + b"\xff\xfe", id="no UTF-8"),
        pytest.param("\n", id="blank"),
    ],
)
def test_zeros_and_noise(damaged: bytes | str, root: Path) -> None:
    assert guarded(root, damaged) == WHOLE


def test_what_a_person_did_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    another = study("head@other-a", "head@other-b")
    merge = f"{HEADER}<<<<<<< HEAD\n{entry('a')}=======\n{entry('b')}>>>>>>> theirs\n"
    for content in (another, study(*NAMES[1:]), f"# mine\n{WHOLE}", merge.replace(HEADER, "")):
        guarded(root, WHOLE)
        assert guarded(root, content) == content
    (root / "dvc.lock").unlink()
    guard_lock(root)
    assert not (root / "dvc.lock").exists()
    assert not (root / COPY).exists()
    assert guarded(root, study(NAMES[0])) == study(NAMES[0])  # anew
    assert capsys.readouterr().err == ""


def git(root: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=root, check=True, capture_output=True
    )


def test_an_earlier_commit_is_no_cut_and_git_is_the_last_resort(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = study(*NAMES[:5])
    git(root, "init", "--quiet")
    (root / "dvc.lock").write_text(earlier)
    git(root, "add", "dvc.lock")
    git(root, "commit", "--quiet", "-m", "earlier")
    guard_lock(root)
    assert (root / "dvc.lock").read_text() == earlier
    (root / COPY).unlink()
    assert capsys.readouterr().err == ""
    assert guarded(root, "") == earlier
    assert "restored from git's HEAD" in capsys.readouterr().err


def test_a_copy_of_another_study_is_not_mixed_in(root: Path) -> None:
    (root / COPY).write_text(study("head@other-a", "head@other-b"))
    git(root, "init", "--quiet")
    git(root, "add", "dvc.lock")
    git(root, "commit", "--quiet", "-m", "whole")
    assert guarded(root, WHOLE[: len(WHOLE) // 2 + 7]) == WHOLE


def test_with_no_copy_whole_entries_are_kept_and_nothing_is_no_file(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / COPY).unlink()
    assert guarded(root, WHOLE[: WHOLE.index(NAMES[3]) + 30]) == study(*NAMES[:3])
    assert "3 whole entries are kept" in capsys.readouterr().err
    (root / COPY).unlink()
    (root / "dvc.lock").write_text("")
    guard_lock(root)
    assert not (root / "dvc.lock").exists()
    assert "it is deleted" in capsys.readouterr().err


def test_while_dvc_writes_nothing_is_done(root: Path) -> None:
    script = (
        "import sys, time, zc.lockfile; held = zc.lockfile.LockFile('.dvc/tmp/lock'); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        writer.stdout.readline()
        assert guarded(root, WHOLE[:5000]) == WHOLE[:5000]
        writer.kill()
    guard_lock(root)
    assert (root / "dvc.lock").read_text() == WHOLE


# Rewrites dvc.lock for ever, as DVC does after each stage.
WRITER = """
import sys
from dvc import dvcfile
from tauflow.dvc.guard import replace_files
replace_files()
print(flush=True)
number = 0
while True:
    with dvcfile.modify_yaml("dvc.lock") as data:
        number += 1
        data["stages"]["head@mini-clip-task0"]["cmd"] = f"command {number}"
"""


def test_a_file_that_our_dvc_writes_is_whole_whenever_it_is_killed(root: Path) -> None:
    for number in range(8):
        with subprocess.Popen([sys.executable, "-c", WRITER], cwd=root, stdout=subprocess.PIPE) as writer:
            assert writer.stdout
            writer.stdout.readline()
            time.sleep(0.1 + 0.013 * number)
            os.kill(writer.pid, signal.SIGKILL)
        text = (root / "dvc.lock").read_text()
        assert text.count("    cmd: ") == ENTRIES
        assert text.endswith(WHOLE[WHOLE.index(f"  {NAMES[1]}:") :])


def test_dvc_still_writes_by_the_function_that_is_replaced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dvcfile, "modify_yaml", modify_yaml)
    replaced: Callable[..., object] = modify_yaml
    assert "modify_yaml" in dvcfile.Lockfile.dump_stages.__code__.co_names
    replace_files()
    assert dvcfile.modify_yaml is not replaced
