"""Checks of the recipe values that belong to the recognisers smkd and cnn_ctc, and of the epochs of loss terms."""

from __future__ import annotations

from collections.abc import Mapping

from signcl.training.recipe.model import ModelRecipe

__all__ = ["check_recogniser", "check_schedule"]


def check_schedule(schedule: Mapping[str, tuple[int, int | None]], weights: Mapping[str, float]) -> None:
    """Refuse epochs for a term without a weight, and epochs that are none.

    Raises:
        ValueError: see above.
    """
    for term, (first, end) in schedule.items():
        if term not in weights:
            raise ValueError(
                f"loss.schedule.{term}: loss.weights has {', '.join(weights)}; give the term a weight or leave its "
                f"epochs out"
            )
        if first < 0 or (end is not None and end <= first):
            raise ValueError(
                f"loss.schedule.{term}: needs [first epoch, first epoch without it] such as [0, 20], or [20, null] to "
                f"the end, got {[first, end]}"
            )


def check_recogniser(model: ModelRecipe) -> None:
    """Refuse sizes that smkd or cnn_ctc cannot be built with.

    Raises:
        ValueError: see above.
    """
    if model.name == "smkd":
        if model.width % 2:
            raise ValueError(f"model.width: smkd needs an even number, half for each direction, got {model.width}")
        if model.encoder_layers < 1:
            raise ValueError(f"model.encoder_layers: smkd needs at least 1 layer of LSTM, got {model.encoder_layers}")
        if model.smkd.share_classifier and model.conv_width != model.width:
            raise ValueError(
                f"model.smkd.share_classifier needs model.conv_width = model.width, got {model.conv_width} and "
                f"{model.width}; make them equal or set it to false"
            )
        if model.smkd.pixels == "symmetric" and not model.visual.startswith("resnet"):
            raise ValueError(f"model.smkd.pixels=symmetric is for a ResNet, got model.visual={model.visual}")
    if model.name == "cnn_ctc" and (model.cnn_ctc.window < 1 or model.cnn_ctc.window % 2 == 0):
        raise ValueError(f"model.cnn_ctc.window: needs an odd number of frames, got {model.cnn_ctc.window}")
