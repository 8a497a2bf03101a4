"""The density lab: one row per sign (`spans`), and how crowded the signs lie (`ratio`; its sums in `pairs`)."""

from signcl.density.intervals import SdrComparison, SdrInterval, compare_ratios, ratio_interval, sdr_interval
from signcl.density.ratio import (
    Density,
    GlossDistances,
    gloss_distances,
    shuffle_baseline,
    sign_density_ratio,
    to_rows,
)
from signcl.density.rows import capped_rows
from signcl.density.spans import pool_spans, span_steps

__all__ = [
    "Density",
    "GlossDistances",
    "SdrComparison",
    "SdrInterval",
    "capped_rows",
    "compare_ratios",
    "gloss_distances",
    "pool_spans",
    "ratio_interval",
    "sdr_interval",
    "shuffle_baseline",
    "sign_density_ratio",
    "span_steps",
    "to_rows",
]
