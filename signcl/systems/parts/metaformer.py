"""The sign encoder of Sign2GPT: frame vectors to fewer steps, each of which has looked a few frames around itself.

Linear and batch norm, two stages of metaformer blocks with local attention, pairs of frames merged in between. No
tensor is [T, T]: a frame meets the `window` frames around it and no others. Takes plain numbers, computes no loss.

Source: Sign2GPT (ICLR 2024). Where the published description is silent the choice is named beside the class, and in
docs/systems/sign2gpt.md.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.data.batch import frame_mask
from signcl.systems.parts.layers import MaskedBatchNorm1d

__all__ = ["LocalAttention", "MergePairs", "MetaformerBlock", "SignEncoder", "rotate"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


def rotate(values: Tensor, base: float = 10000.0) -> Tensor:
    """Rotary positions: pairs of numbers turned by an angle that grows with time.

    Pair i of row t, (v_i, v_{i + d/2}), is turned by t * base ** (-2 i / d), so that the product of two rotated rows
    depends on their distance in time alone.

    Args:
        values: [..., T, d], d even.

    Returns:
        The same shape.
    """
    length, half = values.shape[-2], values.shape[-1] // 2
    rate = base ** (-torch.arange(half, device=values.device, dtype=torch.float32) / half)
    angle = torch.arange(length, device=values.device, dtype=torch.float32)[:, None] * rate  # [T, d/2]
    cos, sin = angle.cos().to(values.dtype), angle.sin().to(values.dtype)
    first, second = values[..., :half], values[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class LocalAttention(nn.Module):
    """Multi-head attention of every frame to the `window` frames around it, with rotary positions.

    Args:
        width: of the rows.
        heads: must divide width into an even number.
        window: frames seen, itself in the middle; odd.
        dropout: on the attention weights.

    Raises:
        ValueError: heads or a window that do not fit.
    """

    def __init__(self, width: int, heads: int, window: int, dropout: float = 0.0) -> None:
        super().__init__()
        if width % heads or width // heads % 2:
            raise ValueError(
                f"model.heads: rotary positions need model.width / model.heads to be even, got {width} and {heads}."
            )
        if window < 1 or window % 2 == 0:
            raise ValueError(f"model.window: needs an odd number of frames, got {window}.")
        self.heads, self.window = heads, window
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Attend; what stands at padding is never attended to.

        Args:
            rows: [B, T, width].
            mask: True = real. [B, T]

        Returns:
            [B, T, width]; finite and meaningless at padding.
        """
        query, key, value = (self._split(part) for part in self.qkv(rows).chunk(3, dim=2))  # [B, heads, T, d]
        query, key = rotate(query), rotate(key)
        near = self._windows(mask[:, None, :, None].to(key.dtype))[:, :, :, 0] > 0  # [B, 1, T, window]
        scores = torch.einsum("bhtd,bhtdw->bhtw", query, self._windows(key)) * query.shape[-1] ** -0.5
        scores = scores.float().masked_fill(~near, torch.finfo(torch.float32).min)  # finite: padding sees only padding
        weights = self.dropout(scores.softmax(dim=3)).to(value.dtype)
        seen = torch.einsum("bhtw,bhtdw->bhtd", weights, self._windows(value))
        out: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return out

    def _split(self, rows: Tensor) -> Tensor:
        return rows.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _windows(self, rows: Tensor) -> Tensor:
        """The rows around each row, as a view. [B, heads, T, d] -> [B, heads, T, d, window]"""
        reach = self.window // 2
        return F.pad(rows, (0, 0, reach, reach)).unfold(2, self.window, 1)


class MetaformerBlock(nn.Module):
    """Local attention and a feed-forward part, each normed after it, scaled, dropped for whole clips, and added.

        x = x + drop(scale_1 * norm_1(attention(x)));  x = x + drop(scale_2 * norm_2(feed_forward(x)))

    Post-norm is read as the norm of what a part gives, before it is added (as in Swin V2), since the layer scale of
    1e-5 can only then start the block near the identity. 4 w^2 + 11 w + 2 w f + f parameters, as
    (4 w^2 + 4 w) + (2 w f + f + w) + 4 w + 2 w.

    Args:
        width, heads, window: see `LocalAttention`.
        ffn: hidden size f of the feed-forward part.
        layer_scale: what the scales start at.
        drop_path: share of clips for which a part is left out in training.
        dropout: on attention weights and in the feed-forward part.
        activation: of the feed-forward part: relu or gelu.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        ffn: int,
        *,
        window: int,
        layer_scale: float,
        drop_path: float,
        dropout: float,
        activation: str,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"model.activation: needs one of {', '.join(ACTIVATIONS)}, got {activation!r}.")
        self.drop_path = drop_path
        self.attention = LocalAttention(width, heads, window, dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, ffn), ACTIVATIONS[activation](), nn.Dropout(dropout), nn.Linear(ffn, width)
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.scale1 = nn.Parameter(torch.full((width,), layer_scale))
        self.scale2 = nn.Parameter(torch.full((width,), layer_scale))

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """[B, T, width], [B, T] -> [B, T, width]"""
        rows = rows + self._dropped(self.scale1 * self.norm1(self.attention(rows, mask)))
        return rows + self._dropped(self.scale2 * self.norm2(self.feed_forward(rows)))

    def _dropped(self, part: Tensor) -> Tensor:
        """The part for the clips that keep it, larger by 1 / (1 - drop_path) so that the mean stays."""
        if not self.training or self.drop_path == 0:
            return part
        kept = torch.rand(len(part), 1, 1, device=part.device) >= self.drop_path
        return part * (kept / (1 - self.drop_path)).to(part.dtype)


class MergePairs(nn.Module):
    """Two neighbouring rows become one: side by side, layer norm, linear. A clip's odd last row is paired with itself.

    2 w^2 + 5 w parameters.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * width)
        self.linear = nn.Linear(2 * width, width)

    def forward(self, rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, width], [B] -> [B, ceil(T / 2), width], [B]"""
        first = torch.arange(0, rows.shape[1], 2, device=rows.device)[None, :]  # [1, ceil(T / 2)]
        last = (lengths - 1)[:, None]
        pairs = [rows.gather(1, torch.minimum(at, last)[:, :, None].expand(-1, -1, rows.shape[2]))
                 for at in (first, first + 1)]  # fmt: skip
        merged: Tensor = self.linear(self.norm(torch.cat(pairs, dim=2)))
        return merged, (lengths + 1) // 2


class SignEncoder(nn.Module):
    """Frame features to steps of about two frames.

    Linear and batch norm over real frames, `blocks[0]` blocks, pairs merged, `blocks[1]` blocks. With features of size
    D, width w, feed-forward f and n blocks it has (D w + 3 w) + n (4 w^2 + 11 w + 2 w f + f) + (2 w^2 + 5 w)
    parameters: 13,338,624 at D = 384, w = 512, f = 2048, n = 4.

    Args:
        dim: size D of a frame feature.
        width, heads, ffn, window, layer_scale, dropout, activation: see `MetaformerBlock`.
        blocks: before and after the merging.
        drop_path: of the last block; it rises evenly from 0 in the first.
        sync_norm: batch norm statistics over ranks.
    """

    def __init__(
        self,
        dim: int,
        *,
        width: int = 512,
        heads: int = 8,
        ffn: int = 2048,
        blocks: tuple[int, int] = (2, 2),
        window: int = 7,
        layer_scale: float = 1e-5,
        drop_path: float = 0.1,
        dropout: float = 0.0,
        activation: str = "gelu",
        sync_norm: bool = False,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, width)
        self.norm = MaskedBatchNorm1d(width, sync=sync_norm)
        rates = [drop_path * i / max(1, sum(blocks) - 1) for i in range(sum(blocks))]
        made = [
            MetaformerBlock(
                width, heads, ffn,
                window=window, layer_scale=layer_scale, drop_path=rate, dropout=dropout, activation=activation,
            )
            for rate in rates
        ]  # fmt: skip
        self.before = nn.ModuleList(made[: blocks[0]])
        self.merge = MergePairs(width)
        self.after = nn.ModuleList(made[blocks[0] :])

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Steps that clips of so many frame features give. [B] -> [B]"""
        return (lengths + 1) // 2

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """What the blocks begin with, zero at padding. [B, T, dim], [B] -> [B, T, width]"""
        mask = frame_mask(lengths, features.shape[1])
        embedded: Tensor = self.norm(self.linear(features).transpose(1, 2), mask).transpose(1, 2)
        return embedded * mask[:, :, None]

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Shorten time by two.

        Args:
            features: padded frame features; what stands at padding is never read. [B, T, dim]
            lengths: real frames, at least 1. [B]

        Returns:
            Steps, zero at padding [B, S, width], and their number [B]; S = ceil(T / 2).
        """
        rows, mask = self.embed(features, lengths), frame_mask(lengths, features.shape[1])
        for block in self.before:
            rows = block(rows, mask)
        steps, step_lengths = self.merge(rows, lengths)
        mask = frame_mask(step_lengths, steps.shape[1])
        for block in self.after:
            steps = block(steps, mask)
        return steps * mask[:, :, None], step_lengths
