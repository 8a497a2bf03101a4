"""Checkpoints of the released Sign2GPT under our names, for both of its stages. Takes tensors, opens no file.

Every tensor of a checkpoint gets a name of ours or a reason why it is left; one that this map does not know is an
error. What tensors do not say (LoRA's alpha, dropout, which word a pseudo-gloss is) stays with the recipe.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from signcl.systems.encoders.dinov2 import DINOV2_SIZES, dinov2_tensors

__all__ = ["Released", "released_pgp", "released_sign2gpt"]

TABLE = "a table of sines that is made anew"
BLOCK = re.compile(r"network_block\.network\.(\d+)\.(\d+)\.(.+)")
WORDS = re.compile(r"(.+\.self_attn\.)(adaptor_)?lora_w([qkvo])_l([12])\.weight")
OF_BLOCK = {
    **{"norm1.": "norm1.", "norm2.": "norm2.", "token_mixer.proj.": "attention.out."},
    **{"mlp.mlp.0.": "feed_forward.0.", "mlp.mlp.3.": "feed_forward.3."},
    **{"layer_scale_1": "scale1", "layer_scale_2": "scale2"},
}
PROJECTIONS = [f"token_mixer.in_proj_container.{letter}_proj." for letter in "qkv"]


@dataclass
class Released:
    """What a released checkpoint holds."""

    model: dict[str, Any] = field(default_factory=dict)
    """Values of the recipe's `model` that the shapes decide."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """By our name."""
    left: dict[str, str] = field(default_factory=dict)
    """Their name -> why it is left."""


def released_pgp(state: Mapping[str, Tensor]) -> Released:
    """The first stage (`trainer.psuedo_gloss_trainer`; the entry `model` of its file).

    Raises:
        ValueError: no such checkpoint, or a tensor that it should not have.
    """
    state = _plain(state)
    signs = _under(state, "sign_model.")
    head = {name: value for name, value in state.items() if not name.startswith("sign_model.")}
    known = {"fc_hidden.weight", "fc_hidden.bias", "vocab_embedding", "zero_embedding"}
    known |= {"class_temperature", "time_temperature"}
    found = _signs(signs, "sign_model.", "pgp")
    _refuse_strange([n for n in head if n.removeprefix("post_model.") not in known], "pgp")
    vectors = head["post_model.vocab_embedding"][:, :, 0].T.contiguous()  # [P, E]
    found.model |= {
        "name": "pgp",
        "prototype_dim": vectors.shape[1],
        # a temperature that is trained has one dimension, one that stands has none
        "learn_temperatures": head["post_model.class_temperature"].dim() == 1,
    }
    found.tensors |= {
        "head.project.weight": head["post_model.fc_hidden.weight"],
        "head.project.bias": head["post_model.fc_hidden.bias"],
        "head.class_temperature": head["post_model.class_temperature"].reshape(()),
        "head.time_temperature": head["post_model.time_temperature"].reshape(()),
        "head.vectors": vectors,
    }
    found.left["post_model.zero_embedding"] = "the null class, always zero"
    return found


def released_sign2gpt(state: Mapping[str, Tensor]) -> Released:
    """The second stage (`trainer.complete_translation_trainer`; the entry `model` of its file).

    Raises:
        ValueError: no such checkpoint, or a tensor that it should not have.
    """
    state = _plain(state)
    found = _signs(_under(state, "sign_model.sign_model."), "sign_model.sign_model.", "sign2gpt")
    strange = []
    for name, value in state.items():
        if name.startswith("sign_model."):
            continue
        if name in ("post_model.fc.weight", "post_model.fc.bias"):
            found.tensors[name.replace("post_model.fc.", "decoder.project.")] = value
        elif name in ("post_model.pos_encoder.pos", "lang_model.model.embed_positions.weights"):
            found.left[name] = TABLE
        elif hit := WORDS.fullmatch(name):
            kind = ("sign_" if hit[2] else "") + ("out" if hit[3] == "o" else hit[3])
            thin = "down" if hit[4] == "1" else "up"
            found.tensors[f"{_of_words(hit[1])}lora_{kind}.{thin}.weight"] = value
        elif name.endswith(".self_attn.adaptor_gate"):
            found.tensors[_of_words(name).replace("adaptor_gate", "sign_gate")] = value.flatten()
        elif name.startswith("lang_model.") and "lora" not in name and "adaptor" not in name:
            found.tensors[_of_words(name)] = value
        else:
            strange.append(name)
    _refuse_strange(strange, "sign2gpt")
    tensors = found.tensors
    layers = {hit[1] for name in tensors if (hit := re.match(r"decoder\.lm\.model\.layers\.(\d+)\.", name))}
    first = "decoder.lm.model.layers.0."
    if f"{first}self_attn.sign_gate" not in tensors:
        raise ValueError("sign2gpt needs a released checkpoint whose language model has adapters; this one has none")
    rank = tensors.get(f"{first}self_attn.lora_q.down.weight")
    found.model |= {
        "name": "sign2gpt",
        "lm": {
            "architecture": "xglm",
            "adapters": "inside",
            "layers": len(layers),
            "width": tensors["decoder.lm.model.embed_tokens.weight"].shape[1],
            "heads": len(tensors[f"{first}self_attn.sign_gate"]),
            "ffn": len(tensors[f"{first}fc1.bias"]),
            "lora_rank": 0 if rank is None else len(rank),
        },
    }
    return found


def _signs(state: Mapping[str, Tensor], prefix: str, system: str) -> Released:
    """Frame encoder and sign encoder, which the stages share; names without their prefix."""
    frames = _under(state, "spatial_model.spatial_model.")
    if not frames or "spatial_model.lin.weight" not in state:
        raise ValueError(
            f"{system} needs a released checkpoint of Sign2GPT with {prefix}spatial_model.spatial_model; the entry "
            f"`model` of the file holds it"
        )
    found, strange = Released(), []
    found.tensors = {f"visual.vit.{name}": value for name, value in dinov2_tensors(frames).items()}
    turns: dict[str, dict[str, Tensor]] = {}
    shapes: dict[str, set[str]] = {"before": set(), "after": set()}
    half = 0
    for name, value in state.items():
        if name.startswith("spatial_model.spatial_model."):
            continue
        place = name.removeprefix("encoder.")
        if name.startswith(("spatial_model.lin.", "spatial_model.bn.")):
            ours = name.replace("spatial_model.lin.", "encoder.linear.").replace("spatial_model.bn.", "encoder.norm.")
            found.tensors[ours] = value
        elif place == "embedding_block.pos_emb.pos":
            found.left[prefix + name] = TABLE
        elif (hit := BLOCK.fullmatch(place)) and hit[1] in ("0", "2"):
            side = "before" if hit[1] == "0" else "after"
            shapes[side].add(hit[2])
            block, part = f"encoder.{side}.{hit[2]}.", hit[3]
            if part == "token_mixer.rotary_embeddings.inv_freq":
                found.left[prefix + name], half = TABLE, len(value)
            elif of := next((p for p in PROJECTIONS if part.startswith(p)), None):
                turns.setdefault(f"{block}attention.qkv.{part.removeprefix(of)}", {})[of] = value
            elif of := next((p for p in OF_BLOCK if part.startswith(p)), None):
                found.tensors[block + OF_BLOCK[of] + part.removeprefix(of)] = value
            else:
                strange.append(prefix + name)
        else:
            strange.append(prefix + name)
    _refuse_strange(strange, system)
    for name, parts in turns.items():  # query, key and value stand in one map here
        found.tensors[name] = torch.cat([parts[part] for part in PROJECTIONS])
    tensors = found.tensors
    width, size = tensors["encoder.linear.weight"].shape
    rank = next((len(v) for n, v in tensors.items() if n.endswith("attention.lora_qkv.down.weight")), 0)
    layers = sum(n.endswith("layer_scale1.lambda1") for n in tensors)
    sizes = {(vit["hidden_size"], vit["num_hidden_layers"]): name for name, vit in DINOV2_SIZES.items()}
    found.model = {
        "visual": "dinov2",
        "dinov2": {
            **({"vit": sizes[size, layers]} if (size, layers) in sizes else {}),
            "lora_rank": rank,
            "lora_blocks": sum(n.endswith("attention.lora_qkv.down.weight") for n in tensors),
        },
        "width": width,
        "heads": width // (2 * half) if half else 8,
        "ffn": len(tensors["encoder.before.0.feed_forward.0.bias"]),
        "blocks": (len(shapes["before"]), len(shapes["after"])),
    }
    return found


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefix of a model that several devices trained."""
    return {name.removeprefix("module."): value for name, value in state.items()}


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _of_words(name: str) -> str:
    return name.replace("lang_model.", "decoder.lm.", 1)


def _refuse_strange(names: list[str], system: str) -> None:
    if names:
        raise ValueError(
            f"{system} has no place for {len(names)} tensors of this checkpoint, first {', '.join(names[:3])}; it was "
            f"made with settings other than the published ones"
        )
