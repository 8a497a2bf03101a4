"""The published or earlier weights that a recipe starts from.

Whatever is loaded is accounted for tensor by tensor and said; nothing is passed over in silence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from signcl.data.text import Tokenizer, load_glosses, load_tokenizer
from signcl.systems.parts.module_names import check_parts
from signcl.systems.parts.transfer import DECODER, load_language_model, transfer, transfer_parts, transfer_signs
from signcl.systems.targets import Targets, load_targets
from signcl.training import run_folder
from signcl.training.build.building import build_model
from signcl.training.build.frame_encoder import initialise_visual
from signcl.training.build.language_model import check_language_model, first_other_word, read_language_model
from signcl.training.build.tensors import read_tensors
from signcl.training.recipe import GLOSS_TERMS, Recipe, load_recipe

__all__ = ["initialise"]


def initialise(
    model: nn.Module, recipe: Recipe, tokenizer: Tokenizer | None = None, targets: Targets | None = None
) -> list[str]:
    """Fill a fresh model with the weights that its recipe names; what went where, a line each.

    Args:
        tokenizer: of this run; an earlier run must have given every word the same id. None: not checked.
        targets: of this run, whose pseudo-glosses name the word vectors of `model.pgp.vectors`.

    Raises:
        ValueError, OSError: nothing at the place named, or tensors that do not fit. Nothing is passed over in silence.
    """
    m, said = recipe.model, []
    if m.visual_weights:
        said.append(initialise_visual(model.visual, m.visual_weights))  # type: ignore[arg-type]
    mbart = None
    if m.language_model:
        found = read_language_model(m.language_model)
        check_language_model(found, recipe, tokenizer)
        mbart = found.tensors
        taken = load_language_model(
            model,  # type: ignore[arg-type]
            mbart,
            encoder=m.encoder_from == "language_model",
            decoder=m.decoder_from == "language_model",
        )
        trust = "" if found.tokenizer else "; no tokenizer beside it, so its rows are taken for this run's words"
        said.append(f"language model from {m.language_model}: {taken}{trust}")
    if m.name == "smkd" and m.smkd.weights:
        from signcl.systems.smkd import load_published

        published = read_tensors(m.smkd.weights, "model.smkd.weights")
        said.append(f"weights from {m.smkd.weights}: {load_published(model, published)}")  # type: ignore[arg-type]
    if m.name == "sign2gpt" and m.lm.name:
        from signcl.training.build.published import load_published_lm

        report_lm = load_published_lm(model.decoder.lm, m.lm.name.removeprefix("pretrained:"))  # type: ignore[union-attr, arg-type]
        said.append(f"language model from {m.lm.name}: {report_lm}")
    if m.name == "pgp" and m.pgp.vectors and targets is not None:
        maker = targets.makers["pseudo_gloss"]
        vectors, text = maker.vectors(m.pgp.vectors.removeprefix("pretrained:"), m.pgp.prototype_dim)
        with torch.no_grad():
            model.head.vectors.copy_(vectors)  # type: ignore[union-attr, operator]
        said.append(f"vectors of the pseudo-glosses from {m.pgp.vectors}: {text}")
    if m.name == "gaslt" and m.gaslt.word_vectors:
        if tokenizer is None:
            raise ValueError("model.gaslt.word_vectors needs the tokenizer whose words it gives vectors to")
        said.append(f"word table from {m.gaslt.word_vectors}: {_word_vectors(model, m.gaslt.word_vectors, tokenizer)}")
    if m.init_from:
        said.append(f"weights from {m.init_from}: {_from_run(model, recipe, mbart, tokenizer)}")
    return said


@torch.no_grad()
def _word_vectors(model: Any, source: str, tokenizer: Tokenizer) -> str:
    """Rows of the word table from a file of word vectors; a word that the file lacks keeps its own."""
    from signcl.data.text.word_vectors import read_vectors

    pieces, table = tokenizer.pieces(), model.decoder.words.weight
    found = read_vectors(source.removeprefix("pretrained:"), set(pieces))
    if not found:
        raise ValueError(
            f"model.gaslt.word_vectors={source}: it has none of the {len(pieces)} words of this run's tokenizer; both "
            f"must cut sentences alike, e.g. BPEmb vectors and BPEmb's SentencePiece model"
        )
    size = len(next(iter(found.values())))
    if size != table.shape[1]:
        raise ValueError(
            f"model.gaslt.word_vectors={source}: vectors of size {size}, the word table has {table.shape[1]}; set "
            f"model.gaslt.word_dim={size}"
        )
    known = [i for i, piece in enumerate(pieces) if piece in found and i != tokenizer.pad_id]
    table[known] = torch.tensor([found[pieces[i]].tolist() for i in known], dtype=table.dtype)
    absent = [piece for piece in pieces if piece not in found]
    few = f", e.g. {' '.join(absent[-3:])}" if absent else ""
    return f"{len(known)} of {len(pieces)} words found; {len(absent)} keep random vectors{few}"


def _from_run(
    model: nn.Module, recipe: Recipe, mbart: dict[str, torch.Tensor] | None, tokenizer: Tokenizer | None
) -> str:
    folder = Path(recipe.model.init_from)
    folder = folder.parent if folder.is_file() else folder
    if not folder.is_dir():
        raise FileNotFoundError(f"model.init_from={folder}: no such run folder; train the pretraining recipe first")
    source = load_recipe(folder / "recipe.yaml") if (folder / "recipe.yaml").is_file() else None
    if source is None:
        raise FileNotFoundError(f"model.init_from={folder}: it has no recipe.yaml, so it is no run folder")
    keep = _from_language_model(recipe)
    if source.model.name == recipe.model.name and not keep and not recipe.model.init_parts:
        run_folder.load_weights(folder, model)
        _same_words(folder, tokenizer)
        return "every tensor transferred"
    if (source.model.name, recipe.model.name) == ("pgp", "sign2gpt"):
        return str(transfer_signs(run_folder.read_weights(folder), model))
    check_parts(model, recipe.model.init_parts, "model.init_parts")
    if source.model.name == recipe.model.name:
        parts = transfer_parts(run_folder.read_weights(folder), model, keep=keep, only=recipe.model.init_parts)
        own = model.state_dict()
        if tokenizer and any(own[name].shape[:1] == (tokenizer.vocab_size,) for name in parts.transferred):
            _same_words(folder, tokenizer)
        return str(parts)
    if (source.model.name, recipe.model.name) != ("vlp", "gfslt"):
        raise ValueError(
            f"model.init_from={folder} is a run of {source.model.name}, which cannot start {recipe.model.name}; "
            f"gfslt starts from vlp or gfslt, sign2gpt from pgp or sign2gpt, every other system from its own kind"
        )
    as_released = recipe.model.form == "as_released"
    raw = {}
    if as_released:
        if mbart is None:
            raise ValueError(
                "model.form=as_released overwrites the transferred embeddings: set model.language_model too"
            )
        raw = {
            "raw_words": _ending(mbart, "shared.weight"),
            "raw_positions": _ending(mbart, "decoder.embed_positions.weight"),
        }
    report = transfer(
        _full(source, folder),  # type: ignore[arg-type]
        model,  # type: ignore[arg-type]
        as_released=as_released,
        keep=keep,
        only=recipe.model.init_parts,
        **raw,
    )
    if not keep or "mbart.model.shared.weight" in report.transferred:
        _same_words(folder, tokenizer)
    return str(report)


def _from_language_model(recipe: Recipe) -> tuple[str, ...]:
    """Modules that the language model has filled, and an earlier run shall not fill again."""
    m = recipe.model
    encoder = ("mbart.model.encoder",) if m.encoder_from == "language_model" else ()
    decoder = (*DECODER, "decoder", "words", "lm_head") if m.decoder_from == "language_model" else ()
    return encoder + decoder


def _same_words(folder: Path, tokenizer: Tokenizer | None) -> None:
    """Refuse a word table of the right size whose rows belong to other words."""
    if tokenizer is None:
        return
    other = first_other_word(load_tokenizer(folder), tokenizer)
    if other is not None:
        i, theirs, ours = other
        raise ValueError(
            f"model.init_from={folder}: its tokenizer has {theirs!r} where this run's has {ours!r} (id {i}); both "
            f"stages need the same text section and training sentences"
        )


def _ending(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return next(value for key, value in tensors.items() if key.endswith(name))


def _full(recipe: Recipe, folder: Path) -> nn.Module:
    """The module of a run with its weights: shared tensors, written once, have all their names again."""
    glosses = len(load_glosses(folder)) if any(term in recipe.loss.weights for term in GLOSS_TERMS) else None
    dim, targets = run_folder.read_card(folder).get("feature_dim"), load_targets(recipe, folder)
    described = run_folder.read_architecture(folder)
    model = build_model(recipe, load_tokenizer(folder), dim, glosses, targets, described)
    run_folder.load_weights(folder, model)
    return model
