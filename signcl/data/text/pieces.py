"""Trims a SentencePiece model so that it still splits the given sentences into exactly the same pieces.

A unigram model chooses the segmentation with the highest sum of scores. Trimming keeps all scores and every piece of
the chosen segmentation, so it stays available, and removed pieces only remove alternatives. An unknown character scores
10 less than the lowest-scored piece. That piece is therefore kept, as is every single character of the sentences: no
character becomes unknown, and the score of unknown characters does not change.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["needed_pieces", "own_forms", "take_forms", "trim_pieces"]

FIRST = 3  # <unk>, <s>, </s>: required by the id rule of mBART
NORMAL, UNIGRAM = 1, 1  # values of SentencePiece enums
SPACE = "▁"


def needed_pieces(model: bytes, texts: Iterable[str]) -> list[int]:
    """Ids of the pieces of a SentencePiece model that the given sentences need, in ascending order.

    These are: all pieces of the segmented sentences, every single character in them, the space mark, the lowest-scored
    piece, and all special pieces (unknown, control, byte, user-defined).

    Raises:
        ValueError: not a unigram model, or its first pieces are not <unk>, <s>, </s>.
    """
    import sentencepiece

    proto = _parsed(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ordinary = [i for i, piece in enumerate(proto.pieces) if piece.type == NORMAL]
    needed = set(range(FIRST)) | (set(range(len(proto.pieces))) - set(ordinary))
    needed.add(min(ordinary, key=lambda i: proto.pieces[i].score))
    characters = {SPACE}
    for text in texts:
        needed.update(processor.encode(text))
        characters.update(processor.normalize(text))
    ids = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    needed.update(ids[character] for character in characters if character in ids)
    return sorted(needed)


def trim_pieces(model: bytes, kept: Iterable[int]) -> bytes:
    """The SentencePiece model with only these pieces; scores and normalisation do not change."""
    proto = _parsed(model)
    pieces = [proto.pieces[i] for i in kept]
    del proto.pieces[:]
    proto.pieces.extend(pieces)
    proto.trainer_spec.vocab_size = len(pieces)
    # Unknown fields include field 4: self-test sentences, which a trimmed model would fail when it is loaded.
    proto.DiscardUnknownFields()
    trimmed: bytes = proto.SerializeToString()
    return trimmed


def own_forms(model: bytes, texts: Iterable[str]) -> dict[str, str]:
    """Characters that the model's normalisation changes: normalised form -> character in the sentences.

    Raises:
        ValueError: a normalised form stands for several characters of the sentences, or is not a single character.
    """
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    raw = {character for text in texts for character in text if not character.isspace()}
    forms: dict[str, str] = {}
    for character in sorted(raw):
        form = processor.normalize(character).replace(SPACE, "")
        if form == character:
            continue
        if len(form) != 1 or form in raw or form in forms:
            raise ValueError(
                f"--own-forms: the tokenizer writes {form!r} for {character!r}, but {form!r} also stands for other "
                f"characters or is not a single one; omit the flag and check the list of replaced characters"
            )
        forms[form] = character
    return forms


def take_forms(model: bytes, forms: dict[str, str]) -> bytes:
    """Rewrites the pieces in the Unicode forms of the sentences and turns off Unicode normalisation.

    A sentence is then split where its normalised form was split before. The handling of spaces does not change.

    Args:
        model: the SentencePiece model.
        forms: the result of `own_forms`.

    Raises:
        ValueError: the model already has a piece in the new form.
    """
    proto = _parsed(model)
    table = str.maketrans(forms)
    for piece in proto.pieces:
        if piece.type == NORMAL:
            piece.piece = piece.piece.translate(table)
    names = [piece.piece for piece in proto.pieces]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"--own-forms: the tokenizer already has {twice!r} and its normalised form; omit the flag")
    proto.normalizer_spec.name = "identity"
    proto.normalizer_spec.precompiled_charsmap = b""
    taken: bytes = proto.SerializeToString()
    return taken


def _parsed(model: bytes) -> Any:
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString(model)
    if proto.trainer_spec.model_type != UNIGRAM:
        raise ValueError(
            "signcl vocab trim needs a SentencePiece model of type unigram, like mBART's; a BPE model merges "
            "intermediate pieces that do not appear in the tokenized sentences"
        )
    if [piece.piece for piece in proto.pieces[:FIRST]] != ["<unk>", "<s>", "</s>"]:
        raise ValueError(
            f"an mBART tokenizer begins with <unk>, <s>, </s>; this one with "
            f"{', '.join(piece.piece for piece in proto.pieces[:FIRST])}"
        )
    return proto
