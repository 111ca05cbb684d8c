"""Apply methods that decompose matrices to the tensors that count as such, and treat all others simply."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from pipeline.merging.context import Context, Deltas, Merged

_OF_A_BLOCK = re.compile(r"(.*\.)?resblocks\.\d+\.(attn\.in_proj_|attn\.out_proj\.|mlp\.c_fc\.|mlp\.c_proj\.)weight")


@dataclass(frozen=True)
class OnMatrices:
    """Options that all methods of matrices share; a method declares its authors' defaults.

    matrices: every 2-D tensor, or only the weights of attention and MLP in the residual blocks.
    in_proj: take open_clip's 3d×d ``in_proj_weight`` as one matrix, or q, k and v apart.
    others: treatment of all other tensors: average over tasks, sum, or zero (they stay pre-trained).
    """

    matrices: Literal["all", "blocks"] = "all"
    in_proj: Literal["fused", "split"] = "fused"
    others: Literal["average", "sum", "zero"] = "average"

    def apply(
        self,
        method: Callable[..., Tensor],
        deltas: Deltas,
        context: Context,
        options: Mapping[str, Any],
    ) -> Merged:
        """Return the method's result for a matrix; treat any other tensor as ``others`` says."""
        if deltas.ndim != 3 or (self.matrices == "blocks" and not _OF_A_BLOCK.fullmatch(context.name)):
            return self.other(deltas)
        parts = 3 if self.in_proj == "split" and context.name.endswith("in_proj_weight") else 1
        originals = context.originals.chunk(parts, 1)
        merged = [
            method(part, replace(context, originals=original), **options).to(deltas.dtype)
            for part, original in zip(deltas.chunk(parts, 1), originals, strict=True)
        ]
        return torch.cat(merged, 1) if parts > 1 else merged[0]

    def other(self, deltas: Deltas) -> Deltas:
        """Return the deltas of a tensor that does not count as a matrix."""
        return deltas * {"average": 1 / len(deltas), "sum": 1.0, "zero": 0.0}[self.others]


def block_of(name: str) -> int | None:
    """Return the number of the residual block that a parameter belongs to."""
    found = re.search(r"resblocks\.(\d+)\.", name)
    return int(found[1]) if found else None
