"""Runs one measurement in several processes: `torchrun --nproc-per-node 4 -m signcl density ...` divides the pairs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["joined"]


@contextlib.contextmanager
def joined() -> Iterator[tuple[int, int]]:
    """Yields (rank, number of processes); joins them through gloo if torchrun or a similar launcher started several."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield 0, 1
        return
    import torch
    import torch.distributed as dist

    if torch.cuda.is_available():  # one GPU per process, shared if there are too few
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("gloo")
    try:
        yield dist.get_rank(), dist.get_world_size()
    finally:
        dist.destroy_process_group()
