"""The benchmark's steps do what their names say; what they cost is measured, not tested."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peak_memory import peak_memory
from benchmarks.steps import Workbench, Workload, variants

SETTING = Workload("mini-clip", 2, 32, 1, "meta", "fp32", other_batch=2, other_tasks=3)


def test_steps_leave_nothing_behind_and_have_the_expected_cost() -> None:
    bench = Workbench(SETTING)
    operations = {}
    for name, step in variants(bench).items():
        with FlopCounterMode(display=False) as counter:
            step()
        operations[name] = counter.get_total_flops()
        assert all(p.grad is None and not p.requires_grad for p in bench.base.values())
        assert all(p.grad is None for p in bench.theta.values())
    assert operations["attention"] < operations["standard"] < operations["tangent"] < operations["jvp"]
    assert operations["attention, tangent"] < operations["tangent"]
    one_other = operations["tau_jp cyclic"] - operations["tangent"]
    assert operations["tau_jp strict"] == operations["tangent"] + 3 * one_other


def test_peak_memory_is_the_maximum_held_at_once() -> None:
    """Blocks that malloc always gives back, and 2 MiB for the interpreter."""
    held = torch.ones(2**26, dtype=torch.uint8)

    def call() -> None:
        for _ in range(3):
            assert len(held + 1)
        assert len(held.repeat(2))

    peak = peak_memory(call, "cpu")
    assert peak.step == pytest.approx(2**27, abs=2**21)
    assert peak.total > 2**26 + 2**27
