"""DINOv2: a frozen vision transformer with low-rank adapters in its last blocks; the class token is the frame's vector.

Published weights come under transformers' names (a folder or hub id, see
`load_published_dinov2`) or under those of
the original release (`dinov2_vits14_pretrain.pth`), which `load_dinov2` maps name by name. Opens no file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from signcl.data.bounds import bounded
from signcl.systems.encoders.frame_encoders import Pixels
from signcl.systems.parts.checkpoints import read_tensors
from signcl.systems.parts.lora import add_lora, without_lora_names
from signcl.systems.parts.published_models import is_weight_file, load_published_model, read_published_config

__all__ = ["DINOV2_SIZES", "DINOv2", "DINOv2Config", "load_dinov2", "load_published_dinov2"]

PUBLISHED = {"image_size": 518, "patch_size": 14}
DINOV2_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 3, "mlp_ratio": 2, "image_size": 48,
             "patch_size": 8},
    "small": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, **PUBLISHED},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, **PUBLISHED},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, **PUBLISHED},
}  # fmt: skip
"""Keyword arguments of transformers' Dinov2Config: a size for CPU, and the published ViT-S/14, ViT-B/14, ViT-L/14."""
MAPS = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True)
class DINOv2Config:
    """visual=dinov2: its size and its adapters."""

    vit: Literal["tiny", "small", "base", "large"] = "tiny"
    """Its size where neither a folder nor a hub id of weights says it; small is the published ViT-S/14."""
    lora_rank: int = bounded(4, low=0, high=4096)
    """0 leaves it frozen."""
    lora_alpha: float = bounded(4.0, above=0, high=1e6)
    lora_dropout: float = bounded(0.1, low=0, below=1)
    lora_blocks: int = bounded(3, low=0, high=1000)
    """The last blocks that are adapted."""

    def sizes(self, described: Mapping[str, Any] | None, weights: str) -> dict[str, Any]:
        """Keyword arguments of transformers' Dinov2Config: from the run, from the published folder, or by `vit`.

        A file of tensors alone (.pth, .safetensors) says no size: then `vit` does.

        Args:
            described: as a run folder keeps it.
            weights: `model.visual_weights`.
        """
        name = weights.removeprefix("pretrained:")
        if described is not None:
            return dict(described)
        if not name or is_weight_file(name):
            return dict(DINOV2_SIZES[self.vit])
        found = read_published_config(name, "model.visual_weights")
        if found.model_type != "dinov2":
            raise ValueError(f"model.visual_weights: {name} is a {found.model_type}, and dinov2 is needed")
        sizes: dict[str, Any] = found.to_dict()
        return sizes


class DINOv2(Pixels):
    """DINOv2 without its own head. ViT-S/14 has 22,056,576 parameters, none of which is trained.

    LoRA stands in query, key, value and output of the attention of the last `lora_blocks` blocks: 8 * rank * width
    parameters each, 36,864 at the published rank 4, width 384 and 3 blocks.

    Args:
        config: keyword arguments of transformers' Dinov2Config, e.g. a row of `DINOV2_SIZES`.
        lora_blocks: how many of the last blocks have adapters.
        lora_rank, lora_alpha, lora_dropout: see `signcl.systems.parts.lora.add_lora`; rank 0 leaves all frozen.
        chunk: frames encoded at a time, see `ResNet`.

    Raises:
        ValueError: more blocks with adapters than there are, or peft is missing.

    Source: Sign2GPT (ICLR 2024): ViT-S/14, rank 4, alpha 4, dropout 0.1, 3 blocks.
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
        names = [
            name
            for name, _ in self.vit.named_modules()
            if (hit := re.search(r"layer\.(\d+)\..*attention.*\.(\w+)$", name))
            and int(hit[1]) >= blocks - lora_blocks
            and hit[2] in MAPS
        ]
        rank = lora_rank if names else 0
        add_lora(self.vit, names, rank=rank, alpha=lora_alpha, dropout=lora_dropout, key="model.dinov2")

    @classmethod
    def of(
        cls, config: DINOv2Config, chunk: int | None, described: Mapping[str, Any] | None = None, weights: str = ""
    ) -> DINOv2:
        """With the values of a recipe; `described` and `weights` as of `DINOv2Config.sizes`."""
        return cls(
            config.sizes(described, weights),
            lora_blocks=config.lora_blocks,
            lora_rank=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            chunk=chunk,
        )

    def described(self) -> dict[str, Any]:
        """The configuration, for the run folder."""
        described: dict[str, Any] = self.config.to_dict()
        return described

    def _encode(self, images: Tensor) -> Tensor:
        states: Tensor = self.vit(images.contiguous()).last_hidden_state
        return states[:, 0]


def load_published_dinov2(encoder: DINOv2, source: str) -> str:
    """The weights of a published DINOv2: a folder or hub id as transformers has it, or a file of the first release."""
    name = source.removeprefix("pretrained:")
    if is_weight_file(name):
        return load_dinov2(encoder, read_tensors(source, "model.visual_weights"))
    from transformers import Dinov2Model

    return load_published_model(encoder.vit, Dinov2Model, name, "model.visual_weights")


def load_dinov2(encoder: DINOv2, state: Mapping[str, Tensor]) -> str:
    """Load published weights into `encoder`, all or nothing; the adapters keep what they have.

    Args:
        state: a state dict under today's transformers names, or under those of the original release.

    Returns:
        What became of every tensor, in a line.

    Raises:
        ValueError: a tensor that is missing, unknown or of another shape.
    """
    own = encoder.vit.state_dict()
    here = without_lora_names(list(own))
    original = "patch_embed.proj.weight" in state
    given = _from_original(state) if original else dict(state)
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
            f"{'; '.join(problems)}; set model.dinov2.vit to the size that the checkpoint has"
        )
    encoder.vit.load_state_dict({**own, **{here[name]: value for name, value in given.items()}})
    return f"{len(given)} DINOv2 tensors loaded ({'original' if original else 'transformers'} names), all accounted for"


def _from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of facebookresearch/dinov2 under transformers' names; its query, key and value stand in one matrix."""
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
    inner = {"attn.proj": "attention.o_proj", "ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1"}
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
