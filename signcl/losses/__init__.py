"""Loss functions: SignCL and others on frames; contrast, CTC, distillation and cross-entropy on sentences.

All are pure functions of tensors: no files, no configuration, no device moves. Each returns a scalar that is never NaN
for finite input. Losses per clip are averaged over clips and do not depend on padding or batch size.
"""

from signcl.losses.distances import FrameDistances, frame_distances
from signcl.losses.distillation import distillation_loss
from signcl.losses.infonce import sign_infonce
from signcl.losses.pseudo_gloss import pseudo_gloss_log_probs, pseudo_gloss_loss
from signcl.losses.regularisers import invariance_loss, normalized_frames, sigreg_loss, slow_loss
from signcl.losses.sentence import (
    clip_loss,
    ctc_loss,
    ctc_too_long,
    label_smoothed_cross_entropy,
    sentence_similarity_loss,
    weighted_sum,
)
from signcl.losses.signcl import (
    SignCL,
    anchors_with_negative,
    estimate_frame_margin,
    released_frame_margin,
    signcl_loss,
)
from signcl.losses.tokens import (
    TOKEN_TEMPERATURE,
    Selection,
    selected_negatives,
    token_clip_loss,
    token_similarity,
)
from signcl.losses.word_contrast import SHARE_TEMPERATURE, word_contrast_loss, word_shares

__all__ = [
    "SHARE_TEMPERATURE",
    "TOKEN_TEMPERATURE",
    "FrameDistances",
    "Selection",
    "SignCL",
    "anchors_with_negative",
    "clip_loss",
    "ctc_loss",
    "ctc_too_long",
    "distillation_loss",
    "estimate_frame_margin",
    "frame_distances",
    "invariance_loss",
    "label_smoothed_cross_entropy",
    "normalized_frames",
    "pseudo_gloss_log_probs",
    "pseudo_gloss_loss",
    "released_frame_margin",
    "sentence_similarity_loss",
    "sigreg_loss",
    "sign_infonce",
    "signcl_loss",
    "slow_loss",
    "selected_negatives",
    "token_clip_loss",
    "token_similarity",
    "weighted_sum",
    "word_contrast_loss",
    "word_shares",
]
