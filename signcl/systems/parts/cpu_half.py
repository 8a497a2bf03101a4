"""Half precision on CPUs that have none of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["cpu_half"]


@contextmanager
def cpu_half() -> Iterator[None]:
    """Switch oneDNN off while autocast is on, on a CPU without bfloat16 instructions (AVX2 alone).

    There torch's LSTM and GRU under autocast end in "could not create a primitive descriptor". Without oneDNN they
    run in float32, and nothing else is slower: oneDNN has no bfloat16 kernels for such a CPU either.
    """
    backend = torch.backends.mkldnn
    asked = torch.is_autocast_enabled("cpu") and backend.is_available()
    if not asked or torch.ops.mkldnn._is_mkldnn_bf16_supported():
        yield
        return
    before, backend.enabled = backend.enabled, False  # type: ignore[assignment]
    try:
        yield
    finally:
        backend.enabled = before  # type: ignore[assignment]
