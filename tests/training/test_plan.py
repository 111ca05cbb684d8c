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
    found = [plan.learning_rate(step, steps) for step in range(steps)]
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
    found = pd.read_csv(tmp_path / "curve.csv")
    assert found["loss"].tolist() == pytest.approx([r.loss for r in records], rel=1e-5)
    assert found["penalty"].tolist() == pytest.approx([r.penalty for r in records], rel=1e-5)
