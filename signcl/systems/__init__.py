"""Published systems, one file each, and the contract that makes a file a system.

`base` holds the contract; `encoders` the frame encoders, `terms` the loss terms, `targets` what terms need of
sentences, `parts` the layers that several systems share. A system is imported when it is named, not before.
"""

from signcl.systems.base import (
    SYSTEMS,
    Decode,
    Outputs,
    Sizes,
    Start,
    System,
    SystemConfig,
    TransformerConfig,
    register,
    system_class,
    system_names,
)
from signcl.systems.parts.frames import Tapped
from signcl.systems.terms import Term, TermContext, register_term, word_terms  # and with these the terms of all systems

__all__ = [
    "SYSTEMS",
    "Decode",
    "Outputs",
    "Sizes",
    "Start",
    "System",
    "SystemConfig",
    "Tapped",
    "Term",
    "TermContext",
    "TransformerConfig",
    "register",
    "register_term",
    "system_class",
    "system_names",
    "word_terms",
]
