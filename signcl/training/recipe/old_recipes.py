"""Converts recipes of earlier run folders to the current form, without changing their meaning.

In version 0.1 a system's keys were in a section with its name, or with the name of a related system. In a user's recipe
an old key is an error that gives the new name.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from signcl.systems import SYSTEMS, system_class

__all__ = ["moved_key", "of_today"]

DINOV2 = ("vit", "lora_rank", "lora_alpha", "lora_dropout", "lora_blocks")
OWN = {"smkd": "smkd", "cnn_ctc": "cnn_ctc", "gaslt": "gaslt", "pgp": "pgp"}
"""Old sections of `model` whose keys are now in `model` itself."""
NEW_NETWORK = ("pgp", "sign2gpt")
"""Systems whose network has changed, so that runs of version 0.1 cannot be loaded."""
SHARED = (
    *("name", "visual", "visual_weights", "visual_dim", "conv_width", "width", "encoder_layers", "decoder_layers"),
    *("heads", "ffn", "decoder_heads", "dropout", "attention_dropout", "activation", "signcl_tap", "tie_embeddings"),
    *("text_layers", "text_heads", "text_ffn", "text_dropout", "text_attention_dropout", "text_activation"),
    *("masked_text", "masked_text_trains_encoder", "sign_emb", "max_positions", "sync_norm", "form"),
    *("language_model", "encoder_from", "decoder_from", "adapter", "init_from", "init_parts", "freeze", "chunk"),
)
"""Keys that version 0.1 wrote into every run folder, for every system."""


def of_today(data: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a run folder in the current form, without keys that its system never read."""
    return _with_earlier_defaults(_with_flat_model(data))


def _with_earlier_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """Set the values implied by a complete recipe without `loss.ctc_reduction`: CTC per clip, selection by total loss
    in pretraining."""
    loss, train = data.get("loss"), data.get("train")
    if not isinstance(loss, dict) or "weights" not in loss or "ctc_reduction" in loss:
        return data
    data = data | {"loss": loss | {"ctc_reduction": "clip"}}
    if data.get("stage") == "pretrain" and isinstance(train, dict) and not train.get("select"):
        data["train"] = train | {"select": "-loss"}
    return data


def _with_flat_model(data: dict[str, Any]) -> dict[str, Any]:
    model = data.get("model")
    if not isinstance(model, dict) or not any(isinstance(model.get(section), dict) for section in OWN):
        return data
    data = copy.deepcopy(data)
    name = str(model.get("name", "gfslt"))
    if name not in SYSTEMS:
        return data
    if name in NEW_NETWORK:
        raise ValueError(
            f"a run of {name} of version 0.1 has a different network than {name} has since "
            f"version 0.2; train it again: signcl fit recipes/.../{name}.yaml"
        )
    fields = {f.name for f in dataclasses.fields(system_class(name).Config)}
    flat = {key: value for key, value in model.items() if key not in OWN and key not in ("lm", "i3d")}
    for section in OWN:
        for key, value in (model.get(section) or {}).items():
            if section == "pgp" and key in DINOV2:
                if model.get("visual") == "dinov2":
                    flat.setdefault("dinov2", {})[key] = value
            elif section == name:
                flat[key] = value
    if model.get("visual") == "i3d" and "i3d" in model:
        flat["i3d"] = model["i3d"]
    data["model"] = {key: value for key, value in flat.items() if key in fields or key not in SHARED}
    return data


def moved_key(where: str, key: str) -> str:
    """The end of an error about an old key, with the new location of its values; empty for other keys."""
    if where != "model." or key not in OWN:
        return ""
    inner = " (of a DINOv2: model.dinov2)" if key == "pgp" else ""
    return f": since version 0.2 the keys of model.{key} are in model itself{inner}"
