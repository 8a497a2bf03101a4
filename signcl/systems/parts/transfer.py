"""Transfers weights between stages: a pretrained VLP into GFSLT, and a published mBART into either.

Every tensor on both sides is reported by name; a tensor that should fit but does not is an error. It takes state dicts
and opens no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from signcl.systems.parts.module_names import under

if TYPE_CHECKING:
    from signcl.systems.gfslt import GFSLT
    from signcl.systems.vlp import VLP

__all__ = ["TransferReport", "load_language_model", "transfer", "transfer_parts", "transfer_signs"]

PARTS = {  # module of VLP -> module of GFSLT
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
DECODER = ("mbart.model.decoder", "mbart.model.shared", "mbart.lm_head")
"""Text decoder, word embeddings and output layer of GFSLT, which belong together."""
OFFSET = 2  # unused rows before position 0 in mBART's position embeddings


@dataclass(frozen=True)
class TransferReport:
    """The tensors transferred from one model to another, by name."""

    transferred: tuple[str, ...]
    """Tensors of the target that now hold weights of the source."""
    not_transferred_source: tuple[str, ...]
    """Tensors of the source that the target does not have, or does not take (as_released)."""
    fresh_target: tuple[str, ...]
    """Tensors of the target that keep their random values."""
    kept_target: tuple[str, ...] = ()
    """Tensors of the target that were excluded from the transfer."""

    def __str__(self) -> str:
        left, fresh = _by_part(self.not_transferred_source), _by_part(self.fresh_target)
        kept = f"; unchanged: {_by_part(self.kept_target)}" if self.kept_target else ""
        return f"{len(self.transferred)} tensors transferred; left behind: {left}; start fresh: {fresh}{kept}"


def transfer(
    source: VLP | Mapping[str, Tensor],
    target: GFSLT,
    *,
    as_released: bool = False,
    raw_words: Tensor | None = None,
    raw_positions: Tensor | None = None,
    keep: Sequence[str] = (),
    only: Sequence[str] = (),
) -> TransferReport:
    """Initialise GFSLT from a pretrained VLP.

    This transfers frame encoder, temporal convolution and encoder, and from V2 the text decoder, word embeddings and
    output layer. From V1 the word embeddings come from the text encoder and the decoder stays random. In pretraining
    the class token is at position 0, so the encoder's position embeddings are shifted by one row: each step keeps the
    row it was trained with.

    Args:
        source: a VLP or its state dict.
        target: modified in place, all or nothing.
        as_released: as in GFSLT-VLP: the output layer is not transferred, position rows are not shifted, and the
            decoder's word embeddings and positions are replaced by those of raw mBART.
        raw_words: mBART's word embeddings, only with as_released; None: they stay random. [V, width]
        raw_positions: mBART's decoder positions, only with as_released; None: they stay random.
        keep: modules of the target to leave unchanged, because a language model has initialised them.
        only: modules of the target to load; empty: all except `keep`.

    Returns:
        What was transferred and what was not.

    Raises:
        ValueError: a module of the wrong size, or a target tensor that the source should have but lacks.

    Source: released train_slt; defects G2, G4 and G5 in docs/paper-vs-code.md.
    """
    state = source.state_dict() if isinstance(source, nn.Module) else dict(source)
    if not any(key.startswith("text_encoder.") for key in state):
        raise ValueError(
            "model.init_from needs a pretraining run of model vlp, "
            f"this one holds {', '.join(sorted({key.split('.')[0] for key in state})) or 'nothing'}."
        )
    own = target.state_dict()

    def held(name: str) -> bool:
        return bool(under(name, keep) or (only and not under(name, only)))

    kept = tuple(name for name in own if held(name))
    new: dict[str, Tensor] = {}
    left = []
    for key, value in state.items():
        part = next((part for part in PARTS if key.startswith(part)), None)
        name = PARTS[part] + key.removeprefix(part) if part else None
        tied = name not in own and key.startswith("lm_head.")  # a tied output layer has no tensor of its own
        if name is None or tied or held(name) or _refused(name, as_released):
            left.append(key)
        else:
            new[name] = value
    if as_released:
        raw = {WORDS: raw_words, "mbart.model.decoder.embed_positions.weight": raw_positions}
        new |= {key: value for key, value in raw.items() if value is not None and not held(key)}
    else:
        if WORDS not in new and not held(WORDS):  # V1: the word embeddings trained in the text encoder
            new[WORDS] = state["text_encoder.embed_tokens.weight"]
            left.remove("text_encoder.embed_tokens.weight")
        if POSITIONS in new:
            new[POSITIONS] = _moved(new[POSITIONS])
    fresh = [key for key in own if key not in new and key not in kept]
    allowed = ["sign_emb."]
    if as_released or not any(key.startswith("decoder.") for key in state):
        allowed += ["mbart.model.decoder.", "mbart.lm_head.", "mbart.model.shared."]
    elif not any(key.startswith("lm_head.") for key in state):
        allowed += ["mbart.lm_head."]  # tied in pretraining, separate in finetuning
    _check(new, own, [key for key in fresh if not key.startswith(tuple(allowed))])
    target.load_state_dict({**own, **new})
    return TransferReport(tuple(new), tuple(left), tuple(fresh), kept)


def transfer_parts(
    state: Mapping[str, Tensor],
    target: nn.Module,
    *,
    keep: Sequence[str] = (),
    only: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> TransferReport:
    """Load modules of a model from one of the same kind, tensor by tensor under the same names.

    Args:
        state: state dict of the source; of tensors that share memory it may have only one.
        target: modified in place, all or nothing.
        keep: modules to leave unchanged.
        only: modules to load; empty: all except `keep`.
        optional: modules that the source may lack; they then stay unchanged.

    Raises:
        ValueError: the source lacks a tensor of these modules or has it in another size.
    """
    own = target.state_dict()
    names = [name for name in own if not under(name, keep) and (not only or under(name, only))]
    tied: dict[tuple[int, torch.Size], list[str]] = {}  # names of each tensor; a run's file has one of them
    for name, tensor in own.items():
        tied.setdefault((tensor.data_ptr(), tensor.shape), []).append(name)
    new = {}
    for name in names:
        others = tied[own[name].data_ptr(), own[name].shape] if own[name].numel() else []
        found = next((other for other in (name, *others) if other in state), None)
        if found is not None:
            new[name] = state[found]
    _check(new, own, [name for name in names if name not in new and not under(name, optional)])
    target.load_state_dict({**own, **new})
    return TransferReport(
        tuple(new),
        tuple(name for name in state if name not in new),
        (),
        tuple(name for name in own if name not in new),
    )


def load_language_model(
    target: GFSLT | VLP, mbart: Mapping[str, Tensor], *, encoder: bool = False, decoder: bool = False
) -> TransferReport:
    """Initialise from a published mBART: the text encoder and word embeddings of VLP, the word embeddings of GFSLT.

    Args:
        target: modified in place, all or nothing.
        mbart: state dict of transformers' MBartForConditionalGeneration (or MBartModel).
        encoder: also load GFSLT's encoder over steps from the language model's encoder, except word embeddings.
        decoder: also load the text decoder from the language model's decoder: layers, cross-attention, layer norms,
            positions and output layer (in an mBART the word embeddings, unless it is untied).

    Returns:
        What was transferred and what was not (only target tensors that mBART could fill count as fresh).

    Raises:
        ValueError: not an mBART, or one of the wrong size.

    Source: released GFSLT-VLP (text encoder of a trimmed mbart-large-cc25, its word embeddings for the decoder);
    released SignCL with the decoder LLMD.
    """
    state = {key.removeprefix("model."): value for key, value in mbart.items()}
    words = next((state[key] for key in ("shared.weight", "encoder.embed_tokens.weight") if key in state), None)
    if words is None:
        raise ValueError(
            f"model.language_model needs an mBART with word embeddings; the tensors are "
            f"{', '.join(list(mbart)[:3])} ..."
        )
    own = target.state_dict()
    gfslt = WORDS in own
    places = {}  # module of the language model -> module of the target
    if hasattr(target, "text_encoder"):
        places["encoder."] = "text_encoder."
    elif encoder:
        places["encoder."] = "mbart.model.encoder."
    if decoder:
        places["decoder."] = "mbart.model.decoder." if gfslt else "decoder."
    new: dict[str, Tensor] = {}
    used = {"shared.weight", "encoder.embed_tokens.weight"}
    for key, value in state.items():
        part = next((part for part in places if key.startswith(part)), None)
        if part is not None and not key.endswith(".embed_tokens.weight"):
            new[places[part] + key.removeprefix(part)] = value
            used.add(key)
    new |= {key: words for key in ("text_encoder.embed_tokens.weight", "words.weight", WORDS) if key in own}
    head = "mbart.lm_head.weight" if gfslt else "lm_head.weight"
    if decoder and head in own:
        new[head] = state.get("lm_head.weight", words)
    if decoder:
        used |= {"decoder.embed_tokens.weight", "lm_head.weight"}
    fresh = [key for key in own if key.startswith(tuple(places.values())) and key not in new]
    _check(new, own, fresh, "the language model", "set the model sizes of the recipe to those of the language model")
    target.load_state_dict({**own, **new})
    return TransferReport(tuple(new), tuple(key for key in state if key not in used), tuple(fresh))


def transfer_signs(state: Mapping[str, Tensor], target: nn.Module) -> TransferReport:
    """Initialise Sign2GPT's frame encoder and sign encoder from its pseudo-gloss pretraining, without the head.

    Args:
        state: state dict of a PGP.
        target: a Sign2GPT, modified in place, all or nothing.

    Returns:
        What was transferred and what was not; projection, adapters and language model stay unchanged.

    Raises:
        ValueError: a module of the wrong size, or a target tensor that the source should have but lacks.
    """
    parts = ("visual.", "encoder.")
    own = target.state_dict()
    new = {key: value for key, value in state.items() if key.startswith(parts)}
    fresh = [key for key in own if key not in new]
    _check(new, own, [key for key in fresh if key.startswith(parts)])
    target.load_state_dict({**own, **new})
    return TransferReport(tuple(new), tuple(key for key in state if key not in new), tuple(fresh))


def _refused(name: str, as_released: bool) -> bool:
    """Whether the released script drops this tensor, or overwrites it after loading."""
    dropped = ("mbart.lm_head.", "mbart.model.shared.", "mbart.model.decoder.embed_positions.")
    return as_released and name.startswith(dropped)


def _moved(positions: Tensor) -> Tensor:
    """Shift position rows from an encoder with a token before the steps to one without; the last row stays."""
    return torch.cat([positions[:OFFSET], positions[OFFSET + 1 :], positions[-1:]])


def _check(
    new: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    missing: list[str],
    source: str = "one stage",
    advice: str = "give both recipes the same model sizes and the same tokenizer",
) -> None:
    wrong = [
        f"{key} ({list(value.shape)} in the source, {list(own[key].shape) if key in own else 'absent'} in the target)"
        for key, value in new.items()
        if key not in own or value.shape != own[key].shape
    ]
    if wrong or missing:
        problems = ", ".join(wrong[:3] + [f"{key} (absent in the source)" for key in missing[:3]])
        target = "the next" if source == "one stage" else "this model"
        raise ValueError(
            f"{len(wrong) + len(missing)} tensors do not fit from {source} to {target}, first {problems}; {advice}."
        )


def _by_part(names: tuple[str, ...]) -> str:
    """Number of names per module, as text."""
    counts: dict[str, int] = {}
    for name in names:
        words = name.split(".")
        part = ".".join(
            words[:3] if words[0] == "mbart" and words[1] == "model" else words[: 1 + (words[0] == "mbart")]
        )
        counts[part] = counts.get(part, 0) + 1
    return ", ".join(f"{part} ({count})" for part, count in counts.items()) or "nothing"
