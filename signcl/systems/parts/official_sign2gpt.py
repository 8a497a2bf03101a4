"""Official checkpoints of both stages of Sign2GPT: names, sizes, vocabulary of pseudo-glosses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from signcl.data.pickles import load_pickle
from signcl.data.text import VocabularyTokenizer
from signcl.systems.encoders.dinov2 import dinov2_tensors
from signcl.systems.parts.official import Checkpoint, Name, Published, Taken, count_layers, take
from signcl.systems.targets import Targets
from signcl.systems.targets.pseudo_glosses import PseudoGlosses

__all__ = ["published_pgp", "published_sign2gpt"]

FRAMES = "spatial_model.spatial_model."
BLOCK = r"encoder\.network_block\.network\.([02])\.(\d+)\."
SIDES = {"0": "before", "2": "after"}  # the average between them is number 1
PARTS = {
    **{"norm1": "norm1", "norm2": "norm2", "token_mixer.proj": "attention.out"},
    **{"mlp.mlp.0": "feed_forward.0", "mlp.mlp.3": "feed_forward.3"},
    **{"layer_scale_1": "scale1", "layer_scale_2": "scale2"},
}
LORA = {"q": "lora_q", "k": "lora_k", "v": "lora_v", "o": "lora_out"}
THIN = {"1": "down", "2": "up"}
TABLE_OF_SINES = "a table of sines, computed again"
INPUT = {"input.size": 224, "input.crop": None, "input.stride": 2, "input.max_frames": 256}
HEAD_SIZE = 64  # attention head size in every published DINOv2


def published_pgp(given: Checkpoint) -> Published:
    """Convert a first-stage checkpoint. Its pseudo-glosses are in a separate file, `processed_words.phx_pkl` or
    `--words`.

    Raises:
        ValueError: as in `signcl.systems.base.System.published`.
    """
    state, prefix = given.tensors, "sign_model."
    taken = _signs(state, prefix)
    head = {name: value for name, value in state.items() if not name.startswith(prefix)}
    table: dict[str, Name] = {
        r"post_model\.fc_hidden\.(.+)": r"head.project.\1",
        r"post_model\.((?:class|time)_temperature)": r"head.\1",
        r"post_model\.vocab_embedding": "head.vectors",
    }
    taken |= take(head, table, {r"post_model\.zero_embedding": "the null class, always zero"}, "a pgp checkpoint")
    learned = state["post_model.class_temperature"].dim() == 1  # 0-dimensional if not trained
    for name in ("class_temperature", "time_temperature"):
        taken.tensors[f"head.{name}"] = taken.tensors[f"head.{name}"].reshape(())
    vectors = taken.tensors["head.vectors"][:, :, 0].T.contiguous()  # [P, E]
    taken.tensors["head.vectors"] = vectors
    words = _pseudo_glosses(given.needs("words", "processed_words.phx_pkl"))
    if len(words) != len(vectors):
        raise ValueError(
            f"{given.file} has {len(vectors)} pseudo-glosses and its vocabulary {len(words)}; name the file that it "
            f"was trained with: --words processed_words.phx_pkl"
        )
    lemmatiser = "spacy:de_core_news_lg"
    return Published(
        taken,
        model={**_sizes(state, prefix), "prototype_dim": vectors.shape[1], "learn_temperatures": learned},
        assumed={**_assumed(), "head_dropout": 0.2, "lemmatiser": lemmatiser, "vocabulary": "as_released"},
        recipe={**INPUT, "loss.weights": {"pseudo_gloss": 10.0}, "text.tokenizer": "word"},
        tokenizer=VocabularyTokenizer(words),  # required by every run, unused here
        targets=Targets({"pseudo_gloss": PseudoGlosses(words, lemmatiser)}),
        described={"visual": _vit(state, prefix)},
    )


def published_sign2gpt(given: Checkpoint) -> Published:
    """Convert a second-stage checkpoint. The recipe must name the tokenizer of its XGLM.

    Raises:
        ValueError: as in `signcl.systems.base.System.published`.
    """
    state, prefix = given.tensors, "sign_model.sign_model."
    rest = {name: value for name, value in state.items() if not name.startswith(prefix)}
    layer = r"lang_model\.(model\.layers\.\d+\.self_attn\.)"
    table: dict[str, Name] = {
        r"post_model\.fc\.(.+)": r"decoder.project.\1",
        layer + r"adaptor_gate": r"decoder.lm.\1sign_gate",
        layer + r"lora_w([qkvo])_l([12])\.weight": lambda hit: (
            f"decoder.lm.{hit[1]}{LORA[hit[2]]}.{THIN[hit[3]]}.weight"
        ),
        layer + r"adaptor_lora_w([qkv])_l([12])\.weight": lambda hit: (
            f"decoder.lm.{hit[1]}lora_sign_{hit[2]}.{THIN[hit[3]]}.weight"
        ),
        r"lang_model\.((?!.*(?:lora|adaptor)).+)": r"decoder.lm.\1",
    }
    positions = r"(post_model\.pos_encoder\.pos|lang_model\.model\.embed_positions\.weights)"
    taken = _signs(state, prefix) | take(rest, table, {positions: TABLE_OF_SINES}, "a sign2gpt checkpoint")
    for name, value in taken.tensors.items():
        if name.endswith(".sign_gate"):
            taken.tensors[name] = value.flatten()
    lm, first = "lang_model.model.", "lang_model.model.layers.0."
    rows, width = state[f"{lm}embed_tokens.weight"].shape
    layers, heads = count_layers(state, rf"{re.escape(lm)}layers\.(\d+)\."), state[f"{first}self_attn.adaptor_gate"]
    sizes = {
        "layers": layers,
        "width": width,
        "heads": heads.numel(),  # one gate per head
        "ffn": len(state[f"{first}fc1.bias"]),
        "lora_rank": len(state.get(f"{first}self_attn.lora_wq_l1.weight", ())),
    }
    described = {
        "model_type": "xglm",
        "vocab_size": rows,
        "num_layers": layers,
        "d_model": width,
        "attention_heads": sizes["heads"],
        "ffn_dim": sizes["ffn"],
        "max_position_embeddings": len(state[f"{lm}embed_positions.weights"]) - 2,  # minus two unused first rows
    }
    return Published(
        taken,
        model={**_sizes(state, prefix), "lm": {"architecture": "xglm", "adapters": "inside", **sizes}},
        assumed=_assumed(),
        recipe={**INPUT, "loss.label_smoothing": 0.1, "decode.max_new_tokens": 63, "decode.beams": 4},
        described={"visual": _vit(state, prefix), "decoder": described},
    )


def _signs(state: Mapping[str, Tensor], prefix: str) -> Taken:
    """Convert frame encoder and sign encoder, which both stages have under a prefix."""
    inside = {name: value for name, value in state.items() if name.startswith(prefix)}
    frames, maps, others = prefix + FRAMES, ".token_mixer.in_proj_container.", {}
    taken = Taken({}, {}, {})
    thirds: dict[str, dict[str, Tensor]] = {}
    for name, value in inside.items():
        if name.startswith(frames):  # query, key and value: one layer there, three here
            for ours, part in dinov2_tensors({name.removeprefix(frames): value}).items():
                taken.tensors[f"visual.vit.{ours}"], taken.names[f"visual.vit.{ours}"] = part, name
        elif maps in name:  # three layers there, one here
            block, _, map_name = name.partition(maps)
            letter, _, kind = map_name.partition("_proj.")
            thirds.setdefault(f"{block}{maps}qkv.{kind}", {})[letter] = value
        else:
            others[name] = value
    others |= {name: torch.cat([parts[letter] for letter in "qkv"]) for name, parts in thirds.items()}
    start = re.escape(prefix)
    table: dict[str, Name] = {
        start + r"spatial_model\.lin\.(.+)": r"encoder.linear.\1",
        start + r"spatial_model\.bn\.(.+)": r"encoder.norm.\1",
        start + BLOCK + r"token_mixer\.in_proj_container\.qkv\.(.+)": lambda hit: (
            f"encoder.{SIDES[hit[1]]}.{hit[2]}.attention.qkv.{hit[3]}"
        ),
        start + BLOCK + rf"({'|'.join(map(re.escape, PARTS))})(\..+)?": lambda hit: (
            f"encoder.{SIDES[hit[1]]}.{hit[2]}.{PARTS[hit[3]]}{hit[4] or ''}"
        ),
    }
    sines = rf"{start}encoder\.(embedding_block\.pos_emb\.pos|.+\.rotary_embeddings\.inv_freq)"
    return taken | take(others, table, {sines: TABLE_OF_SINES}, "a Sign2GPT checkpoint")


def _sizes(state: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    """Recipe values of frame encoder and sign encoder."""
    first = f"{prefix}encoder.network_block.network.0.0."
    width = len(state[f"{prefix}spatial_model.bn.weight"])
    adapted = [name for name in state if name.startswith(prefix) and name.endswith(".attn.lora_w1_l1.weight")]
    blocks = (rf"{re.escape(prefix)}encoder\.network_block\.network\.{side}\.(\d+)\." for side in SIDES)
    return {
        "visual": "dinov2",
        "dinov2": {"lora_rank": len(state[adapted[0]]) if adapted else 0, "lora_blocks": len(adapted)},
        "width": width,
        "heads": width // (2 * len(state[f"{first}token_mixer.rotary_embeddings.inv_freq"])),
        "ffn": len(state[f"{first}mlp.mlp.0.bias"]),
        "blocks": [count_layers(state, pattern) for pattern in blocks],
    }


def _vit(state: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    """The transformers configuration of the DINOv2."""
    frames = prefix + FRAMES
    width, _, side, _ = state[f"{frames}patch_embed.proj.weight"].shape
    patches = state[f"{frames}pos_embed"].shape[1] - 1  # the first position is the class token
    return {
        "hidden_size": width,
        "num_hidden_layers": count_layers(state, rf"{re.escape(frames)}blocks\.(\d+)\."),
        "num_attention_heads": max(1, width // HEAD_SIZE),
        "mlp_ratio": len(state[f"{frames}blocks.0.mlp.fc1.bias"]) // width,
        "image_size": round(patches**0.5) * side,
        "patch_size": side,
    }


def _assumed() -> dict[str, Any]:
    return {"window": 7, "dropout": 0.1, "activation": "gelu"}


def _pseudo_glosses(path: Path) -> list[str]:
    """The vocabulary ordered by id, from the pickle of the official scripts, read without executing code."""
    data = load_pickle(path)
    places = data.get("dict_lem_to_id") if isinstance(data, dict) else None
    if not isinstance(places, dict) or sorted(places.values()) != list(range(len(places))):
        raise ValueError(
            f"{path}: needs dict_lem_to_id, a dictionary of pseudo-glosses to 0, 1, 2, ..., as the official script "
            f"pseudo_gloss_de.py writes it"
        )
    return sorted(places, key=lambda word: int(places[word]))
