"""Published systems, one file each. `MODELS` names them; a system is imported when it is built, not before."""

from __future__ import annotations

import difflib
import importlib

from torch import nn

__all__ = ["MODELS", "model_class"]

MODELS = {
    "classifier": "signcl.models.classifier:Classifier",
    "gaslt": "signcl.models.gaslt:GASLT",
    "cnn_ctc": "signcl.models.cnn_ctc:CNNCTC",
    "gfslt": "signcl.models.gfslt:GFSLT",
    "pgp": "signcl.models.pgp:PGP",
    "recogniser": "signcl.models.recogniser:Recogniser",
    "sign2gpt": "signcl.models.sign2gpt:Sign2GPT",
    "slt": "signcl.models.slt:SLT",
    "smkd": "signcl.models.smkd:SMKD",
    "vlp": "signcl.models.vlp:VLP",
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
