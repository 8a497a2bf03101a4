"""Segments and ratios without glosses: plain loops, and features whose crowding is known."""

import itertools

import numpy as np
import pytest

from signcl.density import label_free_density
from signcl.density.label_free import segment_clip


def signing(clips=12, signs=4, noise=0.5, seed=0, size=8, kinds=6):
    """Clips of signs of ten frames each, drawn from a small lexicon."""
    random = np.random.default_rng(seed)
    centres = 2 * np.random.default_rng(99).normal(size=(kinds, size))
    made = []
    for _ in range(clips):
        chosen = random.choice(kinds, size=signs, replace=False)
        made.append(np.repeat(centres[chosen], 10, axis=0) + noise * random.normal(size=(10 * signs, size)))
    return made


def test_change_points_are_found_where_they_are():
    for clip in signing(noise=0.2):
        assert segment_clip(clip, 4) == [0, 10, 20, 30, 40]
    assert segment_clip(np.zeros((5, 2)), 1) == [0, 5]
    assert segment_clip(np.arange(5.0)[:, None], 5) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ValueError, match="1 to T segments"):
        segment_clip(np.zeros((5, 2)), 6)


def test_joining_neighbours_by_ward_is_the_plain_loop():
    clip = np.random.default_rng(3).normal(size=(14, 3)).cumsum(axis=0)

    def deviation(start, stop):
        rows = clip[start:stop]
        return ((rows - rows.mean(axis=0)) ** 2).sum()

    edges = list(range(15))
    while len(edges) > 5:
        costs = [deviation(a, c) - deviation(a, b) - deviation(b, c) for a, b, c in zip(edges, edges[1:], edges[2:])]
        edges.pop(int(np.argmin(costs)) + 1)
    assert segment_clip(clip, 4) == edges


def test_the_ratios_of_a_clip_are_the_plain_loop():
    clips = signing(clips=3, noise=1.0)
    found = label_free_density(clips, frames_per_sign=10, clusters=4)
    segment, step = [], []
    for clip in clips:
        edges = segment_clip(clip.astype(np.float32), 4)
        label = np.repeat(np.arange(4), np.diff(edges))
        pairs = list(itertools.combinations(range(len(clip)), 2))
        apart = {pair: np.linalg.norm(clip[pair[0]] - clip[pair[1]]) for pair in pairs}
        same = [apart[i, j] for i, j in pairs if label[i] == label[j]]
        other = [apart[i, j] for i, j in pairs if label[i] != label[j]]
        segment.append(np.mean(same) / np.mean(other))
        step.append(np.mean([apart[i, i + 1] for i in range(len(clip) - 1)]) / np.mean(list(apart.values())))
    assert found.segment_ratio == pytest.approx(np.mean(segment), rel=1e-5)
    assert found.step_ratio == pytest.approx(np.mean(step), rel=1e-5)
    points, owner = [], []
    for number, clip in enumerate(clips):
        for start, stop in itertools.pairwise(segment_clip(clip.astype(np.float32), 4)):
            points.append(clip[start + (stop - start - 1) // 2])
            owner.append(number)
    shares = []
    for i, point in enumerate(points):
        apart = [np.linalg.norm(point - other) for j, other in enumerate(points) if owner[j] != owner[i]]
        shares.append(min(apart) / np.mean(apart))
    assert found.neighbour_ratio == pytest.approx(np.mean(shares), rel=1e-5)
    assert (found.clips, found.segments) == (3, 12)


def test_all_of_them_rise_with_noise_and_structureless_rows_give_the_null():
    levels = [label_free_density(signing(noise=noise, clips=30), frames_per_sign=10) for noise in (0.2, 0.8, 2.5)]
    for name in ("segment_ratio", "neighbour_ratio", "cluster_excess"):
        values = [getattr(found, name) for found in levels]
        assert values == sorted(values), name
    assert levels[0].cluster_excess < 0.5
    random = np.random.default_rng(5)
    nothing = label_free_density([random.normal(size=(40, 8)) for _ in range(30)], frames_per_sign=10)
    assert nothing.cluster_excess == pytest.approx(1, abs=0.1)
    assert nothing.cluster_ratio < 0.8, "clusters of nothing look like signs: why the null is reported"
    again = label_free_density(signing(noise=0.8, clips=30), frames_per_sign=10)
    assert again == levels[1]


@pytest.mark.parametrize(
    ("clips", "options", "message"),
    [
        ([np.ones((20, 3))], {}, "at least 2 clips"),
        ([np.ones((20, 3)), np.ones((20, 4))], {}, r"finite features \[T, 3\] for every clip, but clip 1"),
        ([np.ones((20, 3)), np.full((20, 3), np.nan)], {}, "clip 1 .* with NaN or infinity"),
        (signing(), {"frames_per_sign": 0.5}, "frames_per_sign of at least 1"),
        (signing(), {"frames_per_sign": 100}, "a clip with several segments"),
        (signing(), {"frames_per_sign": 10, "clusters": 48}, "clusters must be 2 to"),
        ([np.ones((20, 3)), np.ones((20, 3))], {"frames_per_sign": 5}, "a clip with several segments"),
    ],
)
def test_what_cannot_be_estimated_is_refused(clips, options, message):
    with pytest.raises(ValueError, match=message):
        label_free_density(clips, **options)
