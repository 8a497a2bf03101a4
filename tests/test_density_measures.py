"""Statistics over glosses and the measures beside the ratio, against plain loops, formulas and scikit-learn."""

import itertools

import numpy as np
import pytest

from signcl.density import correlate, density_bins, other_measures
from signcl.density.measures import alignment_uniformity, fisher_ratio, kde_entropy, neighbour_purity
from signcl.metrics import gloss_accuracy, wer
from signcl.metrics.by_gloss import matched_tokens


def sample(rows=70, size=5, glosses=6, seed=0, spread=0.7):
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.repeat(np.arange(glosses), 2), random.integers(glosses, size=rows - 2 * glosses)])
    return random.normal(size=(glosses, size))[labels] + spread * random.normal(size=(rows, size)), labels


# -- accuracy of a gloss -----------------------------------------------------------------------------------------------


def test_accuracy_of_a_gloss_by_hand():
    # A B C read as A C: B deleted. A A read as A: one of the two is right. D read as E: substituted.
    found = gloss_accuracy(["A C", "A", "E", "A B X"], ["A B C", "A A", "D", "A B"])
    assert {gloss: (s.correct, s.occurrences) for gloss, s in found.items()} == {
        "A": (3, 4),
        "B": (1, 2),
        "C": (1, 1),
        "D": (0, 1),
    }
    assert found["A"].accuracy == 0.75
    assert gloss_accuracy([""], ["A"])["A"].correct == 0
    with pytest.raises(ValueError, match="one reference per hypothesis"):
        gloss_accuracy(["A"], ["A", "B"])


def best_by_search(hypothesis, reference):
    """Fewest edits, and the most matches among these, over every monotone pairing: brute force."""
    found = (len(reference) + len(hypothesis), 0)
    for size in range(min(len(reference), len(hypothesis)) + 1):
        for left in itertools.combinations(range(len(reference)), size):
            for right in itertools.combinations(range(len(hypothesis)), size):
                matches = sum(reference[i] == hypothesis[j] for i, j in zip(left, right))
                edits = len(reference) + len(hypothesis) - size - matches
                found = min(found, (edits, -matches))
    return found


def test_the_alignment_is_the_best_there_is_and_agrees_with_the_error_rate():
    random = np.random.default_rng(0)
    references, hypotheses = [], []
    for _ in range(120):
        reference = random.choice(list("ABCD"), size=random.integers(1, 6)).tolist()
        hypothesis = random.choice(list("ABCD"), size=random.integers(0, 6)).tolist()
        assert sum(matched_tokens(hypothesis, reference)) == -best_by_search(hypothesis, reference)[1]
        references.append(" ".join(reference))
        hypotheses.append(" ".join(hypothesis))
    scores = gloss_accuracy(hypotheses, references).values()
    rate = wer(hypotheses, references)
    share = 100 * sum(s.correct for s in scores) / sum(s.occurrences for s in scores)
    assert share == pytest.approx(100 - rate.substitutions - rate.deletions)


# -- bins and correlations ---------------------------------------------------------------------------------------------


def test_bins_hold_the_glosses_in_the_order_of_their_ratio():
    found = density_bins([0.5, 0.1, 0.9, 0.3], [20, 40, 0, 30], bins=2)
    assert [(b.glosses, b.low, b.high, b.sdr, b.accuracy) for b in found] == [
        (2, 0.1, 0.3, pytest.approx(0.2), 35),
        (2, 0.5, 0.9, pytest.approx(0.7), 10),
    ]
    assert found[0].error == pytest.approx(np.std([40, 30], ddof=1) / 2**0.5)
    sizes = [b.glosses for b in density_bins(np.arange(23), np.arange(23))]
    assert len(sizes) == 9
    assert set(sizes) == {2, 3}
    with pytest.raises(ValueError, match="1 to the number of glosses"):
        density_bins([0.5, 0.1], [1, 2], bins=3)


def test_correlations_are_scipys_and_partial_ones_the_formula():
    from scipy import stats

    random = np.random.default_rng(1)
    control = random.normal(size=80)
    x, y = control + random.normal(size=80), -control + 2 * random.normal(size=80)
    plain = correlate(x, y, samples=200)
    for ours, theirs in ((plain.pearson, stats.pearsonr(x, y)), (plain.spearman, stats.spearmanr(x, y))):
        assert ours.value == pytest.approx(theirs[0])
        assert ours.p_value == pytest.approx(theirs[1])
        assert ours.low < ours.value < ours.high
    partial = correlate(x, y, [control], samples=50)
    for ours, corr in ((partial.pearson, stats.pearsonr), (partial.spearman, stats.spearmanr)):
        xy, xz, yz = corr(x, y)[0], corr(x, control)[0], corr(y, control)[0]
        expected = (xy - xz * yz) / ((1 - xz**2) * (1 - yz**2)) ** 0.5
        assert ours.value == pytest.approx(expected)
        statistic = expected * (77 / (1 - expected**2)) ** 0.5
        assert ours.p_value == pytest.approx(2 * stats.t.sf(abs(statistic), 77))
    assert abs(partial.pearson.value) < abs(plain.pearson.value), "what the control explains is taken out"
    assert partial.controls == 1


def test_the_interval_of_a_correlation_covers_like_fishers():
    random = np.random.default_rng(2)
    x = random.normal(size=200)
    y = 0.5 * x + random.normal(size=200)
    found = correlate(x, y, samples=1000).pearson
    z, half = np.arctanh(found.value), 1.96 / 197**0.5
    assert found.low == pytest.approx(np.tanh(z - half), abs=0.04)
    assert found.high == pytest.approx(np.tanh(z + half), abs=0.04)
    assert correlate(x, y, seed=3, samples=50) == correlate(x, y, seed=3, samples=50)
    assert correlate(x, 2 * x + 1, samples=20).pearson.value == pytest.approx(1)
    assert correlate(x, -(x**3), samples=20).spearman.value == pytest.approx(-1)


@pytest.mark.parametrize(
    ("x", "y", "controls", "message"),
    [
        ([1, 2, 3], [1, 2], (), "two finite values"),
        ([1, 2, np.nan], [1, 2, 3], (), "NaN or infinity"),
        ([1, 2], [1, 2], (), "at least 3 glosses"),
        ([1, 2, 3], [1, 2, 4], [[1, 2, 3]], "at least 4 glosses"),
        ([1, 1, 1, 1], [1, 2, 3, 5], (), "the same for all"),
        ([1, 2, 3, 4], [1, 2, 3, 5], [[2, 4, 6, 8]], "than the controls do"),
        ([1, 2, 3, 4], [1, 2, 3, 5], [[1, 2, 3]], "controls for 4 glosses"),
    ],
)
def test_correlations_of_nothing_are_refused(x, y, controls, message):
    with pytest.raises(ValueError, match=message):
        correlate(x, y, controls, samples=10)


# -- measures ----------------------------------------------------------------------------------------------------------


def test_fisher_ratio_is_the_loop():
    rows, labels = sample()
    means = [rows[labels == g].mean(axis=0) for g in range(6)]
    spread = [((rows[labels == g] - means[g]) ** 2).sum(axis=1).mean() for g in range(6)]
    for g, found in enumerate(fisher_ratio(rows, labels)):
        terms = [((means[g] - means[h]) ** 2).sum() / (spread[g] + spread[h]) for h in range(6) if h != g]
        assert found == pytest.approx(np.mean(terms))
    assert fisher_ratio(np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([0, 0, 1, 1])).tolist() == [1e12, 1e12]


def test_neighbour_purity_is_the_loop():
    rows, labels = sample()
    found = neighbour_purity(rows, labels, 4)
    for i in range(len(rows)):
        apart = np.linalg.norm(rows - rows[i], axis=1)
        apart[i] = np.inf
        nearest = np.argsort(apart)[: min(4, (labels == labels[i]).sum() - 1)]
        assert found[i] == pytest.approx((labels[nearest] == labels[i]).mean())
    copies = np.repeat(np.eye(3), 4, axis=0)  # a row's copies are neighbours, itself is not
    assert neighbour_purity(copies, np.repeat(np.arange(3), 4)).tolist() == [1.0] * 12


def test_alignment_and_uniformity_are_the_loop():
    rows, labels = sample()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    square = ((unit[:, None] - unit[None]) ** 2).sum(axis=2)
    off = ~np.eye(len(rows), dtype=bool)
    same = [square[np.ix_(labels == g, labels == g)] for g in range(6)]
    alignment, uniformity = alignment_uniformity(rows, labels)
    assert alignment == pytest.approx(np.mean([s.sum() / (len(s) * (len(s) - 1)) for s in same]))
    assert uniformity == pytest.approx(np.log(np.exp(-2 * square[off]).mean()))
    with pytest.raises(ValueError, match="not all zeros, got 2"):
        alignment_uniformity(rows * (np.arange(70) > 1)[:, None], labels)


def test_kernel_entropy_is_the_loop_and_knows_no_units():
    rows, _ = sample()
    centred = rows - rows.mean(axis=0)
    kept = centred @ np.linalg.svd(centred, full_matrices=False)[2][:3].T
    kept /= np.sqrt((kept**2).mean())
    width = len(rows) ** (-1 / (3 + 4))
    square = ((kept[:, None] - kept[None]) ** 2).sum(axis=2)
    density = np.exp(-square / 2 / width**2).mean(axis=1) / (2 * np.pi * width**2) ** 1.5
    assert kde_entropy(rows, 3) == pytest.approx(-np.log(density).mean())
    assert kde_entropy(1000 * rows + 5, 3) == pytest.approx(kde_entropy(rows, 3))
    with pytest.raises(ValueError, match="rows that differ"):
        kde_entropy(np.ones((9, 3)))


def test_all_measures_at_once_point_the_same_way():
    clear, labels = sample(spread=0.3)
    mixed, _ = sample(spread=1.5)
    labels = labels + 40
    labels[0] = 3  # a gloss seen once is left out
    a, b = other_measures(clear, labels), other_measures(mixed, labels)
    for name in ("fisher", "silhouette", "neighbour_purity"):
        assert a.values[name] > b.values[name]
        assert a.by_gloss[name].shape == (6,)
    for name in ("davies_bouldin", "alignment"):
        assert a.values[name] < b.values[name]
    assert a.gloss_ids.tolist() == [40, 41, 42, 43, 44, 45]
    assert a.settings["rows"] == 69
    blank = other_measures(np.where(np.arange(70)[:, None] == 9, 0, clear), labels)
    assert blank.settings["zero_rows"] == 1
    assert not {"alignment", "uniformity"} & blank.values.keys()
    with pytest.raises(ValueError, match="at least 2 glosses with 2 rows, got 0"):
        other_measures(np.eye(4), np.arange(4))
    with pytest.raises(ValueError, match=r"1 of 70 rows, first \[4\]"):
        other_measures(np.where(np.arange(70)[:, None] == 4, np.nan, clear), labels)
