"""A frame encoder for key points: encodes body, face and hands separately, then joins them.

It reads rows as made by `signcl.data.poses`, or any rows with the same points in the same order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask, unpack
from signcl.data.poses import PosePart, layout_of
from signcl.systems.parts.layers import MaskedBatchNorm1d

__all__ = ["PoseStream"]


class GraphConv(nn.Module):
    """Graph convolution over the skeleton: relu(norm(A x W)), with a learned correction of A.

    Args:
        points: number of points K of this part.
        edges: bones; if empty, all points are connected with equal weight.
        dim_in: size of a point before.
        dim: size of a point after.
    """

    def __init__(self, points: int, edges: tuple[tuple[int, int], ...], dim_in: int, dim: int) -> None:
        super().__init__()
        joined = torch.eye(points)
        if not edges:
            joined = joined + torch.ones(points, points) / points
        for a, b in edges:
            joined[a, b] = joined[b, a] = 1.0
        self.bones: Tensor
        self.register_buffer("bones", joined / joined.sum(dim=1, keepdim=True), persistent=False)
        self.correction = nn.Parameter(torch.zeros(points, points))
        self.linear = nn.Linear(dim_in, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, points: Tensor) -> Tensor:
        """[N, K, dim_in] -> [N, K, dim]"""
        heard: Tensor = self.linear((self.bones + self.correction).to(points.dtype) @ points)
        return torch.relu(self.norm(heard))


class PartEncoder(nn.Module):
    """Encodes one part of the body per frame: coordinates relative to its root, two graph convolutions, one vector.

    Args:
        part: points and bones.
        channels: values per point: x, y, then z and confidence if kept.
        hidden: size of a point.
        dim: size of the part's vector.
    """

    def __init__(self, part: PosePart, channels: int, hidden: int, dim: int) -> None:
        super().__init__()
        self.root = part.root
        self.standardize = MaskedBatchNorm1d(part.count * channels)
        self.graph = nn.Sequential(
            GraphConv(part.count, part.edges, channels, hidden), GraphConv(part.count, part.edges, hidden, hidden)
        )
        self.head = nn.Linear(part.count * hidden, dim)

    def forward(self, points: Tensor) -> Tensor:
        """[N, K, channels] -> [N, dim]"""
        if self.root is not None:
            places = points[..., :2]
            found = places.any(dim=2, keepdim=True)  # undetected points are zero and stay zero
            seen_from = torch.where(found, places - places[:, self.root, None], 0)
            points = torch.cat([seen_from, points[..., 2:]], dim=2)
        flat = self.standardize(points.flatten(1)[:, :, None])[:, :, 0]
        vector: Tensor = self.head(self.graph(flat.view_as(points)).flatten(1))
        return vector


class PoseStream(nn.Module):
    """Encodes key points as one vector per frame: one stream each for body, face and hands, each with temporal context.

    Each part is encoded per frame (graph convolutions along its bones), then over `kernel` frames (a residual
    convolution over time), then all parts are joined. Hand coordinates are relative to the wrists, whose positions are
    in the body part. Frames of other clips and padding have no influence.

    Args:
        feature_dim: size of a row: 2 to 4 values per point of a layout (`signcl.data.poses.LAYOUTS`).
        dim: size of a feature.
        hidden: size of a point within a part.
        kernel: frames of the convolution over time; odd. 1: none.

    Source: the idea of part-wise skeleton encoders is CoSign's (ICCV 2023); sizes and layers are ours.
    """

    def __init__(self, feature_dim: int, dim: int = 128, hidden: int = 16, kernel: int = 5) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"PoseStream needs an odd kernel, so that it is centred on a frame, got {kernel}.")
        layout, channels = layout_of(feature_dim)
        self.feature_dim, self.dim, self.channels, self.kernel = feature_dim, dim, channels, kernel
        self.ranges = layout.ranges()
        parts = len(layout.parts)
        self.parts = nn.ModuleDict({part.name: PartEncoder(part, channels, hidden, dim) for part in layout.parts})
        self.time = nn.Conv1d(parts * dim, parts * dim, kernel, padding=kernel // 2, groups=parts)
        self.joined = nn.Sequential(
            nn.LayerNorm(parts * dim), nn.Linear(parts * dim, dim), nn.LayerNorm(dim), nn.ReLU()
        )

    def encode_clips(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of the frames of each clip, zero at padding, and frames per clip. [B, T, dim], [B]"""
        rows = batch.inputs
        if rows.ndim != 2 or rows.shape[1] != self.feature_dim or not rows.is_floating_point():
            raise ValueError(
                f"PoseStream needs key points [N, {self.feature_dim}], got {rows.dtype} {list(rows.shape)}; poses must "
                f"be read with the same input.pose_dims and input.pose_confidence as in training."
            )
        padded = unpack(self._alone(rows), batch.positions, len(batch), batch.max_length)  # [B, T, parts * dim]
        return self._over_time(padded, batch.lengths), batch.lengths

    def encode_padded(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """`encode_clips` for key points in the padded layout. [B, T, feature_dim], [B] -> [B, T, dim]"""
        alone = self._alone(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
        return self._over_time(alone * frame_mask(lengths, rows.shape[1])[..., None], lengths)

    def _alone(self, rows: Tensor) -> Tensor:
        """Encode each part per frame. [N, feature_dim] -> [N, parts * dim]"""
        points = rows.unflatten(1, (-1, self.channels))
        return torch.cat([part(points[:, slice(*self.ranges[name])]) for name, part in self.parts.items()], dim=1)

    def _over_time(self, padded: Tensor, lengths: Tensor) -> Tensor:
        """Encode each part over time, then join all parts. [B, T, parts * dim] -> [B, T, dim]"""
        around: Tensor = self.time(padded.transpose(1, 2)).transpose(1, 2)
        features: Tensor = self.joined(padded + torch.relu(around))
        return features * frame_mask(lengths, padded.shape[1])[..., None]
