"""The parts of an optimizer step: rates, weights that adapt, the finite check, rows gathered over ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from signcl.batch import Batch
from signcl.recipe import Recipe, TrainRecipe
from signcl.terms import Gather, compute_terms

__all__ = [
    "Adaptation",
    "FiniteFlag",
    "Objective",
    "count_parameters",
    "gather_rows",
    "learning_rate",
    "make_optimizer",
]


def learning_rate(step: int, total: int, train: TrainRecipe) -> float:
    """The learning rate of an optimizer step (0-based) under the cosine, one-cycle or constant schedule."""
    if step < train.warmup_steps:
        return train.lr * (step + 1) / (train.warmup_steps + 1)
    share = min(1.0, (step - train.warmup_steps) / max(1, total - train.warmup_steps))
    if train.schedule == "cosine":
        return train.min_lr + (train.lr - train.min_lr) * 0.5 * (1 + math.cos(math.pi * share))
    if train.schedule == "onecycle":  # up over the first 30 %, then down, both as half cosines
        low = train.lr / 25
        if share < 0.3:
            return low + (train.lr - low) * 0.5 * (1 - math.cos(math.pi * share / 0.3))
        return train.min_lr + (train.lr - train.min_lr) * 0.5 * (1 + math.cos(math.pi * (share - 0.3) / 0.7))
    return train.lr


class Objective(nn.Module):
    """The model and its stage as one module, batch to terms, so that Fabric wraps (precision, DDP) all of it."""

    def __init__(self, model: nn.Module, recipe: Recipe, pad_id: int, gather: Gather | None) -> None:
        super().__init__()
        self.model, self.loss, self.pad_id, self.gather = model, recipe.loss, pad_id, gather

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted terms."""
        return compute_terms(self.model(batch), batch, self.loss, pad_id=self.pad_id, gather=self.gather)


@dataclass
class Adaptation:
    """What follows the dev score: the learning rate on a plateau, and SignCL's released decay."""

    rate: float = 1.0
    """Factor on the learning rate."""
    signcl: float = 1.0
    """Factor on SignCL's weight."""
    rate_best: float = -math.inf
    rate_waited: int = 0
    signcl_best: float = -math.inf
    signcl_waited: int = 0

    def update(self, value: float, recipe: Recipe) -> None:
        """Take a new dev score (higher is better) into account."""
        train, signcl = recipe.train, recipe.loss.signcl
        if value > self.rate_best:
            self.rate_best, self.rate_waited = value, 0
        else:
            self.rate_waited += 1
        if train.schedule == "plateau" and self.rate_waited > train.plateau_patience:
            self.rate *= train.plateau_factor
            self.rate_waited = 0
        if value > self.signcl_best + signcl.decay_delta:
            self.signcl_best, self.signcl_waited = value, 0
        else:
            self.signcl_waited += train.evaluate_every
        if signcl.decay < 1 and self.signcl_waited > signcl.decay_patience:
            self.signcl *= signcl.decay
            self.signcl_waited = 0


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """All parameters of a model, and those that are trained."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def make_optimizer(model: nn.Module, train: TrainRecipe) -> torch.optim.Optimizer:
    """Weight decay applies to matrices only, except for sgd, where the released code decays everything."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if train.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=train.lr, momentum=train.momentum, nesterov=True, weight_decay=train.weight_decay
        )
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": train.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=train.lr, betas=train.betas)


class FiniteFlag:
    """Whether a loss is finite on every rank, read by the host without waiting for the backward pass after it."""

    def __init__(self, value: Tensor, fabric: Any) -> None:
        flag = torch.isfinite(value.detach())
        if fabric.world_size > 1:  # one rank's NaN reaches all through the gradients: all stop, or all go on
            flag = fabric.all_reduce(flag.float(), reduce_op="min").bool()
        self.event: Any = None
        if flag.is_cuda:
            self.flag = torch.empty((), dtype=torch.bool, pin_memory=True)
            self.flag.copy_(flag, non_blocking=True)
            self.event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.event.record()
        else:
            self.flag = flag

    def finite(self) -> bool:
        if self.event is not None:
            self.event.synchronize()
        return bool(self.flag)


def gather_rows(fabric: Any, rows: Tensor) -> Tensor:
    """Rows of all ranks in rank order, with gradient; ranks may hold different numbers of rows."""
    counts = fabric.all_gather(torch.tensor([len(rows)], device=rows.device)).flatten().tolist()
    padded = torch.cat([rows, rows.new_zeros(max(counts) - len(rows), *rows.shape[1:])])
    gathered = fabric.all_gather(padded, sync_grads=rows.is_floating_point())
    return torch.cat([part[:count] for part, count in zip(gathered, counts)])
