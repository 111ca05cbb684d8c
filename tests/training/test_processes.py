"""Two real processes under torchrun compute what one does: the same batch, shared, in another order of summation."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.io.arrays import read_arrays
from pipeline.io.files import read_json
from pipeline.training import Processes

SCRIPT = Path(__file__).with_name("shared_runs.py")
SHARED = runpy.run_path(str(SCRIPT), run_name="shared_runs")
RUNS: list[str] = list(SHARED["RUNS"])

# Processes that wait for each other do so for ever.
pytestmark = pytest.mark.timeout(360)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of two processes, started once for all tests, since each imports torch twice."""
    directory = tmp_path_factory.mktemp("together")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore::FutureWarning"}
    command = [*launch, str(SCRIPT), str(directory)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "Warning" not in ended.stderr
    return directory


def tau(theta: dict[str, Tensor], base: dict[str, Tensor]) -> Tensor:
    """Flattened, without the bias of the keys: its gradient is zero but for rounding, which AdamW blows up."""
    parts = []
    for name in sorted(theta):
        difference = theta[name] - base[name]
        parts.append(torch.cat(difference.chunk(3)[::2]) if name.endswith("in_proj_bias") else difference.flatten())
    return torch.cat(parts)


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_train_as_one(together: Path, name: str, accumulation: int) -> None:
    """Relative to the length of τ: sums of float32 in another order differ by 1e-7, which six steps of AdamW enlarge.

    A gradient that is wrong by the number of processes or of images is off by more than 1e-2.
    """
    theta, curve = SHARED["run"](name, 1, Processes())
    arrays, metadata = read_arrays(together / f"{name}, {accumulation}.safetensors")
    shared = {parameter: torch.from_numpy(array) for parameter, array in arrays.items()}
    assert shared.keys() == theta.keys()
    base = dict(SHARED["encoder"](SHARED["RUNS"][name].generic).visual.named_parameters())
    with torch.no_grad():
        expected, actual = tau(theta, base), tau(shared, base)
    assert (actual - expected).norm() < 1e-4 * expected.norm()
    records = metadata["curve"]
    assert [(r["step"], r["epoch"], r["lr"]) for r in records] == [(r.step, r.epoch, r.lr) for r in curve]
    for key in ("loss", "penalty", "accuracy", "grad_norm"):
        assert [r[key] for r in records] == pytest.approx([getattr(r, key) for r in curve], rel=1e-5, abs=1e-6), key
    assert max(record.grad_norm for record in curve) > 0.5  # clipping took part
    if SHARED["RUNS"][name].regulariser:
        assert min(record.penalty for record in curve[1:]) > 0


def test_all_processes_end_with_the_same_weights(together: Path) -> None:
    first, second = (read_json(together / f"process_{rank}.json")["theta"] for rank in range(2))
    assert first == second
    assert len(set(first.values())) > len(RUNS)


@pytest.mark.parametrize("name", SHARED["RESUMED"])
def test_two_processes_resume(together: Path, name: str) -> None:
    """With the same bytes as two that were not stopped."""
    hashes = read_json(together / "process_0.json")["theta"]
    assert hashes[f"{name}, resumed"] == hashes[f"{name}, 2"]
    resumed, whole = (read_arrays(together / f"{name}, {end}.safetensors")[1] for end in ("resumed", "2"))
    assert resumed == whole


def test_every_process_refuses_a_batch_that_cannot_be_divided(together: Path) -> None:
    """A failure must not make the other process wait forever."""
    for rank in range(2):
        line = read_json(together / f"process_{rank}.json")["refused"]
        assert line.startswith("a batch of 8 images cannot be divided among 2 processes with 5 micro-batches; ")


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [1, 2, 7, 10])
def test_shares_are_the_whole(n: int, count: int) -> None:
    shares = [Processes(rank, count).share(torch.arange(n)) for rank in range(count)]
    assert sorted(torch.cat(shares).tolist()) == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
