"""Artifacts in a DVC remote: pushed, pulled elsewhere, collected as garbage. A directory, and an S3 server run here."""

import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tauflow.dvc.composition import compose
from tests.pipeline.conftest import OVERRIDES, Project

pytestmark = pytest.mark.pipeline

STAGE, TABLE = "localisation@mini-clip", "data/analyses/mini-clip/localisation.csv"


@dataclass(frozen=True)
class Remote:
    """A remote for artifacts, with its options and the environment of its clients."""

    url: str
    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def attach(self, project: Project) -> None:
        """Make this the default remote of a working copy, as docs/artifacts.md says."""
        project.run("dvc", "remote", "add", "--local", "--default", "storage", self.url)
        for key, value in self.options.items():
            project.run("dvc", "remote", "modify", "--local", "storage", key, value)


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Credentials of the S3 server, in place of those and of the configuration of the user who runs the tests."""
    empty = tmp_path_factory.mktemp("aws") / "empty"
    empty.touch()
    return {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(empty),
        "AWS_SHARED_CREDENTIALS_FILE": str(empty),
    }


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """The address of an S3 server with an empty bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket="studies")
    yield endpoint
    server.stop()


@pytest.fixture(params=["directory", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Remote:
    """A remote of either kind, empty."""
    if request.param == "directory":
        return Remote(str(tmp_path / "storage"))
    endpoint = request.getfixturevalue("s3_server")
    return Remote("s3://studies/tiny", {"endpointurl": endpoint}, request.getfixturevalue("credentials"))


def artifacts(project: Project) -> dict[str, bytes]:
    """Everything under data/ by path."""
    files = sorted(path for path in (project.root / "data").rglob("*") if path.is_file())
    return {path.relative_to(project.root).as_posix(): path.read_bytes() for path in files}


def hash_of(project: Project, path: str) -> str:
    """The hash of an artifact in ``dvc.lock``."""
    (digest,) = {out["md5"] for entry in project.lock().values() for out in entry["outs"] if out["path"] == path}
    return digest


def cached(project: Project) -> set[str]:
    """The hashes of all artifacts; of what is git's, DVC has copies only for its run cache."""
    outs = [out for entry in project.lock().values() for out in entry["outs"]]
    return {out["md5"] for out in outs if not out["path"].startswith(("reports/", "data/records/"))}


def stored(directory: Path, md5: str) -> bool:
    """Return whether a cache or a directory remote has an object."""
    return (directory / "files" / "md5" / md5[:2] / md5[2:]).exists()


def test_a_fresh_clone_needs_nothing_but_the_remote(clone: Project, remote: Remote, tmp_path: Path) -> None:
    remote.attach(clone)
    clone.run("dvc", "push", check=True, **remote.environment)
    fresh = Project(tmp_path / "elsewhere")
    clone.run("git", "clone", "--quiet", str(clone.root), str(fresh.root))
    before = clone.root.rename(tmp_path / "away")  # whatever comes, comes from the remote
    remote.attach(fresh)
    assert fresh.run("dvc", "status", "--quiet", check=False).returncode == 1
    fresh.run("dvc", "pull", check=True, **remote.environment)
    assert fresh.run("dvc", "status").stdout == "Data and pipelines are up to date.\n"
    assert fresh.repro() == []
    assert fresh.run("git", "status", "--porcelain").stdout == ""
    assert artifacts(fresh) == artifacts(Project(before))


def test_one_stage_s_inputs_can_be_pulled_alone(clone: Project, tmp_path: Path) -> None:
    remote = Remote(str(tmp_path / "storage"))
    remote.attach(clone)
    clone.run("dvc", "push")
    shutil.rmtree(clone.root / ".dvc" / "cache")
    vector = "data/task_vectors/mini-clip/standard/textures.safetensors"
    for path in (vector, TABLE):
        (clone.root / path).unlink()
    clone.run("dvc", "pull", vector)
    assert (clone.root / vector).exists()
    assert not (clone.root / TABLE).exists()


def test_working_copies_share_a_cache_that_no_stage_can_damage(clone: Project, tmp_path: Path) -> None:
    cache, fresh = tmp_path / "cache", Project(tmp_path / "elsewhere")
    (clone.root / ".dvc" / "cache").rename(cache)
    clone.run("git", "clone", "--quiet", str(clone.root), str(fresh.root))
    fresh.run("dvc", "cache", "dir", "--local", str(cache))
    fresh.run("dvc", "config", "--local", "cache.type", "symlink")
    fresh.run("dvc", "config", "--local", "cache.shared", "group")
    fresh.run("dvc", "checkout")
    assert fresh.run("dvc", "status").stdout == "Data and pipelines are up to date.\n"
    assert (fresh.root / TABLE).resolve().is_relative_to(cache)
    before = {path: path.read_bytes() for path in (cache / "files").rglob("*") if path.is_file()}
    assert fresh.repro("--single-item", "--force", "comparison@mini-clip") == ["comparison@mini-clip"]
    assert {path: path.read_bytes() for path in (cache / "files").rglob("*") if path.is_file()} == before


def test_an_unreachable_server_is_one_line(clone: Project, credentials: dict[str, str]) -> None:
    """The line is DVC's own."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: refuses connections, and no other process takes it
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        remote = Remote("s3://studies/tiny", {"endpointurl": endpoint}, credentials)
        remote.attach(clone)
        result = clone.run("dvc", "push", check=False, **remote.environment)
    assert result.returncode != 0
    assert "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("ERROR: ")]
    assert endpoint in line


def test_paradigms_outside_the_parameters_are_kept_by_their_commits_alone(clone: Project, tmp_path: Path) -> None:
    """DVC takes an entry of dvc.lock for an artifact only while its stage is in the DAG that params.yaml spans."""
    posthoc = "data/measurements/mini-clip/posthoc/addition.csv"
    md5, storage = hash_of(clone, posthoc), tmp_path / "storage"
    Remote(str(storage)).attach(clone)
    compose(clone.root, [*OVERRIDES, "paradigms=[standard]"])
    assert hash_of(clone, posthoc) == md5
    clone.run("dvc", "push")
    assert stored(storage, hash_of(clone, TABLE))
    assert not stored(storage, md5)
    assert md5[2:] in clone.run("dvc", "gc", "--workspace", "--dry", "--force").stdout
    assert md5[2:] not in clone.run("dvc", "gc", "--all-commits", "--dry", "--force").stdout
    clone.run("dvc", "push", "--all-commits")
    assert stored(storage, md5)


def test_garbage_collection_spares_experiments_and_the_queue(clone: Project) -> None:
    cache, settings = clone.root / ".dvc" / "cache", [f"-S{override}" for override in OVERRIDES]
    committed = cached(clone)
    table = clone.root / TABLE
    table.unlink()  # a link into the cache, perhaps
    table.write_text("of an experiment")  # nothing here cares what made it
    clone.run("dvc", "commit", "--force", STAGE)
    clone.run("dvc", "exp", "save", "--name", "done")
    of_experiment = hash_of(clone, TABLE)
    clone.run("git", "checkout", "--quiet", ".")
    clone.run("dvc", "checkout")
    clone.run("dvc", "exp", "run", "--queue", "--name", "waiting", *settings, "-S", "localisation.images=6")
    (clone.root / "junk").write_text("of no commit")
    clone.run("dvc", "add", "--quiet", "junk")
    (junk,) = [line.split()[-1] for line in (clone.root / "junk.dvc").read_text().splitlines() if "md5: " in line]
    (clone.root / "junk.dvc").unlink()
    assert all(stored(cache, md5) for md5 in {*committed, of_experiment, junk})

    assert of_experiment[2:] in clone.run("dvc", "gc", "--workspace", "--dry", "--force").stdout
    clone.run("dvc", "gc", "--all-commits", "--all-experiments", "--force")
    assert not stored(cache, junk)
    assert all(stored(cache, md5) for md5 in committed)  # what the queue starts from
    assert "waiting" in clone.run("dvc", "queue", "status").stdout
    clone.run("dvc", "exp", "apply", "done")
    assert table.read_text() == "of an experiment"
