"""Confidence intervals of scores: bootstrap over sentences, for one system and for two on the same sentences.

A resampled corpus score is a weighted sum of per-sentence counts, with the number of draws of each sentence as weight.
All resamples together are thus one matrix product and cost less than scoring once.
`seeded_bootstrap` also accounts for training seeds; the other functions consider one run per system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from signcl.metrics import scores
from signcl.metrics.from_counts import bleu_of_sums, chrf_of_sums
from signcl.metrics.scores import Smoothing
from signcl.metrics.written_forms import Tokenize, tokenize_as, unit_for

__all__ = [
    "Comparison",
    "Interval",
    "bootstrap_interval",
    "paired_bootstrap",
    "resampled_score",
    "seeded_bootstrap",
]

Metric = str | Callable[..., Any]


@dataclass(frozen=True)
class Interval:
    """A score with its percentile bootstrap interval over sentences."""

    value: float
    low: float
    high: float
    level: float
    samples: int
    seed: int


@dataclass(frozen=True)
class Comparison:
    """Two systems compared on the same sentences, by paired bootstrap."""

    difference: float
    """Score of `a` minus score of `b`."""
    low: float
    """Lower end of the interval of the difference."""
    high: float
    p_value: float
    """Two-sided p-value of the difference. Never 0: at least 2 / (samples + 1)."""
    a: float
    b: float
    samples: int
    seed: int
    level: float = 0.95


def paired_bootstrap(
    metric: Metric,
    a: Sequence[str],
    b: Sequence[str],
    references: Sequence[str],
    samples: int = 1000,
    seed: int = 0,
    *,
    level: float = 0.95,
    tokenize: Tokenize = "auto",
    smoothing: Smoothing = "exp",
) -> Comparison:
    """Tests whether system `a` is better than system `b`; both are scored on the same resampled sentences.

    The result holds for these two runs, not for other training seeds; `seeded_bootstrap` covers those.

    Args:
        metric: "bleu1" ... "bleu4", "chrf", "chrf++", "rouge_l", "wer", "exact_match" (or that function; bleu means
            bleu4), computed from counts per sentence; or any metric(hypotheses, references) -> number, called for every
            resample.
        a: sentences of one system.
        b: sentences of the other.
        references: one per sentence.
        samples: number of resamples.
        seed: seed of the resampling; the same seed draws the same sentences for every metric.
        level: coverage of the interval.
        tokenize: for BLEU; with "zh" and "char", ROUGE-L, WER and exact match also count characters. "auto" chooses by
            the script of the references; glosses need "none", because they are words in every script.
        smoothing: for BLEU.

    Returns:
        The difference a - b with its percentile interval; p is twice the share of resamples on the other side of zero.

    Raises:
        ValueError: empty lists or lists of different lengths, an unknown metric, no samples.

    Source: Koehn 2004.
    """
    scores.check(a, references)
    scores.check(b, references)
    _check_sampling(samples, level)
    of_a = resampled_score(metric, a, references, tokenize, smoothing)
    of_b = resampled_score(metric, b, references, tokenize, smoothing)
    everything = np.ones((1, len(references)), dtype=np.int64)
    score_a, score_b = float(of_a(everything)[0]), float(of_b(everything)[0])
    draws = _draws(len(references), samples, seed)
    differences = np.concatenate([of_a(times) - of_b(times) for times in draws])
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    p_value = min(1.0, 2 * (1 + int(beyond)) / (samples + 1))
    return Comparison(score_a - score_b, float(low), float(high), p_value, score_a, score_b, samples, seed, level)


def seeded_bootstrap(
    metric: Metric,
    a: Sequence[Sequence[str]],
    b: Sequence[Sequence[str]],
    references: Sequence[str],
    samples: int = 1000,
    seed: int = 0,
    *,
    level: float = 0.95,
    tokenize: Tokenize = "auto",
    smoothing: Smoothing = "exp",
    together: Sequence[str] | None = None,
    blocks: Sequence[int] | None = None,
) -> Comparison:
    """Tests whether training `a` is better than training `b`, with an interval over both sentences and seeds.

    Each resample draws one set of sentences, on which all seeds are scored, and adds the variation from the choice of
    seeds: Student's t with n - 1 degrees of freedom times the standard error of the differences between seeds. The t
    values are quantiles at even steps, in random order: with a thousand random draws from such a long tail, the ends
    would be off by a tenth, and by the same tenth in every comparison with as many seeds.

    The common method of drawing seeds with replacement is too narrow: with 3 seeds, its interval misses a true zero one
    time in five if seeds matter more than sentences. This interval keeps its level there (`tests/test_paper.py`) and is
    slightly too wide if sentences matter more.

    Args:
        metric: as in `paired_bootstrap`.
        a: sentences of one training, one list per seed.
        b: sentences of the other, for the same seeds in the same order.
        references: one per sentence.
        samples, seed, level, tokenize, smoothing: as in `paired_bootstrap`.
        together: a name for each sentence. Sentences with the same name are drawn together, such as takes of the same
            text, which are not independent. None: each sentence separately.
        blocks: a number for each pair of trainings. Pairs with the same number share something, such as the seed of
            several arms, and their mean difference counts once. None: each pair separately.

    Returns:
        As `paired_bootstrap`; `a` and `b` are means over seeds. With one seed, the interval covers sentences only.

    Raises:
        ValueError: different numbers of seeds in a and b, or as `paired_bootstrap`.
    """
    if len(a) != len(b) or not a:
        raise ValueError(f"seeded_bootstrap needs the same seeds on both sides, got {len(a)} and {len(b)}.")
    for side in (a, b):
        for hypotheses in side:
            scores.check(hypotheses, references)
    _check_sampling(samples, level)
    of_a = [resampled_score(metric, hypotheses, references, tokenize, smoothing) for hypotheses in a]
    of_b = [resampled_score(metric, hypotheses, references, tokenize, smoothing) for hypotheses in b]
    everything = np.ones((1, len(references)), dtype=np.int64)
    score_a, score_b = (np.array([float(one(everything)[0]) for one in side]) for side in (of_a, of_b))
    observed = float((score_a - score_b).mean())
    if together is not None and len(together) != len(references):
        raise ValueError(f"seeded_bootstrap needs a name for each of {len(references)} sentences, got {len(together)}.")
    draws = _draws(len(references), samples, seed) if together is None else _cluster_draws(together, samples, seed)
    names = list(range(len(a))) if blocks is None else list(blocks)
    if len(names) != len(a):
        raise ValueError(f"seeded_bootstrap needs a block for each of {len(a)} pairs, got {len(names)}.")
    whole = [np.mean([x - y for x, y, own in zip(score_a, score_b, names) if own == name]) for name in sorted({*names})]
    seeds = len(whole)
    error = float(np.std(whole, ddof=1)) / np.sqrt(seeds) if seeds > 1 else 0.0
    differences = error * _student(seeds - 1, samples, seed) if seeds > 1 else np.zeros(samples)
    differences = differences + np.concatenate(
        [np.mean([one(times) - other(times) for one, other in zip(of_a, of_b)], axis=0) for times in draws]
    )
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    beyond = min((differences <= 0).sum(), (differences >= 0).sum())
    p_value = min(1.0, 2 * (1 + int(beyond)) / (samples + 1))
    means = float(score_a.mean()), float(score_b.mean())
    return Comparison(observed, float(low), float(high), p_value, *means, samples, seed, level)


def bootstrap_interval(
    metric: Metric,
    hypotheses: Sequence[str],
    references: Sequence[str],
    samples: int = 1000,
    seed: int = 0,
    *,
    level: float = 0.95,
    tokenize: Tokenize = "auto",
    smoothing: Smoothing = "exp",
) -> Interval:
    """A score with its interval for other sentences of the same kind (percentile bootstrap).

    Args:
        metric: as in `paired_bootstrap`.
        hypotheses: one sentence per clip.
        references: one per hypothesis.
        samples: number of resamples.
        seed: seed of the resampling.
        level: coverage of the interval.
        tokenize: as in `paired_bootstrap`.
        smoothing: for BLEU.

    Raises:
        ValueError: as `paired_bootstrap`.
    """
    scores.check(hypotheses, references)
    _check_sampling(samples, level)
    score = resampled_score(metric, hypotheses, references, tokenize, smoothing)
    values = np.concatenate([score(times) for times in _draws(len(references), samples, seed)])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    whole = float(score(np.ones((1, len(references)), dtype=np.int64))[0])
    return Interval(whole, float(low), float(high), level, samples, seed)


def _check_sampling(samples: int, level: float) -> None:
    if samples < 1 or not 0 < level < 1:
        raise ValueError(f"a bootstrap needs samples >= 1 and a level between 0 and 1, got {samples} and {level}.")


def resampled_score(
    metric: Metric, hypotheses: Sequence[str], references: Sequence[str], tokenize: Tokenize, smoothing: Smoothing
) -> Callable[[np.ndarray], np.ndarray]:
    """A function that maps draw counts per sentence [R, sentences] to the corpus score of each resample [R].

    Args:
        metric, tokenize, smoothing: as in `paired_bootstrap`.
        hypotheses: one sentence per clip.
        references: one per hypothesis.
    """
    tokenize = tokenize_as(tokenize, references)
    unit = unit_for(tokenize)
    own = {
        scores.bleu: "bleu4",
        scores.chrf: "chrf",
        scores.rouge_l: "rouge_l",
        scores.wer: "wer",
        scores.exact_match: "exact_match",
    }
    name = metric if isinstance(metric, str) else own.get(metric)
    if name is None and callable(metric):
        return lambda times: np.array([_called(metric, hypotheses, references, row) for row in times])
    if name == "rouge_l":
        shares = scores.rouge_rows(hypotheses, references, 1.2, unit)
        return lambda times: 100 * (times @ shares) / times.sum(axis=1)
    if name == "exact_match":
        right = scores.exact_rows(hypotheses, references, unit)
        return lambda times: 100 * (times @ right) / times.sum(axis=1)
    if name == "wer":
        edits = scores.edit_rows(hypotheses, references, "plain", unit)
        return lambda times: 100 * (times @ edits[:, :3].sum(axis=1)) / np.maximum(times @ edits[:, 3], 1)
    if name in ("bleu1", "bleu2", "bleu3", "bleu4", "chrf", "chrf++"):
        if name in ("chrf", "chrf++"):
            from sacrebleu.metrics.chrf import CHRF

            scorer, of_sums = CHRF(word_order=2 if name == "chrf++" else 0), chrf_of_sums
        else:
            scorer, of_sums = scores.sacrebleu_metric(tokenize, smoothing, order=int(name[-1])), bleu_of_sums
        # The counts that sacreBLEU's own bootstrap uses; a test compares them with the public corpus_score.
        counts = np.array(scorer._extract_corpus_statistics(list(hypotheses), [list(references)]), dtype=np.float64)
        return lambda times: of_sums(times @ counts, scorer)
    raise ValueError(
        "a bootstrap needs a function or one of bleu1, bleu2, bleu3, bleu4, chrf, chrf++, rouge_l, wer, exact_match, "
        f"got {metric!r}."
    )


def _student(freedom: int, samples: int, seed: int) -> np.ndarray:
    """Quantiles of Student's t at even steps, in random order."""
    from scipy.stats import t

    steps = np.random.default_rng((seed, 1)).permutation(samples)
    found: np.ndarray = t.ppf((steps + 0.5) / samples, freedom)
    return found


def _called(metric: Callable[..., Any], hypotheses: Sequence[str], references: Sequence[str], row: np.ndarray) -> float:
    draw = np.repeat(np.arange(len(row)), row).tolist()
    return float(metric([hypotheses[i] for i in draw], [references[i] for i in draw]))


BLOCK = 1 << 22  # numbers in memory at a time: 32 MB


def _draws(sentences: int, samples: int, seed: int) -> Iterator[np.ndarray]:
    """Yields how often each sentence is in each resample, in batches of resamples. [R, sentences]"""
    generator = np.random.default_rng(seed)
    rows = max(1, BLOCK // sentences)
    for start in range(0, samples, rows):
        some = min(rows, samples - start)
        drawn = generator.integers(sentences, size=(some, sentences))
        drawn += sentences * np.arange(some)[:, None]  # offset per resample, so one bincount counts all of them
        yield np.bincount(drawn.ravel(), minlength=some * sentences).reshape(some, sentences)


def _cluster_draws(names: Sequence[str], samples: int, seed: int) -> Iterator[np.ndarray]:
    """`_draws` for sentences that are drawn together if they have the same name."""
    _, cluster = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)
    for times in _draws(int(cluster.max()) + 1, samples, seed):
        yield times[:, cluster]
