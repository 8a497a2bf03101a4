"""Official checkpoints of neccam/slt and of its fork GASLT: names, sizes, vocabularies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from signcl.data.files import read_text
from signcl.data.text import GlossVocabulary, VocabularyTokenizer
from signcl.systems.parts.official import Checkpoint, Name, Published, count_layers, mapping, take

__all__ = ["published_slt"]

ATTENTION = {
    "k_layer": "key",
    "v_layer": "value",
    "q_layer": "query",
    "output_layer": "out",
    "sample_offsets": "offset",
}
FEED_FORWARD = {"layer_norm": "0", "pwff_layer.0": "1", "pwff_layer.3": "4"}
TEXT_SPECIALS = ("<unk>", "<pad>", "<s>", "</s>")
GLOSS_SPECIALS = ("<si>", "<unk>", "<pad>")
LEVELS = {"word": "word", "char": "character", "bpe": "piece"}


def _attention(name: str) -> str:
    maps = "|".join(ATTENTION)
    return rf"{name}\.({maps})\.(.+)"


TABLE: dict[str, Name] = {
    r"sgn_embed\.ln\.(.+)": r"encoder.linear.\1",
    r"sgn_embed\.norm\.norm\.(.+)": r"encoder.embedding.norm.\1",
    r"txt_embed\.lut\.(weight)": r"decoder.words.\1",
    r"txt_embed\.liner\.(.+)": r"decoder.widen.\1",
    r"txt_embed\.norm\.norm\.(.+)": r"decoder.embedding.norm.\1",
    r"(en|de)coder\.layer_norm\.(.+)": r"\1coder.norm.\2",
    r"encoder\.layers\.(\d+)\.layer_norm\.(.+)": r"encoder.layers.\1.norm.\2",
    r"decoder\.layers\.(\d+)\.x_layer_norm\.(.+)": r"decoder.layers.\1.norm.\2",
    r"decoder\.layers\.(\d+)\.dec_layer_norm\.(.+)": r"decoder.layers.\1.clip_norm.\2",
    _attention(r"encoder\.layers\.(\d+)\.src_src_att"): lambda hit: (
        f"encoder.layers.{hit[1]}.attention.{ATTENTION[hit[2]]}.{hit[3]}"
    ),
    _attention(r"decoder\.layers\.(\d+)\.trg_trg_att"): lambda hit: (
        f"decoder.layers.{hit[1]}.attention.{ATTENTION[hit[2]]}.{hit[3]}"
    ),
    _attention(r"decoder\.layers\.(\d+)\.src_trg_att"): lambda hit: (
        f"decoder.layers.{hit[1]}.clip_attention.{ATTENTION[hit[2]]}.{hit[3]}"
    ),
    r"((?:en|de)coder\.layers\.\d+)\.feed_forward\.(layer_norm|pwff_layer\.[03])\.(.+)": lambda hit: (
        f"{hit[1]}.forward_part.{FEED_FORWARD[hit[2]]}.{hit[3]}"
    ),
    r"gloss_output_layer\.(.+)": r"gloss_head.\1",
    r"decoder\.output_layer\.(weight)": r"word_head.\1",
}
LEFT = {r"(en|de)coder\.pe\.pe": "positions are computed"}


def published_slt(given: Checkpoint, kind: str) -> Published:
    """Convert a checkpoint of neccam/slt or GASLT.

    Raises:
        FileNotFoundError: no `config.yaml` or vocabulary.
        ValueError: an unsupported configuration, or a vocabulary of the wrong size.
    """
    state, path = given.tensors, given.needs("config", "config.yaml")
    config = mapping(path)
    try:
        encoder, data = config["model"]["encoder"], config["data"]
        decoder = config["model"].get("decoder", {})
        _check(encoder, decoder, path, kind)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is not a configuration of {kind}: it lacks model.encoder or data") from None
    translates, recognises = "txt_embed.lut.weight" in state, "gloss_output_layer.weight" in state
    tied = bool(config["model"].get("tied_softmax")) and translates
    left = {**LEFT, **({r"decoder\.output_layer\.weight": "tied: a duplicate of the word embeddings"} if tied else {})}
    width, dim = state["sgn_embed.ln.weight"].shape
    model: dict[str, Any] = {
        "visual": "identity",
        "width": width,
        "encoder_layers": count_layers(state, r"encoder\.layers\.(\d+)\."),
        "heads": int(encoder["num_heads"]),
        "ffn": len(state["encoder.layers.0.feed_forward.pwff_layer.0.bias"]),
        "dropout": float(encoder.get("dropout", 0.0)),
        "attention_dropout": float(encoder.get("dropout", 0.0)),
        "activation": "relu",
    }
    if translates:
        model |= {
            "decoder_layers": count_layers(state, r"decoder\.layers\.(\d+)\."),
            "decoder_heads": int(decoder["num_heads"]),
            "tie_embeddings": tied,
            "search": "released",
        }
    training = config.get("training", {})
    weights = {"translation": 1.0} if translates else {}
    return Published(
        take(state, TABLE, left, f"a {kind} checkpoint"),
        model=model,
        recipe={
            "input.max_frames": int(data.get("max_sent_length", 400)),
            "loss.weights": weights | ({"recognition": 1.0} if recognises else {}),
            "loss.ctc_reduction": "gloss",
            "loss.label_smoothing": float(training.get("label_smoothing", 0.0)),
            **(
                {"decode.max_new_tokens": int(training.get("translation_max_output_length") or 30)}
                if translates
                else {}
            ),
        },
        tokenizer=_words(given, data, state) if translates else None,
        glosses=_glosses(given, state) if recognises else None,
        feature_dim=dim,
        system="" if translates else "recogniser",
    )


def _check(encoder: Mapping[str, Any], decoder: Mapping[str, Any], path: Path, kind: str) -> None:
    """Raise ValueError for configurations of neccam/slt that this package does not support."""
    for name, part in (("encoder", encoder), ("decoder", decoder)):
        if not part:
            continue
        kinds = ("transformer", "deformable_transformer") if kind == "gaslt" else ("transformer",)
        if part.get("type", "recurrent") not in kinds:
            raise ValueError(
                f"{path}: model.{name}.type is {part.get('type', 'recurrent')}, but only {kinds[0]} is supported"
            )
        own = part.get("embeddings", {})
        wanted = {"norm_type": "batch", "activation_type": "softsign", "scale": False}
        for key, value in wanted.items():
            if own.get(key, False if key == "scale" else None) != value:
                raise ValueError(
                    f"{path}: model.{name}.embeddings.{key} is {own.get(key)}, but only {value} is supported, as in "
                    f"the published configuration"
                )


def _lines(path: Path) -> list[str]:
    try:
        lines = read_text(path).split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from None
    return lines[:-1] if lines and not lines[-1] else lines


def _entries(path: Path, specials: tuple[str, ...], rows: int) -> list[str]:
    """Read the entries of a vocabulary file, after its special tokens.

    Raises:
        ValueError: the number of entries differs from the rows of the weights.
    """
    seen = dict.fromkeys([*specials, *_lines(path)])  # special tokens always come first
    if len(seen) != rows:
        raise ValueError(
            f"{path} has {len(seen)} entries with the special tokens, and the weights have {rows} rows: it belongs to "
            f"another checkpoint"
        )
    return list(seen)[len(specials) :]


def _words(given: Checkpoint, data: Mapping[str, Any], state: Mapping[str, Tensor]) -> VocabularyTokenizer:
    path = given.needs("words", "txt.vocab")
    level = LEVELS.get(str(data.get("level", "word")))
    if level is None:
        raise ValueError(f"data.level is {data['level']}; needs one of {', '.join(LEVELS)}")
    model = None
    if level == "piece":
        model = given.needs("pieces", Path(str(data.get("sp_model_path", "sentencepiece.model"))).name).read_bytes()
    return VocabularyTokenizer(
        _entries(path, TEXT_SPECIALS, len(state["txt_embed.lut.weight"])),
        level=level,
        lowercase=bool(data.get("txt_lowercase", False)),
        specials=TEXT_SPECIALS,
        model=model,
    )


def _glosses(given: Checkpoint, state: Mapping[str, Tensor]) -> GlossVocabulary:
    path = given.needs("glosses", "gls.vocab")
    entries = _entries(path, GLOSS_SPECIALS, len(state["gloss_output_layer.weight"]))
    return GlossVocabulary([GLOSS_SPECIALS[2], *entries])  # includes their padding class, which no clip has
