"""Skips optimizer steps with non-finite gradients; the device decides, so the host does not wait.

A skipped step leaves weights, optimizer state and batch norm statistics bit for bit unchanged. It counts as a step of
the schedule, so that a resumed run sees the same clips. The host reads which steps were skipped when the loop waits for
the device anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from signcl.data.progress import say
from signcl.training.optimizer import PartOptimizers

__all__ = ["MOST_IN_A_ROW", "Refusals", "carried", "total_norm"]

MOST_IN_A_ROW = 20
"""Skipped steps in a row after which training stops; float16 may need 16 to reduce its loss scale from 65536 to 1."""


def carried(loss: Tensor) -> Tensor:
    """Return the loss with a non-finite gradient if its value is not finite; otherwise gradients are bit-identical.

    Then checking the gradients, which all ranks share, is sufficient. Without this, a loss could be infinite with a
    finite gradient, or only on one rank.
    """
    return loss * (1 + 0 * loss.detach())


def total_norm(optimizer: Any) -> Tensor:
    """The norm of all gradients of an optimizer's weights, left on the device. []"""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


@dataclass(frozen=True)
class _Step:
    """A step whose result has not been read yet."""

    number: int
    refused: Tensor
    terms: dict[str, Tensor]
    names: list[str]


class Refusals:
    """Performs the optimizer's steps, skips those with non-finite gradients, and reports them.

    Args:
        model: the model, whose buffers are restored after skipped steps.
        optimizer: the optimizer, wrapped by Fabric.
        fabric: the run's Fabric.
    """

    def __init__(self, model: nn.Module, optimizer: Any, fabric: Any) -> None:
        self.optimizer, self.fabric = optimizer, fabric
        self.scaled = getattr(fabric._precision, "scaler", None) is not None
        """Whether there is a dynamic loss scale (16-mixed), whose adjustment causes some skipped steps."""
        bare = optimizer.optimizer
        self.kinds: list[Any] = bare.optimizers if isinstance(bare, PartOptimizers) else [bare]
        self.fused = all(group.get("fused") for group in bare.param_groups)
        self.buffers = _Buffers(model)
        self.waiting: list[_Step] = []
        self.count = 0
        """Number of skipped steps so far."""
        self.in_a_row = 0
        """Number of skipped steps since the last successful step."""

    def step(self, norm: Tensor, number: int, terms: dict[str, Tensor], names: list[str]) -> None:
        """Perform the optimizer's step, unless the gradient norm is not finite.

        Args:
            norm: norm of all gradients, equal on all ranks. []
            number: number of the step, for the report.
            terms: values of the loss terms, for the report.
            names: clips of this rank, for the report.
        """
        refused = ~torch.isfinite(norm)
        if self.fused:
            self._fused_step(refused)
        elif self.scaled or not bool(refused):  # the loss scaler checks itself; sharded sgd and MPS wait here
            self.optimizer.step()
        self.buffers.settle(refused)
        self.waiting.append(_Step(number, refused, terms, names))

    def _fused_step(self, refused: Tensor) -> None:
        """A fused step whose kernels check a flag on the device first, which torch provides for its loss scaler."""
        flag = refused.float()
        for kind in self.kinds:
            _fill_momentum(kind)
            kind.found_inf = flag
        try:
            self.optimizer.step()
        finally:
            for kind in self.kinds:
                del kind.found_inf

    def look(self) -> None:
        """Read the results of the steps since the last call and report skipped ones; the host waits here."""
        steps, self.waiting = self.waiting, []
        if not steps:
            return
        flags = torch.stack([step.refused for step in steps]).tolist()
        refused = [step for step, is_refused in zip(steps, flags) if is_refused]
        for is_refused in flags:
            self.in_a_row = self.in_a_row + 1 if is_refused else 0
        self.count += len(refused)
        if refused:
            self._tell(refused)

    def _tell(self, refused: Sequence[_Step]) -> None:
        first = refused[0]
        found = ({name: float(value) for name, value in first.terms.items()}, first.names)
        parts = [found] * self.fabric.world_size
        if self.fabric.world_size > 1:  # the clip may be on another rank
            torch.distributed.all_gather_object(parts, found)
        if self.fabric.global_rank:
            return
        values = ", ".join(f"{name} {value:.4g}" for terms, _ in parts for name, value in terms.items())
        names = ", ".join(name for _, clips in parts for name in clips)
        numbers = ", ".join(str(step.number) for step in refused)
        which = f"step {numbers} was" if len(refused) == 1 else f"steps {numbers} were"
        of = "" if len(refused) == 1 else f" of step {first.number}"
        say(f"{which} left out: the gradient is not finite; losses{of}: {values}; clips{of}: {names}")

    def check(self, epoch: int, total: int) -> None:
        """Stop a run that no longer learns, based on the last `look`.

        Args:
            epoch: steps of an epoch; training stops if a complete epoch was skipped.
            total: steps of the run.

        Raises:
            ValueError: too many skipped steps in a row.
        """
        most = MOST_IN_A_ROW if self.scaled else min(MOST_IN_A_ROW, epoch, total)
        if self.in_a_row >= most:
            raise ValueError(
                f"the gradient was not finite in {self.in_a_row} steps in a row, which were all skipped; "
                f"lower train.lr, raise train.warmup_steps, or check the clips listed above"
            )

    def state_dict(self) -> dict[str, int]:
        """The state needed to resume a run."""
        return {"count": self.count, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Restore the result of `state_dict`."""
        self.count, self.in_a_row = state.get("count", 0), state.get("in_a_row", 0)


def _fill_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Fill a missing momentum with zeros, since torch leaves it unset if the first step is skipped.

    The first step of sgd then gives the same result: 0 x momentum + gradient.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        for weight in group["params"] if group["momentum"] else ():
            if weight.grad is not None and optimizer.state[weight].get("momentum_buffer") is None:
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)


class _Buffers:
    """Copies of a model's buffers after the last successful step.

    A single batch with a NaN would permanently corrupt the running statistics of a batch norm.
    """

    def __init__(self, model: nn.Module) -> None:
        self.places = [(module, name) for module in model.modules() for name in module._buffers]
        self.kept = {number: (buffer, buffer._version, buffer.clone()) for number, buffer in self._now()}

    def _now(self) -> Iterator[tuple[int, Tensor]]:
        for number, (module, name) in enumerate(self.places):
            buffer = module._buffers.get(name)
            if buffer is not None:
                yield number, buffer

    def settle(self, refused: Tensor) -> None:
        """Restore the buffers that this step changed if it was skipped, else save their new values."""
        changed: dict[Any, list[tuple[int, Tensor, Tensor]]] = {}
        for number, buffer in self._now():
            earlier, module = self.kept.get(number), self.places[number][0]
            counts = module.training and isinstance(module, nn.modules.batchnorm._NormBase)  # not tracked by `_version`
            if earlier is None or earlier[2].shape != buffer.shape:  # created in this step
                self.kept[number] = (buffer, buffer._version, buffer.clone())
            elif counts or earlier[0] is not buffer or earlier[1] != buffer._version:
                changed.setdefault((buffer.dtype, buffer.device), []).append((number, buffer, earlier[2]))
        for rows in changed.values():  # few kernel launches for all buffers
            sizes = [buffer.numel() for _, buffer, _ in rows]
            now = torch.cat([buffer.detach().reshape(-1) for _, buffer, _ in rows])
            before = torch.cat([kept.reshape(-1) for _, _, kept in rows])
            settled = torch.where(refused.to(now.device), before, now).split(sizes)
            for (number, buffer, _), values in zip(rows, settled):
                values = values.view(buffer.shape)
                buffer.detach().copy_(values)
                self.kept[number] = (buffer, buffer._version, values)
