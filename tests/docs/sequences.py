"""Blocks of commands on the pages: each is run by a test, or stands here with the reason why it cannot run there.

A block is named by its page and the beginning of its first line.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.conftest import ROOT
from tests.docs.pages import PAGES

# First words of a line that is a command.
PROGRAMS = r"(\$ |\. |export |OMP_NUM_THREADS=|(tauflow|dvc|make|python|git|pip|mlflow|cat|srun)\b)"


@dataclass(frozen=True)
class Sequence:
    """A block of commands."""

    page: str
    text: str

    @property
    def name(self) -> str:
        """The page and the beginning of the first line."""
        return f"{self.page}: {commands(self.text)[0][:60]}"


def commands(text: str) -> list[str]:
    """Return the lines of a block without their comments."""
    return [line.split("  #")[0].rstrip() for line in text.splitlines() if not line.startswith("#") and line.strip()]


def sequences() -> Iterator[Sequence]:
    """Yield every block of commands, fenced or indented."""
    for path in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        page, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        fenced = re.findall(r"^```(\w+|\{[^\n]*)?\n(.*?)^```$", text, re.M | re.S)
        blocks = [code for language, code in fenced if language in ("", "bash", "sh", "shell", "console", "text")]
        rest = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
        indented = re.findall(r"(?:(?<=\n\n)|\A)((?:    [^\n]*\n)+)", rest)
        blocks += [re.sub(r"^    ", "", code, flags=re.M) for code in indented]
        for block in blocks:
            if any(re.match(PROGRAMS, line) for line in block.splitlines()):
                yield Sequence(page, block)


# A fine-tuned model as somebody else saved it.
FINETUNED = """python - <<'THE_END'
import torch
from safetensors.torch import load_file

weights = load_file("data/mini/mini-clip.safetensors")
weights["visual.ln_post.bias"] += 0.25
torch.save(weights, "finetuned.pt")
THE_END
"""
# Pictures to classify.
PICTURES = """python - <<'THE_END'
from pathlib import Path

from PIL import Image

Path("photos").mkdir()
for name, colour in {"photos/a.png": "red", "photos/b.png": "blue", "cat.jpg": "grey"}.items():
    Image.new("RGB", (40, 30), colour).save(name)
THE_END
"""
# Commands to run before a block that needs files of the reader's.
BEFORE = {
    "docs/checkpoints.md: tauflow import finetuned.pt --task svhn --name ilharco --mod": FINETUNED,
    "docs/how_to/classify_pictures.md: tauflow classify photos/ cat.jpg --edit icons=0.4 --top 3": PICTURES,
    'docs/how_to/classify_pictures.md: tauflow classify photos/ --edit icons=0.4 --classes "cat,dog': PICTURES,
    "docs/how_to/run_experiments.md: dvc metrics show": PICTURES,
}
# Substitutes for words of a block in tests/pipeline/test_sequences.py: small names for large ones, and nothing for
# what exists already.
ACTIVATED = (". .venv/bin/activate", ":")
TINY = (("suite=paper8", "suite=tiny"), ("model=vit_b_16", "model=mini_clip"), ("[standard,ntk]", "[standard,tau_jp]"))
TASKS = (("icons", "optdigits"), ("signs", "textures"))
RUN: dict[str, tuple[tuple[str, str], ...]] = {
    "README.md: . .venv/bin/activate && tauflow doctor": (ACTIVATED, *TINY),
    "docs/checkpoints.md: tauflow import finetuned.pt --task svhn --name ilharco --mod": (
        ("svhn", "textures"),
        ("mnist", "optdigits"),
        ("ViT-B-32", "mini-clip"),
    ),
    "docs/explanation/pipeline.md: dvc repro addition@mini-clip-standard": (),
    "docs/how_to/classify_pictures.md: tauflow classify photos/ cat.jpg --edit icons=0.4 --top 3": TASKS[:1],
    'docs/how_to/classify_pictures.md: tauflow classify photos/ --edit icons=0.4 --classes "cat,dog': TASKS[:1],
    "docs/how_to/run_experiments.md: . .venv/bin/activate": (ACTIVATED,),
    "docs/how_to/run_experiments.md: tauflow experiments": (("compare one two HEAD", "compare HEAD"),),
    "docs/how_to/run_experiments.md: dvc metrics show": (
        *TASKS,
        ("mlflow ui --backend-store-uri", "mlflow db upgrade"),  # a server that would never be stopped
    ),
    "docs/how_to/use_a_gpu.md: tauflow doctor": (),
    "docs/how_to/use_a_gpu.md: tauflow compose suite=paper8 model=vit_b_16 paradigm=main 'p": TINY,
    "docs/how_to/use_a_gpu.md: tauflow compose finetune.processes=4": (),
    "docs/reproducing.md: tauflow compose suite=paper8 model=vit_b_32 paradigm=main": (("vit_b_32", "mini_clip"),),
    "docs/tracking.md: tauflow register --sum --paradigm tau_jp": TASKS[:1],
}
# The test of another module that runs the block, or its commands one by one on a repository in which they can.
ELSEWHERE = {
    "docs/checkpoints.md: tauflow push FOLDER OWNER/NAME --private": "tests/cli/test_push.py",
    "docs/tracking.md: tauflow track --restored": "tests/pipeline/test_tracking.py",
    "docs/artifacts.md: dvc remote add --default storage URL": "tests/pipeline/test_remotes.py",
    "docs/artifacts.md: git clone URL && cd tauflow": "tests/pipeline/test_remotes.py",
    "docs/artifacts.md: dvc push --all-commits": "tests/pipeline/test_remotes.py",
    "docs/artifacts.md: dvc gc --all-commits --all-experiments --dry": "tests/pipeline/test_remotes.py",
    "docs/artifacts.md: dvc cache dir --local /shared/tauflow-cache": "tests/pipeline/test_remotes.py",
    "docs/checkpoints.md: tauflow compose suite=paper8 model=vit_b_32 paradigm=public_": (
        "tests/cli/test_import_pool.py"
    ),
    "docs/checkpoints.md: dvc exp run -S suite=... -S paradigm=ilharco": "tests/pipeline/test_imported.py",
    "docs/how_to/run_experiments.md: $ dvc exp run -S paradigm=nkt": "tests/pipeline/test_mistakes.py",
    "docs/how_to/run_experiments.md: dvc exp run --queue -S seed=0,1,2 && dvc queue start": (
        "tests/pipeline/test_experiments.py"
    ),
    # Images and models of the papers are stand-in measurements there.
    "docs/reproducing.md: dvc exp run -S suite=paper8 -S model=vit_b_32 -S paradigm=st": (
        "tests/cli/test_study_identity.py"
    ),
}
# Pages whose blocks one test runs in order, from the first to the last.
PAGES_ELSEWHERE = {
    "docs/how_to/start_a_study.md": "tests/test_wheel.py",
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
    "docs/how_to/add_a_paradigm.md": "tests/docs/test_how_to.py",
    "docs/how_to/add_a_regulariser.md": "tests/docs/test_how_to.py",
    "docs/how_to/add_a_task.md": "tests/docs/test_how_to.py",
    "docs/how_to/merge_checkpoints.md": "tests/docs/test_merge_checkpoints.py",
}
MENU = "alternatives, an hour or days each; tests/docs/test_commands.py composes every one"
NOT_HERE = {
    "README.md: make repro": "half an hour, then the tests themselves; .ci/reproduced_tree does both on tiny",
    "CONTRIBUTING.md: make test": "the tests themselves, as .ci/run runs them",
    "docs/cluster.md: pip install ray": "another cluster; tests/pipeline/test_parallel.py has its own",
    "docs/cluster.md: cd /shared/tauflow && . .venv/bin/activate": "Slurm",
    "docs/how_to/run_experiments.md: dvc exp run -n one -S suite=tiny -S paradigm=ntk": MENU,
    "docs/how_to/run_experiments.md: dvc exp run -S paradigm=ntk": MENU,
    "docs/reproducing.md: dvc exp run -S suite=paper8 -S model=vit_b_32 -S finetune.st": MENU,
    "docs/how_to/use_a_gpu.md: pip install ray": "installs; tests/pipeline/test_parallel.py runs --jobs",
    "docs/reference/merging.md: dvc exp run -S '+merging_grid.methods.dare={drop: 0.8}'": MENU,
    "docs/reproducing.md: tauflow compose suite=paper8 model=vit_b_32 paradigm=public_": (
        "1.4 GB from the hub; tests/cli/test_import_pool.py brings a pool from loopback"
    ),
    "docs/mini_suite.md: python -m tools.sweep --sweep mini_steps": "two hours of training",
    "docs/tracking.md: . .venv/bin/activate": "a server that ends with the terminal",
    "docs/tracking.md: export MLFLOW_TRACKING_URI=http://127.0.0.1:5000": "sets a variable, and runs nothing",
}
