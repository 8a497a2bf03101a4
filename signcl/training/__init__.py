"""`fit`, the training loop on Lightning Fabric, with the recipe and the run folder.

The random numbers of a step are a function of (seed, step, rank), and the batches of an epoch are a function of (seed,
epoch). So a run that was killed and resumed equals an uninterrupted one bit for bit on the CPU.
"""

from importlib import import_module
from typing import Any

NAMES = {"fit": "fitting", "learning_rate": "optimizer", "read_record": "record"}
__all__ = [*NAMES]


def __getattr__(name: str) -> Any:
    if name in NAMES:  # imported on first use, so that reading a recipe does not load the training code
        return getattr(import_module(f"{__name__}.{NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
