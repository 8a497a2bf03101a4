"""Reads a published mBART or the text side of a vlp run, and checks whether it fits a recipe.

Every mismatch raises a one-line error with the recipe key to change. Sizes come from `config.json`; for a single
weights file, which has none, only the shapes of its tensors are compared with the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from signcl.data.json_files import read_json
from signcl.data.text import SentencePieceTokenizer, Tokenizer, pretrained_sentencepiece
from signcl.systems.parts.checkpoints import hub_file, read_tensors

__all__ = ["LanguageModel", "check_language_model", "first_other_word", "read_language_model"]

KEY = "model.language_model"
VLP_PARTS = {"text_encoder.": "encoder.", "decoder.": "decoder.", "words.": "shared.", "lm_head.": "lm_head."}


@dataclass(frozen=True)
class LanguageModel:
    """A text encoder and decoder, with the tensor names of transformers' MBartModel (and `lm_head`)."""

    source: str
    """Its source, as in the recipe."""
    tensors: dict[str, torch.Tensor] = field(repr=False)
    config: dict[str, Any]
    """Its configuration with transformers' keys; empty for a single file."""
    tokenizer: Tokenizer | None
    """None for a single file without a SentencePiece model in the same folder."""

    @property
    def rows(self) -> int:
        """Number of word embeddings."""
        for name in ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
            if name in self.tensors:
                return len(self.tensors[name])
        raise ValueError(
            f"{KEY}: {self.source} has no word embeddings; its first tensors are {', '.join(self.tensors)[:80]}"
        )


def read_language_model(
    source: str, key: str = KEY, earlier: Callable[[str], Any] = lambda folder: None
) -> LanguageModel:
    """Read an mBART from `pretrained:` and a folder, file or hub id, or from a vlp run folder.

    Args:
        earlier: returns the run in a folder (`signcl.systems.base.EarlierRun`), or None if the folder holds none.

    Raises:
        ValueError, OSError: nothing found, no tokenizer with it, or the wrong architecture.
    """
    name = source.removeprefix("pretrained:")
    place = Path(name)
    run = earlier(name)
    if run is not None:
        return _from_run(source, run, key)
    config: dict[str, Any] = {}
    if not place.is_file():
        config = read_config(name, key)
        kind = config.get("model_type")
        if kind != "mbart":
            raise ValueError(
                f"{key}: {name} is a {kind}, but an mBART is needed, such as facebook/mbart-large-cc25 or a "
                f"folder made by `signcl vocab trim`"
            )
    tensors = {k.removeprefix("model."): v for k, v in read_tensors(source, key).items()}
    if "encoder.layernorm_embedding.weight" not in tensors:
        raise ValueError(
            f"{key}: {name} is not an mBART: it lacks encoder.layernorm_embedding.weight; its first tensors are "
            f"{', '.join(list(tensors)[:3])}"
        )
    return LanguageModel(source, tensors, config, _tokenizer(place, name, key))


def read_config(name: str, key: str) -> dict[str, Any]:
    """Read `config.json` of a folder or hub id.

    Raises:
        ValueError, OSError: it is missing or damaged.
    """
    path = Path(name) / "config.json"
    if not path.is_file():
        if Path(name).is_dir():
            raise ValueError(f"{key}: {name} has no config.json, so it is not a model saved by transformers")
        path = hub_file(name, "config.json", key)
    try:
        data: dict[str, Any] = read_json(path, {"model_type?": str}, "copy the model again")
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    return data


def _tokenizer(place: Path, name: str, key: str) -> Tokenizer | None:
    try:
        return SentencePieceTokenizer(pretrained_sentencepiece(str(place.parent) if place.is_file() else name))
    except ValueError as error:
        if place.is_file():
            return None
        raise ValueError(f"{key}: {error}; it is needed to know the words of the embeddings") from None


def _from_run(source: str, run: Any, key: str) -> LanguageModel:
    config = getattr(run.config, "language_model_config", None)
    if config is None or "masked_text" not in run.terms:
        raise ValueError(
            f"{key}: {run.folder} is a run of {run.system}; only runs of vlp with the term masked_text have a text "
            f"encoder and a text decoder"
        )
    tensors = {
        new + name.removeprefix(old): value
        for name, value in run.tensors.items()
        for old, new in VLP_PARTS.items()
        if name.startswith(old)
    }
    return LanguageModel(source, tensors, {"vocab_size": run.tokenizer.vocab_size, **config()}, run.tokenizer)


def check_language_model(
    found: LanguageModel, tokenizer: Tokenizer | None, pairs: Sequence[tuple[str, Any, str]], *, whole: bool
) -> None:
    """Check that a language model has the vocabulary of this run and the sizes that a system needs.

    Tensor shapes do not show heads and activation: a model with different ones would load but compute something else.

    Args:
        tokenizer: tokenizer of this run; None: the vocabulary is not checked.
        pairs: (key in the config of the system, its value, key in the language model's config).
        whole: layers are loaded too, not only the word embeddings.

    Raises:
        ValueError: a mismatch; names the recipe key, its value and the language model's value.
    """
    if tokenizer is not None:
        _check_words(found, tokenizer)
    config = found.config
    if not config:
        return
    sizes = [(f"model.{key}", ours, _size(config, there)) for key, ours, there in pairs]
    wrong = [(key, ours, theirs) for key, ours, theirs in sizes if theirs is not None and ours != theirs]
    if wrong:
        ours = ", ".join(f"{key}={value}" for key, value, _ in wrong)
        needed = ", ".join(f"{key}={value}" for key, _, value in wrong)
        raise ValueError(f"{KEY}: {found.source} does not fit {ours}; it needs {needed}")
    if whole and not config.get("scale_embedding", False):
        raise ValueError(
            f"{KEY}: {found.source} does not scale its word embeddings (scale_embedding in config.json); mBART does, "
            f"and so does this model"
        )


def _size(config: dict[str, Any], key: str) -> Any:
    """A value of a config; the decoder's activation defaults to the general activation."""
    return config.get(key, config.get("activation_function") if key == "decoder_activation" else None)


def _check_words(found: LanguageModel, tokenizer: Tokenizer) -> None:
    if found.rows != tokenizer.vocab_size:
        raise ValueError(
            f"{KEY}: {found.source} has {found.rows} words, but this run's tokenizer has {tokenizer.vocab_size}; set "
            f"text.tokenizer={found.source}, or trim both to the corpus with `signcl vocab trim`"
        )
    if found.tokenizer is None:
        return
    other = first_other_word(found.tokenizer, tokenizer)
    if other is not None:
        i, theirs, ours = other
        raise ValueError(
            f"{KEY}: row {i} of {found.source} is {theirs!r}, but the tokenizer of this run has {ours!r} there; set "
            f"text.tokenizer={found.source}"
        )


def first_other_word(a: Tokenizer, b: Tokenizer) -> tuple[int, str, str] | None:
    """The first id for which two tokenizers have different words, with both words; None if they agree."""
    if isinstance(a, SentencePieceTokenizer) and isinstance(b, SentencePieceTokenizer):
        ours, theirs = a.pieces(), b.pieces()  # decoding would not distinguish "▁am" from "am"
    else:
        ours, theirs = ([t.decode([i]) for i in range(t.vocab_size)] for t in (a, b))
    for i, (one, other) in enumerate(zip(ours, theirs)):
        if one != other:
            return i, one, other
    return None if len(ours) == len(theirs) else (min(len(ours), len(theirs)), "", "")
