"""The commands of the page on merging checkpoints, in order, on mini-clip and in a directory without a study."""

from pathlib import Path

import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from pipeline.foreign.checkpoint import read_foreign
from tests.conftest import ROOT
from tests.docs.clone import ENVIRONMENT, run, script
from tests.docs.pages import DOCS, blocks


def test_every_command(tmp_path: Path) -> None:
    arrays = load_file(ROOT / "data" / "mini" / "mini-clip.safetensors")
    base = {name: torch.from_numpy(array) for name, array in arrays.items()}
    moved = "visual.ln_post.bias"
    torch.save({**base, moved: base[moved] + 0.25}, tmp_path / "mnist.pt")
    save_file({**base, moved: base[moved] - 0.75}, tmp_path / "svhn.safetensors")
    text = script(blocks(DOCS / "how_to" / "merge_checkpoints.md", "bash", "python"))
    assert "ViT-B-32" in text
    text = text.replace("ViT-B-32", "mini-clip")
    printed = run(f"export PATH={ENVIRONMENT / 'bin'}:$PATH\n{text}", tmp_path, ROOT)
    assert "merged: tsv_m of mnist, svhn on mini-clip, α = 1, for open_clip" in printed
    merged = read_foreign(tmp_path / "merged").tensors[moved]
    torch.testing.assert_close(merged, base[moved] - 0.25)  # tsv_m averages vectors that are not matrices
    assert (tmp_path / "merged_ties" / "config.json").exists()
