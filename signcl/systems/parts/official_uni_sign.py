"""Official pose-only checkpoints of Uni-Sign: names, shapes, the sizes of their mT5."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from signcl.data.json_files import read_json
from signcl.data.pose_layouts import LAYOUTS
from signcl.systems.parts.lm import OWN
from signcl.systems.parts.official import Checkpoint, Name, Published, count_layers, take

__all__ = ["published_uni_sign"]

KIND = "uni_sign"
LM = "mt5_model."
PICTURES = r"(rgb_support_backbone|rgb_proj|fusion_pose_rgb_\w+|fusion_gate)\..+"
PARTS = {"body": "body", "left": "hand", "face_all": "face"}
BLOCK = {
    **{"gcn.A": "adjacency", "gcn.conv": "linear", "gcn.bn": "norm"},
    **{"tcn.0": "time", "tcn.1": "time_norm", "residual.0": "other", "residual.1": "other_norm"},
}
INPUT = {
    **{"input.max_frames": 256, "input.pose_dims": 2, "input.pose_confidence": True},
    **{"input.pose_layout": "uni_sign133", "input.pose_min_confidence": 0.3},
}
LANGUAGE = (
    "it does not hold the language of its prompt; name that of its training: --model.language=Chinese for CSL-News and "
    "CSL-Daily, --model.language=English for How2Sign, OpenASL and WLASL"
)
CONFIG = ("dropout_rate", "feed_forward_proj", "layer_norm_epsilon", "relative_attention_max_distance")
"""Keys of mT5's config.json that no tensor shows."""


def published_uni_sign(given: Checkpoint) -> Published:
    """Convert a pose-only checkpoint. The recipe must name mT5's tokenizer and the language of the prompt.

    mT5's sizes come from its tensors; what these do not show is mT5's published value, or that of a config.json given
    as `config`.

    Raises:
        ValueError: as in `signcl.systems.base.System.published`; a checkpoint with pictures of hands (RGB-pose); left
            and right hand with different networks.
    """
    state, twins = _one_hand(given)
    if pictures := [name for name in state if re.fullmatch(PICTURES, name)]:
        raise ValueError(
            f"{given.file} is an RGB-pose checkpoint of Uni-Sign ({len(pictures)} tensors for pictures of the hands, "
            f"first {pictures[0]}), which signcl does not have; give a pose-only one (of stage 1, or a finetuned "
            f"*_pose_only_*.pth)"
        )
    sides = "|".join(PARTS)
    pieces = "|".join(map(re.escape, BLOCK))
    table: dict[str, Name] = {
        rf"proj_linear\.({sides})\.(.+)": lambda hit: f"visual.parts.{PARTS[hit[1]]}.enter.{hit[2]}",
        rf"gcn_modules\.({sides})\.layer(\d)_0\.({pieces})(\..+)?": lambda hit: _block("space", hit),
        rf"fusion_gcn_modules\.({sides})\.layer0_(\d)\.({pieces})(\..+)?": lambda hit: _block("time", hit),
        r"part_para": "visual.offset",
        r"pose_proj\.(.+)": r"project.\1",
        r"mt5_model\.(.+)": r"decoder.lm.\1",
    }
    taken = take(state, table, {}, f"a {KIND} checkpoint")
    taken.left.update(twins)
    for name, value in taken.tensors.items():
        if name.startswith("visual.") and value.dim() == 4:  # convolutions over [frames, nodes], of 1 node each
            narrow = value[..., 0]
            taken.tensors[name] = narrow if ".time.weight" in name else narrow[..., 0]
    described, sizes = _mt5(state, given)
    return Published(
        taken,
        model={
            "visual": "part_graphs",
            "visual_dim": len(state["part_para"]),
            "lm": {"architecture": "t5", "train": "all", **sizes},
        },
        recipe={
            **INPUT,
            **{"text.max_tokens": 50, "loss.label_smoothing": 0.2},
            **{"decode.beams": 4, "decode.length_penalty": 1.0, "decode.max_new_tokens": 100},
        },
        asks={"model.language": LANGUAGE},
        feature_dim=3 * LAYOUTS["uni_sign"].points,
        described={"decoder": described},
    )


def _one_hand(given: Checkpoint) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors without those of the right hand, which has the networks of the left; and why each is left behind."""
    state: dict[str, Tensor] = {}
    twins: dict[str, str] = {}
    for name, value in given.tensors.items():
        left = re.sub(r"^(proj_linear|gcn_modules|fusion_gcn_modules)\.right\.", r"\1.left.", name)
        if left == name or left not in given.tensors:
            state[name] = value
        elif torch.equal(given.tensors[left], value):
            twins[name] = f"the same tensor as {left}"
        else:
            raise ValueError(
                f"{given.file}: {name} differs from {left}, but both hands of Uni-Sign share their networks; this is "
                f"another model, or a damaged file"
            )
    return state, twins


def _block(group: str, hit: re.Match[str]) -> str:
    return f"visual.parts.{PARTS[hit[1]]}.{group}.{hit[2]}.{BLOCK[hit[3]]}{hit[4] or ''}"


def _mt5(state: Mapping[str, Tensor], given: Checkpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    """transformers' configuration of the mT5, and its sizes as recipe values."""
    first = f"{LM}encoder.block.0.layer.0.SelfAttention."
    rows, width = state[f"{LM}shared.weight"].shape
    buckets, heads = state[f"{first}relative_attention_bias.weight"].shape
    layers = [count_layers(state, rf"{re.escape(LM)}{half}\.block\.(\d+)\.") for half in ("encoder", "decoder")]
    ffn = len(state[f"{LM}encoder.block.0.layer.1.DenseReluDense.wi_0.weight"])
    described: dict[str, Any] = {
        **{"model_type": "mt5", "vocab_size": rows, "d_model": width, "d_ff": ffn, "num_heads": heads},
        **{"num_layers": layers[0], "num_decoder_layers": layers[1]},
        **{"d_kv": len(state[f"{first}q.weight"]) // heads, "relative_attention_num_buckets": buckets},
        **{"feed_forward_proj": "gated-gelu", "dropout_rate": 0.1, "tie_word_embeddings": False},
        **{"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
    }
    if "config" in given.beside:
        told = read_json(given.beside["config"], {}, "give the config.json of the mT5 that it was trained from")
        for key in (key for key in described if key in told and key not in CONFIG and told[key] != described[key]):
            raise ValueError(
                f"{given.beside['config']}: {key} is {told[key]!r}, and {described[key]!r} in {given.file}; give the "
                f"config.json of the mT5 that it was trained from, or none"
            )
        described |= {key: told[key] for key in CONFIG if key in told}
    described[OWN] = {"untied": ["lm_head.weight"], "start": 0, "ends": [1]}  # as mT5's own files say
    return described, {"layers": layers[0], "width": width, "heads": heads, "ffn": ffn}
