"""Layers that shorten, normalize or read time without seeing padding: convolutions, their batch norm, a two-way LSTM.

Each takes a padded tensor with the lengths that say what in it is real, and gives real positions the values they
would have if every clip were alone. Source of the sizes: paper Table 5; of the released behaviour: GFSLT-VLP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from signcl.data.batch import frame_mask
from signcl.losses.precision import full_precision

__all__ = ["CONVS", "BiLSTM", "ConvKind", "MaskedBatchNorm1d", "TemporalConv", "kind_of"]

ConvKind = Literal["k5p2k5p2", "k5p2", "k3"]
CONVS: dict[str, tuple[tuple[int, int], ...]] = {"k5p2k5p2": ((5, 2), (5, 2)), "k5p2": ((5, 2),), "k3": ((3, 1),)}
"""The rounds of a temporal convolution: kernel, then max-pool. `conv_type` 2, 1 and 0 of GFSLT-VLP and VAC_CSLR."""
EDGES = {"replicate": (8, 16), "vac": (6, 12)}
"""Copies of the first frame before a clip, and all copies of a clip whose length is a multiple of 4: in the released
loaders of GFSLT-VLP and of VAC, whatever convolution follows."""
Length = TypeVar("Length", int, Tensor)
PAD_VALUE = 1.0  # the released code pads frame features with its text pad id


class MaskedBatchNorm1d(nn.BatchNorm1d):
    """Batch norm whose mean and variance come from real positions only; padding changes nothing.

    Equal to `nn.BatchNorm1d` where nothing is padded, and its state dict has the same keys. A batch with a single
    real position has no variance, so it is normalized by the running statistics (`nn.BatchNorm1d` raises).

    Args:
        num_features: channels C.
        eps: added to the variance.
        momentum: weight of the newest batch in the running statistics.
        sync: sum the statistics over all ranks of an initialized process group, with gradient.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, *, sync: bool = False) -> None:
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.sync = sync

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Normalize each channel.

        Args:
            values: [B, C, L].
            mask: True = real; None means that everything is real. [B, L]

        Returns:
            Normalized values; what stands at padding is finite and means nothing. [B, C, L]
        """
        if not self.training or (mask is None and not self.sync and values.shape[0] * values.shape[2] > 1):
            return super().forward(values)
        real = values.new_ones(values.shape[0], 1, values.shape[2]) if mask is None else mask[:, None, :]
        single = values.float()  # half precision cannot hold the sums
        real = real.to(single)
        with full_precision(values.device):
            count = self._total(real.sum())
            mean = self._total((single * real).sum(dim=(0, 2))) / count.clamp(min=1)  # [C]
            centred = (single - mean[:, None]) * real
            variance = self._total((centred * centred).sum(dim=(0, 2))) / count.clamp(min=1)  # [C]
            enough = count > 1  # stays on the device: no step asks for its value
            self._track(mean.detach(), variance.detach(), count, enough)
            running_mean, running_var = self._running()
            mean = torch.where(enough, mean, running_mean)
            variance = torch.where(enough, variance, running_var)
            scale = self.weight * torch.rsqrt(variance + self.eps)
            shift = self.bias - mean * scale
        return (values * scale[:, None] + shift[:, None]).to(values.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor, enough: Tensor) -> None:
        """Move the running statistics; the running variance is the unbiased one, as in torch."""
        unbiased = variance * count / (count - 1).clamp(min=1)
        rate = enough * (self.momentum or 0.0)
        running_mean, running_var = self._running()
        running_mean.lerp_(mean.to(running_mean), rate.to(running_mean))
        running_var.lerp_(unbiased.to(running_var), rate.to(running_var))
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)

    def _running(self) -> tuple[Tensor, Tensor]:
        assert self.running_mean is not None
        assert self.running_var is not None
        return self.running_mean, self.running_var

    def _total(self, value: Tensor) -> Tensor:
        """The sum of `value` over ranks where asked for; the gradient flows to every rank."""
        if self.sync and dist.is_available() and dist.is_initialized():
            from torch.distributed.nn.functional import all_reduce

            total: Tensor = all_reduce(value)  # type: ignore[no-untyped-call]
            return total
        return value


class TemporalConv(nn.Module):
    """Rounds of [convolution, batch norm, ReLU, max-pool]: by default two of 5 and 2, four frames become one step.

    The convolutions add no padding of their own. Instead each clip is lengthened by copies of its edge frames
    (8 of the first on the left; of the last on the right until ceil(n/4)*4 + 16 frames), so a clip of n frames gives
    ceil(n/4) + 1 steps, one frame gives two, and no step depends on the other clips of the batch.

    | kind | steps of L = ceil(n/4)*4 frames, "replicate" | "vac" | a step sees | one every |
    |---|---|---|---|---|
    | k5p2k5p2 | L/4 + 1 | L/4 | 16 frames | 4 frames |
    | k5p2 | L/2 + 6 | L/2 + 4 | 6 frames | 2 frames |
    | k3 | L + 14 | L + 10 | 3 frames | 1 frame |

    Steps before the first frame and after the last see copies alone. With k5p2 and k3 there are several of them, as in
    the released loaders, whose copies are the same for every kind; `geometry` says where each step stands.

    Args:
        dim_in: size of a frame feature (512 for ResNet-18).
        width: channels of the convolutions and of a step (1024 in Table 5).
        kind: the rounds, a name of `CONVS`.
        edge: "replicate" as above; "vac": 6 copies on the left, on the right until ceil(n/4)*4 + 12; or "none": frames
            as they are (k5p2k5p2: floor((floor((n-4)/2)-4)/2) steps), where a clip shorter than a step sees is first
            lengthened by its last frame.
        as_released: pad shorter clips with the value 1 and let the batch norm see those positions, as GFSLT-VLP does.
            Real positions are the same up to the statistics; in evaluation nothing differs.
        sync: share the batch norm's statistics over ranks.

    Raises:
        ValueError: an unknown kind or edge.

    Source: paper Table 5. Released code: edge copies are made of images, before the frame encoder; copying features
    gives the same steps for a deterministic encoder and costs no convolution over copies.
    """

    def __init__(
        self,
        dim_in: int,
        width: int,
        *,
        kind: str = "k5p2k5p2",
        edge: str = "replicate",
        as_released: bool = False,
        sync: bool = False,
    ) -> None:
        super().__init__()
        if edge not in ("none", *EDGES):
            raise ValueError(
                f"edge must be 'replicate', 'vac' or 'none', got {edge!r}; 'replicate' is GFSLT's form, 'vac' SMKD's."
            )
        if kind not in CONVS:
            raise ValueError(f"kind of a TemporalConv must be one of {', '.join(CONVS)}, got {kind!r}")
        self.dim_in, self.width, self.edge, self.as_released = dim_in, width, edge, as_released
        self.kind, self.rounds = kind, CONVS[kind]
        self.seen, self.pace = 1, 1  # rows that a step sees, rows from one step to the next
        for number, (kernel, pool) in enumerate(self.rounds, 1):
            self.add_module(f"conv{number}", nn.Conv1d(dim_in if number == 1 else width, width, kernel_size=kernel))
            self.add_module(f"norm{number}", MaskedBatchNorm1d(width, sync=sync))
            self.seen += (kernel - 1 + pool - 1) * self.pace
            self.pace *= pool

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Steps that clips of `lengths` frames give. [B] -> [B]"""
        return self._steps(lengths)

    def num_steps(self, num_frames: int) -> int:
        """The same rule for one number known on the host."""
        return self._steps(num_frames)

    def _steps(self, frames: Length) -> Length:
        length = self._with_copies(frames)
        for kernel, pool in self.rounds:
            length = (length - (kernel - 1)) // pool
        return length

    def _with_copies(self, frames: Length) -> Length:
        """Rows of a clip of so many frames with its edge copies."""
        if self.edge in EDGES:
            return (frames + 3) // 4 * 4 + EDGES[self.edge][1]
        return frames.clamp(min=self.seen) if isinstance(frames, Tensor) else max(frames, self.seen)

    def geometry(self, stride: float = 1.0, first_centre: float = 0.5) -> tuple[float, float]:
        """Where steps stand in time: frames from one to the next, and the middle of the first.

        The first step sees rows -8 to 7 with k5p2k5p2 and `edge="replicate"`, -6 to 9 with "vac", else 0 to 15.
        Frame t lasts from t to t + 1, so its middle is t + 0.5.

        Args:
            stride, first_centre: the same of the rows that go in.
        """
        left = EDGES.get(self.edge, (0, 0))[0]
        return self.pace * stride, first_centre + ((self.seen - 1) / 2 - left) * stride

    def forward(self, features: Tensor, lengths: Tensor, *, lengthened: bool = False) -> tuple[Tensor, Tensor]:
        """Shorten time.

        Args:
            features: padded frame features; what stands at padding is never read. [B, T, dim_in]
            lengths: real frames of each clip, at least 1. [B]
            lengthened: the clips have their edge copies already, as `lengthen` returns them; padding is read then.

        Returns:
            Steps [B, S, width], exactly zero at padding unless as_released, and their number for each clip [B].
        """
        if features.shape[-1] != self.dim_in:
            raise ValueError(
                f"TemporalConv needs frame features of size {self.dim_in}, got {features.shape[-1]}; "
                "set its dim_in to the frame encoder's `dim`."
            )
        frames, real = (features, lengths) if lengthened else self.lengthen(features, lengths)  # [B, L, dim_in], [B]
        hidden = frames.transpose(1, 2)
        for number, (kernel, pool) in enumerate(self.rounds, 1):
            hidden, real = self.get_submodule(f"conv{number}")(hidden), real - (kernel - 1)  # [B, width, L-kernel+1]
            mask = None if self.as_released else frame_mask(real, hidden.shape[2])
            hidden = torch.relu(self.get_submodule(f"norm{number}")(hidden, mask))
            hidden, real = max_pool(hidden, pool) if pool > 1 else hidden, real // pool
        steps = hidden.transpose(1, 2)  # [B, S, width]
        if not self.as_released:
            steps = steps * frame_mask(real, steps.shape[1])[:, :, None]
        return steps, real

    def lengthen(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames with copies of their edges, and how many of them belong to each clip; one gather, no loop.

        What stands behind a clip is a copy of its last frame, or the value 1 where `as_released`. [B, L, dim_in], [B]
        """
        longest = features.shape[1]  # a host number, so the output size needs no question to the device
        left, size, real = EDGES.get(self.edge, (0, 0))[0], self._with_copies(longest), self._with_copies(lengths)
        index = torch.arange(size, device=features.device)[None, :] - left  # [1, L]
        index = torch.minimum(index.clamp(min=0), lengths[:, None] - 1)  # [B, L], always a real frame
        frames = features.gather(1, index[:, :, None].expand(-1, -1, features.shape[2]))
        if self.as_released:
            frames = frames.masked_fill(~frame_mask(real, size)[:, :, None], PAD_VALUE)
        return frames, real


def max_pool(hidden: Tensor, pool: int) -> Tensor:
    """`max_pool1d`. torch.export fixes the length there, and not in two dimensions. [B, C, L] -> [B, C, L // pool]"""
    if torch.compiler.is_exporting():
        return nn.functional.max_pool2d(hidden[:, :, None], (1, pool))[:, :, 0]
    return nn.functional.max_pool1d(hidden, pool)


def kind_of(state: Mapping[str, Tensor], prefix: str) -> str:
    """The kind of a released temporal convolution, by the kernels of its tensors `PREFIX0.weight`, `PREFIX4.weight`.

    Raises:
        ValueError: no kind has those kernels.
    """
    kernels = [state[f"{prefix}{place}.weight"].shape[-1] for place in (0, 4) if f"{prefix}{place}.weight" in state]
    for kind, rounds in CONVS.items():
        if [kernel for kernel, _ in rounds] == kernels:
            return kind
    raise ValueError(f"its temporal convolution has the kernels {kernels}; {', '.join(CONVS)} are known")


class BiLSTM(nn.Module):
    """LSTM layers that read a clip in both directions; padding reaches neither, and no length leaves the device.

    The backward direction reads each clip turned round within its own length, so that it begins at the last real
    step. Equal to `nn.LSTM(bidirectional=True)` on packed sequences, which would ask the device for the lengths.

    With input size D, width w and L layers it has 2 (4 h (D + h) + 8 h) + (L - 1) 2 (4 h (w + h) + 8 h) parameters,
    h = w / 2.

    Args:
        dim_in: size of a step that goes in.
        width: size of a step that comes out, both directions together; even.
        layers: stacked.
        dropout: between the layers.
    """

    def __init__(self, dim_in: int, width: int, *, layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        if width % 2 or layers < 1:
            raise ValueError(f"BiLSTM needs an even width and at least 1 layer, got width {width}, {layers} layers.")
        self.dropout = nn.Dropout(dropout)
        sizes = [dim_in] + [width] * (layers - 1)
        self.forwards = nn.ModuleList(nn.LSTM(size, width // 2, batch_first=True) for size in sizes)
        self.backwards = nn.ModuleList(nn.LSTM(size, width // 2, batch_first=True) for size in sizes)

    def forward(self, steps: Tensor, step_lengths: Tensor) -> Tensor:
        """Read every clip both ways.

        Args:
            steps: what stands at padding is never read. [B, S, dim_in]
            step_lengths: [B]

        Returns:
            States, exactly zero at padding. [B, S, width]
        """
        real = frame_mask(step_lengths, steps.shape[1])  # [B, S]
        place = torch.arange(steps.shape[1], device=steps.device)[None, :]
        turned = torch.where(real, step_lengths[:, None] - 1 - place, place)[:, :, None]  # its own inverse
        states = steps.masked_fill(~real[:, :, None], 0.0)
        for number, (there, back) in enumerate(zip(self.forwards, self.backwards)):
            states = self.dropout(states) if number else states
            ahead = there(states)[0]  # padding comes last, so that no real step has read it
            behind = back(states.gather(1, turned.expand_as(states)))[0]
            states = torch.cat([ahead, behind.gather(1, turned.expand_as(behind))], dim=2)
        return states * real[:, :, None]
