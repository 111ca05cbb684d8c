"""The table of docs/data.md says what the definitions say, and adds up."""

import re
from pathlib import Path

import pytest
import yaml
from PIL.Image import OPEN, init

from pipeline.config import load_parameters
from pipeline.images.splits import SPLITS
from pipeline.preparation.decoding import FORMATS
from pipeline.tasks import load_task
from pipeline.tasks.registry import FolderSource, HubSource, TaskDefinition
from tauflow.dvc.composition import compose
from tauflow.planning.task_sizes import task_size
from tests.pipeline.conftest import ROOT

TEXT = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if " / " in line]
SUITES = ("paper14", "paper20", "public20")
TABLE = {row[0]: row[1:] for row in ROWS if len(row) == 8 and row[0] != "task"}


PAPER8 = ["cars", "dtd", "eurosat", "gtsrb", "mnist", "resisc45", "sun397", "svhn", "imagenet"]


def test_all_tasks_of_the_suites_are_there() -> None:
    assert list(TABLE)[: len(PAPER8)] == PAPER8
    larger = {task for suite in SUITES for task in suite_tasks(suite)}
    assert sorted(list(TABLE)[len(PAPER8) :]) == sorted(larger - set(PAPER8))


def suite_tasks(suite: str) -> list[str]:
    return yaml.safe_load((ROOT / "conf" / "suite" / f"{suite}.yaml").read_text(encoding="utf-8"))["tasks"]


@pytest.mark.parametrize("name", TABLE)
def test_a_row(name: str) -> None:
    repository, revision, classes, counts, pixels, packed, _ = TABLE[name]
    definition = load_task(name)
    source = definition.source
    assert isinstance(source, HubSource)
    assert repository == f"`{source.repository}`"
    pinned = re.fullmatch("[0-9a-f]{40}", source.revision)
    assert revision == f"`{source.revision[:12] if pinned else source.revision}`"
    assert int(classes) == len(definition.classes)
    assert int(pixels) == (source.image_size or 224)
    train, val, test = (int(count.replace(",", "")) for count in counts.split(" / "))
    if name != "imagenet":
        assert val == min((train + val) // 10, 5000)
    assert packed == f"{(train + val + test) * 3 * int(pixels) ** 2 / 1e9:.2f} GB"


@pytest.mark.parametrize("name", TABLE)
def test_planned_sizes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes that `tauflow plan` takes before a task is prepared."""
    compose(ROOT, ["suite=paper8", "model=vit_b_32"], tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    size = task_size(load_parameters(tmp_path / "params.yaml"), name)
    assert size is not None
    assert size.packed_bytes is not None
    assert size.download_bytes is not None
    *_, counts, _, packed, fetched = TABLE[name]
    assert counts == " / ".join(f"{size.counts[split]:,}" for split in SPLITS)
    assert packed == f"{size.packed_bytes / 1e9:.2f} GB"
    assert float(fetched.removesuffix(" GB")) == size.download_bytes / 1e9


def test_the_totals() -> None:
    text = TEXT.replace("\n", " ")
    for tasks in (PAPER8, [*suite_tasks("paper14"), "imagenet"], [*suite_tasks("paper20"), "imagenet"]):
        packed = sum(float(TABLE[task][5].split()[0]) for task in tasks)
        fetched = sum(float(TABLE[task][6].split()[0]) for task in tasks)
        assert f"about {packed:.0f} GB packed and {fetched:.0f} GB downloaded" in text


def test_the_definition_of_own_images_is_one() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    definition = TaskDefinition.model_validate(yaml.safe_load(example))
    assert isinstance(definition.source, FolderSource)


def test_formats_are_those_that_pillow_is_asked_for() -> None:
    init()
    assert set(FORMATS) <= set(OPEN)
    assert all(name.casefold() in TEXT.casefold() for name in FORMATS)
