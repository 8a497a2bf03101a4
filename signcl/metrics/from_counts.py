"""BLEU and chrF of many resamples at once, from sacreBLEU's counts per sentence.

sacreBLEU scores one list of counts at a time, in Python; ten thousand resamples of several systems would take minutes.
Here each formula is vectorised over a matrix of sums. A test compares both with sacreBLEU's own results.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["bleu_of_sums", "chrf_of_sums"]

Matrix = np.ndarray


def bleu_of_sums(sums: Matrix, scorer: Any) -> Matrix:
    """BLEU of each row of summed counts, 0..100.

    Args:
        sums: hypothesis and reference length, correct n-grams per order, total n-grams per order. [R, 2 + 2 * N]
        scorer: sacreBLEU's `BLEU`, which sets order and smoothing.

    Returns:
        [R]
    """
    order, method = scorer.max_ngram_order, scorer.smooth_method
    value = scorer.SMOOTH_DEFAULTS[method] if scorer.smooth_value is None else scorer.smooth_value
    sums = sums.astype(np.float64)
    length, reference = sums[:, 0], sums[:, 1]
    correct, total = sums[:, 2 : 2 + order].copy(), sums[:, 2 + order : 2 + 2 * order].copy()
    matched = correct.any(axis=1)
    if method == "add-k":  # from the second order on
        correct[:, 1:] += value
        total[:, 1:] += value
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = correct / total
        missing = (correct == 0) & (total > 0)
        if method == "exp":  # each further order without a match halves the smoothed count
            halvings = 2.0 ** np.cumsum(missing, axis=1)
            precision = np.where(missing, 1 / (halvings * total), precision)
        elif method == "floor":
            precision = np.where(missing, value / total, precision)
        # From the first order without any n-grams on, precisions are 0, and so is BLEU.
        precision = np.where(np.cumsum(total == 0, axis=1) > 0, 0.0, precision)
        geometric = np.exp(np.log(precision).mean(axis=1))
        brevity = np.where(length < reference, np.exp(1 - reference / length), 1.0)
    return np.where(matched & (length > 0), 100 * brevity * geometric, 0.0)


def chrf_of_sums(sums: Matrix, scorer: Any) -> Matrix:
    """chrF of each row of summed counts, 0..100.

    Args:
        sums: for each order, n-grams of the hypotheses, of the references, and matches. [R, 3 * N]
        scorer: sacreBLEU's `CHRF`, which sets beta. As there, only orders that both sides have are averaged.

    Returns:
        [R]
    """
    hypothesis, reference, match = (sums[:, part::3].astype(np.float64) for part in range(3))
    both = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(both.sum(axis=1), 1)
    precision = np.where(both, match / np.maximum(hypothesis, 1), 0).sum(axis=1) / orders
    recall = np.where(both, match / np.maximum(reference, 1), 0).sum(axis=1) / orders
    factor = scorer.beta**2
    weighed = factor * precision + recall
    return np.where(weighed > 0, 100 * (1 + factor) * precision * recall / np.where(weighed > 0, weighed, 1), 0.0)
