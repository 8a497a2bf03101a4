"""A frame encoder of key points: a spatial and temporal graph network for body, hands and face, side by side.

The pose branch of Uni-Sign (ICLR 2025), which has its graph networks from CoSign (ICCV 2023), on the rows that
`signcl.data.poses` makes. Each part passes three graph convolutions frame by frame, hears what the body makes of its
joint (a hand of its wrist, the face of the nose), and passes three graph convolutions with convolutions over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask, unpack
from signcl.data.pose_layouts import FACE_CONTOURS, PoseLayout, layout_of
from signcl.systems.parts.layers import MaskedBatchNorm1d

__all__ = ["Graph", "PartGraphs", "graphs_of"]

KERNEL = 5  # frames of the convolutions over time
SPATIAL = (0.25, 0.5, 1.0)  # widths of the graph convolutions, as shares of a part's size (64, 128, 256)
TEMPORAL = 3  # blocks over time

# Of the 68 points of a face (iBUG): every second one of the jaw, the inner lips, the tip of the nose.
FACE68 = (*((n,) for n in range(0, 17, 2)), *((n,) for n in range(60, 68)), (30,))
NOSE68, EARS68 = 30, (0, 16)
# MediaPipe's numbers of the same places; a contour has no tip of the nose: the middle of the inner corners of the eyes.
JAW = (127, 132, 172, 150, 152, 379, 397, 361, 356)
LIPS = (78, 81, 13, 311, 308, 402, 14, 178)
EYES = (133, 362)


@dataclass(frozen=True)
class Graph:
    """What one part reads of a row of key points."""

    name: str
    nodes: tuple[tuple[int, ...], ...]
    """Points of the layout that a node is, or the mean of."""
    edges: tuple[tuple[int, int], ...]
    """Bones, as pairs of nodes."""
    root: int | None
    """The node that the others are seen from; None: they keep their place."""
    joint: int | None
    """The node of the body that this part hangs on."""


def graphs_of(layout: PoseLayout) -> tuple[Graph, ...]:
    """The parts of a layout: body, hands, face, as far as it has them.

    Body: nose, ears, shoulders, elbows, wrists, as published. A layout's body has no nose and no ears, so these are
    points of the face; without a face, the body is shoulders, elbows, wrists and hips.
    """
    ranges = layout.ranges()
    arms = ((0, 2), (2, 4), (1, 3), (3, 5))  # shoulders 0 and 1, elbows, wrists
    found = []
    if "face" not in ranges:
        found.append(Graph("body", tuple((n,) for n in range(8)), (*arms, (0, 1), (0, 6), (1, 7), (6, 7)), None, None))
        wrists = (4, 5)
    else:
        face, nose, ears = _face(layout)
        body = (nose, *ears, *((n,) for n in range(6)))
        moved = tuple((a + 3, b + 3) for a, b in arms)
        found.append(Graph("body", body, ((0, 1), (0, 2), (0, 3), (0, 4), *moved), None, None))
        wrists = (7, 8)
    for side, wrist in zip(("left_hand", "right_hand"), wrists):
        if side in ranges:
            first, last = ranges[side]
            bones = next(part.edges for part in layout.parts if part.name == side)
            found.append(Graph(side, tuple((n,) for n in range(first, last)), bones, 0, wrist))
    if "face" in ranges:
        jaw = tuple((n, n + 1) for n in range(8))
        lips = (*((n, n + 1) for n in range(9, 16)), (16, 9))
        found.append(Graph("face", face, (*jaw, *lips, *((17, n) for n in range(17))), 17, 0))
    return tuple(found)


Node = tuple[int, ...]


def _face(layout: PoseLayout) -> tuple[tuple[Node, ...], Node, tuple[Node, Node]]:
    """The 18 nodes of the face (9 of the jaw, 8 of the lips, the nose), the nose, and where the ears are."""
    first, last = layout.ranges()["face"]
    if last - first in (68, 70):  # OpenPose has the pupils behind the 68
        nodes = tuple(tuple(first + n for n in node) for node in FACE68)
        return nodes, (first + NOSE68,), ((first + EARS68[1],), (first + EARS68[0],))
    place = {number: first + n for n, number in enumerate(FACE_CONTOURS)}
    nose = tuple(place[n] for n in EYES)
    nodes = (*((place[n],) for n in (*JAW, *LIPS)), nose)
    return nodes, nose, ((place[JAW[-1]],), (place[JAW[0]],))  # the signer's left ear stands right in the picture


def _adjacency(nodes: int, edges: Sequence[tuple[int, int]]) -> Tensor:
    """Who is heard: oneself, and the neighbours; each node's weights add up to 1 over both. [2, K, K]"""
    near = torch.eye(nodes)
    for a, b in edges:
        near[a, b] = near[b, a] = 1.0
    shares = near / near.sum(dim=0, keepdim=True)
    itself = torch.eye(nodes, dtype=torch.bool)
    return torch.stack([shares * itself, shares * ~itself])


class GraphBlock(nn.Module):
    """Every node hears itself and its neighbours; with a kernel, then a few frames around; what was there is added.

    Args:
        graph: nodes and bones.
        dim_in, dim: numbers of a node before and after.
        kernel: frames; 1 leaves time alone.
    """

    def __init__(self, graph: Graph, dim_in: int, dim: int, kernel: int = 1) -> None:
        super().__init__()
        self.adjacency = nn.Parameter(_adjacency(len(graph.nodes), graph.edges))  # learned, from the skeleton on
        self.linear = nn.Linear(dim_in, 2 * dim)
        self.norm = MaskedBatchNorm1d(dim)
        self.time = nn.Conv1d(dim, dim, kernel, padding=kernel // 2) if kernel > 1 else None
        self.time_norm = MaskedBatchNorm1d(dim) if kernel > 1 else None
        self.other = nn.Linear(dim_in, dim) if dim_in != dim else None
        self.other_norm = MaskedBatchNorm1d(dim) if dim_in != dim else None

    def forward(self, nodes: Tensor, mask: Tensor | None = None) -> Tensor:
        """One clip after another, or frames without clips.

        Args:
            nodes: [B, T, K, dim_in]; of a block without a kernel also [1, N, K, dim_in], packed.
            mask: True = real; None: all of it. [B, T]

        Returns:
            [B, T, K, dim]
        """
        before = nodes if self.other is None else _normed(self.other_norm, self.other(nodes), mask)
        sent = self.linear(nodes).unflatten(3, (2, -1))  # [B, T, K, 2, dim]: to oneself, to neighbours
        heard = torch.einsum("btksd,skj->btjd", sent, self.adjacency.to(sent.dtype))
        heard = torch.relu(_normed(self.norm, heard, mask))
        if self.time is not None:
            if mask is not None:
                heard = heard * mask[:, :, None, None]  # a clip ends in zeros, whatever stands beside it
            batch, frames, count, dim = heard.shape
            rows = heard.permute(0, 2, 3, 1).reshape(batch * count, dim, frames)
            heard = self.time(rows).reshape(batch, count, dim, frames).permute(0, 3, 1, 2)
            heard = _normed(self.time_norm, heard, mask)
        return torch.relu(heard + before)


def _normed(norm: nn.Module | None, nodes: Tensor, mask: Tensor | None) -> Tensor:
    """Batch norm of a node's numbers, over real frames and all nodes. [B, T, K, D]"""
    assert norm is not None
    batch, frames, count, dim = nodes.shape
    rows = nodes.reshape(batch, frames * count, dim).transpose(1, 2)
    real = None if mask is None else mask[:, :, None].expand(batch, frames, count).reshape(batch, frames * count)
    normed: Tensor = norm(rows, real)
    return normed.transpose(1, 2).reshape(batch, frames, count, dim)


class PartGraph(nn.Module):
    """The networks of one part; both hands share theirs.

    Args:
        graph: nodes and bones.
        channels: numbers of a point: x, y, then depth and confidence where kept.
        dim: size of the part's vector.
    """

    def __init__(self, graph: Graph, channels: int, dim: int) -> None:
        super().__init__()
        widths = [max(1, round(share * dim)) for share in SPATIAL]
        self.enter = nn.Linear(channels, widths[0])
        sizes = zip([widths[0], *widths[:-1]], widths)
        self.space = nn.ModuleList(GraphBlock(graph, before, after) for before, after in sizes)
        self.time = nn.ModuleList(GraphBlock(graph, dim, dim, KERNEL) for _ in range(TEMPORAL))
        nn.init.trunc_normal_(self.enter.weight, std=0.02)
        nn.init.zeros_(self.enter.bias)

    def alone(self, points: Tensor) -> Tensor:
        """Frame by frame. [N, K, channels] -> [N, K, dim]"""
        nodes = self.enter(points)[None]
        for block in self.space:
            nodes = block(nodes)
        return nodes[0]

    def along(self, nodes: Tensor, mask: Tensor) -> Tensor:
        """Over time. [B, T, K, dim], [B, T] -> [B, T, dim], the mean over nodes."""
        for block in self.time:
            nodes = block(nodes, mask)
        return nodes.mean(dim=2)


class PartGraphs(nn.Module):
    """Key points to one vector a frame: the vectors of body, left hand, right hand and face side by side.

    Hands are seen from their wrist and the face from the nose; where they are, the body says. A frame's vector sees
    six frames to either side of its own clip.

    Args:
        feature_dim: size of a row: 2 to 4 numbers for each point of a layout (`signcl.data.poses.LAYOUTS`).
        dim: size of a vector of four parts, so that each has a fourth of it; published: 1024.

    Source: Uni-Sign (ICLR 2025), section 3.2 and its released code; docs/systems/uni_sign.md has what differs.
    """

    def __init__(self, feature_dim: int, dim: int = 128) -> None:
        super().__init__()
        if dim % 4:
            raise ValueError(f"model.visual_dim: part_graphs gives each of 4 parts a fourth of it, got {dim}")
        layout, channels = layout_of(feature_dim)
        self.feature_dim, self.channels, self.part_dim = feature_dim, channels, dim // 4
        self.graphs = graphs_of(layout)
        self.dim = len(self.graphs) * self.part_dim
        kinds = {_kind(graph): graph for graph in self.graphs}
        self.parts = nn.ModuleDict({kind: PartGraph(graph, channels, self.part_dim) for kind, graph in kinds.items()})
        self.offset = nn.Parameter(torch.zeros(self.dim))
        """Which part a number is of."""

    def encode_clips(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of the frames of each clip, zero at padding, and how many there are. [B, T, dim], [B]"""
        rows = batch.inputs
        if rows.ndim != 2 or rows.shape[1] != self.feature_dim or not rows.is_floating_point():
            raise ValueError(
                f"part_graphs needs key points [N, {self.feature_dim}], got {rows.dtype} {list(rows.shape)}; poses "
                f"must be read with the same input.pose_dims and input.pose_confidence as in training."
            )
        points = rows.unflatten(1, (-1, self.channels))
        mask = frame_mask(batch.lengths, batch.max_length)
        vectors, body = [], None
        for graph in self.graphs:
            part = self.parts[_kind(graph)]
            nodes = part.alone(_nodes(points, graph))  # type: ignore[operator]
            if body is None:
                body = nodes
            else:
                nodes = nodes + body[:, graph.joint, None].detach()  # a part does not train the body's networks
            count, dim = nodes.shape[1:]
            padded = unpack(nodes.flatten(1), batch.positions, len(batch), batch.max_length)
            vectors.append(part.along(padded.unflatten(2, (count, dim)), mask))  # type: ignore[operator]
        features = torch.cat(vectors, dim=2) + self.offset
        return features * mask[..., None], batch.lengths


def _kind(graph: Graph) -> str:
    """The networks of a part: hands share theirs."""
    return "hand" if graph.name.endswith("_hand") else graph.name


def _nodes(points: Tensor, graph: Graph) -> Tensor:
    """The nodes of a part as seen from its root; a point that was not found is zero, and stays so. [N, K, channels]"""
    if all(len(node) == 1 for node in graph.nodes):
        nodes = points[:, [node[0] for node in graph.nodes]]
    else:
        nodes = torch.stack([points[:, list(node)].mean(dim=1) for node in graph.nodes], dim=1)
    if graph.root is None:
        return nodes
    places = nodes[..., :2]
    found = places.any(dim=2, keepdim=True)
    seen_from = torch.where(found, places - places[:, graph.root, None], 0)
    return torch.cat([seen_from, nodes[..., 2:]], dim=2)
