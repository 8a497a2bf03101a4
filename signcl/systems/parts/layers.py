"""Layers over time that ignore padding: temporal convolution, masked batch norm, bidirectional LSTM.

Each takes a padded tensor with lengths or a mask and gives the same results as if every clip were processed alone.
Sizes: paper Table 5. Released behaviour: GFSLT-VLP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from signcl.data.batch import frame_mask
from signcl.losses.precision import full_precision

__all__ = ["CONVS", "BiLSTM", "ConvKind", "MaskedBatchNorm1d", "TemporalConv", "at_least", "kind_of"]

ConvKind = Literal["k5p2k5p2", "k5p2", "k3"]
CONVS: dict[str, tuple[tuple[int, int], ...]] = {"k5p2k5p2": ((5, 2), (5, 2)), "k5p2": ((5, 2),), "k3": ((3, 1),)}
"""Kernel and max-pool of each round of a temporal convolution. `conv_type` 2, 1 and 0 of GFSLT-VLP and VAC_CSLR."""
EDGES = {"replicate": (8, 16), "vac": (6, 12)}
"""Copies of the first frame before a clip, and total copies for a clip whose length is a multiple of 4, in the released
loaders of GFSLT-VLP and VAC, for every kind of convolution."""
Length = TypeVar("Length", int, Tensor)
PAD_VALUE = 1.0  # the released code pads frame features with its text pad id


class MaskedBatchNorm1d(nn.BatchNorm1d):
    """Batch norm with statistics over real positions only, so that padding does not change the result.

    Equal to `nn.BatchNorm1d` without padding, with the same state dict keys. A batch with a single real position has no
    variance, so it is normalized with the running statistics (`nn.BatchNorm1d` raises an error).

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
            mask: True = real; None: all real. [B, L]

        Returns:
            Normalized values; values at padding are finite but undefined. [B, C, L]
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
            enough = count > 1  # stays on the device, to avoid a synchronisation
            self._track(mean.detach(), variance.detach(), count, enough)
            running_mean, running_var = self._running()
            mean = torch.where(enough, mean, running_mean)
            variance = torch.where(enough, variance, running_var)
            scale = self.weight * torch.rsqrt(variance + self.eps)
            shift = self.bias - mean * scale
        return (values * scale[:, None] + shift[:, None]).to(values.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor, enough: Tensor) -> None:
        """Update the running statistics, with the unbiased variance, as in torch."""
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
        """The sum of `value` over ranks if `sync` is on; the gradient flows to every rank."""
        if self.sync and dist.is_available() and dist.is_initialized():
            from torch.distributed.nn.functional import all_reduce

            total: Tensor = all_reduce(value)  # type: ignore[no-untyped-call]
            return total
        return value


class TemporalConv(nn.Module):
    """Rounds of [convolution, batch norm, ReLU, max-pool]; by default two with kernel 5 and pool 2, one step per 4
    frames.

    The convolutions do not pad. Instead each clip is extended with copies of its edge frames (8 of the first on the
    left, and of the last on the right up to ceil(n/4)*4 + 16 frames). A clip of n frames then gives ceil(n/4) + 1
    steps, a single frame gives two, and no step depends on other clips of the batch.

    | kind | steps of L = ceil(n/4)*4 frames, "replicate" | "vac" | a step sees | one every |
    |---|---|---|---|---|
    | k5p2k5p2 | L/4 + 1 | L/4 | 16 frames | 4 frames |
    | k5p2 | L/2 + 6 | L/2 + 4 | 6 frames | 2 frames |
    | k3 | L + 14 | L + 10 | 3 frames | 1 frame |

    Steps before the first frame and after the last see only copies. k5p2 and k3 have several such steps, since the
    released loaders make the same copies for every kind; `geometry` gives the position of each step.

    Args:
        dim_in: size of a frame feature (512 for ResNet-18).
        width: channels of the convolutions and of a step (1024 in Table 5).
        kind: kernels and pools, a name of `CONVS`.
        edge: "replicate" as above; "vac": 6 copies on the left, on the right up to ceil(n/4)*4 + 12; or "none": no
            copies (k5p2k5p2: floor((floor((n-4)/2)-4)/2) steps), except that a clip shorter than one step's receptive
            field is padded with its last frame.
        as_released: pad shorter clips with the value 1 and let batch norm see those positions, as GFSLT-VLP does. Real
            positions differ only by the statistics; evaluation is the same.
        sync: share the batch norm's statistics over ranks.

    Raises:
        ValueError: an unknown kind or edge.

    Source: paper Table 5. Released code: copies images, before the frame encoder; copying features gives the same steps
    for a deterministic encoder and saves encoding the copies.
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
        self.seen, self.pace = 1, 1  # receptive field and stride of a step, in rows
        for number, (kernel, pool) in enumerate(self.rounds, 1):
            self.add_module(f"conv{number}", nn.Conv1d(dim_in if number == 1 else width, width, kernel_size=kernel))
            self.add_module(f"norm{number}", MaskedBatchNorm1d(width, sync=sync))
            self.seen += (kernel - 1 + pool - 1) * self.pace
            self.pace *= pool

    def step_lengths(self, lengths: Tensor) -> Tensor:
        """Number of steps for clips of `lengths` frames. [B] -> [B]"""
        return self._steps(lengths)

    def num_steps(self, num_frames: int) -> int:
        """`step_lengths` for one Python int."""
        return self._steps(num_frames)

    def _steps(self, frames: Length) -> Length:
        length = self._with_copies(frames)
        for kernel, pool in self.rounds:
            length = (length - (kernel - 1)) // pool
        return length

    def _with_copies(self, frames: Length) -> Length:
        """Number of rows of a clip including its edge copies."""
        if self.edge in EDGES:
            return (frames + 3) // 4 * 4 + EDGES[self.edge][1]
        if isinstance(frames, Tensor):
            return frames.clamp(min=self.seen)
        return at_least(frames, self.seen)

    def geometry(self, stride: float = 1.0, first_centre: float = 0.5) -> tuple[float, float]:
        """Positions of steps in time: frames from one step to the next, and the middle of the first step.

        The first step sees rows -8 to 7 with k5p2k5p2 and `edge="replicate"`, -6 to 9 with "vac", else 0 to 15.
        Frame t lasts from t to t + 1, so its middle is t + 0.5.

        Args:
            stride, first_centre: the same for the input rows.
        """
        left = EDGES.get(self.edge, (0, 0))[0]
        return self.pace * stride, first_centre + ((self.seen - 1) / 2 - left) * stride

    def forward(self, features: Tensor, lengths: Tensor, *, lengthened: bool = False) -> tuple[Tensor, Tensor]:
        """Shorten time.

        Args:
            features: padded frame features; padding is never read. [B, T, dim_in]
            lengths: frames of each clip without padding, at least 1. [B]
            lengthened: the clips already have their edge copies, as returned by `lengthen`; padding is then read.

        Returns:
            Steps [B, S, width], exactly zero at padding unless as_released, and their number per clip [B].
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
        """Frames with edge copies, and their number per clip. [B, L, dim_in], [B]

        Positions after a clip hold copies of its last frame, or the value 1 if `as_released`.
        """
        longest = features.shape[1]  # a Python int, so the output size needs no synchronisation
        left, size, real = EDGES.get(self.edge, (0, 0))[0], self._with_copies(longest), self._with_copies(lengths)
        index = torch.arange(size, device=features.device)[None, :] - left  # [1, L]
        index = torch.minimum(index.clamp(min=0), lengths[:, None] - 1)  # [B, L], never padding
        frames = features.gather(1, index[:, :, None].expand(-1, -1, features.shape[2]))
        if self.as_released:
            frames = frames.masked_fill(~frame_mask(real, size)[:, :, None], PAD_VALUE)
        return frames, real


def at_least(size: int, low: int) -> int:
    """`max`, also for a size that torch.export keeps open, which is no Python int."""
    return max(size, low) if isinstance(size, int) else torch.sym_max(size, low)


def max_pool(hidden: Tensor, pool: int) -> Tensor:
    """`max_pool1d`, in its 2D form, since torch.export fixes the length of the 1D form. [B, C, L] ->
    [B, C, L // pool]"""
    if torch.compiler.is_exporting():
        return nn.functional.max_pool2d(hidden[:, :, None], (1, pool))[:, :, 0]
    return nn.functional.max_pool1d(hidden, pool)


def kind_of(state: Mapping[str, Tensor], prefix: str) -> str:
    """The kind of a released temporal convolution, from the kernels of its tensors `PREFIX0.weight`, `PREFIX4.weight`.

    Raises:
        ValueError: no kind has those kernels.
    """
    kernels = [state[f"{prefix}{place}.weight"].shape[-1] for place in (0, 4) if f"{prefix}{place}.weight" in state]
    for kind, rounds in CONVS.items():
        if [kernel for kernel, _ in rounds] == kernels:
            return kind
    raise ValueError(f"its temporal convolution has the kernels {kernels}; {', '.join(CONVS)} are known")


class BiLSTM(nn.Module):
    """Bidirectional LSTM layers that ignore padding without synchronising the device.

    The backward direction reads each clip reversed within its own length, so that it begins at the last real step.
    Equal to `nn.LSTM(bidirectional=True)` on packed sequences, which would need the lengths on the CPU.

    With input size D, width w and L layers it has 2 (4 h (D + h) + 8 h) + (L - 1) 2 (4 h (w + h) + 8 h) parameters,
    h = w / 2.

    Args:
        dim_in: size of an input step.
        width: size of an output step, both directions together; even.
        layers: number of layers.
        dropout: dropout between the layers.
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
        """Read every clip in both directions.

        Args:
            steps: padding is never read. [B, S, dim_in]
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
            ahead = there(states)[0]  # padding comes last, so no real step reads it
            behind = back(states.gather(1, turned.expand_as(states)))[0]
            states = torch.cat([ahead, behind.gather(1, turned.expand_as(behind))], dim=2)
        return states * real[:, :, None]
