"""A frame encoder for key points: separate spatial-temporal graph networks for body, hands and face.

This is the pose branch of Uni-Sign (ICLR 2025), whose graph networks come from CoSign (ICCV 2023), on rows from
`signcl.data.poses`. Each part passes three graph convolutions per frame, adds the body's vector of its joint (the wrist
for a hand, the nose for the face), and passes three graph convolutions with convolutions over time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch, frame_mask, unpack
from signcl.data.bounds import bounded
from signcl.data.pose_layouts import FACE_CONTOURS, PoseLayout, layout_of
from signcl.systems.parts.layers import MaskedBatchNorm1d

__all__ = ["Graph", "GraphsConfig", "PartGraphs", "graphs_of"]

KERNEL = 5  # frames of the convolutions over time
SPATIAL = (0.25, 0.5, 1.0)  # widths of the graph convolutions, as shares of a part's size (64, 128, 256)
TEMPORAL = 3  # blocks over time

# Indices in the 68 face points of iBUG: every second point of the jaw, the inner lips, the tip of the nose.
FACE68 = (*((n,) for n in range(0, 17, 2)), *((n,) for n in range(60, 68)), (30,))
NOSE68, EARS68 = 30, (0, 16)
# The same points in MediaPipe. Contours have no tip of the nose, so use the middle of the inner corners of the eyes.
JAW = (127, 132, 172, 150, 152, 379, 397, 361, 356)
LIPS = (78, 81, 13, 311, 308, 402, 14, 178)
EYES = (133, 362)


@dataclass(frozen=True)
class GraphsConfig:
    """visual=part_graphs: features of pictures of the parts, beside their key points."""

    crops: list[str] = field(default_factory=list)
    """Parts whose picture features follow the key points in a row, in this order, e.g. [left_hand, right_hand]; made by
    `signcl extract --crops` and read as the second source in `corpus.features`. Empty: key points only."""
    crop_size: int = bounded(0, low=0, high=1_000_000)
    """Size of the picture features of one part."""


@dataclass(frozen=True)
class Graph:
    """The nodes and bones of one part in a row of key points."""

    name: str
    nodes: tuple[tuple[int, ...], ...]
    """For each node: the points of the layout whose mean it is."""
    edges: tuple[tuple[int, int], ...]
    """Bones, as pairs of nodes."""
    root: int | None
    """Node that the coordinates of the others become relative to; None: they stay as in the row."""
    joint: int | None
    """Node of the body that this part is attached to."""


def graphs_of(layout: PoseLayout) -> tuple[Graph, ...]:
    """The parts of a layout: body, hands and face, if present.

    As published, the body has nose, ears, shoulders, elbows and wrists. The layout `uni_sign` has these points, with
    hands and face relative to their roots already. The body points of the others have no nose and ears, so these are
    taken from the face; without a face, the body has shoulders, elbows, wrists and hips.
    """
    ranges = layout.ranges()
    arms = ((0, 2), (2, 4), (1, 3), (3, 5))  # shoulders 0 and 1, elbows, wrists
    found = []
    relative = layout.name == "uni_sign"
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
            root = None if relative else 0
            found.append(Graph(side, tuple((n,) for n in range(first, last)), bones, root, wrist))
    if "face" in ranges:
        jaw = tuple((n, n + 1) for n in range(8))
        lips = (*((n, n + 1) for n in range(9, 16)), (16, 9))
        root = None if relative else 17
        found.append(Graph("face", face, (*jaw, *lips, *((17, n) for n in range(17))), root, 0))
    return tuple(found)


Node = tuple[int, ...]


def _face(layout: PoseLayout) -> tuple[tuple[Node, ...], Node, tuple[Node, Node]]:
    """The 18 nodes of the face (9 jaw, 8 lips, 1 nose), the node of the nose, and the nodes used as ears."""
    first, last = layout.ranges()["face"]
    if layout.name == "uni_sign":  # its face is these nodes, its body ends with nose and ears
        return tuple((n,) for n in range(first, last)), (6,), ((7,), (8,))
    if last - first in (68, 70):  # OpenPose adds the pupils after the 68 points
        nodes = tuple(tuple(first + n for n in node) for node in FACE68)
        return nodes, (first + NOSE68,), ((first + EARS68[1],), (first + EARS68[0],))
    place = {number: first + n for n, number in enumerate(FACE_CONTOURS)}
    nose = tuple(place[n] for n in EYES)
    nodes = (*((place[n],) for n in (*JAW, *LIPS)), nose)
    return nodes, nose, ((place[JAW[-1]],), (place[JAW[0]],))  # the signer's left ear is on the right of the picture


def _adjacency(nodes: int, edges: Sequence[tuple[int, int]]) -> Tensor:
    """Adjacency of self-loops and of neighbours; the weights of each node sum to 1 over both. [2, K, K]"""
    near = torch.eye(nodes)
    for a, b in edges:
        near[a, b] = near[b, a] = 1.0
    shares = near / near.sum(dim=0, keepdim=True)
    itself = torch.eye(nodes, dtype=torch.bool)
    return torch.stack([shares * itself, shares * ~itself])


class GraphBlock(nn.Module):
    """Residual graph convolution over each node and its neighbours, optionally followed by a convolution over time.

    Args:
        graph: nodes and bones.
        dim_in, dim: size of a node before and after.
        kernel: frames of the convolution over time; 1: none.
    """

    def __init__(self, graph: Graph, dim_in: int, dim: int, kernel: int = 1) -> None:
        super().__init__()
        self.adjacency = nn.Parameter(_adjacency(len(graph.nodes), graph.edges))  # learned, starts as the skeleton
        self.linear = nn.Linear(dim_in, 2 * dim)
        self.norm = MaskedBatchNorm1d(dim)
        self.time = nn.Conv1d(dim, dim, kernel, padding=kernel // 2) if kernel > 1 else None
        self.time_norm = MaskedBatchNorm1d(dim) if kernel > 1 else None
        self.other = nn.Linear(dim_in, dim) if dim_in != dim else None
        self.other_norm = MaskedBatchNorm1d(dim) if dim_in != dim else None

    def forward(self, nodes: Tensor, mask: Tensor | None = None) -> Tensor:
        """Process padded clips, or packed frames.

        Args:
            nodes: [B, T, K, dim_in], or for a block with kernel 1 packed frames [1, N, K, dim_in].
            mask: True = real; None: all real. [B, T]

        Returns:
            [B, T, K, dim]
        """
        before = nodes if self.other is None else _normed(self.other_norm, self.other(nodes), mask)
        sent = self.linear(nodes).unflatten(3, (2, -1))  # [B, T, K, 2, dim]: to oneself, to neighbours
        heard = torch.einsum("btksd,skj->btjd", sent, self.adjacency.to(sent.dtype))
        heard = torch.relu(_normed(self.norm, heard, mask))
        if self.time is not None:
            if mask is not None:
                heard = heard * mask[:, :, None, None]  # zero padding, so that results do not depend on the other clips
            batch, frames, count, dim = heard.shape
            rows = heard.permute(0, 2, 3, 1).reshape(batch * count, dim, frames)
            heard = self.time(rows).reshape(batch, count, dim, frames).permute(0, 3, 1, 2)
            heard = _normed(self.time_norm, heard, mask)
        return torch.relu(heard + before)


def _normed(norm: nn.Module | None, nodes: Tensor, mask: Tensor | None) -> Tensor:
    """Batch norm over real frames and all nodes. [B, T, K, D]"""
    assert norm is not None
    batch, frames, count, dim = nodes.shape
    rows = nodes.reshape(batch, frames * count, dim).transpose(1, 2)
    real = None if mask is None else mask[:, :, None].expand(batch, frames, count).reshape(batch, frames * count)
    normed: Tensor = norm(rows, real)
    return normed.transpose(1, 2).reshape(batch, frames, count, dim)


class PartGraph(nn.Module):
    """The networks of one part; both hands share one instance.

    Args:
        graph: nodes and bones.
        channels: values per point: x, y, then depth and confidence if kept.
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
        """Encode each frame separately. [N, K, channels] -> [N, K, dim]"""
        nodes = self.enter(points)[None]
        for block in self.space:
            nodes = block(nodes)
        return nodes[0]

    def along(self, nodes: Tensor, mask: Tensor) -> Tensor:
        """Encode over time and take the mean over nodes. [B, T, K, dim], [B, T] -> [B, T, dim]"""
        for block in self.time:
            nodes = block(nodes, mask)
        return nodes.mean(dim=2)


class PartGraphs(nn.Module):
    """Encodes key points as one vector per frame: the concatenated vectors of body, left hand, right hand and face.

    Hand coordinates are relative to the wrist and face coordinates to the nose; their absolute positions are in the
    body part. A frame's vector depends on six frames to either side, within its clip.

    With `crops`, the picture features of a part are mapped linearly and added to each of its nodes before the
    convolutions over time. The map starts at zero, so the network starts as without pictures; a part that was not found
    has zero features and adds nothing. Both hands share the map.

    Args:
        feature_dim: size of a row: 2 to 4 values per point of a layout (`signcl.data.poses.LAYOUTS`), then the picture
            features.
        dim: size of the frame vector; each of the four parts has a quarter of it. Published: 1024.
        crops: picture features in a row.

    Source: Uni-Sign (ICLR 2025), section 3.2 and its released code; docs/systems/uni_sign.md lists the differences.
    """

    def __init__(self, feature_dim: int, dim: int = 128, crops: GraphsConfig | None = None) -> None:
        super().__init__()
        if dim % 4:
            raise ValueError(f"model.visual_dim: part_graphs needs a multiple of 4, one quarter per part, got {dim}")
        self.crops = list(crops.crops) if crops else []
        self.points = feature_dim - (len(self.crops) * crops.crop_size if crops else 0)
        layout, channels = _layout(self.points, feature_dim, crops)
        self.feature_dim, self.channels, self.part_dim = feature_dim, channels, dim // 4
        self.graphs = graphs_of(layout)
        self.dim = len(self.graphs) * self.part_dim
        kinds = {_kind(graph): graph for graph in self.graphs}
        self.parts = nn.ModuleDict({kind: PartGraph(graph, channels, self.part_dim) for kind, graph in kinds.items()})
        if unknown := [part for part in self.crops if part not in {g.name for g in self.graphs} - {"body"}]:
            raise ValueError(f"model.graphs.crops: {layout.name} has no part {', '.join(unknown)} with pictures")
        self.added = ["pictures"] if self.crops else []
        """Modules that an earlier run without pictures lacks, see `System.added`."""
        self.pictures = nn.ModuleDict()
        for kind in dict.fromkeys(_kind(graph) for graph in self.graphs if graph.name in self.crops):
            assert crops is not None
            self.pictures[kind] = nn.Linear(crops.crop_size, self.part_dim, bias=False)
            nn.init.zeros_(self.pictures[kind].weight)  # type: ignore[arg-type]
        self.offset = nn.Parameter(torch.zeros(self.dim))
        """Learned offset that identifies the part of each element."""

    def encode_clips(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features of the frames of each clip, zero at padding, and frames per clip. [B, T, dim], [B]"""
        rows = batch.inputs
        if rows.ndim != 2 or rows.shape[1] != self.feature_dim or not rows.is_floating_point():
            raise ValueError(
                f"part_graphs needs key points [N, {self.feature_dim}], got {rows.dtype} {list(rows.shape)}; poses "
                f"must be read with the same input.pose_dims and input.pose_confidence as in training."
            )
        mask = frame_mask(batch.lengths, batch.max_length)
        return self._encode(rows, mask, lambda flat: unpack(flat, batch.positions, *mask.shape)), batch.lengths

    def encode_padded(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """`encode_clips` for key points in the padded layout. [B, T, feature_dim], [B] -> [B, T, dim]"""
        mask = frame_mask(lengths, rows.shape[1])
        return self._encode(rows.flatten(0, 1), mask, lambda flat: flat.unflatten(0, rows.shape[:2]) * mask[..., None])

    def _encode(self, rows: Tensor, mask: Tensor, padded: Callable[[Tensor], Tensor]) -> Tensor:
        """Encode frames.

        Args:
            rows: one per frame. [N, feature_dim]
            mask: [B, T]
            padded: brings rows of frames to the padded layout, zero at padding. [N, D] -> [B, T, D]

        Returns:
            [B, T, dim]
        """
        points = rows[:, : self.points].unflatten(1, (-1, self.channels))
        seen = dict(zip(self.crops, rows[:, self.points :].chunk(max(1, len(self.crops)), dim=1)))
        vectors, body = [], None
        for graph in self.graphs:
            part = self.parts[_kind(graph)]
            nodes = part.alone(_nodes(points, graph))  # type: ignore[operator]
            if body is None:
                body = nodes
            else:
                nodes = nodes + body[:, graph.joint, None].detach()  # other parts do not train the body's networks
            if graph.name in seen:
                nodes = nodes + self.pictures[_kind(graph)](seen[graph.name])[:, None]
            count, dim = nodes.shape[1:]
            whole = padded(nodes.flatten(1)).unflatten(2, (count, dim))
            vectors.append(part.along(whole, mask))  # type: ignore[operator]
        features = torch.cat(vectors, dim=2) + self.offset
        return features * mask[..., None]


def _layout(points: int, feature_dim: int, crops: GraphsConfig | None) -> tuple[PoseLayout, int]:
    """The layout of the key points in a row, and values per point."""
    try:
        return layout_of(points)
    except ValueError as error:
        if crops is None or not crops.crops:
            raise
        raise ValueError(
            f"model.graphs: a row has {feature_dim} numbers, so {len(crops.crops)} crops of crop_size "
            f"{crops.crop_size} leave {points} for the key points: {error}"
        ) from None


def _kind(graph: Graph) -> str:
    """Key of a part's networks; both hands share one."""
    return "hand" if graph.name.endswith("_hand") else graph.name


def _nodes(points: Tensor, graph: Graph) -> Tensor:
    """The nodes of a part relative to its root; undetected points are zero and stay zero. [N, K, channels]"""
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
