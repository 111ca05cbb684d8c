"""Fine-tuning: against a hand-written loop in float64, its schedule, its determinism, its failures."""

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from pipeline.config import FinetuneSettings, Paradigm
from pipeline.errors import UserError
from pipeline.models.encoders import ImageEncoder
from pipeline.models.heads import Head
from pipeline.models.registry import ModelDefinition
from pipeline.paradigms import make_trainable
from pipeline.tasks import LabelledImages
from pipeline.training import StepRecord, finetune, learning_rate, write_curve

CPU = torch.device("cpu")
STANDARD = Paradigm(trainable="all", trained_in="weight", evaluated_in="weight")
EncoderFactory = Callable[[], ImageEncoder]
HeadFactory = Callable[..., Head]
ImageFactory = Callable[..., LabelledImages]


def run(
    encoder: ImageEncoder,
    head: Head,
    train: LabelledImages,
    settings: FinetuneSettings,
    epochs: int = 2,
    seed: int = 0,
) -> tuple[dict[str, Tensor], list[StepRecord]]:
    records: list[StepRecord] = []
    trainable = make_trainable(encoder, STANDARD)
    trained = finetune(trainable, head, train, settings, epochs, seed, CPU, records.append)
    return trained, records


def separable(n: int) -> LabelledImages:
    """Dark and bright noise."""
    random = np.random.default_rng(0)
    labels = np.arange(n, dtype=np.int64) % 2
    images = random.integers(0, 100, (n, 3, 32, 32)) + 150 * labels[:, None, None, None]
    return LabelledImages(images.astype(np.uint8), labels)


def test_loss_falls_on_a_separable_task(
    make_encoder: EncoderFactory, make_head: HeadFactory, finetune_settings: FinetuneSettings, base: dict[str, Tensor]
) -> None:
    trained, records = run(make_encoder(), make_head(2), separable(32), finetune_settings, epochs=8)
    first, last = records[:4], records[-4:]
    assert np.mean([r.loss for r in first]) > 0.4
    assert np.mean([r.loss for r in last]) < 0.05
    assert [r.accuracy for r in last] == [1] * 4
    assert trained.keys() == base.keys()
    assert all(not torch.equal(trained[name], base[name]) for name in base)


def test_records(make_encoder: EncoderFactory, make_head: HeadFactory, finetune_settings: FinetuneSettings) -> None:
    """19 images in batches of 8 are 2 steps per epoch; the rest waits for another epoch's order."""
    _, records = run(make_encoder(), make_head(2), separable(19), finetune_settings, epochs=3)
    assert [(r.step, r.epoch) for r in records] == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2)]
    assert [r.lr for r in records] == [learning_rate(step, 6, finetune_settings) for step in range(6)]


def test_fewer_images_than_a_batch(
    make_encoder: EncoderFactory, make_head: HeadFactory, finetune_settings: FinetuneSettings
) -> None:
    _, records = run(make_encoder(), make_head(2), separable(5), finetune_settings, epochs=3)
    assert len(records) == 3


def test_head_is_frozen(
    make_encoder: EncoderFactory, make_head: HeadFactory, finetune_settings: FinetuneSettings
) -> None:
    head = make_head(2)
    before = head.weight.clone()
    run(make_encoder(), head, separable(8), finetune_settings)
    assert torch.equal(head.weight, before)


def bits(tensors: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def test_seed_fixes_every_bit(
    make_encoder: EncoderFactory, make_head: HeadFactory, make_images: ImageFactory, finetune_settings: FinetuneSettings
) -> None:
    results = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)  # nobody else's random numbers matter
        np.random.seed(noise)
        trained, records = run(make_encoder(), make_head(2), make_images(16), finetune_settings, seed=seed)
        results.append((bits(trained), records))
    assert results[0] == results[1]
    assert results[0][0] != results[2][0]


def test_augmentation_has_an_effect(
    make_encoder: EncoderFactory, make_head: HeadFactory, make_images: ImageFactory, finetune_settings: FinetuneSettings
) -> None:
    plain = finetune_settings.model_copy(update={"crop_padding": 0})
    first, _ = run(make_encoder(), make_head(2), make_images(8), finetune_settings)
    second, _ = run(make_encoder(), make_head(2), make_images(8), plain)
    assert bits(first) != bits(second)


def hand_written_adamw(
    encoder: ImageEncoder,
    definition: ModelDefinition,
    head: Head,
    train: LabelledImages,
    settings: FinetuneSettings,
    epochs: int,
) -> tuple[dict[str, Tensor], list[float], list[float]]:
    """Weights, losses and gradient norms of the same training in float64, from the formulas of AdamW."""
    visual = copy.deepcopy(encoder.visual).double()
    weights = {name: p.detach().clone() for name, p in visual.named_parameters()}
    first = {name: torch.zeros_like(w) for name, w in weights.items()}
    second = {name: torch.zeros_like(w) for name, w in weights.items()}
    mean = torch.tensor(definition.mean, dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor(definition.std, dtype=torch.float64).view(1, 3, 1, 1)
    pixels = (torch.from_numpy(train.images).double() / 255 - mean) / std
    rows, batch_size = head.weight.double(), settings.batch_size
    steps = epochs * (len(train) // batch_size)
    losses, norms = [], []
    for step in range(steps):
        epoch, place = divmod(step, len(train) // batch_size)
        order = np.random.default_rng([0, 0, epoch]).permutation(len(train))
        batch = order[place * batch_size : (place + 1) * batch_size]
        leaves = {name: w.clone().requires_grad_(True) for name, w in weights.items()}
        embeddings = torch.func.functional_call(visual, leaves, (pixels[batch],))
        cosines = (embeddings / (embeddings**2).sum(dim=1, keepdim=True).sqrt()) @ rows.T
        log_shares = cosines - torch.logsumexp(cosines, dim=1, keepdim=True)
        loss = -log_shares[torch.arange(batch_size), train.labels[batch]].mean()
        gradients = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients.values()))
        losses.append(loss.item())
        norms.append(norm)
        lr = learning_rate(step, steps, settings)
        for name, gradient in gradients.items():
            clipped = gradient * min(1.0, settings.max_grad_norm / norm)
            first[name] = 0.9 * first[name] + 0.1 * clipped
            second[name] = 0.999 * second[name] + 0.001 * clipped**2
            m, v = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.999 ** (step + 1))
            weights[name] = weights[name] * (1 - lr * settings.weight_decay) - lr * m / (v.sqrt() + 1e-8)
    return weights, losses, norms


def moved(tuned: dict[str, Tensor], base: dict[str, Tensor]) -> Tensor:
    """τ, flattened, without the bias of the keys: its gradient is zero but for rounding, which AdamW blows up."""
    parts = []
    for name in sorted(base):
        difference = tuned[name].double() - base[name].double()
        if name.endswith("in_proj_bias"):
            query, key, value = difference.chunk(3)
            assert key.abs().max() <= difference.abs().max()
            difference = torch.cat([query, value])
        parts.append(difference.flatten())
    return torch.cat(parts)


@pytest.mark.parametrize(
    ("epochs", "batch_size", "weight_decay", "max_grad_norm"), [(1, 8, 0.0, 1e9), (2, 4, 0.1, 0.5), (3, 4, 0.0, 2.0)]
)
def test_training_equals_a_hand_written_loop(
    epochs: int,
    batch_size: int,
    weight_decay: float,
    max_grad_norm: float,
    make_encoder: EncoderFactory,
    make_head: HeadFactory,
    make_images: ImageFactory,
    tiny_definition: ModelDefinition,
    base: dict[str, Tensor],
) -> None:
    settings = FinetuneSettings(
        lr=1e-3,
        batch_size=batch_size,
        weight_decay=weight_decay,
        warmup=0.5 if epochs > 1 else 0.0,
        max_grad_norm=max_grad_norm,
        crop_padding=0,
    )
    head, train = make_head(3), make_images(8, classes=3)
    trained, records = run(make_encoder(), head, train, settings, epochs)
    weights, losses, norms = hand_written_adamw(make_encoder(), tiny_definition, head, train, settings, epochs)
    np.testing.assert_allclose([r.loss for r in records], losses, rtol=1e-3)
    np.testing.assert_allclose([r.grad_norm for r in records], norms, rtol=1e-2)
    found, expected = moved(trained, base), moved(weights, base)
    assert (found - expected).norm() / expected.norm() < 1e-2
    if max_grad_norm < 1e9:
        assert max(norms) > max_grad_norm  # clipping took part


def settings_with(lr: float, warmup: float) -> FinetuneSettings:
    return FinetuneSettings(lr=lr, batch_size=1, weight_decay=0.0, warmup=warmup, max_grad_norm=1.0, crop_padding=0)


@pytest.mark.parametrize(("steps", "warmup"), [(40, 0.1), (7, 0.5), (100, 0.0), (1, 0.1), (10, 1.0), (3, 0.3)])
def test_schedule_equals_torch(steps: int, warmup: float) -> None:
    settings = settings_with(0.3, warmup)
    found = [learning_rate(step, steps, settings) for step in range(steps)]
    rising = round(warmup * steps)
    weight = torch.nn.Parameter(torch.zeros(1))
    expected = []
    if rising:
        optimizer = torch.optim.SGD([weight], lr=0.3)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / rising, 1.0, max(1, rising - 1))
        for _ in range(rising):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    if steps > rising:
        optimizer = torch.optim.SGD([weight], lr=0.3)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - rising)
        for _ in range(steps - rising):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            cosine.step()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert all(lr > 0 for lr in found)


def test_loss_that_is_no_number(
    make_encoder: EncoderFactory, make_head: HeadFactory, make_images: ImageFactory, finetune_settings: FinetuneSettings
) -> None:
    settings = finetune_settings.model_copy(update={"lr": 1e30})
    with pytest.raises(UserError) as error:
        run(make_encoder(), make_head(2), make_images(16), settings, epochs=5)
    line = str(error.value)
    assert line.startswith("loss is nan at step 1 of 10 ")
    assert "finetune.lr" in line
    assert "params.yaml" in line
    assert "\n" not in line


def test_weights_that_the_last_step_broke(
    make_encoder: EncoderFactory, make_head: HeadFactory, make_images: ImageFactory, finetune_settings: FinetuneSettings
) -> None:
    """No further loss would show it."""
    settings = finetune_settings.model_copy(update={"lr": 1e30, "weight_decay": 1e30})
    with pytest.raises(UserError, match=r"^weights are NaN or infinite after the last of 1 steps; lower finetune\.lr"):
        run(make_encoder(), make_head(2), make_images(8), settings, epochs=1)


def test_curve_is_a_table_of_all_steps(tmp_path: Path) -> None:
    records = [StepRecord(0, 0, 2.3456789, 0.125, 1e-4, 12.5), StepRecord(1, 0, 1 / 3, 0.25, 5e-5, 1e-9)]
    write_curve(tmp_path / "curve.csv", records)
    assert (tmp_path / "curve.csv").read_text() == (
        "step,epoch,loss,accuracy,lr,grad_norm\n0,0,2.34568,0.125,0.0001,12.5\n1,0,0.333333,0.25,5e-05,1e-09\n"
    )
    found = pd.read_csv(tmp_path / "curve.csv")
    assert found["loss"].tolist() == pytest.approx([r.loss for r in records], rel=1e-5)
