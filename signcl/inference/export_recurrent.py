"""Recurrent layers in a form that `signcl export` can write: one loop over the steps, for clips of any length.

torch.export unrolls nn.LSTM, nn.GRU and nn.RNN over the steps of its example clip. The classes here have the same
parameters under the same names. Outside of torch.export they are torch's own layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_exporting
from torch.nn import functional as F

from signcl.systems.parts.scan import State, scan

__all__ = ["keep_loops"]


def keep_loops(model: nn.Module) -> None:
    """Make torch.export keep the loops of all recurrent layers of a model; modified in place.

    Raises:
        ValueError: an LSTM with a projection (proj_size).
    """
    for name, part in model.named_modules():
        kind = next((kept for torchs, kept in KEPT.items() if type(part) is torchs), None)
        if kind is None:
            continue
        if getattr(part, "proj_size", 0):
            raise ValueError(f"{name} cannot be exported: its LSTM has proj_size={part.proj_size}; needs 0")
        part.__class__ = kind  # keeps the parameters and their names


def _lstm(layer: Any, state: State, gates: Tensor, more: Tensor) -> State:
    """c' = f * c + i * g, h' = o * tanh(c'), with `gates` from the row and `more` from h. [B, 4 h] each"""
    i, f, g, o = (gates + more).chunk(4, dim=1)
    cell = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def _gru(layer: Any, state: State, gates: Tensor, more: Tensor) -> State:
    """n = tanh(W x + r * (U h)), h' = (1 - z) * n + z * h. [B, 3 h] each"""
    (r, z, n), (reset, update, new) = gates.chunk(3, dim=1), more.chunk(3, dim=1)
    z = (z + update).sigmoid()
    return ((1 - z) * (n + (r + reset).sigmoid() * new).tanh() + z * state[0],)


def _rnn(layer: Any, state: State, gates: Tensor, more: Tensor) -> State:
    """h' = tanh(W x + U h), or ReLU. [B, h] each"""
    return ((gates + more).tanh() if layer.nonlinearity == "tanh" else (gates + more).relu(),)


def _read(layer: Any, cell: Callable[..., State], rows: Any, first: State | None) -> tuple[Tensor, State]:
    """All layers and directions over padded rows, as torch's layers read them.

    Args:
        layer: an nn.RNNBase.
        cell: state, gates from the row, gates from the state -> next state.
        rows: [B, S, D], or [S, B, D] without `batch_first`.
        first: states before the first row; None: zero. [layers * directions, B, h]

    Returns:
        States of the last layer in the layout of `rows`, and the last state of each layer and direction.
    """
    if not isinstance(rows, Tensor) or rows.ndim != 3:
        came = f"{rows.ndim} dimensions" if isinstance(rows, Tensor) else type(rows).__name__
        raise ValueError(
            f"an exported {layer.mode} reads padded rows of three dimensions, got {came}; in place of "
            f"packed sequences, turn each clip within its own length, as signcl.systems.parts.layers.BiLSTM does"
        )
    states = rows.transpose(0, 1) if layer.batch_first else rows  # [S, B, D]
    directions, last = 1 + layer.bidirectional, []
    for number, weights in enumerate(layer.all_weights):
        backward = number % directions == 1
        if number % directions == 0:
            below, above = states if number == 0 else F.dropout(states, layer.dropout, layer.training), []
        w_ih, w_hh, *biases = weights
        b_ih, b_hh = biases or (None, None)
        if first is None:
            zero = below.new_zeros(below.shape[1], layer.hidden_size)
            start: State = (zero,) * (2 if layer.mode == "LSTM" else 1)
        else:
            start = tuple(part[number] for part in first)

        def step(state: State, gates: Tensor, w_hh: Tensor = w_hh, b_hh: Tensor | None = b_hh) -> tuple[State, Tensor]:
            after = cell(layer, state, gates, F.linear(state[0], w_hh, b_hh))
            return after, after[0]

        gates = F.linear(below.flip(0) if backward else below, w_ih, b_ih)  # of all rows at once
        final, found = scan(step, start, gates)
        above.append(found.flip(0) if backward else found)
        last.append(final)
        states = torch.cat(above, dim=2)
    outputs = states.transpose(0, 1) if layer.batch_first else states
    return outputs, tuple(torch.stack(parts) for parts in zip(*last))


class KeptLSTM(nn.LSTM):
    """nn.LSTM, whose loop torch.export keeps."""

    def forward(self, rows: Any, hx: Any = None) -> Any:
        """As `nn.LSTM`."""
        return _read(self, _lstm, rows, hx) if is_exporting() else super().forward(rows, hx)


class KeptGRU(nn.GRU):
    """nn.GRU, whose loop torch.export keeps."""

    def forward(self, rows: Any, hx: Any = None) -> Any:
        """As `nn.GRU`."""
        return _one_state(self, _gru, rows, hx) if is_exporting() else super().forward(rows, hx)


class KeptRNN(nn.RNN):
    """nn.RNN, whose loop torch.export keeps."""

    def forward(self, rows: Any, hx: Any = None) -> Any:
        """As `nn.RNN`."""
        return _one_state(self, _rnn, rows, hx) if is_exporting() else super().forward(rows, hx)


def _one_state(layer: Any, cell: Callable[..., State], rows: Any, hx: Tensor | None) -> tuple[Tensor, Tensor]:
    """`_read` for layers whose state is one tensor."""
    outputs, (last,) = _read(layer, cell, rows, None if hx is None else (hx,))
    return outputs, last


KEPT: dict[type[nn.Module], type[nn.Module]] = {nn.LSTM: KeptLSTM, nn.GRU: KeptGRU, nn.RNN: KeptRNN}
