"""The section `model` of a recipe: the values that several systems share, and a section for each system's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from signcl.recipe.systems import GASLTRecipe, I3DRecipe, LMRecipe, PGPRecipe, SMKDRecipe

__all__ = ["ModelRecipe"]


@dataclass
class ModelRecipe:
    """Which system at what size. Defaults are a small CPU preset; recipes of the paper set the published sizes."""

    name: str = "gfslt"
    """A system: `signcl systems` lists them with the stages that train each."""
    visual: str = "small_cnn"
    """Frame encoder: small_cnn, resnet18, resnet34, dinov2 (pixels), feature_mlp, identity (features)."""
    visual_weights: str = ""
    """pretrained:FILE_OR_FOLDER_OR_HUB_ID for the frame encoder; empty starts at random."""
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
    """slt, recogniser: where SignCL looks: embedding (of the encoder's input) or layer1, layer2, ... of the encoder."""
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
    """pretrained:FOLDER_OR_HUB_ID of an mBART whose text encoder (vlp) and embeddings start the model."""
    init_from: str = ""
    """A run folder whose weights start this one, e.g. the pretraining run of a finetuning."""
    chunk: int | None = None
    """Frames that pass the frame encoder at a time, recomputed in the backward pass; None takes all at once."""
    smkd: SMKDRecipe = field(default_factory=SMKDRecipe)
    i3d: I3DRecipe = field(default_factory=I3DRecipe)
    gaslt: GASLTRecipe = field(default_factory=GASLTRecipe)
    pgp: PGPRecipe = field(default_factory=PGPRecipe)
    lm: LMRecipe = field(default_factory=LMRecipe)
