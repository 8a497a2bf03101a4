"""Retrieval, nearest glosses, shares of variance, a linear probe; and the cases that fool the ratio."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.spatial.distance import cdist

from signcl.density import (
    compare_ratios,
    confusable_glosses,
    gloss_distances,
    hubness_interval,
    jackknife_interval,
    linear_probe,
    other_measures,
    rank_me,
    ratio_interval,
    retrieval,
    retrieval_interval,
    shuffled_confusable,
    shuffled_retrieval,
    sign_density_ratio,
    signer_ratios,
    variance_shares,
)


def signs(glosses=12, clips=15, dims=16, spread=0.3, seed=0):
    """Rows, glosses, clips: each clip holds some glosses, each a point with noise."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(glosses, dims))
    labels = np.array([draw.choice(glosses, size=glosses // 2, replace=False) for _ in range(clips)]).ravel()
    rows = centres[labels] + spread * draw.normal(size=(len(labels), dims))
    return rows, labels, np.repeat(np.arange(clips), glosses // 2)


# -- retrieval -----------------------------------------------------------------------------------------------------


def test_four_signs_on_a_line():
    # Clip 0: A at 0, B at 10. Clip 1: A at 1, B at 3. Query A0: candidates A1 (1), B1 (3): AP 1. Query B0: B1 (7), A1
    # (9): 1. Query A1: A0 (1), B0 (9): 1. Query B1: A0 (3), B0 (7): AP 1/2.
    found = retrieval([[0.0], [10.0], [1.0], [3.0]], [0, 1, 0, 1], [0, 0, 1, 1])
    assert found.average_precision.tolist() == [1, 1, 1, 0.5]
    assert (found.map, found.one_nn, found.recall[5]) == (0.875, 0.75, 1.0)
    assert found.by_gloss.tolist() == [1.0, 0.75]


def naive(rows, labels, groups):
    """Average precision by a plain double loop, wrong candidates first where distances are equal."""
    values = []
    for q in range(len(rows)):
        others = [i for i in range(len(rows)) if groups[i] != groups[q]]
        others.sort(key=lambda i: (np.sum((rows[i] - rows[q]) ** 2), labels[i] == labels[q]))
        right = [rank for rank, i in enumerate(others, 1) if labels[i] == labels[q]]
        if right:
            values.append(np.mean([(n + 1) / rank for n, rank in enumerate(right)]))
    return np.array(values)


def test_a_double_loop_agrees():
    rows, labels, clips = signs(spread=0.8)
    rows = rows.round(0)  # ties
    found = retrieval(rows, labels, clips)
    np.testing.assert_allclose(found.average_precision, naive(rows, labels, clips), rtol=1e-12)


def test_average_precision_is_scikit_learns():
    from sklearn.metrics import average_precision_score

    rows, labels, clips = signs(spread=1.0)
    found = retrieval(rows, labels, clips)
    for precision, q in zip(found.average_precision, found.asked):
        others = clips != clips[q]
        apart = np.linalg.norm(rows[others] - rows[q], axis=1)
        assert precision == pytest.approx(average_precision_score(labels[others] == labels[q], -apart), abs=1e-9)


def test_other_signers_are_stricter_than_other_clips():
    # Two signers far apart: within a signer signs are found, across signers the offset hides nothing of the order.
    rows, labels, clips = signs(spread=0.1)
    signers = clips % 2
    offset = np.zeros(rows.shape[1])
    offset[0] = 50
    moved = rows + np.outer(signers, offset) * np.random.default_rng(1).normal(size=(len(rows), 1))
    assert retrieval(rows, labels, clips, signers=signers).map > 0.99
    assert retrieval(moved, labels, clips, signers=signers).map < retrieval(rows, labels, clips).map


def test_features_that_are_all_equal_find_nothing():
    _, labels, clips = signs()
    found = retrieval(np.ones((len(labels), 3)), labels, clips)
    assert found.one_nn == 0
    assert found.map < 0.2
    assert found.hubness == found.hubness


def test_what_cannot_be_asked_is_counted_or_refused():
    rows = np.random.default_rng(0).normal(size=(5, 2))
    found = retrieval(rows, [0, 0, 1, 1, 2], ["a", "b", "a", "a", "b"])
    assert (found.queries, found.without_match) == (2, 3)
    with pytest.raises(ValueError, match="needs a gloss in two clips, but none of 5 glosses"):
        retrieval(rows, [0, 1, 2, 3, 4], list("abcde"))
    with pytest.raises(ValueError, match="made by two signers"):
        retrieval(rows, [0, 0, 1, 1, 2], list("abcde"), signers=["x"] * 5)
    with pytest.raises(ValueError, match="one clip for each of 5 rows is needed, got 2"):
        retrieval(rows, [0] * 5, ["a", "b"])
    rows[1, 1] = math.nan
    with pytest.raises(ValueError, match="needs finite features, got 1"):
        retrieval(rows, [0] * 5, list("abcde"))


def test_shuffled_glosses_are_found_by_chance_alone():
    rows, labels, clips = signs(clips=40)
    assert retrieval(rows, labels, clips).map > 0.95
    assert shuffled_retrieval(rows, labels, clips).map < 0.2


def test_the_interval_draws_whole_groups():
    rows, labels, clips = signs(spread=1.2, clips=30)
    found = retrieval(rows, labels, clips)
    by_clip = retrieval_interval(found, clips)
    assert by_clip.map[0] < found.map < by_clip.map[1]
    lone = retrieval_interval(found, np.zeros(len(rows)))
    assert lone.map == (pytest.approx(found.map), pytest.approx(found.map)), "one group is all there is"


def test_hubness_counts_who_is_near_by_a_plain_double_loop():
    rows, labels, clips = signs(spread=1.2, clips=8)
    found = retrieval(rows, labels, clips)
    counts = np.zeros(len(rows))
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if clips[j] != clips[i]]
        near = sorted(others, key=lambda j: float(((row - rows[j]) ** 2).sum()))[:10]
        assert sorted(near) == sorted(found.neighbours[i].tolist())
        counts[near] += 1
    spread = counts - counts.mean()
    assert found.hubness == pytest.approx((spread**3).mean() / (spread**2).mean() ** 1.5)


def test_a_jackknife_of_a_mean_is_students_interval():
    draw = np.random.default_rng(0).normal(size=(12, 7))
    groups = np.repeat(np.arange(12), 7)
    ((low, high),) = jackknife_interval(lambda kept: np.array([draw.ravel()[kept].mean()]), groups, level=0.9)
    theirs = scipy.stats.ttest_1samp(draw.mean(axis=1), 0).confidence_interval(0.9)
    assert (low, high) == (pytest.approx(theirs.low), pytest.approx(theirs.high))
    assert np.isnan(jackknife_interval(lambda kept: np.array([1.0]), [0, 1])).all(), "two groups say nothing"


def test_intervals_of_shares_rank_and_hubness_contain_what_other_clips_have():
    centres = np.random.default_rng(99).normal(size=(12, 8))

    def drawn(seed):
        draw = np.random.default_rng(seed)
        clips, labels = np.repeat(np.arange(40), 6), draw.integers(12, size=240)
        of_clip, noise = draw.normal(size=(40, 8))[clips], draw.normal(size=(240, 8))
        return centres[labels] + 0.8 * of_clip + 0.6 * noise, labels, clips

    def values(rows, labels, clips):
        shares = variance_shares(rows, labels, clips)
        return np.array([shares.clip, shares.gloss, shares.rest, rank_me(rows)])

    def measured(data):
        return np.array([*values(*data), retrieval(*data).hubness])

    truth = np.mean([measured(drawn(seed)) for seed in range(1000, 1100)], axis=0)
    inside = np.zeros(5)
    for seed in range(50):
        rows, labels, clips = data = drawn(seed)
        ends = jackknife_interval(lambda kept, data=data: values(*(part[kept] for part in data)), clips)
        ends = np.vstack([ends, hubness_interval(retrieval(rows, labels, clips), clips)])
        inside += (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    assert inside.min() >= 43  # 95 % of 50, less three standard errors


def test_hubs_are_seen():
    draw = np.random.default_rng(0)
    wide = draw.normal(size=(400, 200))  # in many dimensions some points are near to everything
    labels, clips = draw.integers(20, size=400), np.arange(400)
    assert retrieval(wide, labels, clips).hubness > 2 * abs(retrieval(wide[:, :2], labels, clips).hubness)


# -- nearest glosses -------------------------------------------------------------------------------------------------


def test_two_near_glosses_and_a_far_one():
    # Distances: within 0: 1; within 1: 1; between 0 and 1: 2, 3, 1, 2, mean 2. Gloss 2 is 99 away.
    found = confusable_glosses([[0.0], [1.0], [2.0], [3.0], [100.0], [101.0]], [0, 0, 1, 1, 2, 2])
    assert found.nearest.tolist() == [1, 0, 1]
    assert found.ratio[:2].tolist() == [0.5, 0.5]
    # one pair within (1) against 2, 3, 1, 2: beats three, ties with one.
    assert found.auc[:2].tolist() == [0.875, 0.875]
    assert found.d_prime[0] == pytest.approx(1 / math.sqrt(0.5 / 2))
    assert found.auc[2] == 1.0
    assert found.pairs[0] == (0, 1, 0.875)


def test_the_auc_is_that_of_mann_whitney():
    from scipy.spatial.distance import cdist, pdist
    from scipy.stats import mannwhitneyu

    rows, labels, _ = signs(spread=1.0)
    found = confusable_glosses(rows, labels)
    for gloss, nearest, auc in zip(found.gloss_ids, found.nearest, found.auc):
        within, between = pdist(rows[labels == gloss]), cdist(rows[labels == gloss], rows[labels == nearest]).ravel()
        assert auc == pytest.approx(mannwhitneyu(between, within).statistic / len(within) / len(between))


# -- variance and rank -----------------------------------------------------------------------------------------------


def test_shares_of_a_case_by_hand():
    # Signers at -4 and 4, their clips 1 beside, their glosses 0.5 beside: sums of squares 16, 1 and 0.25 a row.
    rows = [[s + c + g] for s in (-4, 4) for c in (-1, 1) for g in (-0.5, 0.5)]
    found = variance_shares(rows, [0, 1] * 4, [0, 0, 1, 1, 2, 2, 3, 3], [0] * 4 + [1] * 4)
    total = 16 + 1 + 0.25
    assert (found.signer, found.clip, found.gloss) == (
        pytest.approx(16 / total), pytest.approx(1 / total), pytest.approx(0.25 / total),
    )  # fmt: skip
    assert found.rest == pytest.approx(0, abs=1e-12)
    assert found.by_chance == {"signer": 1 / 7, "clip": 2 / 7, "gloss": 1 / 7}


def test_noise_has_the_shares_of_chance():
    draw = np.random.default_rng(0)
    clips, signers = np.repeat(np.arange(60), 8), np.repeat(np.arange(6), 80)
    found = variance_shares(draw.normal(size=(480, 200)), draw.integers(15, size=480), clips, signers)
    for name in ("signer", "clip", "gloss"):
        assert getattr(found, name) == pytest.approx(found.by_chance[name], rel=0.25)


def test_a_clip_has_one_signer():
    with pytest.raises(ValueError, match="one signer per clip"):
        variance_shares(np.eye(4), [0, 1, 0, 1], [0, 0, 1, 1], ["x", "y", "x", "x"])


def test_the_rank_counts_directions():
    draw = np.random.default_rng(0)
    square = np.linalg.qr(draw.normal(size=(64, 64)))[0]
    assert rank_me(square) == pytest.approx(64, rel=1e-3)
    assert rank_me(square[:, :1] @ np.ones((1, 8))) == pytest.approx(1, rel=1e-3)
    assert rank_me(torch.zeros(4, 3)) == 0


def test_the_probe_reads_what_is_there_and_nothing_of_noise():
    rows, labels, clips = signs(spread=0.3, clips=30)
    knows = linear_probe(rows, labels, clips)
    assert knows.accuracy > 0.95
    assert knows.bits > 0.7 * knows.entropy
    assert knows.entropy == pytest.approx(math.log2(12), abs=0.1)
    assert linear_probe(np.random.default_rng(1).normal(size=rows.shape), labels, clips).bits < 0.2


# -- what fools the ratio -------------------------------------------------------------------------------------------


def test_coinciding_signs_look_better_to_the_ratio_and_retrieval_sees_them():
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(40, 16))
    labels = np.tile(np.arange(40), 10)
    clips = np.repeat(np.arange(10), 40)
    noise = draw.normal(size=(400, 16))
    apart = centres[labels] + 0.6 * noise
    coinciding = 2 * centres[labels // 2] + 0.6 * noise  # twenty pairs of signs at one place each, all of them far
    assert sign_density_ratio(coinciding, labels).mean < sign_density_ratio(apart, labels).mean
    assert retrieval(coinciding, labels, clips).map < 0.7 < retrieval(apart, labels, clips).map
    assert confusable_glosses(coinciding, labels).auc.mean() < 0.55 < confusable_glosses(apart, labels).auc.mean()


def test_noise_dimensions_look_dense_to_the_ratio_and_signs_are_found():
    draw = np.random.default_rng(0)
    centres, labels, clips = draw.normal(size=(40, 16)), np.tile(np.arange(40), 10), np.repeat(np.arange(10), 40)
    clear = centres[labels] + 0.1 * draw.normal(size=(400, 16))
    noisy = np.concatenate([clear, 0.35 * draw.normal(size=(400, 512))], axis=1)
    assert sign_density_ratio(noisy, labels).mean > 0.85
    assert retrieval(noisy, labels, clips).one_nn > 0.95


# -- the same door for all measures ---------------------------------------------------------------------------------

MEASURES = {
    "ratio": lambda x, g, c, s: sign_density_ratio(x, g).mean,
    "distances": lambda x, g, c, s: float(gloss_distances(x, g).mean.mean() / gloss_distances(x, g).mean.max()),
    "retrieval": lambda x, g, c, s: retrieval(x, g, c).map,
    "other signers": lambda x, g, c, s: retrieval(x, g, c, signers=s).map,
    "nearest": lambda x, g, c, s: float(confusable_glosses(x, g).d_prime.mean()),
    "variance": lambda x, g, c, s: variance_shares(x, g, c, s).gloss,
    "rank": lambda x, g, c, s: rank_me(x),
    "probe": lambda x, g, c, s: linear_probe(x, g, c, samples=9).bits,
    "signers": lambda x, g, c, s: signer_ratios(x, g, s).across,
    "interval": lambda x, g, c, s: ratio_interval(x, g, samples=9).high,
    "signer interval": lambda x, g, c, s: ratio_interval(x, g, over="signers", signers=s, samples=9).low,
    "compared": lambda x, g, c, s: compare_ratios(x, np.asarray(x)[:, :1], g, samples=9).difference,
    "others": lambda x, g, c, s: other_measures(x, g).values["fisher"],
}
each_measure = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES.keys())


def signed():
    rows, labels, clips = signs(glosses=4, clips=8, dims=5)
    return rows, labels, clips, clips // 2


@each_measure
def test_a_measure_takes_text_lists_tensors_and_any_units(measure):
    rows, labels, clips, signers = signed()
    value = measure(rows, labels, clips, signers)
    names = [f"GLOSS {label}" for label in labels]
    same = pytest.approx(value, rel=1e-9)
    assert measure(rows, names, [f"clip {c}" for c in clips], tuple(f"S{s}" for s in signers)) == same
    assert measure(rows.tolist(), np.array(names, dtype=object), clips, signers) == same
    assert measure(torch.tensor(rows), torch.tensor(labels), torch.tensor(clips), torch.tensor(signers)) == same
    for unit in (1e160, 1e-200):  # squares of these overflow or vanish
        assert measure(rows * unit, labels, clips, signers) == same
    rows.setflags(write=False)
    assert measure(rows[::-1], labels[::-1], clips[::-1], signers[::-1]) == pytest.approx(value, rel=0.5)


@each_measure
def test_what_is_missing_or_no_number_is_refused(measure):
    rows, labels, clips, signers = signed()
    with pytest.raises(ValueError, match="real numbers"):
        measure(rows + 1j, labels, clips, signers)
    if measure is MEASURES["rank"]:
        return
    with pytest.raises(ValueError, match="each row needs a gloss, got None in row 2"):
        measure(rows, ["A", "B", None, *["C"] * (len(rows) - 3)], clips, signers)
    with pytest.raises(ValueError):
        measure(rows, labels[:-1], clips, signers)


def test_one_gloss_is_no_retrieval():
    rows, labels, clips, _ = signed()
    with pytest.raises(ValueError, match="at least 2 glosses, got 16 instances of 1"):
        retrieval(rows, 0 * labels, clips)
    with pytest.raises(ValueError, match="rows that differ"):
        linear_probe(0 * rows, labels, clips)


# -- chance level, intervals, distances -----------------------------------------------------------------------------


def test_shuffled_nearest_glosses_are_below_a_half():
    # Of several glosses of few rows the nearest is chosen, so that AUC is below 0.5 without any signs.
    noise = np.random.default_rng(0).normal(size=(40, 5))
    labels = np.arange(40) // 2
    assert confusable_glosses(noise, labels).auc.mean() < 0.4
    assert shuffled_confusable(noise, labels).auc.mean() < 0.4
    rows, labels, _, _ = signed()
    assert confusable_glosses(rows, labels).auc.mean() > 0.9 > 0.6 > shuffled_confusable(rows, labels).auc.mean()


def test_many_instances_are_compared_from_all_signers():
    # 400 rows of A at 0; the first 300 of B at 0 too, the last 100 far away. The first 300 alone would coincide.
    rows = np.zeros((800, 1))
    rows[700:] = 10.0
    labels = np.repeat([0, 1], 400)
    found = confusable_glosses(rows + 1e-3 * np.random.default_rng(0).normal(size=rows.shape), labels)
    assert found.auc[0] > 0.57  # 0.5 + a quarter of pairs that are far apart, half of 0.25


@pytest.mark.parametrize(("distance", "metric"), [("squared", "sqeuclidean"), ("cosine", "cosine")])
def test_other_distances_agree_with_scipy(distance, metric):
    rows, labels, _, _ = signed()
    apart = cdist(rows, rows, metric)
    wanted = np.empty((4, 4))
    for a in range(4):
        for b in range(4):
            pairs = apart[np.ix_(labels == a, labels == b)]
            wanted[a, b] = pairs.sum() / (pairs.size - (len(pairs) if a == b else 0))
    np.testing.assert_allclose(gloss_distances(rows, labels, distance=distance).mean.numpy(), wanted)
    found = confusable_glosses(rows, labels, distance=distance)
    np.fill_diagonal(apart, np.nan)
    for k in range(4):
        own, other = labels == k, labels == found.nearest[k]
        assert found.nearest[k] == np.where(np.arange(4) == k, np.inf, wanted[k]).argmin()
        assert found.ratio[k] == pytest.approx(wanted[k, k] / wanted[k, found.nearest[k]])
        within, between = apart[np.ix_(own, own)], apart[np.ix_(own, other)].ravel()
        within = within[~np.isnan(within)]
        assert found.auc[k] == pytest.approx((within[:, None] < between).mean())


def test_clips_of_one_gloss_have_no_share_of_their_own():
    rows, labels, _, signers = signed()
    shares = variance_shares(rows, labels, np.arange(len(rows)), signers)
    assert shares.clip is None
    assert "clip" not in shares.by_chance
    member = np.eye(4)[labels]
    for signer in range(4):
        rows[signers == signer] -= rows[signers == signer].mean(axis=0)
        member[signers == signer] -= member[signers == signer].mean(axis=0)
    explained = member @ np.linalg.lstsq(member, rows, rcond=None)[0]
    assert (explained**2).sum() / (rows**2).sum() == pytest.approx(shares.gloss / (shares.gloss + shares.rest))


def test_the_probe_and_recall_have_intervals_over_clips():
    rows, labels, clips = signs(spread=1.2)
    found = linear_probe(rows, labels, clips)
    assert found.bits_interval[0] < found.bits < found.bits_interval[1]
    assert found.accuracy_interval[0] < found.accuracy < found.accuracy_interval[1]
    again = retrieval(rows, labels, clips)
    ends = retrieval_interval(again, clips, samples=200).recall
    assert all(ends[k][0] <= again.recall[k] <= ends[k][1] for k in (1, 5, 10))
    assert ends[1] == retrieval_interval(again, clips, samples=200).one_nn
    of_gloss = [again.found_first[again.of_query == gloss].mean() for gloss in again.gloss_ids]
    np.testing.assert_allclose(again.found_by_gloss, of_gloss)


def test_results_on_text_carry_its_names():
    rows, labels, clips, _ = signed()
    names = np.array(["RAIN", "SUN", "CLOUD", "WIND"])[labels]
    for found in (gloss_distances(rows, names), retrieval(rows, names, clips), confusable_glosses(rows, names)):
        assert found.names == ("CLOUD", "RAIN", "SUN", "WIND")
    near = confusable_glosses(rows, names)
    by_name = {near.names[i]: near.names[j] for i, j in zip(near.gloss_ids, near.nearest)}
    by_number = confusable_glosses(rows, labels)
    kind = ["RAIN", "SUN", "CLOUD", "WIND"]
    assert by_name == {kind[i]: kind[j] for i, j in zip(by_number.gloss_ids, by_number.nearest)}
