"""Compare merging methods with fusion-bench's: equality of the merged vectors, and cost.

fusion-bench is not a dependency. In an environment that has both it and what Tauflow needs:

    python -m benchmarks.against_fusion_bench equality
    python -m benchmarks.against_fusion_bench cost --blocks 1 --json cost.json

``equality`` merges random task vectors of a small vision transformer, with all methods that both have. ``cost`` takes
task vectors of a model's tensor shapes, and gives each method and side a process of its own: CPU seconds from vectors
in memory to the merged vector, and from files to a file, with peak memory. Ours checks every source's SHA-256 and signs
what it writes, theirs does neither. WUDI runs the same number of steps.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.editing import TaskVector, read_task_vector, write_task_vector
from pipeline.merging import Step, merge, merge_files, merge_sum
from pipeline.models import load_model_definition
from pipeline.models.checkpoints import Provenance
from pipeline.models.encoders import build_clip

app = typer.Typer(add_completion=False)
Vector = dict[str, Tensor]
STEPS = 20  # steps of WUDI in the cost comparison; both costs are linear in it

# Options with which ours equals fusion-bench's, which treats every 2-D tensor as a matrix.
OURS: dict[str, Step] = {
    "sum": Step("sum"),
    "average": Step("average"),
    "ties": Step("ties"),
    "tsv_m": Step("tsv_m"),
    "iso_c": Step("iso_c"),
    "iso_cts": Step("iso_cts"),
    "wudi_steps": Step("wudi_steps", {"matrices": "all", "others": "average", "steps": STEPS}),
}
WITH_SVC = {"svc of average": Step("average")}
SIDES = {"ours": ["ours"], "theirs": ["theirs"], "both": ["ours", "theirs"]}


def fusion_bench(name: str) -> Callable[[list[Vector]], Vector]:
    """Return fusion-bench's merging function, which is imported only here."""
    from fusion_bench.method.isotropic_merging.iso_utils import iso_c, iso_cts  # pyright: ignore
    from fusion_bench.method.singular_value_calibration import utils as svc  # pyright: ignore
    from fusion_bench.method.task_singular_vector.utils import TSVM_utils  # pyright: ignore
    from fusion_bench.method.ties_merging import ties_merging_utils as ties  # pyright: ignore
    from fusion_bench.method.wudi.wudi import wudi_merging  # pyright: ignore
    from fusion_bench.utils.state_dict_arithmetic import state_dict_mul, state_dict_sum  # pyright: ignore

    def ties_of(vectors: list[Vector]) -> Vector:
        flat = torch.vstack([ties.state_dict_to_vector(vector) for vector in vectors])
        merged = ties.ties_merging(flat, reset_thresh=20, merge_func="mean")
        return dict(ties.vector_to_state_dict(merged, vectors[0]))

    def calibrated(vectors: list[Vector]) -> Vector:
        average = state_dict_mul(state_dict_sum(vectors), 1 / len(vectors))
        for key, tensor in average.items():
            if tensor.ndim == 2:
                average[key] = svc.subspace_consistency_spectral_calibration_accelerated(
                    torch.zeros_like(tensor), [vector[key] for vector in vectors], tensor, 0.1, torch.device("cpu")
                )
        return average

    def wudi(vectors: list[Vector]) -> Vector:
        with torch.enable_grad():
            return {key: t.detach() for key, t in wudi_merging(vectors, "cpu", STEPS).items()}

    return {
        "sum": state_dict_sum,
        "average": lambda vectors: state_dict_mul(state_dict_sum(vectors), 1 / len(vectors)),
        "ties": ties_of,
        "tsv_m": lambda vectors: TSVM_utils.compute_and_sum_svd_mem_reduction(vectors, accelerator="cpu"),
        "iso_c": lambda vectors: iso_c(vectors, "cpu"),
        "iso_cts": lambda vectors: iso_cts(vectors, 0.8, "cpu"),
        "wudi_steps": wudi,
        "svc of average": calibrated,
    }[name]


def ours(name: str) -> tuple[Step, list[Step]]:
    """Return our method and modifiers."""
    return (WITH_SVC[name], [Step("svc")]) if name in WITH_SVC else (OURS[name], [])


def shapes_of(model: str, blocks: int | None) -> dict[str, tuple[int, ...]]:
    """Return the shapes of an image encoder's parameters, optionally of its first blocks only."""
    named = build_clip(load_model_definition(model)).get_submodule("visual").named_parameters()
    shapes = {name: tuple(parameter.shape) for name, parameter in named}
    if blocks is None:
        return shapes
    return {
        n: s for n, s in shapes.items() if "resblocks." in n and int(n.split("resblocks.")[1].split(".")[0]) < blocks
    }


def random_vectors(shapes: dict[str, tuple[int, ...]], tasks: int) -> list[TaskVector]:
    """Return task vectors that share a part, of a size that fine-tuning gives."""
    random = torch.Generator().manual_seed(0)
    shared = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    vectors = []
    for task in range(tasks):
        own = {name: 1e-4 * (shared[name] + 2 * torch.randn(s, generator=random)) for name, s in shapes.items()}
        vectors.append(TaskVector(own, Provenance("any", (f"t{task}",), "standard", "weight", "0" * 64, 0, "0" * 64)))
    return vectors


@app.command()
def equality(
    tasks: int = 4,
    width: Annotated[int, typer.Option(help="Of the transformer; it has two blocks.")] = 64,
) -> None:
    """Print the relative difference of the merged vectors, ‖ours − theirs‖ / ‖theirs‖."""
    block = {"attn.in_proj_weight": (3 * width, width), "attn.out_proj.weight": (width, width), "ln_1.weight": (width,)}
    block |= {"mlp.c_fc.weight": (4 * width, width), "mlp.c_proj.weight": (width, 4 * width)}
    shapes = {f"transformer.resblocks.{i}.{name}": shape for i in (0, 1) for name, shape in block.items()}
    shapes |= {"conv1.weight": (width, 3, 8, 8), "positional_embedding": (17, width), "proj": (width, width // 2)}
    vectors = random_vectors(shapes, tasks)
    table = Table("method", "relative difference")
    for name in [*OURS, *WITH_SVC]:
        method, modifiers = ours(name)
        parts = merge(vectors, method, modifiers)
        theirs = fusion_bench(name)([{n: t.clone() for n, t in v.tensors.items()} for v in vectors])
        merged = {n: sum(part.tensors[n].double() for part in parts) for n in theirs}
        distance = sum(float((merged[n] - theirs[n]).square().sum()) for n in theirs) ** 0.5
        table.add_row(name, f"{distance / sum(float(t.square().sum()) for t in theirs.values()) ** 0.5:.1e}")
    Console().print(table)


@app.command()
def cost(
    model: str = "ViT-B-32",
    tasks: int = 8,
    blocks: Annotated[int | None, typer.Option(help="Use only this number of residual blocks.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="All if not given.")] = None,
    sides: Annotated[str, typer.Option(help="ours | theirs | both")] = "both",
    repeats: Annotated[int, typer.Option(help="Each method runs on both sides in turn, this often.")] = 2,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the numbers.")] = None,
) -> None:
    """Print the least CPU seconds and peak memory per method and side, one thread each."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as directory:
        # In a separate process as well: a child starts with its parent's peak memory.
        call = [sys.executable, "-m", __spec__.name, "prepare", model, str(tasks), str(blocks or 0), directory]
        subprocess.run(call, check=True)
        for name in method or [*OURS, *WITH_SVC]:
            runs = [(side, _measure(name, side, directory)) for _ in range(repeats) for side in SIDES[sides]]
            for side in SIDES[sides]:
                measured = [run for other, run in runs if other == side]
                best = {key: min(run[key] for run in measured) for key in measured[0]}
                rows.append({"method": name, "side": side, **best})
                print(rows[-1], flush=True)
    table = Table("method", "side", "method alone, CPU s", "from files to a file, CPU s", "peak GiB")
    for row in rows:
        seconds = [f"{row[key]:.2f}" for key in ("alone", "files")]
        table.add_row(row["method"], row["side"], *seconds, f"{row['peak'] / 2**30:.2f}")
    Console().print(table)
    if json_file:
        json_file.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _measure(name: str, side: str, directory: str) -> dict[str, float]:
    """Return the measurements of a method in processes of their own."""
    measured: dict[str, float] = {}
    for what in ("alone", "files"):
        call = [sys.executable, "-m", __spec__.name, "once", name, side, what, directory]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.run(call, stdout=subprocess.PIPE, text=True, env=environment, check=True)
        measured |= json.loads(process.stdout.splitlines()[-1])
    return measured


@app.command(hidden=True)
def prepare(model: str, tasks: int, blocks: int, directory: Path) -> None:
    """Write random task vectors, one at a time."""
    shapes = shapes_of(model, blocks or None)
    for task in range(tasks):
        random = torch.Generator().manual_seed(task)
        tensors = {name: 1e-4 * torch.randn(shape, generator=random) for name, shape in shapes.items()}
        origin = Provenance("any", (f"t{task}",), "standard", "weight", "0" * 64, 0, "0" * 64)
        write_task_vector(directory / f"t{task}.safetensors", TaskVector(tensors, origin))


@app.command(hidden=True)
def once(name: str, side: str, what: str, directory: Path) -> None:
    """Merge once, in memory or from files to a file, and print a line of JSON."""
    torch.set_num_threads(1)
    paths = {path.stem: path for path in sorted(directory.glob("*.safetensors"))}
    method, modifiers = ours(name)
    theirs = fusion_bench(name) if side == "theirs" else None
    out = directory / "merged" / "merged.safetensors"
    out.parent.mkdir(exist_ok=True)
    vectors = [read_task_vector(path) for path in paths.values()] if what == "alone" else []
    plain = [dict(vector.tensors) for vector in vectors]
    started = time.process_time()
    if what == "alone" and theirs:
        theirs(plain)
    elif what == "alone":
        merge_sum(vectors, method, modifiers=modifiers)
    elif theirs:
        save_file(theirs([load_file(path) for path in paths.values()]), out)
    else:
        write_task_vector(out, merge_files(paths, method, modifiers)[0])
    measured: dict[str, float] = {what: time.process_time() - started}
    if what == "files":  # where nothing else has to be in memory
        measured["peak"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(measured))


if __name__ == "__main__":
    app()
