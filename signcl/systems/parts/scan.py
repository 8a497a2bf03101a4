"""A loop over the steps of a clip or the words of a sentence that torch.export keeps as a loop.

torch.export unrolls a Python loop over a tensor's rows, and the program then accepts only that number of rows. Here it
writes torch's `scan` instead, which becomes the operator Scan in ONNX.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["scan"]

State = tuple[Tensor, ...]


def scan(step: Callable[[State, Tensor], tuple[State, Tensor]], state: State, rows: Tensor) -> tuple[State, Tensor]:
    """Apply `step` to one row after the other.

    Args:
        step: maps the state and a row to the next state, of the same shapes, and an output.
        state: the state before the first row.
        rows: one row per step; at least 1. [S, ...]

    Returns:
        The state after the last row, and the outputs of all steps. [S, ...]
    """
    if torch.compiler.is_exporting():
        from torch._higher_order_ops.scan import scan as kept  # the only place where torch has it

        def separate(state: State, row: Tensor) -> tuple[State, Tensor]:
            after, found = step(state, row)
            return after, found.clone()  # torch's scan accepts no output that is also a state

        last, outputs = kept(separate, tuple(part.clone() for part in state), rows)
        return tuple(last), outputs
    found = []
    for row in rows.unbind(0):
        state, output = step(state, row)
        found.append(output)
    return state, torch.stack(found)
