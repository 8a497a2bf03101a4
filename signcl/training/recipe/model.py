"""The section `model` of a recipe: the values that several systems share, and a section for each system's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from signcl.training.recipe.system_list import CNNCTCRecipe, GASLTRecipe, I3DRecipe, LMRecipe, PGPRecipe, SMKDRecipe

__all__ = ["ModelRecipe", "check_starts"]


@dataclass
class ModelRecipe:
    """Which system at what size. Defaults are a small CPU preset; recipes of the paper set the published sizes."""

    name: str = "gfslt"
    """A system: `signcl systems` lists them with the stages that train each."""
    visual: str = "small_cnn"
    """Frame encoder: small_cnn, resnet18, resnet34, i3d, dinov2 (pixels), feature_mlp, identity (features), pose_stream
    (poses)."""
    visual_weights: str = ""
    """pretrained:FILE_OR_FOLDER_OR_HUB_ID for the frame encoder, or pretrained:RUN for that of an earlier run; empty
    starts at random."""
    visual_dim: int = 128
    """Feature size D, for the encoders that have no published one."""
    conv_width: int = 256
    width: int = 256
    encoder_layers: int = 2
    decoder_layers: int = 2
    heads: int = 4
    ffn: int = 512
    decoder_heads: int | None = None
    """Heads of the decoder where they differ from the encoder's (the released LLMD configuration)."""
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation: str = "relu"
    signcl_tap: str = "embedding"
    """slt, gaslt, recogniser: where SignCL looks: embedding (of the encoder's input) or layer1, layer2, ... of it."""
    tie_embeddings: bool = False
    text_layers: int = 2
    """Layers of the text encoder (vlp)."""
    text_heads: int = 4
    text_ffn: int = 512
    text_dropout: float = 0.1
    text_attention_dropout: float = 0.0
    text_activation: str = "relu"
    masked_text: bool = True
    """VLP version 2: add the decoder that restores the masked sentence; without it, or without the weight of
    `masked_text`, it is version 1, the contrast alone."""
    masked_text_trains_encoder: bool = False
    """The masked-text term also reaches the text encoder; off as in the released code."""
    sign_emb: bool = False
    """vlp: GFSLT's sign embedding already in pretraining, so that no untrained layer stands between trained ones."""
    max_positions: int = 1024
    sync_norm: bool = False
    """Batch norm statistics over all ranks; off as released."""
    form: Literal["fixed", "as_released"] = "fixed"
    """as_released restores the released code's padding, normalisation and weight transfer (docs/paper-vs-code.md)."""
    language_model: str = ""
    """pretrained:FOLDER_OR_HUB_ID of an mBART, or of a vlp run whose text side then serves: it starts the text encoder
    (vlp) and the word table, and with encoder_from and decoder_from more of the model."""
    encoder_from: Literal["init_from", "language_model"] = "init_from"
    """gfslt: where the encoder over steps starts: init_from (at random without one), or the language model's encoder,
    whole: then encoder_layers, heads, ffn, activation and max_positions are those of the language model."""
    decoder_from: Literal["init_from", "language_model"] = "init_from"
    """gfslt, vlp: where the text decoder starts. language_model takes its decoder whole: layers, cross-attention, layer
    norms, positions, word table and word head (LLMD as released); the text decoder of init_from is then left behind."""
    adapter: Literal["sign_emb", "linear", "mlp"] = "sign_emb"
    """gfslt: what stands between the convolution's steps and the encoder: GFSLT's linear-BN-ReLU, a linear layer, or
    linear-GELU-linear. It is the module `sign_emb` in all three."""
    init_from: str = ""
    """A run folder whose weights start this one, e.g. the pretraining run of a finetuning."""
    init_parts: list[str] = field(default_factory=list)
    """Modules that init_from gives, e.g. [visual, conv]; the others start as without it. Empty: all of them."""
    freeze: list[str] = field(default_factory=list)
    """Modules that do not train, e.g. [visual, conv]: no gradient, no optimizer state, and evaluation mode throughout
    (no dropout, batch norm statistics stand still)."""
    chunk: int | None = None
    """Frames that pass the frame encoder at a time, recomputed in the backward pass; None takes all at once."""
    smkd: SMKDRecipe = field(default_factory=SMKDRecipe)
    cnn_ctc: CNNCTCRecipe = field(default_factory=CNNCTCRecipe)
    i3d: I3DRecipe = field(default_factory=I3DRecipe)
    gaslt: GASLTRecipe = field(default_factory=GASLTRecipe)
    pgp: PGPRecipe = field(default_factory=PGPRecipe)
    lm: LMRecipe = field(default_factory=LMRecipe)


def check_starts(model: ModelRecipe, weights: dict[str, float], lr_scale: dict[str, float]) -> None:
    """Refuse starting points and frozen parts that another value makes meaningless.

    Raises:
        ValueError: names both keys.
    """
    able = {"encoder_from": ("gfslt",), "decoder_from": ("gfslt", "vlp")}
    for key, names in able.items():
        if getattr(model, key) == "init_from":
            continue
        if model.name not in names:
            raise ValueError(f"model.{key}=language_model belongs to {' and '.join(names)}, not to {model.name}")
        if not model.language_model:
            raise ValueError(f"model.{key}=language_model needs model.language_model=pretrained:FOLDER_OR_HUB_ID")
    if model.adapter != "sign_emb" and model.name != "gfslt":
        raise ValueError(f"model.adapter={model.adapter} belongs to gfslt, not to {model.name}")
    if model.adapter != "sign_emb" and model.form == "as_released":
        raise ValueError(f"model.adapter={model.adapter}: the released form has sign_emb; set model.form=fixed")
    if model.init_parts and not model.init_from:
        raise ValueError(f"model.init_parts={model.init_parts} needs the run that gives them: set model.init_from")
    if "visual" in model.freeze and weights.get("signcl", 0) > 0 and model.name in ("gfslt", "vlp"):
        raise ValueError("loss.weights.signcl: model.freeze holds the frame encoder still, which is all it moves")
    for prefix, factor in lr_scale.items():
        if not 0 < factor < float("inf"):
            raise ValueError(
                f"train.lr_scale.{prefix}: needs a factor above 0, got {factor}; model.freeze=[{prefix}] stops it"
            )
