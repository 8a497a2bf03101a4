"""The density lab: measures how clearly features separate signs.

- `spans`: one row per sign; `rows`: checks on rows.
- `ratio`: the Sign Density Ratio, with its sums in `pairs` and its confidence intervals in `intervals`.
- `retrieval`, `confusable`, `variance`, `linear_probe`, `by_signer`, `measures`: other measures with glosses.
- `label_free`: measures without glosses; `statistics`: correlations and bins over glosses.
"""

from signcl.density.by_signer import SignerRatios, balanced_weights, signer_ratios
from signcl.density.confusable import Confusable, confusable_glosses, shuffled_confusable
from signcl.density.intervals import SdrComparison, SdrInterval, compare_ratios, ratio_interval, sdr_interval
from signcl.density.jackknife import jackknife_interval
from signcl.density.label_free import LabelFree, label_free_density
from signcl.density.linear_probe import LinearProbe, linear_probe
from signcl.density.measures import BETTER, Measures, other_measures
from signcl.density.ratio import (
    Density,
    GlossDistances,
    gloss_distances,
    shuffle_baseline,
    sign_density_ratio,
    to_rows,
)
from signcl.density.retrieval import (
    Retrieval,
    RetrievalInterval,
    hubness_interval,
    retrieval,
    retrieval_interval,
    shuffled_retrieval,
)
from signcl.density.rows import capped_rows
from signcl.density.spans import pool_spans, span_steps
from signcl.density.statistics import Bin, Correlation, correlate, density_bins
from signcl.density.variance import VarianceShares, rank_me, variance_shares

__all__ = [
    "BETTER",
    "Bin",
    "Confusable",
    "Correlation",
    "Density",
    "GlossDistances",
    "LabelFree",
    "LinearProbe",
    "Measures",
    "Retrieval",
    "RetrievalInterval",
    "SdrComparison",
    "SdrInterval",
    "SignerRatios",
    "VarianceShares",
    "balanced_weights",
    "capped_rows",
    "compare_ratios",
    "confusable_glosses",
    "correlate",
    "density_bins",
    "gloss_distances",
    "hubness_interval",
    "jackknife_interval",
    "label_free_density",
    "linear_probe",
    "other_measures",
    "pool_spans",
    "rank_me",
    "ratio_interval",
    "retrieval",
    "retrieval_interval",
    "sdr_interval",
    "shuffle_baseline",
    "shuffled_confusable",
    "shuffled_retrieval",
    "sign_density_ratio",
    "signer_ratios",
    "span_steps",
    "to_rows",
    "variance_shares",
]
