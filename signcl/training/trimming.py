"""Trims an mBART to the vocabulary of a corpus: SentencePiece model, word embeddings, output layer, configuration.

The result works in transformers. mBART's order of ids is kept: `<s> <pad> </s> <unk>`, the pieces, 25 language codes,
`<mask>`. Rows are copied, so the scores of the remaining words do not change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from signcl.data.batch import Sample
from signcl.data.files import atomic_write, write_bytes, write_json
from signcl.data.json_files import read_json
from signcl.data.text import SentencePieceTokenizer, pretrained_sentencepiece
from signcl.data.text.checking import SplitCheck, check_vocabulary
from signcl.data.text.pieces import needed_pieces, own_forms, take_forms, trim_pieces
from signcl.systems.parts.checkpoints import hub_file
from signcl.systems.parts.language_model import LanguageModel, read_language_model
from signcl.training import run_folder

__all__ = ["Trimmed", "trim_language_model", "trim_table"]

LANGUAGE_CODES = (25, 52)  # mBART-cc25 and mBART-50; the first 25 are equal
WORD_TABLES = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
KEY = "--language-model"


@dataclass(frozen=True)
class Trimmed:
    """Report of a trimming, with checks that nothing needed was removed."""

    folder: Path
    pieces: tuple[int, int]
    """Pieces of the SentencePiece model, before and after."""
    rows: tuple[int, int]
    """Word embeddings, before and after."""
    parameters: tuple[int, int]
    bytes: tuple[int, int]
    """Stored size of tensors and SentencePiece model, before and after."""
    segmented_otherwise: dict[str, int]
    """Split -> number of sentences that the trimmed tokenizer segments differently; 0 for splits in `needed`."""
    checks: list[SplitCheck]
    """Results of encoding and decoding all sentences of each split."""
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {**vars(self), "checks": [check.as_dict() for check in self.checks]}


def trim_language_model(
    source: str,
    splits: Mapping[str, Sequence[Sample]],
    folder: Path,
    *,
    needed: Sequence[str] = ("train",),
    keep: Sequence[str] = (),
    forms: bool = False,
    language: str = "",
    made_from: Mapping[str, Any] | None = None,
) -> Trimmed:
    """Write an mBART folder with only the vocabulary that a corpus needs.

    Args:
        source: `pretrained:` and a folder or hub id of an mBART with 25 or 52 languages.
        splits: samples by split; all splits are checked.
        folder: the new folder.
        needed: the splits whose pieces are kept. Do not include dev and test for results that you report: they must
            stay unseen.
        keep: additional sentences or words whose pieces are kept.
        forms: write characters in the corpus's Unicode forms, e.g. the full-width comma of Chinese instead of mBART's
            ASCII comma: pieces are renamed, rows stay.
        language: source language code of the folder's transformers tokenizer; empty: not set.
        made_from: additional entries for `trimmed.json`.

    Raises:
        ValueError, OSError: not an mBART, or its rows do not follow mBART's order of ids, or the folder already holds a
            model.
    """
    if (folder / "config.json").exists():
        raise ValueError(f"{folder} holds a model already; choose another folder with -o")
    found = read_language_model(source, KEY)
    if not found.config or not isinstance(found.tokenizer, SentencePieceTokenizer):
        raise ValueError(f"{KEY}: {source} must be a folder or hub id of an mBART: a file or run lacks needed files")
    name = source.removeprefix("pretrained:")
    before = SentencePieceTokenizer(pretrained_sentencepiece(name), language or "en_XX")
    texts = [sample.text for split in needed for sample in splits[split]]
    kept = needed_pieces(before.model, [*texts, *keep])
    model = trim_pieces(before.model, kept)
    renamed = own_forms(before.model, [*texts, *keep]) if forms else {}
    after = SentencePieceTokenizer(take_forms(model, renamed) if forms else model, language or "en_XX")
    table = str.maketrans(renamed)
    rows = _rows(found, before, kept)
    notes = _broken_tables(found.tensors)
    tensors = _cut(found.tensors, rows, tied=found.config.get("tie_word_embeddings", True))
    new_ids = {old: new for new, old in enumerate(rows.tolist())}

    from safetensors.torch import save_file

    with atomic_write(folder / "model.safetensors") as temporary:
        save_file(tensors, str(temporary), metadata={"format": "pt"})
    write_json(folder / "config.json", _renumbered({**found.config, "vocab_size": len(rows)}, new_ids))
    generation = _generation_config(name)
    if generation:
        write_json(folder / "generation_config.json", _renumbered(generation, new_ids))
    write_bytes(folder / "sentencepiece.bpe.model", after.model)
    languages = {"src_lang": language, "tgt_lang": language} if language else {}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "MBartTokenizer", **languages})
    trimmed = Trimmed(
        folder=folder,
        pieces=(before.num_pieces, after.num_pieces),
        rows=(found.rows, len(rows)),
        parameters=(
            _parameters(found.tensors, tied="shared.weight" in found.tensors),
            _parameters(tensors, tied=False),
        ),
        bytes=(_size(found.tensors) + len(before.model), _size(tensors) + len(after.model)),
        segmented_otherwise={
            split: sum(
                [piece.translate(table) for piece in before.cut(sample.text)] != after.cut(sample.text)
                for sample in samples
            )
            for split, samples in splits.items()
        },
        checks=check_vocabulary(after, splits),
        notes=notes,
    )
    story = {
        "from": source,
        "needed": list(needed),
        "keep": list(keep),
        "own_forms": renamed,
        "commit": run_folder.git_commit(),
    }
    summary = {key: value for key, value in trimmed.as_dict().items() if key not in ("checks", "folder")}
    write_json(folder / "trimmed.json", {**story, **(made_from or {}), **summary})
    return trimmed


def _rows(found: LanguageModel, tokenizer: SentencePieceTokenizer, kept: Sequence[int]) -> Tensor:
    """Row indices of the old embeddings, in the order of the new ones. [V']"""
    pieces = tokenizer.num_pieces
    languages = found.rows - pieces - 2
    if languages not in LANGUAGE_CODES:
        raise ValueError(
            f"{KEY}: {found.source} has {found.rows} rows for {pieces} pieces; an mBART has 2 more than pieces and "
            f"languages, of which there are {' or '.join(map(str, LANGUAGE_CODES))}"
        )
    codes = range(pieces + 1, pieces + 1 + len(SentencePieceTokenizer.LANGUAGES))
    # <s> <pad> </s> <unk> are 0 to 3 and include SentencePiece's first three ids; all other ids increase by one
    return torch.tensor([0, 1, 2, 3, *(i + 1 for i in kept if i > 2), *codes, found.rows - 1])


def _broken_tables(tensors: Mapping[str, Tensor]) -> list[str]:
    """Warnings about word embeddings that differ from the shared ones: some trimmers leave random ones in the file."""
    shared = tensors.get("shared.weight")
    if shared is None:
        return []
    tables = [name for name in WORD_TABLES[1:3] if name in tensors and not torch.equal(tensors[name], shared)]
    return [f"{name} of the source differs from shared.weight, which is used instead" for name in tables]


def _cut(tensors: Mapping[str, Tensor], rows: Tensor, *, tied: bool) -> dict[str, Tensor]:
    """The tensors with transformers' names, word embeddings reduced to `rows`, and tied tensors only once."""
    shared = next(tensors[name] for name in WORD_TABLES if name in tensors)
    new = {"model.shared.weight": shared[rows].contiguous()}
    for name, value in tensors.items():
        if name == "lm_head.weight" and not tied:
            new[name] = value[rows].contiguous()
        elif name == "final_logits_bias":
            new[name] = value[:, rows].contiguous()
        elif name not in WORD_TABLES:
            new[f"model.{name}"] = value.contiguous()
    if not tied:  # transformers then reads each table by name
        new |= {f"model.{side}.embed_tokens.weight": shared[rows].clone() for side in ("encoder", "decoder")}
    return new


def _renumbered(config: Mapping[str, Any], new_ids: Mapping[int, int]) -> dict[str, Any]:
    """A configuration with the new token ids; removed ids are left out."""
    result = {}
    for key, value in config.items():
        if key.endswith("_token_id") and isinstance(value, int):
            value = new_ids.get(value)
        result[key] = value
    return result


def _generation_config(name: str) -> dict[str, Any]:
    try:
        path = Path(name) / "generation_config.json"
        path = path if Path(name).is_dir() else hub_file(name, path.name, KEY)
    except (OSError, ValueError):  # optional file of an mBART
        return {}
    if not path.is_file():
        return {}
    found: dict[str, Any] = read_json(path, {}, "copy the model again, or delete this file")
    return found


def _parameters(tensors: Mapping[str, Tensor], *, tied: bool) -> int:
    return sum(v.numel() for name, v in tensors.items() if not tied or name not in WORD_TABLES[1:])


def _size(tensors: Mapping[str, Tensor]) -> int:
    return sum(v.numel() * v.element_size() for v in {v.data_ptr(): v for v in tensors.values()}.values())


def trim_table(trimmed: Trimmed) -> str:
    """The report as text."""
    rows = [
        ("pieces", *map(str, trimmed.pieces)),
        ("word embeddings", *map(str, trimmed.rows)),
        ("parameters", *(f"{n:,}" for n in trimmed.parameters)),
        ("megabytes", *(f"{n / 1e6:.2f}" for n in trimmed.bytes)),
    ]
    lines = [f"{name}: {old} -> {new}" for name, old, new in rows]
    for split, count in trimmed.segmented_otherwise.items():
        lines.append(f"{split}: {count} sentences are segmented differently than before")
    return "\n".join([*lines, *trimmed.notes])
