"""The throughput benchmark trains by the real loop, counts what it should, and keeps data on the device if asked to."""

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from benchmarks import throughput
from benchmarks.throughput import RECIPES, Bench, keep_one_batch, products
from pipeline.config import FinetuneSettings, PaddedCrop
from pipeline.models.encoders import build_clip
from pipeline.models.registry import load_model_definition
from pipeline.training import Processes
from pipeline.training.batches import Batches
from pipeline.training.feed import Feed

CPU = torch.device("cpu")


def test_products_are_those_of_the_encoder() -> None:
    """An ordinary step counted on the encoder itself, whose attention on a CPU is fused; others by their order."""
    counted = products("mini-clip", 2, 32)
    visual = build_clip(load_model_definition("mini-clip")).get_submodule("visual")
    with FlopCounterMode(display=False) as counter:
        visual(torch.zeros(2, 3, 32, 32)).sum().backward()
    assert counted["standard"] == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert counted["attention"] < counted["standard"] < counted["ntk"] < counted["tau_jp"]


def test_a_batch_that_is_kept_is_the_first(finetune_settings: FinetuneSettings, tmp_path: Path) -> None:
    bench = Bench("mini-clip", finetune_settings, CPU, tmp_path)
    crop = PaddedCrop(kind="padded_crop", padding=1)
    feed = Feed(Batches(bench.data.train, 8, crop, 0), None, crop, None, CPU, Processes())
    fed = list(feed.iterate(0, 3))
    with keep_one_batch():
        kept = list(feed.iterate(0, 3))
    assert [step.number for step in kept] == [step.number for step in fed] == [0, 1, 2]
    assert all(step.own is kept[0].own for step in kept)
    assert torch.equal(kept[0].own.images, fed[0].own.images)
    assert not torch.equal(fed[1].own.images, fed[0].own.images)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "matmul_flops", lambda device, bf16: 1e9)
    path = tmp_path / "throughput.json"
    app = throughput.typer.Typer()
    app.command()(throughput.main)
    arguments = ["--model", "mini-clip", "--batch", "4", "--steps", "1", "--repeats", "1", "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(path)])
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text())["models"]["mini-clip"]
    assert list(rows) == list(RECIPES)
    for row in rows.values():
        assert row["fed"] > 0
        assert row["step_over_floor"] == pytest.approx(row["floor"] / row["fed"])
        assert row["floor"] == pytest.approx(4 * 1e9 / row["products"])
        assert len(row["runs"]["fed"]) == len(row["runs"]["resident"]) == 1
