"""A published mBART, or the text side of a vlp run: its tensors, sizes and words, and whether they fit a recipe.

Every misfit is one line that names the recipe key to change. Sizes come from `config.json`; a single file of weights
has none, so there only the shapes of its tensors are held against the model's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from signcl.data.text import SentencePieceTokenizer, Tokenizer, load_tokenizer, pretrained_sentencepiece
from signcl.training import run_folder
from signcl.training.build.tensors import hub_file, read_tensors
from signcl.training.recipe import Recipe, load_recipe

__all__ = ["LanguageModel", "check_language_model", "first_other_word", "read_language_model"]

KEY = "model.language_model"
VLP_PARTS = {"text_encoder.": "encoder.", "decoder.": "decoder.", "words.": "shared.", "lm_head.": "lm_head."}


@dataclass(frozen=True)
class LanguageModel:
    """An encoder and decoder of words, by the names of transformers' MBartModel (and `lm_head`)."""

    source: str
    """Where it is from, as the recipe says it."""
    tensors: dict[str, torch.Tensor] = field(repr=False)
    config: dict[str, Any]
    """transformers' names; empty for a single file."""
    tokenizer: Tokenizer | None
    """None for a single file without a SentencePiece model beside it."""

    @property
    def rows(self) -> int:
        """Words of its table."""
        for name in ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
            if name in self.tensors:
                return len(self.tensors[name])
        raise ValueError(f"{KEY}: {self.source} has no word table; its first names are {', '.join(self.tensors)[:80]}")


def read_language_model(source: str, key: str = KEY) -> LanguageModel:
    """An mBART from `pretrained:` and a folder, file or hub id, or from a vlp run folder.

    Raises:
        ValueError, OSError: nothing there, no tokenizer beside it, or another architecture.
    """
    name = source.removeprefix("pretrained:")
    place = Path(name)
    if (place / "recipe.yaml").is_file():
        return _from_run(source, place, key)
    config: dict[str, Any] = {}
    if not place.is_file():
        config = read_config(name, key)
        kind = config.get("model_type")
        if kind != "mbart":
            raise ValueError(
                f"{key}: {name} is a model of type {kind}, an mBART is needed, such as facebook/mbart-large-cc25 or a "
                f"folder made by `signcl vocab trim`"
            )
    tensors = {k.removeprefix("model."): v for k, v in read_tensors(source, key).items()}
    if "encoder.layernorm_embedding.weight" not in tensors:
        raise ValueError(
            f"{key}: {name} is no mBART, which has encoder.layernorm_embedding.weight; its first names are "
            f"{', '.join(list(tensors)[:3])}"
        )
    return LanguageModel(source, tensors, config, _tokenizer(place, name, key))


def read_config(name: str, key: str) -> dict[str, Any]:
    """`config.json` of a folder or hub id.

    Raises:
        ValueError, OSError: there is none, or it is damaged.
    """
    path = Path(name) / "config.json"
    if not path.is_file():
        if Path(name).is_dir():
            raise ValueError(f"{key}: {name} has no config.json, so it is no model that transformers has saved")
        path = hub_file(name, "config.json", key)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{key}: {path} is damaged ({error})") from None
    return data if isinstance(data, dict) else {}


def _tokenizer(place: Path, name: str, key: str) -> Tokenizer | None:
    try:
        return SentencePieceTokenizer(pretrained_sentencepiece(str(place.parent) if place.is_file() else name))
    except ValueError as error:
        if place.is_file():
            return None
        raise ValueError(f"{key}: {error}; without it nobody knows which word a row stands for") from None


def _from_run(source: str, folder: Path, key: str) -> LanguageModel:
    recipe = load_recipe(folder / "recipe.yaml")
    m = recipe.model
    if m.name != "vlp" or "masked_text" not in recipe.loss.weights:
        raise ValueError(
            f"{key}: {folder} is a run of {m.name}; of the runs only vlp with the term masked_text has a text encoder "
            f"and a text decoder"
        )
    state = run_folder.read_weights(folder)
    tensors = {
        new + name.removeprefix(old): value
        for name, value in state.items()
        for old, new in VLP_PARTS.items()
        if name.startswith(old)
    }
    tokenizer = load_tokenizer(folder)
    config = {
        "model_type": "mbart",
        "vocab_size": tokenizer.vocab_size,
        "d_model": m.width,
        "encoder_layers": m.text_layers,
        "encoder_attention_heads": m.text_heads,
        "encoder_ffn_dim": m.text_ffn,
        "activation_function": m.text_activation,
        "decoder_layers": m.decoder_layers,
        "decoder_attention_heads": m.decoder_heads or m.heads,
        "decoder_ffn_dim": m.ffn,
        "decoder_activation": m.activation,
        "max_position_embeddings": m.max_positions,
        "scale_embedding": True,
    }
    return LanguageModel(source, tensors, config, tokenizer)


def check_language_model(found: LanguageModel, recipe: Recipe, tokenizer: Tokenizer | None) -> None:
    """Whether a language model fits what the recipe takes from it: words always, encoder and decoder as it says.

    Heads and activation leave no trace in the shapes of tensors: a model with other ones would load and be another.

    Raises:
        ValueError: names the recipe key, its value and the language model's.
    """
    m = recipe.model
    pretraining = m.name == "vlp"
    if tokenizer is not None:
        _check_words(found, tokenizer)
    config = found.config
    if not config:
        return
    pairs: list[tuple[str, Any, Any]] = [("width", m.width, config.get("d_model"))]
    whole = pretraining or m.encoder_from == "language_model" or m.decoder_from == "language_model"
    if pretraining or m.encoder_from == "language_model":
        t = "text_" if pretraining else ""
        pairs += [
            (f"{t}layers" if pretraining else "encoder_layers", m.text_layers if pretraining else m.encoder_layers,
             config.get("encoder_layers")),
            (f"{t}heads", getattr(m, f"{t}heads"), config.get("encoder_attention_heads")),
            (f"{t}ffn", getattr(m, f"{t}ffn"), config.get("encoder_ffn_dim")),
            (f"{t}activation", getattr(m, f"{t}activation"), config.get("activation_function")),
        ]  # fmt: skip
    if m.decoder_from == "language_model":
        pairs += [
            ("decoder_layers", m.decoder_layers, config.get("decoder_layers")),
            ("decoder_heads", m.decoder_heads or m.heads, config.get("decoder_attention_heads")),
            ("ffn", m.ffn, config.get("decoder_ffn_dim")),
            ("activation", m.activation, config.get("decoder_activation", config.get("activation_function"))),
        ]
    if whole:
        pairs.append(("max_positions", m.max_positions, config.get("max_position_embeddings")))
    wrong = [(f"model.{key}", ours, theirs) for key, ours, theirs in pairs if theirs is not None and ours != theirs]
    if wrong:
        ours = ", ".join(f"{key}={value}" for key, value, _ in wrong)
        needed = ", ".join(f"{key}={value}" for key, _, value in wrong)
        raise ValueError(f"{KEY}: {found.source} does not fit {ours}; it needs {needed}")
    if whole and not config.get("scale_embedding", False):
        raise ValueError(
            f"{KEY}: {found.source} does not scale its word embeddings (scale_embedding in config.json); mBART does, "
            f"and so does this model"
        )


def _check_words(found: LanguageModel, tokenizer: Tokenizer) -> None:
    if found.rows != tokenizer.vocab_size:
        raise ValueError(
            f"{KEY}: {found.source} has {found.rows} words, and the tokenizer of this run {tokenizer.vocab_size}; set "
            f"text.tokenizer={found.source}, or trim both to the corpus with `signcl vocab trim`"
        )
    if found.tokenizer is None:
        return
    other = first_other_word(found.tokenizer, tokenizer)
    if other is not None:
        i, theirs, ours = other
        raise ValueError(
            f"{KEY}: row {i} of {found.source} is {theirs!r}, and the tokenizer of this run has {ours!r} there; set "
            f"text.tokenizer={found.source}"
        )


def first_other_word(a: Tokenizer, b: Tokenizer) -> tuple[int, str, str] | None:
    """The first id for which two tokenizers have different words, and both words; None where they agree."""
    if isinstance(a, SentencePieceTokenizer) and isinstance(b, SentencePieceTokenizer):
        ours, theirs = a.pieces(), b.pieces()  # decoding would not tell "▁am" from "am"
    else:
        ours, theirs = ([t.decode([i]) for i in range(t.vocab_size)] for t in (a, b))
    for i, (one, other) in enumerate(zip(ours, theirs)):
        if one != other:
            return i, one, other
    return None if len(ours) == len(theirs) else (min(len(ours), len(theirs)), "", "")
