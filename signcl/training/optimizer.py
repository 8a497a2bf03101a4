"""The parts of an optimizer step: rates, weights that adapt, the finite check, rows gathered over ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.systems.parts.cpu_half import cpu_half
from signcl.systems.parts.module_names import check_parts, under
from signcl.systems.terms import Gather, TermContext, compute_terms
from signcl.training.recipe import Recipe, TrainRecipe

__all__ = [
    "Adaptation",
    "FiniteFlag",
    "Objective",
    "count_parameters",
    "freeze_parts",
    "gather_rows",
    "learning_rate",
    "make_optimizer",
    "parameter_groups",
    "term_weights",
]


def learning_rate(step: int, total: int, train: TrainRecipe) -> float:
    """The learning rate of an optimizer step (0-based) by `train.schedule`; on a plateau `Adaptation` lowers it too."""
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
    if train.schedule == "steps":
        return train.lr * train.step_factor ** sum(step >= at * total for at in train.step_shares)
    after = step - train.warmup_steps
    if train.schedule == "noam":
        return train.lr * math.sqrt(train.warmup_steps / step)
    if train.schedule == "exponential":
        return max(train.min_lr, train.lr * train.decay_factor ** (after / train.decay_steps))
    if train.schedule == "restarts":
        length = train.restart_steps
        if train.restart_growth == 1:
            after %= length
        while after >= length:
            after, length = after - length, length * train.restart_growth
        return train.min_lr + (train.lr - train.min_lr) * 0.5 * (1 + math.cos(math.pi * after / length))
    return train.lr


def term_weights(recipe: Recipe, epoch: int, adaptation: Adaptation) -> dict[str, float]:
    """The weights of an epoch's terms by `loss.schedule`; SignCL may also start late and decay, as released.

    A term that is off keeps the weight 0: it is still computed, so that every rank's parameters have gradients.
    """
    weights, signcl = dict(recipe.loss.weights), recipe.loss.signcl
    for term, (first, end) in recipe.loss.schedule.items():
        weights[term] *= first <= epoch and (end is None or epoch < end)
    if "signcl" in weights:
        weights["signcl"] *= adaptation.signcl if epoch >= signcl.start_epoch else 0.0
    return weights


class Objective(nn.Module):
    """The model and its stage as one module, batch to terms, so that Fabric wraps (precision, DDP) all of it."""

    def __init__(self, model: nn.Module, recipe: Recipe, pad_id: int, gather: Gather | None) -> None:
        super().__init__()
        self.model, self.terms = model, recipe.terms
        self.context = TermContext(recipe.loss, pad_id, gather)
        self.frozen = tuple(recipe.model.freeze)

    def train(self, mode: bool = True) -> Objective:
        """Training mode for all but the frozen modules, whose dropout is off and whose batch norms stand still."""
        super().train(mode)
        for name, module in self.model.named_modules() if self.frozen else ():
            if under(name, self.frozen):
                module.training = False
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted terms."""
        with cpu_half():
            return compute_terms(self.model(batch), batch, self.terms, self.context)


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


def freeze_parts(model: nn.Module, parts: Sequence[str]) -> None:
    """Take the parameters of these modules out of training; `Objective.train` keeps them in evaluation mode.

    Raises:
        ValueError: no such module, or nothing left to train.
    """
    check_parts(model, parts, "model.freeze")
    for name, parameter in model.named_parameters():
        if under(name, parts):
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"model.freeze={list(parts)} leaves nothing to train")


def parameter_groups(model: nn.Module, train: TrainRecipe) -> list[dict[str, Any]]:
    """The weights that train, by the factor on their learning rate (`scale`) and by whether they decay.

    Weight decay applies to matrices only, except for sgd, where the released code decays everything.

    Raises:
        ValueError: train.lr_scale names no module, or a frozen one.
    """
    check_parts(model, train.lr_scale, "train.lr_scale")
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    moved: set[str] = set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            part = under(name, train.lr_scale)
            moved.add(part)
            decays = train.optimizer == "sgd" or parameter.ndim > 1
            found.setdefault((train.lr_scale.get(part, 1.0), decays), []).append(parameter)
    for part in train.lr_scale:
        if part not in moved:
            raise ValueError(f"train.lr_scale.{part}: none of its weights trains by this factor; model.freeze holds it")
    return [
        {"params": parameters, "weight_decay": train.weight_decay if decays else 0.0, "scale": scale}
        for (scale, decays), parameters in sorted(found.items(), key=lambda group: (-group[0][0], not group[0][1]))
    ]


def make_optimizer(model: nn.Module, train: TrainRecipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over `parameter_groups`."""
    groups = parameter_groups(model, train)
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=train.lr, momentum=train.momentum, nesterov=True)
    kind = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=train.lr, betas=train.betas, eps=train.eps)


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
    """Rows of all ranks in rank order, with gradient.

    Ranks may hold different numbers of rows, and rows of different sizes (steps, tokens): those are padded with 0.
    """
    shapes = fabric.all_gather(torch.tensor([rows.shape], device=rows.device)).view(-1, rows.dim()).tolist()
    sizes = [max(size) for size in zip(*shapes)]
    padding = [end for size, own in zip(reversed(sizes), reversed(rows.shape)) for end in (0, size - own)]
    gathered = fabric.all_gather(torch.nn.functional.pad(rows, padding), sync_grads=rows.is_floating_point())
    return torch.cat([part[: shape[0]] for part, shape in zip(gathered, shapes)])
