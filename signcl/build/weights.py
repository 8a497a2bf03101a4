"""The published or earlier weights that a recipe starts from.

Whatever is loaded is accounted for tensor by tensor and said; nothing is passed over in silence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from signcl import checkpoint
from signcl.build.systems import build_model
from signcl.recipe import Recipe, load_recipe
from signcl.targets import Targets, load_targets
from signcl.text import Tokenizer, load_glosses, load_tokenizer

__all__ = ["initialise", "read_tensors"]


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
    if m.visual_weights and m.visual == "dinov2":
        from signcl.build.published import load_published_dinov2

        said.append(f"frame encoder from {m.visual_weights}: {load_published_dinov2(model.visual, m.visual_weights)}")
    elif m.visual_weights:
        from signcl.visual import load_resnet_weights

        report = load_resnet_weights(model.visual, read_tensors(m.visual_weights, "model.visual_weights"))  # type: ignore[arg-type]
        said.append(f"frame encoder from {m.visual_weights}: {report}")
    mbart = None
    if m.language_model:
        from signcl.models.transfer import load_language_model

        mbart = read_tensors(m.language_model, "model.language_model")
        said.append(f"language model from {m.language_model}: {load_language_model(model, mbart)}")  # type: ignore[arg-type]
    if m.name == "sign2gpt" and m.lm.name:
        from signcl.build.published import load_published_lm

        report_lm = load_published_lm(model.decoder.lm, m.lm.name.removeprefix("pretrained:"))  # type: ignore[union-attr, arg-type]
        said.append(f"language model from {m.lm.name}: {report_lm}")
    if m.name == "pgp" and m.pgp.vectors and targets is not None:
        maker = targets.makers["pseudo_gloss"]
        vectors, text = maker.vectors(m.pgp.vectors.removeprefix("pretrained:"), m.pgp.prototype_dim)
        with torch.no_grad():
            model.head.vectors.copy_(vectors)  # type: ignore[union-attr, operator]
        said.append(f"vectors of the pseudo-glosses from {m.pgp.vectors}: {text}")
    if m.init_from:
        said.append(f"weights from {m.init_from}: {_from_run(model, recipe, mbart, tokenizer)}")
    return said


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
    if source.model.name == recipe.model.name:
        checkpoint.load_weights(folder, model)
        _same_words(folder, tokenizer)
        return "every tensor transferred"
    if (source.model.name, recipe.model.name) == ("pgp", "sign2gpt"):
        from signcl.models.transfer import transfer_signs

        return str(transfer_signs(checkpoint.read_weights(folder), model))
    if (source.model.name, recipe.model.name) != ("vlp", "gfslt"):
        raise ValueError(
            f"model.init_from={folder} is a run of {source.model.name}, which cannot start {recipe.model.name}; "
            f"gfslt starts from vlp or gfslt, sign2gpt from pgp or sign2gpt, every other system from its own kind"
        )
    from signcl.models.transfer import transfer

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
    report = transfer(_full(source, folder), model, as_released=as_released, **raw)  # type: ignore[arg-type]
    _same_words(folder, tokenizer)
    return str(report)


def _same_words(folder: Path, tokenizer: Tokenizer | None) -> None:
    """Refuse a word table of the right size whose rows belong to other words."""
    if tokenizer is None:
        return
    theirs = load_tokenizer(folder)
    for i in range(tokenizer.vocab_size):
        if theirs.decode([i]) != tokenizer.decode([i]):
            raise ValueError(
                f"model.init_from={folder}: its tokenizer has {theirs.decode([i])!r} where this run's has "
                f"{tokenizer.decode([i])!r} (id {i}); both stages need the same text section and training sentences"
            )


def _ending(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return next(value for key, value in tensors.items() if key.endswith(name))


def _full(recipe: Recipe, folder: Path) -> nn.Module:
    """The module of a run with its weights: shared tensors, written once, have all their names again."""
    glosses = len(load_glosses(folder)) if "recognition" in recipe.loss.weights else None
    dim, targets = checkpoint.read_card(folder).get("feature_dim"), load_targets(recipe, folder)
    described = checkpoint.read_architecture(folder)
    model = build_model(recipe, load_tokenizer(folder), dim, glosses, targets, described)
    checkpoint.load_weights(folder, model)
    return model


def read_tensors(source: str, key: str) -> dict[str, torch.Tensor]:
    """Tensors of a published checkpoint: `pretrained:` and a file, a folder as transformers saves it, or a hub id.

    Pickled checkpoints (.pth, .bin) are read with torch's restricted unpickler: tensors and containers only.
    """
    if not source.startswith("pretrained:"):
        raise ValueError(f"{key}: needs pretrained:FILE, pretrained:FOLDER or pretrained:HUB_ID, got {source!r}")
    name = source.removeprefix("pretrained:")
    path = Path(name)
    if path.is_dir():
        names = ("model.safetensors", "pytorch_model.bin")
        found = [path / n for n in names if (path / n).is_file()]
        if not found:
            raise FileNotFoundError(f"{key}: {path} has none of {', '.join(names)}")
        path = found[0]
    elif not path.is_file():
        from transformers.utils.hub import cached_file

        try:
            path = Path(str(cached_file(name, "model.safetensors")))
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise FileNotFoundError(
                f"{key}: no file or folder {name}, and no such hub id can be had: {reason}"
            ) from None
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        data: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(
            f"{key}: {path} cannot be read as a checkpoint ({' '.join(str(error).split())[:200]})"
        ) from None
    for inner in ("model", "state_dict", "model_state_dict"):
        if isinstance(data, dict) and isinstance(data.get(inner), dict):
            data = data[inner]
    tensors = {k: v for k, v in data.items() if isinstance(v, torch.Tensor)} if isinstance(data, dict) else {}
    if not tensors:
        raise ValueError(f"{key}: {path} holds no tensors by name")
    return tensors
