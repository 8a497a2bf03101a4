"""Features of several published encoders, side by side in a row, as a frame encoder: a linear map of each, fused."""

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
    """visual=feature_streams: what stands side by side in a row of features (a list in `corpus.features`)."""

    sizes: list[int] = bounded([], low=1, high=1_000_000)
    """Numbers of each source in a row, in the order of `corpus.features`, e.g. [2048, 1024]. Empty: one source."""
    fusion: Literal["apart", "gated"] = "apart"
    """apart: side by side. gated: their sum, each number weighed by a softmax over the sources that all of them
    decide; all of size visual_dim."""
    norm: bool = field(default=False)
    """Layer norm of each source first, for encoders whose features differ in scale."""


class FeatureStreams(nn.Module):
    """Rows of features in which several sources stand side by side: x = [x_1, ..., x_n].

    Each has a linear map y_i = W_i x_i + b_i to `dim` numbers. apart: [y_1, ..., y_n]. gated: the sum over i of g_i *
    y_i, for every number of a row, with g = softmax over i of (V_i [y_1, ..., y_n] + c_i).

    sum of (size_i + 1) dim parameters, gated n dim (n dim + 1) more, norm 2 sum of size_i more.

    Args:
        sizes: of the sources.
        dim: of each after its map.
        fusion: apart or gated.
        norm: layer norm of each source first.

    Source: SpaMo has a linear map of each source. SIGNET (2026) fuses experts by gates; its gate is not published in a
    form that we have seen, so this is a plain one.
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
        """With the values of a recipe.

        Raises:
            ValueError: sizes that do not add up to the features of the corpus.
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
