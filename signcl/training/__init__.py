"""`fit`: the one training loop, on Lightning Fabric; the recipe and the run folder beside it.

Every step's randomness is a function of (seed, step, rank), and the batches of an epoch are a function of (seed,
epoch): a run that was killed and resumed therefore repeats the unbroken one bit for bit on the CPU.
"""

from importlib import import_module
from typing import Any

NAMES = {"fit": "fitting", "learning_rate": "optimizer", "read_record": "record"}
__all__ = [*NAMES]


def __getattr__(name: str) -> Any:
    if name in NAMES:  # on first use: a recipe is read without what it takes to train
        return getattr(import_module(f"{__name__}.{NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
