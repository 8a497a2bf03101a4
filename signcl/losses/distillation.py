"""Distillation between CTC heads: the sequence head teaches the head on the convolution (VAC, SMKD)."""

from __future__ import annotations

import torch
from torch import Tensor

from signcl.data.batch import frame_mask
from signcl.losses.lengths import clip_lengths
from signcl.losses.precision import full_precision

__all__ = ["distillation_loss"]


def distillation_loss(student: Tensor, teacher: Tensor, step_lengths: Tensor, *, temperature: float = 8.0) -> Tensor:
    """Divergence of the student's gloss distribution from the teacher's, per step; 0 if they agree.

    t^2 * KL(p || q) with p = softmax(teacher[1:] / t) and q = softmax(student[1:] / t). The blank, class 0, is left
    out: a CTC head predicts blank at nearly every step, so the student would learn little else. The factor t^2 keeps
    the size of the gradient when t changes. The mean is over the real steps of a clip, then over clips, so padding and
    the lengths of other clips have no effect. No gradient reaches the teacher. Float32, under autocast too.

    Args:
        student: logits or log-probabilities (the softmax of both is the same). [B, S, C]
        teacher: logits or log-probabilities. [B, S, C]
        step_lengths: real steps of each clip. [B]
        temperature: t; VAC uses 8.

    Returns:
        Scalar.

    Raises:
        ValueError: shapes that do not match, no class besides the blank, or a temperature that is not above 0.

    Source: VAC, Min et al. 2021. Released code: mean over all steps of a batch, including padding.
    """
    if student.dim() != 3 or student.shape != teacher.shape or not len(student):
        raise ValueError(
            f"distillation_loss needs student and teacher of the same shape [B, S, C], B >= 1, got "
            f"{list(student.shape)} and {list(teacher.shape)}."
        )
    step_lengths = clip_lengths(step_lengths, student, "distillation_loss", name="step_lengths")
    if student.shape[2] < 2 or not temperature > 0:
        raise ValueError(
            f"distillation_loss needs a class besides the blank and a temperature above 0, got {student.shape[2]} "
            f"classes and temperature {temperature}."
        )
    with full_precision(student.device):
        dtype = torch.promote_types(student.dtype, torch.float32)
        real = frame_mask(step_lengths, student.shape[1])
        wanted, said = (
            (scores[:, :, 1:].masked_fill(~real[..., None], 0).to(dtype) / temperature).log_softmax(dim=2)
            for scores in (teacher.detach(), student)
        )
        divergence = (wanted.exp() * (wanted - said)).sum(dim=2)  # [B, S], 0 on padding
        per_clip = divergence.sum(dim=1) / step_lengths.clamp(min=1)
        return temperature**2 * per_clip.mean()
