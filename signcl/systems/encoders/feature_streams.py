"""A frame encoder for the concatenated features of several published encoders: one linear map per source, fused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from signcl.data.bounds import bounded
from signcl.systems.encoders.frame_encoders import describe

__all__ = ["FeatureStreams", "StreamsConfig"]


@dataclass(frozen=True)
class StreamsConfig:
    """visual=feature_streams: the sources concatenated in a row of features (a list in `corpus.features`)."""

    sizes: list[int] = bounded([], low=1, high=1_000_000)
    """Size of each source, in the order of `corpus.features`, e.g. [2048, 1024]. Empty: one source."""
    fusion: Literal["apart", "gated"] = "apart"
    """apart: concatenate the mapped sources. gated: sum them, each element weighted by a softmax over the sources that
    depends on all of them. Each mapped source has size visual_dim."""
    norm: bool = field(default=False)
    """Apply layer norm to each source first, for encoders whose features differ in scale."""


class FeatureStreams(nn.Module):
    """Encodes rows in which the features of several sources are concatenated: x = [x_1, ..., x_n].

    Each source has a linear map y_i = W_i x_i + b_i to size `dim`. apart: [y_1, ..., y_n]. gated: the elementwise sum
    over i of g_i * y_i, with g = softmax over i of (V_i [y_1, ..., y_n] + c_i).

    It has sum_i (size_i + 1) dim parameters; gated adds n dim (n dim + 1), norm adds 2 sum_i size_i.

    Args:
        sizes: sizes of the sources.
        dim: size of each mapped source.
        fusion: apart or gated.
        norm: apply layer norm to each source first.

    Source: SpaMo has a linear map per source. SIGNET (2026) fuses experts with gates; we have not found its gate
    published in detail, so this is a plain one.
    """

    def __init__(self, sizes: Sequence[int], dim: int, *, fusion: str = "apart", norm: bool = False) -> None:
        super().__init__()
        if fusion not in ("apart", "gated"):
            raise ValueError(f"model.streams.fusion: needs apart or gated, got {fusion!r}")
        self.sizes, self.fusion, self.each = list(sizes), fusion, dim
        self.dim = dim if fusion == "gated" else dim * len(self.sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(size) if norm else nn.Identity() for size in self.sizes)
        self.maps = nn.ModuleList(nn.Linear(size, dim) for size in self.sizes)
        whole = dim * len(self.sizes)
        self.gate = nn.Linear(whole, whole) if fusion == "gated" else None

    @classmethod
    def of(cls, config: StreamsConfig, feature_dim: int, dim: int) -> FeatureStreams:
        """Build from the values of a recipe.

        Raises:
            ValueError: the sizes do not add up to the feature size of the corpus.
        """
        sizes = config.sizes or [feature_dim]
        if sum(sizes) != feature_dim:
            raise ValueError(
                f"model.streams.sizes: {sizes} are {sum(sizes)} numbers, and a row of the corpus's features has "
                f"{feature_dim}; give the size of each source of corpus.features, in its order"
            )
        return cls(sizes, dim, fusion=config.fusion, norm=config.norm)

    def forward(self, inputs: Tensor) -> Tensor:
        """[N, sum of sizes] -> [N, dim]"""
        if inputs.ndim != 2 or inputs.shape[1] != sum(self.sizes) or not inputs.is_floating_point():
            raise ValueError(f"FeatureStreams needs float features [N, {sum(self.sizes)}], got {describe(inputs)}")
        parts = [there(norm(part)) for there, norm, part in zip(self.maps, self.norms, inputs.split(self.sizes, dim=1))]
        together = torch.cat(parts, dim=1)
        if self.gate is None:
            return together
        weights = self.gate(together).unflatten(1, (len(parts), self.each)).softmax(dim=1)  # [N, n, dim]
        return (weights * torch.stack(parts, dim=1)).sum(dim=1)
