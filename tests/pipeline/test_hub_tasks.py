"""Tasks from a hub and from a folder through the real DVC: what is recorded stays, whatever the hub does later."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.images import read_split
from pipeline.tasks import TaskCard
from tauflow.dvc.composition import compose
from tests.hub import REPOSITORY, SOURCE, Hub, encoded, parquet, serving
from tests.pipeline.conftest import Project, copy_project

pytestmark = pytest.mark.pipeline

RECORD = Path("data/records/pets.json")


def published(seed: int) -> dict[str, bytes]:
    random = np.random.default_rng(seed)

    def shard(images: int) -> bytes:
        pixels = random.integers(0, 256, (images, 9, 12, 3), dtype=np.uint8)
        return parquet([encoded(image) for image in pixels], [i % 2 for i in range(images)], ["cat", "dog"])

    return {"data/train-0.parquet": shard(20), "data/train-1.parquet": shard(20), "data/test-0.parquet": shard(10)}


def definition(name: str, source: dict[str, object]) -> dict[str, object]:
    return {
        **{"name": name, "version": 1, "description": "pets", "classes": ["cat", "dog"], "templates": ["a {}"]},
        **{"source": source, "origin": "here", "licence": "none", "citation": "none"},
    }


FOLDER_SOURCE = {"kind": "folder", "path": "photos", "directories": None, "image_size": None, "test_fraction": 0.25}


class Study:
    """A project whose control task comes from a hub."""

    def __init__(self, project: Project, hub: Hub, home: Path) -> None:
        self.project, self.hub, self.home = project, hub, home

    def run(self, *command: str, check: bool = True) -> str:
        result = self.project.run(
            *command,
            check=check,
            HF_ENDPOINT=self.hub.endpoint,
            HF_HOME=str(self.home),
            HF_HUB_DISABLE_XET="1",
            HF_HUB_DISABLE_TELEMETRY="1",
            NO_PROXY="127.0.0.1",
        )
        return result.stdout + result.stderr

    def ran(self, *arguments: str) -> list[str]:
        output = self.run("dvc", "repro", *arguments)
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]

    def record(self) -> dict[str, object]:
        return json.loads((self.project.root / RECORD).read_text())

    def commit(self) -> None:
        self.project.commit("data")


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    project = copy_project(tmp_path / "project")
    definitions = project.root / "pipeline" / "definitions" / "tasks"
    for name, source in (("pets", SOURCE), ("mine", FOLDER_SOURCE)):
        (definitions / f"{name}.yaml").write_text(yaml.safe_dump(definition(name, source), sort_keys=False))
    compose(project.root, ["suite=tiny", "paradigm=standard", "control=pets", "prepare.resolution=8"])
    with serving() as hub:
        hub.publish(REPOSITORY, published(0))
        study = Study(project, hub, tmp_path / "hub-cache")
        study.commit()
        yield study


def test_what_is_recorded_stays(study: Study, tmp_path: Path) -> None:
    assert study.ran("prepare@pets") == ["download@pets", "prepare@pets"]
    first = study.record()
    assert first["commit"] == study.hub.commit(REPOSITORY)
    card = TaskCard.read(study.project.root / "data" / "tasks" / "card" / "pets.json")
    assert card.counts == {"train": 36, "val": 4, "test": 10}
    assert card.image_size == (8, 8)
    study.commit()
    assert str(RECORD) in study.project.run("git", "ls-files").stdout
    test = read_split(study.project.root / "data" / "tasks" / "test" / "pets.safetensors", 2)

    # The branch moves on; neither --force nor a new machine follows it.
    study.hub.publish(REPOSITORY, published(1))
    assert study.ran("--force", "prepare@pets") == ["download@pets", "prepare@pets"]
    assert study.record() == first
    study.project.run("git", "clone", "--quiet", ".", str(tmp_path / "clone"))
    other = Study(Project(tmp_path / "clone"), study.hub, tmp_path / "other-cache")
    assert other.ran("prepare@pets") == ["download@pets", "prepare@pets"]
    assert other.record() == first
    again = read_split(other.project.root / "data" / "tasks" / "test" / "pets.safetensors", 2)
    np.testing.assert_array_equal(again.images, test.images)
    assert (other.project.root / "dvc.lock").read_bytes() == (study.project.root / "dvc.lock").read_bytes()

    # To follow it, delete the record.
    (study.project.root / RECORD).unlink()
    assert study.ran("prepare@pets") == ["download@pets", "prepare@pets"]
    assert study.record()["commit"] == study.hub.commit(REPOSITORY) != first["commit"]


def test_a_hub_that_refuses_leaves_nothing(study: Study) -> None:
    study.hub.gated.add(REPOSITORY)
    output = study.run("dvc", "repro", "prepare@pets", check=False)
    (line,) = [line for line in output.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: download@pets: {REPOSITORY}/data/train-0.parquet at ")
    assert line.endswith("access is gated; accept its terms on the hub and set HF_TOKEN")
    assert "Traceback" not in output
    data = study.project.root / "data"
    assert not (data / "raw").exists() or list((data / "raw").iterdir()) == []
    assert not (data / "records").exists()


def test_images_of_ones_own_need_one_file(study: Study) -> None:
    photos = study.project.root / "photos"
    for number in range(24):
        path = photos / ("cat" if number % 3 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(np.random.default_rng(number).integers(0, 256, (20, 11, 3), dtype=np.uint8)))
    compose(study.project.root, ["suite=tiny", "paradigm=standard", "control=mine", "prepare.resolution=8"])
    for stage in ("download", "prepare"):
        study.run("python", "-m", f"stages.{stage}", f"{stage}@mine")
    card = TaskCard.read(study.project.root / "data" / "tasks" / "card" / "mine.json")
    assert card.counts == {"train": 17, "val": 1, "test": 6}
    (photos / "dog" / "0.png").write_bytes(b"broken")
    study.run("python", "-m", "stages.download", "download@mine")
    output = study.run("python", "-m", "stages.prepare", "prepare@mine", check=False)
    assert output.startswith("mine: train 17")
    assert "error: prepare@mine: task mine, split " in output
    assert "(dog/0.png) of images.parquet: cannot be decoded: it is not an image of the formats JPEG" in output
    assert "Traceback" not in output
