"""What one stage hands to the next: pretrained VLP weights into GFSLT, and a published mBART into either.

Every tensor on both sides is accounted for by name; a tensor that should fit and does not is an error. Takes state
dicts, opens no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from signcl.models.gfslt import GFSLT
    from signcl.models.vlp import VLP

__all__ = ["TransferReport", "load_language_model", "transfer", "transfer_signs"]

PARTS = {  # of VLP -> of GFSLT
    "visual.": "visual.",
    "conv.": "conv.",
    "sign_emb.": "sign_emb.",
    "encoder.": "mbart.model.encoder.",
    "decoder.": "mbart.model.decoder.",
    "words.": "mbart.model.shared.",
    "lm_head.": "mbart.lm_head.",
}
POSITIONS = "mbart.model.encoder.embed_positions.weight"
WORDS = "mbart.model.shared.weight"
OFFSET = 2  # rows that mBART's position tables keep before position 0


@dataclass(frozen=True)
class TransferReport:
    """What went from one model to the next, by name."""

    transferred: tuple[str, ...]
    """Tensors of the target that hold weights of the source now."""
    not_transferred_source: tuple[str, ...]
    """Tensors of the source that the target has no place for, or refuses (as_released)."""
    fresh_target: tuple[str, ...]
    """Tensors of the target that keep the values they had."""

    def __str__(self) -> str:
        left, fresh = _by_part(self.not_transferred_source), _by_part(self.fresh_target)
        return f"{len(self.transferred)} tensors transferred; left behind: {left}; start fresh: {fresh}"


def transfer(
    source: VLP | Mapping[str, Tensor],
    target: GFSLT,
    *,
    as_released: bool = False,
    raw_words: Tensor | None = None,
    raw_positions: Tensor | None = None,
) -> TransferReport:
    """Start GFSLT from a pretrained VLP.

    Frame encoder, temporal convolution, encoder, and from V2 the text decoder, word table and word head go over; from
    V1 the word table comes from the text encoder and the decoder starts fresh. In pretraining the clip's own token
    stands at position 0, so the encoder's position rows move down by one: a step keeps the row it was trained with.

    Args:
        source: a VLP or its state dict.
        target: changed in place, all or nothing.
        as_released: as GFSLT-VLP does it: word head not transferred, position rows not moved, and the decoder's word
            table and positions replaced by those of raw mBART.
        raw_words: mBART's word table, as_released only; without it the word table stays fresh. [V, width]
        raw_positions: mBART's decoder positions, as_released only; without it they stay fresh.

    Returns:
        What went and what did not.

    Raises:
        ValueError: a part of another size, or a target tensor that the source should have and has not.

    Source: released train_slt; defects G2, G4 and G5 in docs/paper-vs-code.md.
    """
    state = source.state_dict() if isinstance(source, nn.Module) else dict(source)
    if not any(key.startswith("text_encoder.") for key in state):
        raise ValueError(
            "model.init_from needs a pretraining run of model vlp, "
            f"this one holds {', '.join(sorted({key.split('.')[0] for key in state})) or 'nothing'}."
        )
    own = target.state_dict()
    new: dict[str, Tensor] = {}
    left = []
    for key, value in state.items():
        part = next((part for part in PARTS if key.startswith(part)), None)
        name = PARTS[part] + key.removeprefix(part) if part else None
        if name is None or (name not in own and key.startswith("lm_head.")) or _refused(name, as_released):
            left.append(key)  # a tied head of the target has no tensor of its own
        else:
            new[name] = value
    if as_released:
        new |= {} if raw_words is None else {WORDS: raw_words}
        new |= {} if raw_positions is None else {"mbart.model.decoder.embed_positions.weight": raw_positions}
    else:
        if WORDS not in new:  # V1: the words that the contrast has taught the text encoder
            new[WORDS] = state["text_encoder.embed_tokens.weight"]
            left.remove("text_encoder.embed_tokens.weight")
        new[POSITIONS] = _moved(new[POSITIONS])
    fresh = [key for key in own if key not in new]
    allowed = ["sign_emb."]
    if as_released or not any(key.startswith("decoder.") for key in state):
        allowed += ["mbart.model.decoder.", "mbart.lm_head.", "mbart.model.shared."]
    elif not any(key.startswith("lm_head.") for key in state):
        allowed += ["mbart.lm_head."]  # a tied head in pretraining, its own in finetuning
    _check(new, own, [key for key in fresh if not key.startswith(tuple(allowed))])
    target.load_state_dict({**own, **new})
    return TransferReport(tuple(new), tuple(left), tuple(fresh))


def load_language_model(target: GFSLT | VLP, mbart: Mapping[str, Tensor]) -> TransferReport:
    """Start from a published mBART: the text encoder and word tables of VLP, the word table of GFSLT.

    Args:
        target: changed in place, all or nothing.
        mbart: state dict of transformers' MBartForConditionalGeneration (or MBartModel).

    Returns:
        What went and what did not (of the target only tensors that mBART could fill count as fresh).

    Raises:
        ValueError: no mBART, or one of another size.

    Source: released GFSLT-VLP (text encoder of a trimmed mbart-large-cc25, its word table for the decoder).
    """
    state = {key.removeprefix("model."): value for key, value in mbart.items()}
    words = next((state[key] for key in ("shared.weight", "encoder.embed_tokens.weight") if key in state), None)
    if words is None:
        raise ValueError(
            f"model.language_model needs an mBART with a word table, its first names are {', '.join(list(mbart)[:3])}."
        )
    own = target.state_dict()
    text = {f"text_encoder.{k.removeprefix('encoder.')}": k for k in state if k.startswith("encoder.")}
    new = {name: state[key] for name, key in text.items()} if hasattr(target, "text_encoder") else {}
    tables = [key for key in ("text_encoder.embed_tokens.weight", "words.weight", WORDS) if key in own]
    new |= dict.fromkeys(tables, words)
    fresh = [key for key in own if key.startswith("text_encoder.") and key not in new]
    _check(new, own, fresh)
    target.load_state_dict({**own, **new})
    used = {text.get(name) for name in new} | {"shared.weight", "encoder.embed_tokens.weight"}
    return TransferReport(tuple(new), tuple(key for key in state if key not in used), tuple(fresh))


def transfer_signs(state: Mapping[str, Tensor], target: nn.Module) -> TransferReport:
    """Start Sign2GPT from its pseudo-gloss pretraining: frame encoder and sign encoder; the head is left behind.

    Args:
        state: state dict of a PGP.
        target: a Sign2GPT, changed in place, all or nothing.

    Returns:
        What went and what did not; projection, adapters and language model keep what they have.

    Raises:
        ValueError: a part of another size, or a target tensor that the source should have and has not.
    """
    parts = ("visual.", "encoder.")
    own = target.state_dict()
    new = {key: value for key, value in state.items() if key.startswith(parts)}
    fresh = [key for key in own if key not in new]
    _check(new, own, [key for key in fresh if key.startswith(parts)])
    target.load_state_dict({**own, **new})
    return TransferReport(tuple(new), tuple(key for key in state if key not in new), tuple(fresh))


def _refused(name: str, as_released: bool) -> bool:
    """What the released script drops, or overwrites after loading."""
    dropped = ("mbart.lm_head.", "mbart.model.shared.", "mbart.model.decoder.embed_positions.")
    return as_released and name.startswith(dropped)


def _moved(positions: Tensor) -> Tensor:
    """Rows of an encoder that had one token before the steps, for an encoder that has none; the last row stays."""
    return torch.cat([positions[:OFFSET], positions[OFFSET + 1 :], positions[-1:]])


def _check(new: Mapping[str, Tensor], own: Mapping[str, Tensor], missing: list[str]) -> None:
    wrong = [
        f"{key} ({list(value.shape)} in the source, {list(own[key].shape) if key in own else 'absent'} in the target)"
        for key, value in new.items()
        if key not in own or value.shape != own[key].shape
    ]
    if wrong or missing:
        problems = ", ".join(wrong[:3] + [f"{key} (absent in the source)" for key in missing[:3]])
        raise ValueError(
            f"{len(wrong) + len(missing)} tensors do not fit from one stage to the next, first {problems}; "
            "give both recipes the same model sizes and the same tokenizer."
        )


def _by_part(names: tuple[str, ...]) -> str:
    """Names counted by module, for people."""
    counts: dict[str, int] = {}
    for name in names:
        words = name.split(".")
        part = ".".join(
            words[:3] if words[0] == "mbart" and words[1] == "model" else words[: 1 + (words[0] == "mbart")]
        )
        counts[part] = counts.get(part, 0) + 1
    return ", ".join(f"{part} ({count})" for part, count in counts.items()) or "nothing"
