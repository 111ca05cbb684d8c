"""The schedule of the learning rate against torch's, the precision, and the curve as a table."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.config import FinetuneSettings
from pipeline.training import Plan, StepRecord, write_curve


@pytest.mark.parametrize(("steps", "warmup"), [(40, 0.1), (7, 0.5), (100, 0.0), (1, 0.1), (10, 1.0), (3, 0.3)])
def test_schedule_equals_torch(steps: int, warmup: float, finetune_settings: FinetuneSettings) -> None:
    plan = Plan(finetune_settings.model_copy(update={"warmup": warmup}), 0.3, 1.0, 0)
    rates = [plan.learning_rate(step, steps) for step in range(steps)]
    warm_up = round(warmup * steps)
    weight = torch.nn.Parameter(torch.zeros(1))
    expected = []
    if warm_up:
        optimizer = torch.optim.SGD([weight], lr=0.3)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / warm_up, 1.0, max(1, warm_up - 1))
        for _ in range(warm_up):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    if steps > warm_up:
        optimizer = torch.optim.SGD([weight], lr=0.3)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps - warm_up)
        for _ in range(steps - warm_up):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            cosine.step()
    np.testing.assert_allclose(rates, expected, rtol=1e-9)
    assert all(lr > 0 for lr in rates)


@pytest.mark.parametrize(("steps", "warmup", "share"), [(40, 4, 0.1), (2000, 200, 0.1), (10, 0, 0.0), (8, 8, 1.0)])
def test_warm_up_in_steps(steps: int, warmup: int, share: float, finetune_settings: FinetuneSettings) -> None:
    """It replaces the share, and equals the same share."""
    in_steps = Plan(finetune_settings.model_copy(update={"warmup": 0.7, "warmup_steps": warmup}), 0.3, 1.0, 0)
    as_share = Plan(finetune_settings.model_copy(update={"warmup": share}), 0.3, 1.0, 0)
    actual, expected = ([plan.learning_rate(step, steps) for step in range(steps)] for plan in (in_steps, as_share))
    assert actual == expected


def test_a_warm_up_that_is_longer_than_the_training(finetune_settings: FinetuneSettings) -> None:
    plan = Plan(finetune_settings.model_copy(update={"warmup_steps": 500}), 0.5, 1.0, 0)
    assert [plan.learning_rate(step, 2) for step in range(2)] == pytest.approx([0.001, 0.002])


@pytest.mark.parametrize(
    ("epochs", "steps", "per_epoch", "expected"),
    [(2.5, None, 4, 10), (0.01, None, 4, 1), (2.5, 7, 4, 7), (1.0, 9, 2, 9)],
)
def test_steps_replace_epochs(
    epochs: float, steps: int | None, per_epoch: int, expected: int, finetune_settings: FinetuneSettings
) -> None:
    assert Plan(finetune_settings, 0.3, epochs, 0, None, steps).count_steps(per_epoch) == expected


@pytest.mark.parametrize(
    ("precision", "device", "bf16"),
    [
        ("auto", "cpu", False),
        ("auto", "cuda", True),
        ("auto", "cuda:1", True),
        ("fp32", "cuda", False),
        ("bf16", "cpu", True),
    ],
)
def test_precision(precision: str, device: str, bf16: bool, finetune_settings: FinetuneSettings) -> None:
    plan = Plan(finetune_settings.model_copy(update={"precision": precision}), 0.3, 1.0, 0)
    assert plan.uses_bf16(torch.device(device)) == bf16


def test_curve_is_a_table_of_all_steps(tmp_path: Path) -> None:
    records = [
        StepRecord(0, 0, 2.3456789, 0.0, 0.125, 1e-4, 12.5),
        StepRecord(1, 0, 1 / 3, 2 / 3, 0.25, 5e-5, 1e-9),
    ]
    write_curve(tmp_path / "curve.csv", records)
    assert (tmp_path / "curve.csv").read_text() == (
        "step,epoch,loss,penalty,accuracy,lr,grad_norm\n"
        "0,0,2.34568,0,0.125,0.0001,12.5\n"
        "1,0,0.333333,0.666667,0.25,5e-05,1e-09\n"
    )
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert curve["loss"].tolist() == pytest.approx([r.loss for r in records], rel=1e-5)
    assert curve["penalty"].tolist() == pytest.approx([r.penalty for r in records], rel=1e-5)
