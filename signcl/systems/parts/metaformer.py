"""The sign encoder of Sign2GPT: maps frame vectors to half as many steps with local attention.

It has a linear layer and batch norm, positions, and two stages of metaformer blocks with local attention, with
averaging of frames between them. No tensor is [T, T]: each frame attends only to the `window` frames around it.

Source: Sign2GPT (ICLR 2024), in the form of the released code, whose outputs are in tests/references/pgp.safetensors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from signcl.data.batch import frame_mask
from signcl.systems.parts.layers import MaskedBatchNorm1d
from signcl.systems.parts.transformer import sinusoids

__all__ = ["LocalAttention", "MetaformerBlock", "SignEncoder", "average_pairs", "rotate"]

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}
BEYOND = 2
"""Rows after the end of a clip that the last average reads if the clip has an even number of frames."""


def rotate(values: Tensor, base: float = 10000.0) -> Tensor:
    """Rotary positions: rotate pairs of elements by an angle proportional to time.

    Pair i of row t, (v_i, v_{i + d/2}), is rotated by t * base ** (-2 i / d), so that the product of two rotated rows
    depends only on their distance in time.

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
        width: size of the rows.
        heads: must divide width into an even number.
        window: frames attended to, centred on the frame itself; odd.
        dropout: dropout on the attention weights.

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
        for third in self.qkv.weight.chunk(3):  # query, key and value are three layers, so each has its own bound
            nn.init.xavier_uniform_(third)
        nn.init.xavier_uniform_(self.out.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Attend to the real rows in the window and to the row itself; padding is attended to only by itself.

        Args:
            rows: [B, T, width].
            mask: True = real. [B, T]

        Returns:
            [B, T, width]
        """
        query, key, value = (self._split(part) for part in self.qkv(rows).chunk(3, dim=2))  # [B, heads, T, d]
        query, key = rotate(query), rotate(key)
        near = self._windows(mask[:, None, :, None].to(key.dtype))[:, :, :, 0] > 0  # [B, 1, T, window]
        near = near | (torch.arange(self.window, device=near.device) == self.window // 2)
        scores = torch.einsum("bhtd,bhtdw->bhtw", query, self._windows(key)) * query.shape[-1] ** -0.5
        scores = scores.masked_fill(~near, -torch.inf)
        weights = self.dropout(scores.softmax(dim=3, dtype=torch.promote_types(scores.dtype, torch.float32)))
        weights = weights.to(value.dtype)
        seen = torch.einsum("bhtw,bhtdw->bhtd", weights, self._windows(value))
        out: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return out

    def _split(self, rows: Tensor) -> Tensor:
        return rows.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _windows(self, rows: Tensor) -> Tensor:
        """The rows around each row, as a view. [B, heads, T, d] -> [B, heads, T, d, window]"""
        reach = self.window // 2
        padded = F.pad(rows, (0, 0, reach, reach))
        if torch.compiler.is_exporting():  # after an unfold, torch.export requires clips longer than a window
            place = torch.arange(rows.shape[2], device=rows.device)[:, None]
            return padded[:, :, place + torch.arange(self.window, device=rows.device)].transpose(3, 4)
        return padded.unfold(2, self.window, 1)


class MetaformerBlock(nn.Module):
    """Local attention and a feed-forward part, each with scale, stochastic depth per clip, residual and layer norm.

        x = norm_1(x + drop(scale_1 * attention(x)));  x = norm_2(x + drop(scale_2 * feed_forward(x)))

    4 w^2 + 11 w + 2 w f + f parameters, as (4 w^2 + 4 w) + (2 w f + f + w) + 4 w + 2 w.

    Args:
        width, heads, window: see `LocalAttention`.
        ffn: hidden size f of the feed-forward part.
        layer_scale: initial value of the scales.
        drop_path: share of clips for which a part is skipped in training.
        dropout: dropout on attention weights, inside the feed-forward part, and on the output of both parts.
        activation: activation of the feed-forward part: relu or gelu.
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
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, ffn), ACTIVATIONS[activation](), nn.Dropout(dropout), nn.Linear(ffn, width)
        )
        for part in self.feed_forward:
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.scale1 = nn.Parameter(torch.full((width,), layer_scale))
        self.scale2 = nn.Parameter(torch.full((width,), layer_scale))

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """[B, T, width], [B, T] -> [B, T, width]"""
        rows = self.norm1(rows + self._dropped(self.scale1 * self.dropout(self.attention(rows, mask))))
        rows = self.norm2(rows + self._dropped(self.scale2 * self.dropout(self.feed_forward(rows))))
        return rows

    def _dropped(self, part: Tensor) -> Tensor:
        """Drop the part for random clips and scale the others by 1 / (1 - drop_path), which keeps the mean."""
        if not self.training or self.drop_path == 0:
            return part
        kept = torch.rand(len(part), 1, 1, device=part.device) >= self.drop_path
        return part * (kept / (1 - self.drop_path)).to(part.dtype)


def average_pairs(rows: Tensor) -> Tensor:
    """Half as many rows: step s is (row 2s - 1 + row 2s + row 2s + 1) / 3, where the row before the first is 0. So the
    first step is a third too small, as released. [B, T, width] -> [B, T // 2 + T % 2, width]
    """
    return F.avg_pool1d(rows.transpose(1, 2), kernel_size=3, stride=2, padding=1).transpose(1, 2)


class SignEncoder(nn.Module):
    """Maps frame features to steps, one per two frames.

    Linear and batch norm over real frames, sine positions, `blocks[0]` blocks, averages over three frames with stride
    two, `blocks[1]` blocks. With features of size D, width w, feed-forward f and n blocks it has (D w + 3 w) + n (4 w^2
    + 11 w + 2 w f + f) parameters: 12,811,776 at D = 384, w = 512, f = 2048, n = 4.

    A clip of T frames has T // 2 + 1 steps. If T is even, the last step averages the last frame and the two rows after
    it, which contain only positions and what they attended to: the released code pads every clip to 512 frames, and its
    average reads past the end. Here these rows are made for each clip, so that a clip has the same steps in every
    batch.

    Args:
        dim: size D of a frame feature.
        width, heads, ffn, window, layer_scale, dropout, activation: see `MetaformerBlock`.
        blocks: number of blocks before and after averaging.
        drop_path: drop_path of the last block; rises linearly from 0 at the first.
        sync_norm: share batch norm statistics over ranks.
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
        dropout: float = 0.1,
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
        self.after = nn.ModuleList(made[blocks[0] :])

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Number of steps for clips with these numbers of frame features. [B] -> [B]"""
        return lengths // 2 + 1

    def embed(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Input of the blocks without positions, zero at padding. [B, T, dim], [B] -> [B, T, width]"""
        mask = frame_mask(lengths, features.shape[1])
        embedded: Tensor = self.norm(self.linear(features).transpose(1, 2), mask).transpose(1, 2)
        return embedded * mask[:, :, None]

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode frames, halving the time resolution.

        Args:
            features: padded frame features; padding is never read. [B, T, dim]
            lengths: frames without padding, at least 1. [B]

        Returns:
            Steps, zero at padding [B, S, width], and their number [B]; S = T // 2 + 1.
        """
        frames = features.shape[1]
        rows = F.pad(self.embed(features, lengths), (0, 0, 0, BEYOND))
        rows = rows + sinusoids(rows.shape[1], rows.shape[2], device=rows.device).to(rows.dtype)
        mask = frame_mask(lengths, rows.shape[1])
        for block in self.before:
            rows = block(rows, mask)
        steps, step_lengths = average_pairs(rows)[:, : frames // 2 + 1], self.step_lengths(lengths)
        mask = frame_mask(step_lengths, steps.shape[1])
        for block in self.after:
            steps = block(steps, mask)
        return steps * mask[:, :, None], step_lengths
