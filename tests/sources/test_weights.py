"""Weights from the hub, through the real huggingface_hub, from a server on loopback; and the whole stage with them."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save
from torch import nn

from pipeline.io.arrays import read_arrays
from pipeline.models.registry import ModelDefinition
from tauflow.dvc.composition import compose
from tests.hub import Hub, serving

ROOT = Path(__file__).parents[2]
REVISION = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/tiny-clip"
CHUNK = 65536

# Fetches a definition's weights and prints the path, or the error. Sleeping between retries is cut short, and
# pieces are smaller than the hub's 10 MB, since the file is.
FETCH = f"""
import sys, time
from pathlib import Path
from huggingface_hub import constants
time.sleep = lambda seconds: None
constants.DOWNLOAD_CHUNK_SIZE = {CHUNK}
from pipeline.errors import UserError
from pipeline.models.registry import ModelDefinition
from pipeline.sources.weights import fetch_weights
definition = ModelDefinition.model_validate_json(sys.argv[1])
try:
    print(fetch_weights(definition, Path(sys.argv[2])))
except UserError as error:
    sys.exit(f"error: {{error}}")
"""


@pytest.fixture(scope="module")
def content(tiny_clip: nn.Module) -> bytes:
    """The tiny model as the hub would have it."""
    return save({name: tensor.numpy() for name, tensor in tiny_clip.state_dict().items()})


@pytest.fixture
def hub(content: bytes) -> Iterator[Hub]:
    with serving() as hub:
        hub.repositories[REPOSITORY] = {}
        hub.older[REVISION] = {"weights.safetensors": content}
        yield hub


def refuse(hub: Hub, status: int, code: str) -> None:
    """Answers all requests with this error from now on."""
    hub.failures = [(status, code)] * 1000


def definition_of(tiny: ModelDefinition, content: bytes, filename: str = "weights.safetensors") -> ModelDefinition:
    weights = {
        "kind": "hub",
        "repository": REPOSITORY,
        "filename": filename,
        "revision": REVISION,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    return ModelDefinition.model_validate({**tiny.model_dump(mode="json"), "name": "tiny-hub", "weights": weights})


def environment(home: Path, endpoint: str) -> dict[str, str]:
    """Without proxies and tokens of this machine."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("HF_")}
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**kept, **hub, "TAUFLOW_TRACKER": "off"}


@dataclass(frozen=True)
class Fetched:
    code: int
    path: Path
    error: str


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hub-cache"


def fetch(definition: ModelDefinition, home: Path, endpoint: str, root: Path = ROOT) -> Fetched:
    result = subprocess.run(
        [sys.executable, "-c", FETCH, definition.model_dump_json(), str(root)],
        cwd=ROOT,
        env=environment(home, endpoint),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in result.stderr, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return Fetched(result.returncode, Path(result.stdout.strip()), "\n".join(errors))


def whole_files(home: Path) -> list[Path]:
    """Files that a later call would mistake for the download."""
    return [path for path in home.rglob("*") if path.is_symlink() or path.suffix == ".safetensors"]


def test_file_arrives_and_is_kept(hub: Hub, content: bytes, home: Path, tiny_definition: ModelDefinition) -> None:
    definition = definition_of(tiny_definition, content)
    result = fetch(definition, home, hub.endpoint)
    assert result.code == 0
    assert result.path.read_bytes() == content
    assert hub.ranges == [None]
    again = fetch(definition, home, "http://127.0.0.1:9")  # needs no server
    assert (again.code, again.path) == (0, result.path)


def test_wrong_content(hub: Hub, content: bytes, home: Path, tiny_definition: ModelDefinition) -> None:
    expected = hashlib.sha256(content).hexdigest()
    wrong = content[:-1] + bytes([content[-1] ^ 1])
    hub.older[REVISION] = {"weights.safetensors": wrong}
    result = fetch(definition_of(tiny_definition, content), home, hub.endpoint)
    assert result.code == 1
    assert result.error.startswith("error: model tiny-hub: ")
    assert f"has SHA-256 {hashlib.sha256(wrong).hexdigest()}" in result.error
    assert f"names {expected}" in result.error
    assert str(home) in result.error  # the file to delete
    assert "\n" not in result.error


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [
        (404, "EntryNotFound", "404"),
        (404, "RevisionNotFound", "404"),
        (404, "RepoNotFound", "404"),
        (401, "RepoNotFound", "401"),
        (401, "", "401"),
        (401, "GatedRepo", "access is gated; accept its terms on the hub and set HF_TOKEN"),
        (403, "GatedRepo", "access is gated"),
        (503, "", "503"),
    ],
)
def test_server_refuses(
    status: int, code: str, text: str, hub: Hub, content: bytes, home: Path, tiny_definition: ModelDefinition
) -> None:
    refuse(hub, status, code)
    result = fetch(definition_of(tiny_definition, content), home, hub.endpoint)
    assert result.code == 1
    assert result.error.startswith(f"error: {REPOSITORY}/weights.safetensors at {REVISION[:12]}: ")
    assert text in result.error
    assert "\n" not in result.error
    assert whole_files(home) == []


def test_server_down(content: bytes, home: Path, tiny_definition: ModelDefinition) -> None:
    result = fetch(definition_of(tiny_definition, content), home, "http://127.0.0.1:9")
    assert result.code == 1
    assert "the hub cannot be reached" in result.error
    assert "HF_ENDPOINT" in result.error
    assert "\n" not in result.error
    assert whole_files(home) == []


def test_one_cut_connection_is_resumed(hub: Hub, content: bytes, home: Path, tiny_definition: ModelDefinition) -> None:
    hub.failures = [("cut", str(8 * CHUNK))]
    result = fetch(definition_of(tiny_definition, content), home, hub.endpoint)
    assert result.code == 0
    assert result.path.read_bytes() == content
    assert hub.ranges == [None, f"bytes={8 * CHUNK}-"]


def test_connection_that_is_cut_again_and_again(
    hub: Hub, content: bytes, home: Path, tiny_definition: ModelDefinition
) -> None:
    """Nothing half-written passes for the file, and the next call gets it."""
    definition = definition_of(tiny_definition, content)
    hub.failures = [("cut", "0")] * 1000
    result = fetch(definition, home, hub.endpoint)
    assert result.code == 1
    assert result.error.startswith(f"error: {REPOSITORY}/weights.safetensors at {REVISION[:12]}: ")
    assert "cannot be fetched" in result.error
    assert "\n" not in result.error
    assert whole_files(home) == []
    hub.failures = []
    again = fetch(definition, home, hub.endpoint)
    assert again.code == 0
    assert again.path.read_bytes() == content


def test_committed_weights(content: bytes, home: Path, tmp_path: Path, tiny_definition: ModelDefinition) -> None:
    """A file of the repository, no network; another content is refused."""
    (tmp_path / "weights.safetensors").write_bytes(content)
    weights = {"kind": "committed", "path": "weights.safetensors", "sha256": hashlib.sha256(content).hexdigest()}
    definition = ModelDefinition.model_validate({**tiny_definition.model_dump(mode="json"), "weights": weights})
    result = fetch(definition, home, "http://127.0.0.1:9", root=tmp_path)
    assert (result.code, result.path) == (0, tmp_path / "weights.safetensors")
    (tmp_path / "weights.safetensors").write_bytes(content[:-1])
    wrong = fetch(definition, home, "http://127.0.0.1:9", root=tmp_path)
    assert wrong.code == 1
    assert f"{tmp_path / 'weights.safetensors'} has SHA-256" in wrong.error
    (tmp_path / "weights.safetensors").unlink()
    missing = fetch(definition, home, "http://127.0.0.1:9", root=tmp_path)
    assert missing.code == 1
    assert "no such file" in missing.error


@pytest.fixture
def project(tmp_path: Path, content: bytes, tiny_definition: ModelDefinition, tiny_config: dict[str, object]) -> Path:
    """A copy of the code with one more model."""
    copy = tmp_path / "project"
    for name in ("pipeline", "artifacts", "stages", "tauflow"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", copy)
    compose(ROOT, ["suite=tiny", "paradigm=standard"], copy / "params.yaml")
    parameters = (copy / "params.yaml").read_text()
    (copy / "params.yaml").write_text(parameters.replace("mini-clip", "tiny-hub"))
    models = copy / "pipeline" / "definitions" / "models"
    definition = definition_of(tiny_definition, content).model_dump(mode="json", exclude_none=True)
    (models / "tiny-hub").mkdir()
    (models / "tiny-hub" / "model.yaml").write_text(yaml.safe_dump(definition))
    (models / "tiny-hub" / f"{tiny_definition.architecture}.json").write_text(json.dumps(tiny_config))
    return copy


def run_stage(project: Path, home: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stages.pretrained", "pretrained@tiny-hub"],
        cwd=project,
        env=environment(home, endpoint),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_stage_places_both_towers(hub: Hub, content: bytes, home: Path, project: Path, tmp_path: Path) -> None:
    result = run_stage(project, home, hub.endpoint)
    assert result.returncode == 0, result.stderr
    (tmp_path / "served").write_bytes(content)
    served = load_file(tmp_path / "served")
    directory = project / "data" / "models" / "tiny-hub"
    assert sorted(path.name for path in directory.iterdir()) == [
        "image_encoder.safetensors",
        "text_encoder.safetensors",
    ]
    image, metadata = read_arrays(directory / "image_encoder.safetensors")
    text, _ = read_arrays(directory / "text_encoder.safetensors")
    assert metadata == {"model": "tiny-hub", "version": 1, "source_sha256": hashlib.sha256(content).hexdigest()}
    joined = {**{f"visual.{name}": array for name, array in image.items()}, **text}
    assert joined.keys() == served.keys()
    for name, array in served.items():
        assert joined[name].dtype == array.dtype
        assert joined[name].shape == array.shape
        np.testing.assert_array_equal(joined[name], array)


def test_the_stage_leaves_nothing_when_it_fails(hub: Hub, home: Path, project: Path) -> None:
    refuse(hub, 401, "GatedRepo")
    result = run_stage(project, home, hub.endpoint)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: pretrained@tiny-hub: ")]
    assert len(errors) == 1
    assert "gated" in errors[0]
    assert not (project / "data").exists()


def test_the_stage_refuses_weights_of_another_architecture(hub: Hub, home: Path, project: Path) -> None:
    """The hash is right, the definition names the wrong architecture."""
    architecture = next((project / "pipeline" / "definitions" / "models" / "tiny-hub").glob("ViT-test*.json"))
    config = json.loads(architecture.read_text())
    config["vision_cfg"]["layers"] = 3
    architecture.write_text(json.dumps(config))
    result = run_stage(project, home, hub.endpoint)
    assert result.returncode == 1
    assert "does not fit the architecture" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (project / "data").exists()
