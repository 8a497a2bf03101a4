"""A SentencePiece model with fewer pieces that cuts the given sentences into exactly the pieces it did before.

Unigram models choose, of all ways to cut a sentence, the one with the highest sum of scores. Scores are kept, and so is
every piece of the chosen cut, so the choice is still there; pieces that are gone can only have taken choices away. An
unknown character scores 10 less than the lowest-scored piece: that piece stays too, and so does every single character
of the sentences, so that no character becomes unknown and none that was unknown becomes cheaper.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["needed_pieces", "own_forms", "take_forms", "trim_pieces"]

FIRST = 3  # <unk>, <s>, </s>: the id rule of mBART counts on them
NORMAL, UNIGRAM = 1, 1  # of SentencePiece's enumerations
SPACE = "▁"


def needed_pieces(model: bytes, texts: Iterable[str]) -> list[int]:
    """The pieces of a SentencePiece model that sentences need, in the model's order.

    Those of the sentences' own cuts, every single character of theirs, the space mark, the lowest-scored piece, and all
    that is no ordinary piece (unknown, control, byte, user-defined).

    Raises:
        ValueError: no unigram model, or one whose first pieces are not <unk>, <s>, </s>.
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
    """The same SentencePiece model with these pieces alone, their scores and its normalisation unchanged."""
    proto = _parsed(model)
    pieces = [proto.pieces[i] for i in kept]
    del proto.pieces[:]
    proto.pieces.extend(pieces)
    proto.trainer_spec.vocab_size = len(pieces)
    # among them field 4, sentences that the whole model is held to when it is loaded
    proto.DiscardUnknownFields()
    trimmed: bytes = proto.SerializeToString()
    return trimmed


def own_forms(model: bytes, texts: Iterable[str]) -> dict[str, str]:
    """The characters that a model writes in another Unicode form than the sentences have: its form -> theirs.

    Raises:
        ValueError: a form of the model that stands for several characters of the sentences, or is no single character.
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
                f"--own-forms: the tokenizer writes {form!r} for {character!r}, which stands for other characters of "
                f"the sentences too; leave the flag out and read the list of what is replaced"
            )
        forms[form] = character
    return forms


def take_forms(model: bytes, forms: dict[str, str]) -> bytes:
    """The same pieces written in the sentences' own forms, and no Unicode normalisation any more.

    A sentence in its own form is cut where its normalised form was cut before. Spaces are treated as before.
    """
    proto = _parsed(model)
    table = str.maketrans(forms)
    for piece in proto.pieces:
        if piece.type == NORMAL:
            piece.piece = piece.piece.translate(table)
    names = [piece.piece for piece in proto.pieces]
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f"--own-forms: the tokenizer has {twice!r} already beside its normalised form; leave it out")
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
            "signcl vocab trim needs a SentencePiece model of type unigram, as mBART's is: in one of merges (BPE) "
            "words are built from pieces that the sentences themselves do not show"
        )
    if [piece.piece for piece in proto.pieces[:FIRST]] != ["<unk>", "<s>", "</s>"]:
        raise ValueError(
            f"an mBART tokenizer begins with <unk>, <s>, </s>; this one with "
            f"{', '.join(piece.piece for piece in proto.pieces[:FIRST])}"
        )
    return proto
