"""Networks of others inside a system: a causal language model, a DINOv2. Their configuration, then their weights.

A configuration is read where the recipe names the network, and kept in the run folder (`architecture.json`), so that a
run can be loaded where the published folder is not.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from signcl.data.text import Tokenizer
from signcl.training.recipe import Recipe

__all__ = ["dinov2_options", "language_model", "load_published_dinov2", "load_published_lm"]


def language_model(recipe: Recipe, tokenizer: Tokenizer, described: dict[str, Any] | None) -> nn.Module:
    """The causal language model of a recipe, with random weights.

    Args:
        described: its configuration, where a run folder has it; None reads it from where the recipe names it.

    Raises:
        ValueError: no such language model, or one whose vocabulary is smaller than the tokenizer's.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    m = recipe.model
    if described is not None:
        config = CONFIG_MAPPING[described["model_type"]].from_dict(dict(described))
    elif m.lm.name:
        config = _config(m.lm.name.removeprefix("pretrained:"), "model.lm.name")
    else:
        config = _random_config(recipe, tokenizer)
    words = getattr(tokenizer, "num_tokens", tokenizer.vocab_size)
    rows = config.get_text_config(decoder=True).vocab_size
    if rows < words:
        raise ValueError(
            f"model.lm: its vocabulary has {rows} rows and the tokenizer {words} tokens; set text.tokenizer to the "
            f"folder or hub id of the language model itself"
        )
    try:
        lm: nn.Module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except (ValueError, ImportError) as error:
        raise ValueError(
            f"model.lm.name={m.lm.name}: no causal language model of transformers: {_short(error)}"
        ) from None
    return lm


def _random_config(recipe: Recipe, tokenizer: Tokenizer) -> Any:
    """A GPT-2 or XGLM of the recipe's sizes and the tokenizer's vocabulary."""
    from transformers import GPT2Config, XGLMConfig

    m, lm = recipe.model, recipe.model.lm
    words: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size,
        "pad_token_id": None,
        "bos_token_id": tokenizer.start_id,
        "eos_token_id": tokenizer.end_id,
    }
    if lm.architecture == "gpt2":
        return GPT2Config(
            n_layer=lm.layers, n_embd=lm.width, n_head=lm.heads, n_inner=lm.ffn, n_positions=m.max_positions,
            resid_pdrop=m.dropout, embd_pdrop=m.dropout, attn_pdrop=m.dropout, **words,
        )  # fmt: skip
    return XGLMConfig(
        num_layers=lm.layers, d_model=lm.width, attention_heads=lm.heads, ffn_dim=lm.ffn, dropout=m.dropout,
        attention_dropout=0.0, max_position_embeddings=m.max_positions, **words,
    )  # fmt: skip


def dinov2_options(recipe: Recipe, described: dict[str, Any] | None) -> dict[str, Any]:
    """Keyword arguments of `DINOv2` for a recipe; its size from the run, the folder or the recipe.

    A file of tensors alone (.pth, .safetensors) says no size: then `model.pgp.vit` does.
    """
    from signcl.systems.encoders import DINOV2_SIZES

    p = recipe.model.pgp
    weights = recipe.model.visual_weights.removeprefix("pretrained:")
    config: dict[str, Any] = dict(DINOV2_SIZES[p.vit])
    if described is not None:
        config = described
    elif weights and not _is_file(weights):
        found = _config(weights, "model.visual_weights")
        if found.model_type != "dinov2":
            raise ValueError(f"model.visual_weights: {weights} is a {found.model_type}, and dinov2 is needed")
        config = found.to_dict()
    names = ("lora_blocks", "lora_rank", "lora_alpha", "lora_dropout")
    return {"config": config, **{name: getattr(p, name) for name in names}}


def load_published_lm(lm: nn.Module, source: str) -> str:
    """The weights of a published language model, all or nothing; its adapters keep what they have.

    Raises:
        ValueError: no such model, or tensors that it lacks.
    """
    from transformers import AutoModelForCausalLM

    return _load(lm, AutoModelForCausalLM, source, "model.lm.name")


def load_published_dinov2(encoder: Any, source: str) -> str:
    """The weights of a published DINOv2: a folder or hub id as transformers has it, or a file of the first release."""
    from signcl.training.build.tensors import read_tensors

    name = source.removeprefix("pretrained:")
    if _is_file(name):
        from signcl.systems.encoders import load_dinov2

        return load_dinov2(encoder, read_tensors(source, "model.visual_weights"))
    from transformers import Dinov2Model

    return _load(encoder.vit, Dinov2Model, name, "model.visual_weights")


def _load(target: nn.Module, kind: Any, source: str, key: str) -> str:
    import torch
    from transformers.utils import logging as progress

    from signcl.systems.parts.lora import without_lora_names

    shown = progress.is_progress_bar_enabled()
    progress.disable_progress_bar()
    try:
        found, told = kind.from_pretrained(source, output_loading_info=True, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{key}: no weights can be read from {source}: {_short(error)}") from None
    finally:
        if shown:
            progress.enable_progress_bar()
    if missing := sorted(told["missing_keys"]):
        raise ValueError(f"{key}: {source} lacks {len(missing)} tensors, first {', '.join(missing[:3])}")
    theirs: dict[str, Tensor] = found.state_dict()
    own = target.state_dict()
    here = without_lora_names(list(own))
    wrong = [name for name in here if name not in theirs or theirs[name].shape != own[here[name]].shape]
    if wrong or len(theirs) != len(here):
        raise ValueError(
            f"{key}: {len(wrong)} tensors of {source} do not fit this {type(target).__name__}, first "
            f"{', '.join(wrong[:3]) or 'a tensor more than there is place for'}"
        )
    target.load_state_dict({**own, **{here[name]: value for name, value in theirs.items()}})
    unused = sorted(told["unexpected_keys"])
    left = f", left behind: {', '.join(unused[:3])}{' ...' if len(unused) > 3 else ''}" if unused else ""
    return f"{len(theirs)} tensors of {type(found).__name__} loaded, all accounted for{left}"


def _config(source: str, key: str) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{key}: no folder {source} with a config.json, and no such hub id: {_short(error)}") from None


def _is_file(name: str) -> bool:
    from pathlib import Path

    return Path(name).is_file() or Path(name).suffix in (".pth", ".pt", ".bin", ".safetensors")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
