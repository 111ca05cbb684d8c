"""``tauflow push`` to a hub on loopback, and what the hub's own reader finds in a card."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants
from safetensors.numpy import save_file

from pipeline.models import load_model_definition
from tauflow.edited.hub import card_metadata
from tests.cli.conftest import Run
from tests.hub import TOKEN, Hub, private_hub

REPOSITORY = "someone/merged"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, and the token for it."""
    with private_hub(tmp_path, monkeypatch) as hub:
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # whose server is another one
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An exported model, but for its weights."""
    made = tmp_path / "model"
    made.mkdir()
    definition = load_model_definition("ViT-B-32")
    metadata = card_metadata(
        definition,
        "open_clip",
        ["mnist", "icons", "theirs"],
        name="x",
        merged=True,
        imported=False,
        accuracies={"mnist": 0.91234},
    )
    (made / "README.md").write_text(f"---\n{metadata}\n---\n\n# A model\n", encoding="utf-8")
    save_file({"weight": np.zeros(3, np.float32)}, made / "open_clip_model.safetensors")
    return made


def test_the_card_as_the_hub_reads_it(folder: Path) -> None:
    data: Any = ModelCard.load(folder / "README.md").data
    assert (data.license, data.base_model) == ("mit", load_model_definition("ViT-B-32").weights.repository)  # pyright: ignore[reportAttributeAccessIssue]
    assert (data.library_name, data.pipeline_tag) == ("open_clip", "zero-shot-image-classification")
    assert data.datasets == ["ylecun/mnist"]
    assert data.metrics == ["accuracy"]
    (result,) = data.eval_results
    assert (result.dataset_type, result.dataset_split, result.metric_type) == ("ylecun/mnist", "test", "accuracy")
    assert result.metric_value == 0.9123


def test_others_checkpoints_have_their_own_licence() -> None:
    definition = load_model_definition("mini-clip")
    text = card_metadata(definition, "huggingface", ["a"], name="x", merged=False, imported=True, accuracies={})
    data: Any = ModelCard(f"---\n{text}\n---\n").data
    assert (data.license, data.license_name, data.license_link) == ("other", "see-below", "README.md#licences")
    assert (data.library_name, data.datasets, data.base_model) == ("transformers", None, None)


# huggingface_hub's own use of its HTTP library.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_folder_becomes_a_repository(hub: Hub, folder: Path, run: Run) -> None:
    result = run("push", str(folder), REPOSITORY, "--private")
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == f"{hub.endpoint}/{REPOSITORY}/commit/{hub.commit(REPOSITORY)}"
    assert hub.repositories[REPOSITORY] == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_mistakes_are_one_line(hub: Hub, folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def line(*arguments: str) -> str:
        result = run("push", *arguments)
        assert result.exit_code == 1
        (text,) = result.stderr.splitlines()
        return text

    assert "is not the name of a repository; write OWNER/NAME: " in line(str(folder), "a/b/c")
    assert "no model with its card; make one with `tauflow export`" in line(str(folder.parent), REPOSITORY)
    monkeypatch.setenv("HF_TOKEN", "hf_" + "y" * 34)
    assert line(str(folder), REPOSITORY).endswith(
        "set HF_TOKEN to a token that may write there, or run `hf auth login`"
    )
    (folder / "README.md").write_text("---\n[\n---\n")
    assert "README.md: its metadata are not valid" in line(str(folder), REPOSITORY)
