"""The density lab: one row per sign (`spans`), and how crowded the signs lie (`ratio`; its sums in `pairs`)."""

from signcl.density.ratio import (
    Density,
    GlossDistances,
    SdrInterval,
    gloss_distances,
    sdr_interval,
    shuffle_baseline,
    sign_density_ratio,
    to_rows,
)
from signcl.density.spans import pool_spans, span_steps

__all__ = [
    "Density",
    "GlossDistances",
    "SdrInterval",
    "gloss_distances",
    "pool_spans",
    "sdr_interval",
    "shuffle_baseline",
    "sign_density_ratio",
    "span_steps",
    "to_rows",
]
