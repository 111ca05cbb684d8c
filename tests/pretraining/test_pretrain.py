"""The pre-training of mini-clip: its loss against the definition, its parts, and a short run of the real command."""

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, normalize

from pipeline.io.files import file_sha256
from pipeline.pretraining import build, pretrain
from pipeline.pretraining.pretrain import Settings, StepReport, augment, caption_loss, learning_rate_factor, optimisers
from pipeline.pretraining.zero_shot import ZeroShot

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "data" / "mini"
SHORT = Settings(steps=10, pairs=300, threads=1)


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def features(rows: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, 8, generator=generator, dtype=torch.float64), dim=-1)


def test_caption_loss_is_its_definition() -> None:
    images, texts = features(6, 0), features(3, 1)
    caption, scale = torch.tensor([2, 0, 2, 1, 0, 2]), torch.tensor(7.0, dtype=torch.float64)
    logits = [[float(scale * (image @ text)) for text in texts] for image in images]
    to_text = [-row[c] + math.log(sum(map(math.exp, row))) for row, c in zip(logits, caption.tolist(), strict=True)]
    to_image = []
    for c in range(3):
        column = [row[c] for row in logits]
        own = [value for value, other in zip(column, caption.tolist(), strict=True) if other == c]
        to_image.append(math.log(sum(map(math.exp, column))) - sum(own) / len(own))
    expected = (sum(to_text) / 6 + sum(to_image) / 3) / 2
    assert caption_loss(images, texts, caption, scale).item() == pytest.approx(expected, rel=1e-12)


def test_caption_loss_is_clips_own_where_captions_differ() -> None:
    images, texts, scale = features(5, 2), features(5, 3), torch.tensor(3.0, dtype=torch.float64)
    logits, order = scale * images @ texts.T, torch.arange(5)
    expected = (cross_entropy(logits, order) + cross_entropy(logits.T, order)) / 2
    assert torch.allclose(caption_loss(images, texts, order, scale), expected, rtol=1e-12)


def test_schedule_rises_then_falls_to_its_end() -> None:
    settings = replace(SHORT, steps=100, warmup=10)
    factors = [learning_rate_factor(step, settings) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == factors[9] == factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == pytest.approx(settings.final_lr)


def test_augmentation_only_moves_contrast_tint_and_place() -> None:
    images = torch.full((4, 3, 32, 32), 200, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    moved = augment(images, generator)
    assert moved.shape == (4, 3, 32, 32)
    assert torch.allclose(moved, moved[:, :, :1, :1].expand_as(moved))
    assert not torch.allclose(moved[0], moved[1])


def test_model_is_the_small_one_and_every_parameter_is_trained_once() -> None:
    model, tokenizer = build()
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_775_873
    assert tokenizer.vocab_size == 4096
    assert tokenizer("a " * 20).shape == (1, 12)
    assert tokenizer("a").max() == 4095
    trained = [p for o in optimisers(model, SHORT) for group in o.param_groups for p in group["params"]]
    assert len(trained) == len({id(p) for p in trained}) == len(list(model.parameters()))


def test_a_stopped_run_resumed_by_the_command_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_tasks(sources: Path, tokenizer: open_clip.SimpleTokenizer) -> ZeroShot:
        return ZeroShot(tokenizer, {})

    monkeypatch.setattr(ZeroShot, "load", no_tasks)
    whole = pretrain.pretrain(SHORT, SOURCES, tmp_path / "whole.pt", checkpoint_every=100)

    def stop(step: StepReport) -> None:
        if step.step == 8:
            raise KeyboardInterrupt

    out = tmp_path / "mini.safetensors"
    checkpoint = tmp_path / "mini.checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        pretrain.pretrain(SHORT, SOURCES, checkpoint, checkpoint_every=3, report=stop)
    with pytest.raises(ValueError, match="has other settings"):
        pretrain.pretrain(replace(SHORT, seed=1), SOURCES, checkpoint, resume=True)

    options = ["--steps", "10", "--pairs", "300", "--threads", "1", "--resume"]
    command = [sys.executable, "-m", "tools.pretrain_mini_clip", "--out", str(out), *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    weights = load_file(out)
    assert weights.keys() == whole.keys()
    assert all(torch.equal(weights[name], whole[name]) for name in whole)
    description = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert description["sha256"] == file_sha256(out)
    assert description["sha256"] in run.stdout.replace("\n", "")
    assert description["steps"] == 10
    assert all(0 <= accuracy <= 1 for accuracy in description["zero_shot_val"].values())
    assert len(out.with_suffix(".csv").read_text(encoding="utf-8").splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mini.csv", "mini.json", "mini.safetensors"]


def test_a_broken_source_stops_the_command_with_one_line(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tools.pretrain_mini_clip",
        "--steps",
        "1",
        "--sources",
        str(tmp_path),
    ]
    out = tmp_path / "mini.safetensors"
    run = subprocess.run([*command, "--out", str(out)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in run.stderr
    assert not out.exists()


@pytest.mark.skipif(not (SOURCES / "mini-clip.json").exists(), reason="the weights are being trained")
def test_committed_weights_are_the_described_ones() -> None:
    description = json.loads((SOURCES / "mini-clip.json").read_text(encoding="utf-8"))
    assert file_sha256(SOURCES / "mini-clip.safetensors") == description["sha256"]
    model, tokenizer = build()
    model.load_state_dict(load_file(SOURCES / "mini-clip.safetensors"))
    accuracies = ZeroShot.load(SOURCES, tokenizer).accuracies(model, "val")
    assert accuracies == pytest.approx(description["zero_shot_val"], abs=0.005)
