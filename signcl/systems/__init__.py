"""Published systems, one file each. `MODELS` names them; a system is imported when it is built, not before."""

from __future__ import annotations

import difflib
import importlib

from torch import nn

__all__ = ["MODELS", "model_class"]

MODELS = {
    "classifier": "signcl.systems.classifier:Classifier",
    "gaslt": "signcl.systems.gaslt:GASLT",
    "cnn_ctc": "signcl.systems.cnn_ctc:CNNCTC",
    "gfslt": "signcl.systems.gfslt:GFSLT",
    "pgp": "signcl.systems.pgp:PGP",
    "recogniser": "signcl.systems.recogniser:Recogniser",
    "sign2gpt": "signcl.systems.sign2gpt:Sign2GPT",
    "slt": "signcl.systems.slt:SLT",
    "smkd": "signcl.systems.smkd:SMKD",
    "vlp": "signcl.systems.vlp:VLP",
}


def model_class(name: str) -> type[nn.Module]:
    """The class of a system.

    Raises:
        ValueError: no system of that name.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ValueError(f"model.name must be one of {', '.join(MODELS)}, got {name!r}{hint}")
    module, _, attribute = MODELS[name].partition(":")
    found: type[nn.Module] = getattr(importlib.import_module(module), attribute)
    return found
