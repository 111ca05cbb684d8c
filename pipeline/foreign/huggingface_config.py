"""Translate open_clip's configuration of a CLIP to Hugging Face's."""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import UserError
from pipeline.models.registry import ModelDefinition

# Keys with a counterpart in Hugging Face's CLIP; any other changes the architecture.
_EXPRESSIBLE = {
    "": {"embed_dim", "quick_gelu", "vision_cfg", "text_cfg"},
    "vision_cfg": {"image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}
# open_clip's defaults.
_DEFAULTS = {"layers": 12, "mlp_ratio": 4.0}
_HEAD_WIDTH = 64
_EPSILON = 1e-5  # of the layer norms


def clip_config(definition: ModelDefinition, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``config.json`` of a CLIPModel.

    Args:
        definition: the model, named in errors.
        config: open_clip's configuration of the architecture.

    Raises:
        UserError: Hugging Face's CLIP cannot express the architecture.
    """
    _check_expressible(definition, config)
    vision, text = ({**_DEFAULTS, **config[part]} for part in ("vision_cfg", "text_cfg"))
    activation = "quick_gelu" if config.get("quick_gelu", False) else "gelu"
    shared = {"hidden_act": activation, "projection_dim": config["embed_dim"], "layer_norm_eps": _EPSILON}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config["embed_dim"],
        "dtype": "float32",
        "vision_config": {
            **shared,
            **_sizes(vision, vision["width"] // vision.get("head_width", _HEAD_WIDTH)),
            "model_type": "clip_vision_model",
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
        },
        "text_config": {
            **shared,
            **_sizes(text, text["heads"]),
            "model_type": "clip_text_model",
            "max_position_embeddings": text["context_length"],
            "vocab_size": text["vocab_size"],
            # open_clip's tokens: the last two of the vocabulary begin and end a text; zero pads.
            "bos_token_id": text["vocab_size"] - 2,
            "eos_token_id": text["vocab_size"] - 1,
            "pad_token_id": 0,
        },
    }


def _check_expressible(definition: ModelDefinition, config: Mapping[str, Any]) -> None:
    for part, known in _EXPRESSIBLE.items():
        for key, value in (config[part] if part else config).items():
            if key not in known or (key in ("layers", "image_size") and not isinstance(value, int)):
                name = f"{part}.{key}" if part else key
                raise UserError(
                    f"model {definition.name}: Hugging Face's CLIP has no counterpart of {name}: {value!r} in "
                    f"architecture {definition.architecture!r}; export it as open_clip"
                )


def _sizes(tower: Mapping[str, Any], heads: int) -> dict[str, int]:
    return {
        "hidden_size": tower["width"],
        "intermediate_size": int(tower["width"] * tower["mlp_ratio"]),
        "num_hidden_layers": tower["layers"],
        "num_attention_heads": heads,
    }


def image_processor_config(definition: ModelDefinition, image_size: int) -> dict[str, Any]:
    """Return the ``preprocessor_config.json`` of a CLIPImageProcessor that prepares images as open_clip does."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": image_size},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": image_size, "width": image_size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(definition.mean),
        "image_std": list(definition.std),
    }
