"""Half precision on CPUs without bfloat16 support."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["cpu_half"]


@contextmanager
def cpu_half() -> Iterator[None]:
    """Context that switches oneDNN off while autocast is on, on CPUs without bfloat16 instructions (only AVX2).

    On these CPUs torch's LSTM and GRU fail under autocast with "could not create a primitive descriptor". Without
    oneDNN they run in float32. Nothing else gets slower, since oneDNN has no bfloat16 kernels for such CPUs.
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
