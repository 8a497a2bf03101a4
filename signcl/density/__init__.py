"""The density lab: one row per sign (`spans`), how crowded the signs lie (`ratio`; its sums in `pairs`, its rows in
`rows`), how sure that is (`intervals`), other `measures` of the same, `statistics` over glosses, and what can be said
without glosses (`label_free`).
"""

from signcl.density.intervals import SdrComparison, SdrInterval, compare_ratios, ratio_interval, sdr_interval
from signcl.density.label_free import LabelFree, label_free_density
from signcl.density.measures import BETTER, Measures, other_measures
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
from signcl.density.statistics import Bin, Correlation, correlate, density_bins

__all__ = [
    "BETTER",
    "Bin",
    "Correlation",
    "Density",
    "GlossDistances",
    "LabelFree",
    "Measures",
    "SdrComparison",
    "SdrInterval",
    "capped_rows",
    "compare_ratios",
    "correlate",
    "density_bins",
    "gloss_distances",
    "label_free_density",
    "other_measures",
    "pool_spans",
    "ratio_interval",
    "sdr_interval",
    "shuffle_baseline",
    "sign_density_ratio",
    "span_steps",
    "to_rows",
]
