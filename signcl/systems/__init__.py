"""Published systems, one file each, and the contract that makes a file a system.

`base` holds the contract, `encoders` the frame encoders, `terms` the loss terms, `targets` the training targets derived
from sentences, and `parts` the layers that several systems share. A system is imported on first use.
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
from signcl.systems.terms import Term, TermContext, register_term, word_terms  # also registers the shared terms

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
