"""`fit`: the one training loop, on Lightning Fabric.

Every step's randomness is a function of (seed, step, rank), and the batches of an epoch are a function of (seed,
epoch): a run that was killed and resumed therefore repeats the unbroken one bit for bit on the CPU.
"""

from signcl.train.fit import fit
from signcl.train.optimise import learning_rate
from signcl.train.record import read_record

__all__ = ["fit", "learning_rate", "read_record"]
