"""Parts of an optimizer step: learning rates, term weights, parameter groups, gathering rows over ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from signcl.data.batch import Batch
from signcl.systems.parts.cpu_half import cpu_half
from signcl.systems.parts.module_names import check_parts, under
from signcl.systems.terms import Gather, Term, TermContext, compute_terms, term_counts
from signcl.training.recipe import PartRecipe, Recipe, TrainRecipe
from signcl.training.views import views_of

__all__ = [
    "Adaptation",
    "Objective",
    "PartOptimizers",
    "count_parameters",
    "drop_waiting",
    "freeze_parts",
    "gather_rows",
    "keep_frozen_in_bf16",
    "learning_rate",
    "make_optimizer",
    "parameter_groups",
    "set_rates",
    "shares_of",
    "term_context",
    "term_weights",
]


def learning_rate(step: int, total: int, train: TrainRecipe) -> float:
    """The learning rate of an optimizer step (0-based) from `train.schedule`; `Adaptation` also lowers it on a
    plateau."""
    if step < train.warmup_steps:
        return train.lr * (step + 1) / (train.warmup_steps + 1)
    share = min(1.0, (step - train.warmup_steps) / max(1, total - train.warmup_steps))
    if train.schedule == "cosine":
        return train.min_lr + (train.lr - train.min_lr) * 0.5 * (1 + math.cos(math.pi * share))
    if train.schedule == "onecycle":  # increases over the first 30 %, then decreases, both as half cosines
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
    """The weights of an epoch's terms from `loss.schedule`; SignCL may also start late and decay, as released.

    A term that is off has weight 0 but is still computed, so that every rank's parameters have gradients.
    """
    weights, signcl = dict(recipe.loss.weights), recipe.loss.signcl
    for term, (first, end) in recipe.loss.schedule.items():
        weights[term] *= first <= epoch and (end is None or epoch < end)
    if "signcl" in weights:
        weights["signcl"] *= adaptation.signcl if epoch >= signcl.start_epoch else 0.0
    return weights


def term_context(model: Any, recipe: Recipe, pad_id: int, gather: Gather | None = None) -> TermContext:
    """The context of a recipe's terms for training or scoring this model."""
    return TermContext(
        recipe.loss,
        pad_id,
        gather,
        view=views_of(model, recipe.input.augment),
        step_lengths=getattr(model, "step_lengths", None),
        memories=dict(getattr(model, "term_memory", nn.ModuleDict()).items()),
    )


class Objective(nn.Module):
    """Model and loss terms as one module that maps a batch to terms, so that Fabric (precision, DDP) wraps all of
    it."""

    def __init__(self, model: nn.Module, recipe: Recipe, pad_id: int, gather: Gather | None) -> None:
        super().__init__()
        self.model, self.terms = model, recipe.terms
        self.context = term_context(model, recipe, pad_id, gather)
        self.frozen = tuple(recipe.model.freeze)
        self.progress: float | None = None
        """Progress of training (0 to 1), set before each step."""
        self.noted: dict[str, dict[str, Any]] = {}
        """Counts of terms over training, by term (`TermContext.note`)."""

    def train(self, mode: bool = True) -> Objective:
        """Set training mode, except for frozen modules, which stay in evaluation mode."""
        super().train(mode)
        for name, module in self.model.named_modules() if self.frozen else ():
            if under(name, self.frozen):
                module.training = False
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The unweighted terms by name."""
        with cpu_half():
            noted = None if self.progress is None else self.noted
            context = replace(self.context, progress=self.progress, noted=noted)
            return compute_terms(self.model(batch), batch, self.terms, context)


def shares_of(batches: Sequence[Batch], terms: Mapping[str, Term], context: TermContext, fabric: Any) -> list[Tensor]:
    """Weight of each batch of a step in each term, so that together they equal one large batch.

    A term is a mean over tokens, clips or other items (`Term.counts`). Batch b of rank r has weight
    `ranks * counts[r, b] / sum of all counts`, since gradients are averaged over ranks. The counts are known before the
    first forward pass and never leave the device.

    A contrastive loss over the rows of all ranks has the same value on each rank. The shares of one batch sum to the
    number of ranks, so its gradient is correct too. Accumulated batches are not contrasted with each other.

    Returns:
        One tensor per batch, in the order of `terms`. [terms] float
    """
    counts = torch.stack([term_counts(batch, terms, context) for batch in batches])  # [batches, terms]
    total = counts.sum(dim=0)
    if fabric.world_size > 1:
        torch.distributed.all_reduce(total)  # Fabric's all_reduce has a barrier that makes the host wait
    shares = fabric.world_size * counts / total.clamp(min=1)  # a term without items has value 0
    return list(shares.float())


@dataclass
class Adaptation:
    """State that adapts to the dev score: the learning rate on a plateau, and SignCL's released decay."""

    rate: float = 1.0
    """Factor on the learning rate."""
    signcl: float = 1.0
    """Factor on SignCL's weight."""
    rate_best: float = -math.inf
    rate_waited: int = 0
    signcl_best: float = -math.inf
    signcl_waited: int = 0

    def update(self, value: float, recipe: Recipe) -> None:
        """Update with a new dev score (higher is better)."""
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
    """Numbers of all parameters of a model (including 4-bit ones) and of trained parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    sizes += [(getattr(part, "packed_parameters", 0), False) for part in model.modules()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def freeze_parts(model: nn.Module, parts: Sequence[str]) -> None:
    """Freeze the parameters of these modules; `Objective.train` keeps the modules in evaluation mode.

    Raises:
        ValueError: an unknown module, or nothing left to train.
    """
    check_parts(model, parts, "model.freeze")
    for name, parameter in model.named_parameters():
        if under(name, parts):
            parameter.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError(f"model.freeze={list(parts)} leaves nothing to train")


def keep_frozen_in_bf16(model: nn.Module) -> int:
    """Convert frozen matrices to bfloat16, which halves their memory. Returns the number of bytes saved.

    Vectors (norms, biases) stay in float32. Under autocast products run in bfloat16 anyway, so only the word embeddings
    lose precision.
    """
    saved = 0
    for parameter in model.parameters():
        if not parameter.requires_grad and parameter.ndim > 1 and parameter.dtype == torch.float32:
            saved += 2 * parameter.numel()
            parameter.data = parameter.data.to(torch.bfloat16)
    return saved


def parameter_groups(model: nn.Module, train: TrainRecipe) -> list[dict[str, Any]]:
    """Trained weights grouped by part, learning rate factor (`scale`) and whether they have weight decay.

    Weight decay applies only to matrices, except with sgd, where the released code decays everything.

    Raises:
        ValueError: train.lr_scale or train.parts names no module, or a frozen one, or a module is in two parts.
    """
    check_parts(model, train.lr_scale, "train.lr_scale")
    part_of = _modules_of_parts(model, train)
    found: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    moved: set[str] = set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scaled, module = under(name, train.lr_scale), under(name, part_of)
            moved |= {f"lr_scale.{scaled}", f"parts.{part_of.get(module, '')}"}
            part = part_of.get(module, "")
            settings = train.parts.get(part, train)
            decays = settings.optimizer == "sgd" or parameter.ndim > 1
            found.setdefault((part, train.lr_scale.get(scaled, 1.0), decays), []).append(parameter)
    for key in (*(f"lr_scale.{name}" for name in train.lr_scale), *(f"parts.{name}" for name in train.parts)):
        if key not in moved:
            what = "this factor" if key.startswith("lr_scale") else "this optimizer"
            raise ValueError(f"train.{key}: none of its weights is trained by {what}; model.freeze freezes it")
    return [
        {
            "params": parameters,
            "weight_decay": train.parts.get(part, train).weight_decay if decays else 0.0,
            "scale": scale,
            **({"part": part} if train.parts else {}),
        }
        for (part, scale, decays), parameters in sorted(found.items(), key=lambda group: _order(*group[0]))
    ]


def _order(part: str, scale: float, decays: bool) -> tuple[str, float, bool]:
    return part, -scale, not decays


def _modules_of_parts(model: nn.Module, train: TrainRecipe) -> dict[str, str]:
    """Module -> its part in `train.parts`."""
    part_of: dict[str, str] = {}
    for name, part in train.parts.items():
        modules = part.modules or [name]
        check_parts(model, modules, f"train.parts.{name}")
        for module in modules:
            if module in part_of:
                raise ValueError(
                    f"train.parts: {module} is in {part_of[module]} and in {name}; leave it in one of them"
                )
            part_of[module] = name
    return part_of


class PartOptimizers(torch.optim.Optimizer):
    """Combines the optimizers of `train.parts` and of the other weights into one, for Fabric and its loss scale.

    Each keeps its own state; parameters without a gradient are not updated (`drop_waiting`).
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([group for optimizer in self.optimizers for group in optimizer.param_groups], {})
        self._share_groups()

    def _share_groups(self) -> None:
        """Share the parameter groups, so that a learning rate set here applies to the inner optimizers."""
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Step each optimizer."""
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """The state of each optimizer, in order."""
        return {"parts": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        for optimizer, state in zip(self.optimizers, state_dict["parts"], strict=True):
            optimizer.load_state_dict(state)
        self._share_groups()


def make_optimizer(model: nn.Module, train: TrainRecipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over `parameter_groups`; with `train.parts` several optimizers combined."""
    groups = parameter_groups(model, train)
    fast = _fast(model, train)
    if not train.parts:
        return _optimizer_of(groups, train, fast)
    kinds: dict[str, TrainRecipe | PartRecipe] = {"": train, **train.parts}
    by_part = {name: [group for group in groups if group["part"] == name] for name in kinds}
    return PartOptimizers([_optimizer_of(own, kinds[name], fast) for name, own in by_part.items() if own])


def _fast(model: nn.Module, train: TrainRecipe) -> dict[str, bool]:
    """Use the fused optimizer if torch has it for this device, else the foreach form.

    It is not fused with 16-mixed, because a fused optimizer divides by the loss scale itself, so gradients could not be
    clipped. It is not fused for sgd with fsdp, because torch has no fused sgd for shards.
    """
    device = next(model.parameters()).device.type
    sharded_sgd = train.strategy == "fsdp" and "sgd" in {train.optimizer, *(p.optimizer for p in train.parts.values())}
    if device in ("cuda", "cpu") and train.precision != "16-mixed" and not sharded_sgd:
        return {"fused": True}
    return {"foreach": True} if device == "cuda" else {}


def _optimizer_of(
    groups: list[dict[str, Any]], settings: TrainRecipe | PartRecipe, fast: dict[str, bool]
) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=True, **fast)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, **fast)


def set_rates(optimizer: Any, step: int, total: int, train: TrainRecipe, factor: float) -> float:
    """Set the learning rate of every group for this step; returns the rate of weights without a part or scale.

    Args:
        step: optimizer steps before this one.
        total: optimizer steps of the run.
        factor: factor on the rate due to plateaus.
    """
    rates = {name: learning_rate(step, total, replace(train, lr=part.lr)) for name, part in train.parts.items()}
    rates[""] = learning_rate(step, total, train)
    for group in optimizer.param_groups:
        group["lr"] = rates[group.get("part", "")] * factor * group.get("scale", 1.0)
    return rates[""] * factor


def drop_waiting(optimizer: Any, step: int, train: TrainRecipe) -> None:
    """Drop the gradients of parts that are not updated in this step, so that they do not accumulate or add to the norm.

    Args:
        step: earlier optimizer steps of this epoch.
    """
    for group in optimizer.param_groups if train.parts else ():
        part = train.parts.get(group["part"])
        if part is not None and step % part.every:
            for parameter in group["params"]:
                parameter.grad = None


def gather_rows(fabric: Any, rows: Tensor) -> Tensor:
    """Rows of all ranks in rank order, with gradient.

    Ranks may have different numbers of rows, and rows of different sizes (steps, tokens), which are padded with 0.
    """
    shapes = fabric.all_gather(torch.tensor([rows.shape], device=rows.device)).view(-1, rows.dim()).tolist()
    sizes = [max(size) for size in zip(*shapes)]
    padding = [end for size, own in zip(reversed(sizes), reversed(rows.shape)) for end in (0, size - own)]
    gathered = fabric.all_gather(torch.nn.functional.pad(rows, padding), sync_grads=rows.is_floating_point())
    return torch.cat([part[: shape[0]] for part, shape in zip(gathered, shapes)])
