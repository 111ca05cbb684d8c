"""Selections: the parameters of an image encoder that a recipe trains, chosen by name.

A new selection is one decorated function here or in a recipe's ``extension``.
"""

import re
from collections.abc import Callable, Iterable

from pipeline.errors import UserError
from pipeline.paradigms.registry import Registry

# Returns whether the parameter of that name is trained.
Selection = Callable[[str], bool]

selection: Registry[Selection] = Registry("selection")

_BLOCK = r"transformer\.resblocks\.\d+\."


def select(name: str, parameters: Iterable[str]) -> list[str]:
    """Return the names among ``parameters`` that a selection trains, in order.

    Raises:
        UserError: the selection does not exist, or selects no parameter of this encoder.
    """
    is_trained = selection.find(name)
    chosen = [parameter for parameter in parameters if is_trained(parameter)]
    if not chosen:
        raise UserError(f"trainable: {name!r} selects no parameter of this encoder; choose another selection or model")
    return chosen


@selection("all")
def is_any(name: str) -> bool:
    """Select every parameter of the encoder."""
    return True


@selection("attention")
def is_attention_weight(name: str) -> bool:
    """Select weights of q, k, v (which open_clip fuses) and of the output projection: Jin et al., (1)."""
    return re.fullmatch(rf"{_BLOCK}attn\.(in_proj_weight|out_proj\.weight)", name) is not None


@selection("attention_bias")
def is_attention(name: str) -> bool:
    """Select the same weights and their biases: Jin et al., (2)."""
    return re.fullmatch(rf"{_BLOCK}attn\.(in_proj_|out_proj\.)(weight|bias)", name) is not None


@selection("linear")
def is_linear_weight(name: str) -> bool:
    """Select weights of all linear layers of the blocks, attention and MLP: our reading of Jin et al., (3)."""
    return is_attention_weight(name) or re.fullmatch(rf"{_BLOCK}mlp\.c_(fc|proj)\.weight", name) is not None


@selection("linear_bias")
def is_linear(name: str) -> bool:
    """Select the same weights and their biases: our reading of Jin et al., (4)."""
    return is_attention(name) or re.fullmatch(rf"{_BLOCK}mlp\.c_(fc|proj)\.(weight|bias)", name) is not None
