"""Weights, caps, intervals, comparisons and several processes of the density lab, against plain loops."""

from itertools import product

import numpy as np
import pytest
import torch
from fresh_process import run_on_ranks

from signcl.density import (
    capped_rows,
    compare_ratios,
    gloss_distances,
    ratio_interval,
    shuffle_baseline,
    sign_density_ratio,
)


def sample(rows=60, size=7, glosses=9, seed=0, spread=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(glosses, (rows,), generator=generator)
    centres = torch.randn(glosses, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    return (centres[labels] + spread * noise).to(dtype), labels


def weighted_loop(features, glosses, weights, distance, inter):
    """The weighted ratio of each gloss, one pair at a time."""
    rows, labels, weight = (np.asarray(x, dtype=np.float64) for x in (features, glosses, weights))

    def apart(i, j):
        if distance == "cosine":
            return 1 - rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j])
        return ((rows[i] - rows[j]) ** 2).sum() ** (0.5 if distance == "euclidean" else 1)

    def mean(pairs):
        total = [(weight[i] * weight[j] * apart(i, j), weight[i] * weight[j]) for i, j in pairs if i != j]
        return np.sum(total, axis=0)

    ids = {int(g): np.flatnonzero(labels == g) for g in np.unique(labels)}
    ratios = {}
    for g, own in ids.items():
        if len(own) < 2:
            continue
        intra = np.divide(*mean(product(own, own)))
        sums = np.array([mean(product(own, other)) for h, other in ids.items() if h != g])
        across = (sums[:, 0] / sums[:, 1]).mean() if inter == "gloss" else sums[:, 0].sum() / sums[:, 1].sum()
        ratios[g] = intra / across
    return [ratios[g] for g in sorted(ratios)]


@pytest.mark.parametrize("distance", ["euclidean", "squared", "cosine"])
@pytest.mark.parametrize("inter", ["gloss", "instance"])
def test_weights_by_frames_equal_the_plain_loop(distance, inter):
    features, labels = sample(rows=45, glosses=6, seed=2)
    labels[0] = 77  # a gloss seen once is among the others
    frames = torch.randint(1, 30, (45,), generator=torch.Generator().manual_seed(5))
    density = sign_density_ratio(features, labels, weights=frames, distance=distance, inter=inter, block=8)
    expected = weighted_loop(features, labels, frames, distance, inter)
    np.testing.assert_allclose(density.sdr, expected, rtol=1e-9)
    assert density.settings["weighted"] is True
    even = sign_density_ratio(features, labels, weights=torch.full((45,), 3), distance=distance, inter=inter, block=8)
    plain = sign_density_ratio(features, labels, distance=distance, inter=inter, block=8)
    torch.testing.assert_close(even.sdr, plain.sdr)


def test_weights_reach_large_glosses_too():
    features, labels = sample(rows=240, glosses=2)
    frames = torch.randint(1, 9, (240,), generator=torch.Generator().manual_seed(1))
    density = sign_density_ratio(features, labels, weights=frames, block=32)
    np.testing.assert_allclose(density.sdr, weighted_loop(features, labels, frames, "euclidean", "gloss"), rtol=1e-9)


def test_a_weight_of_two_by_hand():
    # Gloss 0 is at 0, 1, 3 with weights 2, 1, 1; pairs 2 * 1 + 2 * 3 + 1 * 2 = 10 over weights 2 + 2 + 1: intra 2.
    # Gloss 1 at 10 and 10.5: to it 2 * (10 + 10.5) + (9 + 9.5) + (7 + 7.5) = 74 over 8 pairs: inter 9.25.
    features = torch.tensor([[0.0], [1.0], [3.0], [10.0], [10.5]])
    density = sign_density_ratio(features, torch.tensor([0, 0, 0, 1, 1]), weights=torch.tensor([2, 1, 1, 1, 1]))
    assert density.intra.tolist() == pytest.approx([2.0, 0.5])
    assert density.inter.tolist() == pytest.approx([9.25, 9.25])


def test_a_cap_keeps_so_many_rows_of_each_gloss_and_repeats_with_its_seed():
    features, labels = sample(rows=300, glosses=4)
    labels[:3] = 9
    kept = capped_rows(labels, 20, seed=1)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert torch.unique(labels[kept], return_counts=True)[1].tolist() == [20, 20, 20, 20, 3]
    assert torch.equal(kept, capped_rows(labels, 20, seed=1))
    assert not torch.equal(kept, capped_rows(labels, 20, seed=2))
    assert set(capped_rows(labels, 8, seed=1).tolist()) < set(kept.tolist()), "smaller caps are nested"
    density = sign_density_ratio(features, labels, cap=20, seed=1)
    direct = sign_density_ratio(features[kept], labels[kept])
    torch.testing.assert_close(density.sdr, direct.sdr)
    assert density.counts.tolist() == [20, 20, 20, 20, 3]
    assert density.settings["cap"] == 20
    assert torch.equal(sign_density_ratio(features, labels, cap=1000).sdr, sign_density_ratio(features, labels).sdr)
    assert shuffle_baseline(features, labels, cap=20, seed=1).counts.tolist() == [20, 20, 20, 20, 3]
    with pytest.raises(ValueError, match="at least 2, got 1"):
        sign_density_ratio(features, labels, cap=1)


@pytest.mark.parametrize("wrong", [torch.zeros(60), torch.ones(59), -torch.ones(60), torch.full((60,), float("nan"))])
def test_weights_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="one weight above 0 per row"):
        sign_density_ratio(*sample(), weights=wrong)
    with pytest.raises(ValueError, match=r"one weight per row \[N\]"):
        sign_density_ratio(*sample(), weights=torch.ones(60, 2))


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("inter", ["gloss", "instance"])
def test_resampled_instances_are_the_ratios_of_weighted_rows_one_by_one(distance, inter):
    from signcl.density.intervals import _replicates

    features, labels = sample(rows=50, glosses=5)
    options = {"distance": distance, "inter": inter, "min_count": 2, "others": True, "cap": None, "seed": 4}
    found = _replicates(features, labels, None, 3, options, 16)
    drawn = torch.empty(50, 4, dtype=torch.float64).exponential_(generator=torch.Generator().manual_seed(4))
    drawn[:, 0] = 1
    for column, weights in enumerate(drawn.unbind(dim=1)):
        mass = torch.zeros(5, dtype=torch.float64).index_add_(0, labels, weights)
        scaled = weights * (labels.bincount() / mass)[labels]
        np.testing.assert_allclose(
            found[:, column], weighted_loop(features, labels, scaled, distance, inter), rtol=1e-9
        )


def test_the_interval_over_instances_is_as_wide_as_new_draws_of_instances_scatter():
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        centres = torch.randn(8, 6, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
        labels = torch.arange(8).repeat_interleave(25)
        return centres[labels] + 0.7 * torch.randn(200, 6, generator=generator, dtype=torch.float64), labels

    scatter = np.std([sign_density_ratio(*draw(seed)).mean for seed in range(60)])
    interval = ratio_interval(*draw(0), over="instances", samples=300)
    assert interval.low < interval.mean < interval.high
    assert (interval.high - interval.low) / 2 / 1.96 == pytest.approx(scatter, rel=0.35)
    assert interval.mean == pytest.approx(sign_density_ratio(*draw(0)).mean)
    assert interval == ratio_interval(*draw(0), over="instances", samples=300)
    both = ratio_interval(*draw(0), over="both", samples=300)
    assert both.high - both.low > interval.high - interval.low, "other glosses add to it"
    assert ratio_interval(*draw(0), over="glosses").over == "glosses"
    with pytest.raises(ValueError, match="over 'glosses', 'instances', 'both' or 'signers'"):
        ratio_interval(*draw(0), over="rows")


@pytest.mark.parametrize("over", ["glosses", "instances", "both"])
def test_two_feature_sets_on_the_same_instances(over):
    features, labels = sample(rows=300, glosses=12, spread=0.8)
    noisy = features + 0.5 * torch.randn(300, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(8))
    found = compare_ratios(features, noisy, labels, over=over, samples=200)
    assert found.a == pytest.approx(sign_density_ratio(features, labels).mean)
    assert found.b == pytest.approx(sign_density_ratio(noisy, labels).mean)
    assert found.difference == pytest.approx(found.b - found.a)
    assert 0 < found.low < found.difference < found.high
    assert found.p_value < 0.02
    assert found.glosses_lower < 0.2
    mirrored = compare_ratios(noisy, features, labels, over=over, samples=200)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    # The same features in other units, turned: no difference, and the pairing knows it to the last digits.
    same = compare_ratios(features, features.flip(1) * 7 + 3, labels, over=over, samples=50)
    assert abs(same.high) + abs(same.low) < 1e-12
    with pytest.raises(ValueError, match="got 300 and 299 rows"):
        compare_ratios(features, noisy[:-1], labels)


RANKS = """
import os, sys, torch
import torch.distributed as dist
from signcl.density import gloss_distances, sign_density_ratio

torch.set_num_threads(1)
rank = os.environ["RANK"]
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=int(rank), world_size=2)
generator = torch.Generator().manual_seed(0)
labels = torch.randint(9, (700,), generator=generator)
labels[:300] = 1
features = torch.randn(9, 12, generator=generator)[labels] + torch.randn(700, 12, generator=generator)
calls = []
density = sign_density_ratio(features, labels, block=32, distributed=True, progress=lambda *seen: calls.append(seen))
weighted = sign_density_ratio(features, labels, weights=labels + 1, block=32, distributed=True)
matrix = gloss_distances(features, labels, block=32, distributed=True)
torch.save([density.intra, density.inter, weighted.sdr, matrix.mean, calls[-1]], f"{sys.argv[1]}.{rank}")
dist.destroy_process_group()  # else the interpreter may end while gloo's threads run, and the process is aborted
"""


def test_two_processes_find_what_one_finds(tmp_path):
    run_on_ranks(RANKS, tmp_path / "meet")
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(9, (700,), generator=generator)
    labels[:300] = 1
    features = torch.randn(9, 12, generator=generator)[labels] + torch.randn(700, 12, generator=generator)
    alone = sign_density_ratio(features, labels, block=32)
    expected = [
        alone.intra,
        alone.inter,
        sign_density_ratio(features, labels, weights=labels + 1, block=32).sdr,
        gloss_distances(features, labels, block=32).mean,
    ]
    done = []
    for rank in "01":
        *found, calls = torch.load(tmp_path / f"meet.{rank}")
        for ours, theirs in zip(found, expected):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
        done.append(calls[0])
    assert min(done) > 20, "both have done their part"
    assert abs(done[0] - done[1]) <= 1
    with pytest.raises(ValueError, match="torchrun"):
        sign_density_ratio(features, labels, distributed=True)


def test_half_precision_from_a_memory_map_is_as_exact_as_float64(tmp_path):
    features, labels = sample(rows=900, size=48, glosses=30)
    features += 20  # far from the origin, where a plain product would lose digits
    np.save(tmp_path / "rows.npy", features.numpy().astype(np.float16))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    single = sign_density_ratio(mapped, labels)
    double = sign_density_ratio(np.array(mapped, dtype=np.float64), labels)
    assert float(((single.sdr - double.sdr) / double.sdr).abs().max()) < 1e-6


def test_rows_that_are_not_finite_are_named():
    features, labels = sample()
    features[[3, 7, 8, 20, 21, 40, 59], 2] = float("nan")
    with pytest.raises(ValueError, match=r"7 of 60 rows \(row 3, 7, 8, 20, 21, ..., counted from 0\)"):
        sign_density_ratio(features, labels)
