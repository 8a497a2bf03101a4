"""Published systems, one file each. `MODELS` names them; a system is imported when it is built, not before."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from torch import nn

__all__ = ["MODELS", "build", "model_class"]

MODELS = {
    "gfslt": "signcl.models.gfslt:GFSLT",
    "vlp": "signcl.models.vlp:VLP",
}


def model_class(name: str) -> type[nn.Module]:
    """The class of a system.

    Raises:
        ValueError: no system of that name.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ValueError(f"model.name must be one of {', '.join(MODELS)}, got {name!r}{hint}")
    module, _, attribute = MODELS[name].partition(":")
    found: type[nn.Module] = getattr(importlib.import_module(module), attribute)
    return found


def build(settings: Any, visual: nn.Module, tokenizer: Any, *, sync_norm: bool = False) -> nn.Module:
    """The system that `settings.name` names, with random weights.

    Args:
        settings: a `signcl.recipe.ModelRecipe`, or anything with its fields.
        visual: frame encoder from `signcl.visual.build_visual`.
        tokenizer: anything with vocab_size, pad_id, start_id and end_id.
        sync_norm: batch norm statistics over time are summed over ranks.
    """
    system = model_class(settings.name)
    numbers = {
        "vocab_size": tokenizer.vocab_size,
        "pad_id": tokenizer.pad_id,
        "start_id": tokenizer.start_id,
        "width": settings.width,
        "conv_width": settings.conv_width,
        "encoder_layers": settings.encoder_layers,
        "decoder_layers": settings.decoder_layers,
        "heads": settings.heads,
        "decoder_heads": settings.decoder_heads,
        "ffn": settings.ffn,
        "dropout": settings.dropout,
        "attention_dropout": settings.attention_dropout,
        "activation": settings.activation,
        "tie_embeddings": settings.tie_embeddings,
        "max_positions": settings.max_positions,
        "as_released": settings.form == "as_released",
        "sync_norm": sync_norm,
    }
    if settings.name == "vlp":
        numbers |= {
            "text_layers": settings.text_layers,
            "text_heads": settings.text_heads,
            "text_ffn": settings.text_ffn,
            "text_dropout": settings.text_dropout,
            "text_attention_dropout": settings.text_attention_dropout,
            "text_activation": settings.text_activation,
            "masked_text": settings.masked_text,
        }
    else:
        numbers["end_id"] = tokenizer.end_id
    return system(visual, **numbers)
