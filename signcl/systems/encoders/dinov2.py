"""DINOv2: a frozen vision transformer with low-rank adapters in its last blocks; its class token is the feature.

Published weights have transformers' tensor names (a folder or hub id, see `load_published_dinov2`) or those of the
original release (`dinov2_vits14_pretrain.pth`), which `load_dinov2` maps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.data.bounds import bounded
from signcl.systems.encoders.frame_encoders import Pixels
from signcl.systems.parts.checkpoints import read_tensors
from signcl.systems.parts.lora import LowRank, published_names
from signcl.systems.parts.published_models import is_weight_file, load_published_model, read_published_config

__all__ = [
    "DINOV2_SIZES",
    "DINOv2",
    "DINOv2Config",
    "dinov2_tensors",
    "load_dinov2",
    "load_published_dinov2",
]

PUBLISHED = {"image_size": 518, "patch_size": 14}
DINOV2_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3, "mlp_ratio": 2, "image_size": 48,
             "patch_size": 8},
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, **PUBLISHED},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, **PUBLISHED},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, **PUBLISHED},
}  # fmt: skip
"""Keyword arguments of transformers' Dinov2Config: a size for CPU, and the published ViT-S/14, ViT-B/14, ViT-L/14."""
GRID_OFFSET = 0.1
"""Rows and columns that the first release of DINOv2 adds to the target grid before interpolating positions."""
LORA_SPREAD = 0.02  # standard deviation of the randomly initialised low-rank matrices, as in Sign2GPT


@dataclass(frozen=True)
class DINOv2Config:
    """Size and adapters of visual=dinov2."""

    vit: Literal["tiny", "small", "base", "large"] = "tiny"
    """Size, if the weights are not a folder or hub id that defines it; small is the published ViT-S/14."""
    lora_rank: int = bounded(4, low=0, high=4096)
    """Rank of LoRA; 0: fully frozen."""
    lora_alpha: float = bounded(4.0, above=0, high=1e6)
    lora_dropout: float = bounded(0.1, low=0, below=1)
    lora_blocks: int = bounded(3, low=0, high=1000)
    """Number of last blocks with adapters."""

    def sizes(self, described: Mapping[str, Any] | None, weights: str) -> dict[str, Any]:
        """Keyword arguments of transformers' Dinov2Config: from the run, from the published folder, or from `vit`. A
        plain tensor file (.pth, .safetensors) does not define the size, so `vit` does.

        Args:
            described: the configuration saved in a run folder.
            weights: `model.visual_weights`.
        """
        name = weights.removeprefix("pretrained:")
        if described is not None:
            return dict(described)
        if not name or is_weight_file(name):
            return dict(DINOV2_SIZES[self.vit])
        found = read_published_config(name, "model.visual_weights")
        if found.model_type != "dinov2":
            raise ValueError(f"model.visual_weights: needs a dinov2, but {name} is a {found.model_type}")
        sizes: dict[str, Any] = found.to_dict()
        return sizes


class AdaptedAttention(nn.Module):
    """The attention of a DINOv2 block with LoRA: one product for query, key and value together, one for the output.

    It has 6 * rank * width parameters besides those of the block, whose names do not change.

    Args:
        attention: transformers' Dinov2Attention, whose linear layers are reused.
        rank, alpha, dropout: see `signcl.systems.parts.lora.LowRank`.
    """

    def __init__(self, attention: Any, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.heads, self.attention_dropout = attention.num_attention_heads, attention.attention_dropout
        self.q_proj, self.k_proj, self.v_proj = attention.q_proj, attention.k_proj, attention.v_proj
        self.o_proj = attention.o_proj
        width = self.o_proj.out_features
        self.lora_qkv = LowRank(width, 3 * width, rank, alpha=alpha, dropout=dropout, spread=LORA_SPREAD)
        self.lora_out = LowRank(width, width, rank, alpha=alpha, dropout=dropout, spread=LORA_SPREAD)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, None]:
        """[B, L, width] -> [B, L, width], and None instead of the attention weights that transformers returns."""
        maps = (self.q_proj, self.k_proj, self.v_proj)
        parts = zip(maps, self.lora_qkv(hidden_states).chunk(3, dim=2))
        query, key, value = (
            (of(hidden_states) + change).unflatten(2, (self.heads, -1)).transpose(1, 2) for of, change in parts
        )
        drop = self.attention_dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, dropout_p=drop)
        seen = seen.transpose(1, 2).flatten(2)
        return self.o_proj(seen) + self.lora_out(seen), None


class AdaptedMLP(nn.Module):
    """The feed-forward part of a DINOv2 block with LoRA in both layers: 2 * rank * (width + hidden) more parameters.

    Args:
        mlp: transformers' Dinov2MLP, whose linear layers are reused.
        rank, alpha, dropout: see `signcl.systems.parts.lora.LowRank`.
    """

    def __init__(self, mlp: Any, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.fc1, self.fc2, self.activation = mlp.fc1, mlp.fc2, mlp.activation_fn
        width, hidden = self.fc1.in_features, self.fc1.out_features
        self.lora_fc1 = LowRank(width, hidden, rank, alpha=alpha, dropout=dropout, spread=LORA_SPREAD)
        self.lora_fc2 = LowRank(hidden, width, rank, alpha=alpha, dropout=dropout, spread=LORA_SPREAD)

    def forward(self, hidden_state: Tensor) -> Tensor:
        """[B, L, width] -> [B, L, width]"""
        hidden = self.activation(self.fc1(hidden_state) + self.lora_fc1(hidden_state))
        changed: Tensor = self.fc2(hidden) + self.lora_fc2(hidden)
        return changed


class DINOv2(Pixels):
    """DINOv2 without its head. ViT-S/14 has 22,056,576 parameters, all frozen.

    LoRA adapts the attention and the feed-forward part of the last `lora_blocks` blocks: rank * (6 * width + 2 * (width
    + hidden)) parameters per block, 73,728 in total at the published rank 4, width 384, hidden 1536 and 3 blocks.

    For pictures that do not have the trained size, positions are interpolated as in the first release, with scale (grid
    + 0.1) / trained grid. transformers uses the exact scale, which shifts every position slightly.

    Args:
        config: keyword arguments of transformers' Dinov2Config, e.g. a row of `DINOV2_SIZES`.
        lora_blocks: number of last blocks with adapters.
        lora_rank, lora_alpha, lora_dropout: see `signcl.systems.parts.lora.LowRank`; rank 0: fully frozen.
        chunk: frames encoded at a time, see `ResNet`.

    Raises:
        ValueError: more adapted blocks than the model has, or blocks that LoRA does not support.

    Source: Sign2GPT (ICLR 2024): ViT-S/14, rank 4, alpha 4, dropout 0.1, 3 blocks; equal to the released code
    (tests/references/pgp.safetensors).
    """

    draws = True

    def __init__(
        self,
        config: Mapping[str, Any],
        *,
        lora_blocks: int = 3,
        lora_rank: int = 4,
        lora_alpha: float = 4.0,
        lora_dropout: float = 0.1,
        chunk: int | None = None,
    ) -> None:
        super().__init__(chunk)
        from transformers import Dinov2Config, Dinov2Model

        self.config = Dinov2Config(**{k: v for k, v in config.items() if k not in ("model_type", "dtype")})
        self.dim = int(self.config.hidden_size)
        blocks = self.config.num_hidden_layers
        if not 0 <= lora_blocks <= blocks:
            raise ValueError(
                f"model.dinov2.lora_blocks: needs 0 to the {blocks} blocks of this DINOv2, got {lora_blocks}"
            )
        self.vit = Dinov2Model(self.config)
        self.vit.requires_grad_(False)
        for layer in list(self.vit.encoder.layer)[blocks - lora_blocks :] if lora_rank else ():
            if not hasattr(layer.mlp, "fc1"):
                raise ValueError(
                    f"model.dinov2.lora_rank: LoRA needs feed-forward parts of two linear layers, but this DINOv2 has "
                    f"{type(layer.mlp).__name__}; set it to 0"
                )
            layer.attention = AdaptedAttention(layer.attention, lora_rank, lora_alpha, lora_dropout)
            layer.mlp = AdaptedMLP(layer.mlp, lora_rank, lora_alpha, lora_dropout)

    @classmethod
    def of(
        cls, config: DINOv2Config, chunk: int | None, described: Mapping[str, Any] | None = None, weights: str = ""
    ) -> DINOv2:
        """Build from the values of a recipe; `described` and `weights` as in `DINOv2Config.sizes`."""
        return cls(
            config.sizes(described, weights),
            lora_blocks=config.lora_blocks,
            lora_rank=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            chunk=chunk,
        )

    def described(self) -> dict[str, Any]:
        """The configuration to save in the run folder."""
        described: dict[str, Any] = self.config.to_dict()
        return described

    def _encode(self, images: Tensor) -> Tensor:
        embeddings = self.vit.embeddings
        patches = embeddings.patch_embeddings(images.contiguous())  # [N, patches, D]
        states = torch.cat([embeddings.cls_token.expand(images.shape[0], -1, -1), patches], dim=1)
        size = embeddings.patch_embeddings.patch_size
        grid = images.shape[2] // size[0], images.shape[3] // size[1]
        states = embeddings.dropout(states + _positions(embeddings.position_embeddings, grid).to(states.dtype))
        states = self.vit.encoder(states).last_hidden_state
        token: Tensor = self.vit.layernorm(states[:, 0])
        return token


def _positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Interpolate the positions of the patches; the class token's is kept. [1, 1 + trained patches, D] ->
    [1, 1 + patches, D]"""
    trained = round((table.shape[1] - 1) ** 0.5)
    if grid == (trained, trained):
        return table
    square = table[:, 1:].float().unflatten(1, (trained, trained)).permute(0, 3, 1, 2)
    factors = [(side + GRID_OFFSET) / trained for side in grid]
    moved = F.interpolate(square, scale_factor=factors, mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], moved.flatten(2).transpose(1, 2).to(table.dtype)], dim=1)


def load_published_dinov2(encoder: DINOv2, source: str) -> str:
    """Load a published DINOv2: a transformers folder or hub id, or a file of the first release."""
    name = source.removeprefix("pretrained:")
    if is_weight_file(name):
        return load_dinov2(encoder, read_tensors(source, "model.visual_weights"))
    from transformers import Dinov2Model

    return load_published_model(encoder.vit, Dinov2Model, name, "model.visual_weights")


def load_dinov2(encoder: DINOv2, state: Mapping[str, Tensor]) -> str:
    """Load published weights into `encoder`, all or nothing; the adapters stay unchanged.

    Args:
        state: a state dict with current transformers names or those of the original release.

    Returns:
        One line: what happened to every tensor.

    Raises:
        ValueError: a tensor is missing, unknown or has the wrong shape.
    """
    own = encoder.vit.state_dict()
    here = published_names(list(own))
    original = "patch_embed.proj.weight" in state
    given = dinov2_tensors(state) if original else dict(state)
    missing, strange = [n for n in here if n not in given], [n for n in given if n not in here]
    wrong = [
        f"{n}: {list(given[n].shape)} in the checkpoint, {list(own[here[n]].shape)} here"
        for n in here
        if n in given and given[n].shape != own[here[n]].shape
    ]
    if missing or strange or wrong:
        problems = [f"{n} is missing" for n in missing[:2]] + [f"{n} is unknown" for n in strange[:2]] + wrong[:2]
        raise ValueError(
            f"model.visual_weights: {len(missing) + len(strange) + len(wrong)} tensors do not fit this DINOv2, first "
            f"{'; '.join(problems)}; set model.dinov2.vit to the size of the checkpoint"
        )
    encoder.vit.load_state_dict({**own, **{here[name]: value for name, value in given.items()}})
    return f"{len(given)} DINOv2 tensors loaded ({'original' if original else 'transformers'} names), all accounted for"


def dinov2_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors of facebookresearch/dinov2 to transformers' names and split its joint query-key-value matrix.

    Adapters of the released Sign2GPT, which are in the same blocks, are renamed to ours.
    """
    found: dict[str, Tensor] = {}
    outer = {
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "pos_embed": "embeddings.position_embeddings",
        "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    inner = {
        **{"attn.proj": "attention.o_proj", "ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1"},
        **{"attn.lora_w1_l": "attention.lora_qkv.l", "attn.lora_w2_l": "attention.lora_out.l"},
        **{"mlp.lora_w1_l": "mlp.lora_fc1.l", "mlp.lora_w2_l": "mlp.lora_fc2.l", ".l1.": ".down.", ".l2.": ".up."},
    }
    for name, value in state.items():
        block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
        if block is None:
            found[outer.get(name, name)] = value
            continue
        place, part = f"encoder.layer.{block[1]}.", block[2]
        if part.startswith("attn.qkv."):
            for letter, third in zip("qkv", value.chunk(3)):
                found[f"{place}attention.{letter}_proj.{part.removeprefix('attn.qkv.')}"] = third
            continue
        for theirs, ours in inner.items():
            part = part.replace(theirs, ours)
        found[place + part] = value
    return found
