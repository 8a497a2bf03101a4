"""From a recipe to a model with random weights: one builder for each system, by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from signcl.data.text import Tokenizer
from signcl.systems.targets import Targets
from signcl.training import run_folder
from signcl.training.recipe import Recipe

__all__ = ["BUILDERS", "Parts", "build_frame_encoder", "build_model"]

SHARED = (
    "width",
    "conv_width",
    "encoder_layers",
    "decoder_layers",
    "heads",
    "decoder_heads",
    "ffn",
    "dropout",
    "attention_dropout",
    "activation",
    "tie_embeddings",
    "max_positions",
    "sync_norm",
)
"""Recipe values that both systems are built from."""
VLP_ONLY = (
    "text_layers",
    "text_heads",
    "text_ffn",
    "text_dropout",
    "text_attention_dropout",
    "text_activation",
    "masked_text",
    "masked_text_trains_encoder",
    "sign_emb",
)
ENCODER = (
    "width",
    "encoder_layers",
    "heads",
    "ffn",
    "dropout",
    "attention_dropout",
    "activation",
    "signcl_tap",
    "sync_norm",
)
"""Recipe values that the recogniser is built from."""
SLT_ONLY = ("decoder_layers", "decoder_heads", "tie_embeddings")
SIGNS = ("width", "heads", "ffn", "dropout", "activation", "sync_norm")
SIGNS_OWN = ("blocks", "window", "layer_scale", "drop_path")
"""Recipe values of the sign encoder of Sign2GPT, shared and in `model.pgp`."""
HEAD = ("prototype_dim", "temperature", "learn_prototypes")
ADAPTERS = ("lora_rank", "lora_alpha", "lora_dropout", "adapter_width", "adapter_heads", "gate")


@dataclass(frozen=True)
class Parts:
    """What a builder may need beside the recipe."""

    recipe: Recipe
    kind: type[nn.Module]
    """The class of the system."""
    visual: nn.Module
    tokenizer: Tokenizer
    num_glosses: int | None
    """Gloss classes, where the recipe weighs a term of `GLOSS_TERMS`."""
    targets: Targets | None
    """What the recipe's terms need of each sentence, e.g. the pseudo-gloss vocabulary."""
    described: dict[str, Any] = field(default_factory=dict)
    """Configurations of published networks by the name of their module, as a run folder keeps them."""

    def values(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Keys of the recipe's model section, as keyword arguments."""
        return {name: getattr(self.recipe.model, name) for name in names}

    def words(self) -> dict[str, int]:
        """Sizes and ids of the tokenizer, as keyword arguments."""
        t = self.tokenizer
        return {"vocab_size": t.vocab_size, "pad_id": t.pad_id, "start_id": t.start_id}


def _gfslt(parts: Parts) -> nn.Module:
    as_released = parts.recipe.model.form == "as_released"
    end = parts.tokenizer.end_id
    sizes = parts.values((*SHARED, "adapter"))
    return parts.kind(parts.visual, **parts.words(), end_id=end, as_released=as_released, **sizes)


def _vlp(parts: Parts) -> nn.Module:
    as_released = parts.recipe.model.form == "as_released"
    own = parts.values(VLP_ONLY)
    own["masked_text"] &= "masked_text" in parts.recipe.loss.weights  # a decoder that no term trains would stall DDP
    weighed = parts.recipe.loss.weights
    own["token_contrast"] = "token_clip" in weighed
    own["clip_contrast"] = "clip" in weighed or "token_clip" not in weighed
    return parts.kind(parts.visual, **parts.words(), as_released=as_released, **parts.values(SHARED), **own)


def _recogniser(parts: Parts) -> nn.Module:
    return parts.kind(parts.visual, num_glosses=parts.num_glosses, **parts.values(ENCODER))


def _smkd(parts: Parts) -> nn.Module:
    m = parts.recipe.model
    if m.smkd.pixels == "symmetric":  # x / 127.5 - 1
        visual: Any = parts.visual
        visual.mean.fill_(0.5)
        visual.scale.fill_(2.0)
    own = {"share_classifier": m.smkd.share_classifier, "weight_norm": m.smkd.weight_norm}
    sizes = parts.values(("width", "conv_width", "dropout", "sync_norm"))
    return parts.kind(parts.visual, num_glosses=parts.num_glosses, layers=m.encoder_layers, **sizes, **own)


def _cnn_ctc(parts: Parts) -> nn.Module:
    m = parts.recipe.model
    sizes = {"width": m.conv_width, "window": m.cnn_ctc.window, **parts.values(("dropout", "sync_norm"))}
    return parts.kind(parts.visual, num_glosses=parts.num_glosses, **sizes)


def _slt(parts: Parts) -> nn.Module:
    sizes = parts.values(ENCODER) | parts.values(SLT_ONLY)
    end = parts.tokenizer.end_id
    return parts.kind(parts.visual, **parts.words(), end_id=end, num_glosses=parts.num_glosses, **sizes)


def _classifier(parts: Parts) -> nn.Module:
    assert parts.num_glosses is not None  # the term that it needs makes the vocabulary
    return parts.kind(parts.visual, num_glosses=parts.num_glosses, dropout=parts.recipe.model.dropout)


def _signs(parts: Parts) -> dict[str, Any]:
    own = parts.recipe.model.pgp
    return parts.values(SIGNS) | {name: getattr(own, name) for name in SIGNS_OWN}


def _pgp(parts: Parts) -> nn.Module:
    maker = None if parts.targets is None else parts.targets.makers.get("pseudo_gloss")
    if maker is None:
        raise ValueError("model.name=pgp: needs a weight for pseudo_gloss, whose vocabulary decides its size")
    own = parts.recipe.model.pgp
    head = {name: getattr(own, name) for name in HEAD}
    return parts.kind(parts.visual, num_glosses=len(maker), **_signs(parts), **head)


def _sign2gpt(parts: Parts) -> nn.Module:
    from signcl.training.build.published import language_model

    t, own = parts.tokenizer, parts.recipe.model.lm
    lm = language_model(parts.recipe, t, parts.described.get("decoder"))
    sizes = _signs(parts) | {name: getattr(own, name) for name in ADAPTERS}
    ids = {"pad_id": t.pad_id, "start_id": t.start_id, "end_id": t.end_id}
    return parts.kind(parts.visual, lm, train_all=own.train == "all", **ids, **sizes)


def _gaslt(parts: Parts) -> nn.Module:
    m = parts.recipe.model
    edge = "released" if m.form == "as_released" else m.gaslt.edge
    own = {name: getattr(m.gaslt, name) for name in ("keys", "word_dim", "embedding_dropout")}
    sizes = parts.values(ENCODER) | parts.values(SLT_ONLY)
    return parts.kind(parts.visual, **parts.words(), end_id=parts.tokenizer.end_id, **sizes, **own, edge=edge)


BUILDERS: dict[str, Callable[[Parts], nn.Module]] = {
    "classifier": _classifier,
    "gaslt": _gaslt,
    "cnn_ctc": _cnn_ctc,
    "gfslt": _gfslt,
    "pgp": _pgp,
    "recogniser": _recogniser,
    "sign2gpt": _sign2gpt,
    "slt": _slt,
    "smkd": _smkd,
    "vlp": _vlp,
}


def build_model(
    recipe: Recipe,
    tokenizer: Tokenizer,
    feature_dim: int | None,
    num_glosses: int | None = None,
    targets: Targets | None = None,
    described: dict[str, Any] | None = None,
) -> nn.Module:
    """The system that a recipe names, at its sizes, with random weights.

    Args:
        feature_dim: size of pre-extracted features, or None when the corpus gives pixels.
        num_glosses: gloss classes, where the recipe weighs a term of `GLOSS_TERMS`.
        targets: what the recipe's terms need of each sentence, for systems whose sizes depend on it.
        described: configurations of published networks in it, as a run folder keeps them; None reads them where the
            recipe names the networks.

    Raises:
        ValueError: an encoder of pixels for a corpus of features, or the other way round.
    """
    from signcl.systems import model_class

    m = recipe.model
    kind = model_class(m.name)
    described = described or {}
    visual = build_frame_encoder(recipe, feature_dim, described.get("visual"))
    return BUILDERS[m.name](Parts(recipe, kind, visual, tokenizer, num_glosses, targets, described))


def build_frame_encoder(recipe: Recipe, feature_dim: int | None, described: dict[str, Any] | None = None) -> nn.Module:
    """The frame encoder that a recipe names, with random weights.

    Args:
        feature_dim: size of pre-extracted features, or None when the corpus gives pixels.
        described: the configuration of a published network, as a run folder keeps it.

    Raises:
        ValueError: an encoder of pixels for a corpus of features, or the other way round.
    """
    from signcl.systems.encoders import build_visual

    m = recipe.model
    dinov2 = None
    if m.visual == "dinov2":
        from signcl.training.build.published import dinov2_options

        folder = Path(m.visual_weights.removeprefix("pretrained:"))
        if described is None and (folder / "recipe.yaml").is_file():  # of an earlier run
            described = (run_folder.read_architecture(folder) or {}).get("visual")
        dinov2 = dinov2_options(recipe, described)
    return build_visual(
        m.visual, dim=m.visual_dim, feature_dim=feature_dim, chunk=m.chunk, windows=m.i3d, dinov2=dinov2
    )
