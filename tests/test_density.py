"""The density lab against hand-worked cases, a plain double loop, scikit-learn, and data made to trip float32."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from signcl.data.batch import Span
from signcl.density import (
    gloss_distances,
    pool_spans,
    sdr_interval,
    shuffle_baseline,
    sign_density_ratio,
    span_steps,
    to_rows,
)


def loop(features, glosses, distance="euclidean", inter="gloss", min_count=2, others=True):
    """Eq. 1-3 word for word, one pair at a time, in float64."""
    rows, labels = np.asarray(features, dtype=np.float64), np.asarray(glosses)
    groups = {int(g): rows[labels == g] for g in np.unique(labels)}
    if not others:
        groups = {g: x for g, x in groups.items() if len(x) >= min_count}

    def apart(x, y):
        if distance == "cosine":
            return 1 - x @ y / np.linalg.norm(x) / np.linalg.norm(y)
        return ((x - y) ** 2).sum() ** (0.5 if distance == "euclidean" else 1)

    result = {}
    for g, own in groups.items():
        if len(own) < min_count:
            continue
        pairs = [apart(x, y) for i, x in enumerate(own) for j, y in enumerate(own) if i != j]
        across = [[apart(x, y) for x in own for y in other] for h, other in groups.items() if h != g]
        mean_inter = np.mean([np.mean(a) for a in across]) if inter == "gloss" else np.mean(np.concatenate(across))
        result[g] = (np.mean(pairs), mean_inter)
    return result


def sample(rows=60, size=7, glosses=9, seed=0, spread=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(glosses, (rows,), generator=generator)
    centres = torch.randn(glosses, size, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    return (centres[labels] + spread * noise).to(dtype), labels


def assert_same(density, expected, rtol=1e-9, atol=0.0):
    assert density.gloss_ids.tolist() == sorted(expected)
    intra, inter = np.array([expected[g] for g in sorted(expected)]).T
    np.testing.assert_allclose(density.intra, intra, rtol=rtol, atol=atol)
    np.testing.assert_allclose(density.inter, inter, rtol=rtol, atol=atol)
    np.testing.assert_allclose(density.sdr, intra / inter, rtol=2 * rtol, atol=atol)
    assert density.mean == pytest.approx((intra / inter).mean(), rel=2 * rtol)


def test_two_glosses_on_a_line():
    # By hand: D(G_0) = D(G_1) = 1; D(G_0, G_1) = (10 + 11 + 9 + 10) / 4 = 10.
    density = sign_density_ratio(torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([0, 0, 1, 1]))
    assert density.intra.tolist() == [1.0, 1.0]
    assert density.inter.tolist() == [10.0, 10.0]
    assert density.sdr.tolist() == [0.1, 0.1]
    assert density.mean == pytest.approx(0.1)
    assert density.counts.tolist() == [2, 2]


def test_squared_and_cosine_by_hand():
    # Squared: intra 1; inter (100 + 121 + 81 + 100) / 4 = 100.5.
    line = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    density = sign_density_ratio(line, torch.tensor([0, 0, 1, 1]), distance="squared")
    torch.testing.assert_close(density.intra, torch.tensor([1.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(density.inter, torch.tensor([100.5, 100.5], dtype=torch.float64))
    # Cosine: gloss 0 is east twice (length does not matter), gloss 1 north and west: inter (1 + 2) / 2, intra 0 and 1.
    compass = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    density = sign_density_ratio(compass, torch.tensor([0, 0, 1, 1]), distance="cosine")
    torch.testing.assert_close(density.intra, torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(density.inter, torch.tensor([1.5, 1.5], dtype=torch.float64))


@pytest.mark.parametrize("distance", ["euclidean", "squared", "cosine"])
@pytest.mark.parametrize("inter", ["gloss", "instance"])
@pytest.mark.parametrize(("min_count", "others"), [(2, True), (2, False), (4, True), (4, False)])
def test_every_option_equals_the_double_loop(distance, inter, min_count, others):
    features, labels = sample(rows=45, glosses=11, seed=3)
    labels[labels == 10] = 4  # leave a hole in the numbers
    labels[0] = 99  # and a gloss seen once
    options = {"distance": distance, "inter": inter, "min_count": min_count, "others": others}
    assert_same(sign_density_ratio(features, labels, block=8, **options), loop(features, labels, **options))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(4, 40),
    size=st.integers(1, 6),
    glosses=st.integers(2, 6),
    block=st.integers(1, 20),
    offset=st.sampled_from([0.0, 1e3, -1e6]),
    duplicates=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_any_input_equals_the_double_loop(rows, size, glosses, block, offset, duplicates, seed):
    features, labels = sample(rows, size, glosses, seed)
    labels[:3] = torch.tensor([0, 0, 1])
    if duplicates:
        features[rows // 2 :] = features[: rows - rows // 2].clone()
    if len(features.unique(dim=0)) < 2:
        return
    features = features + offset
    # An offset of 1e6 leaves 16 - 6 digits of the difference in float64, whoever subtracts.
    rtol = 1e-9 if abs(offset) < 1e6 else 1e-7
    assert_same(sign_density_ratio(features, labels, block=block), loop(features, labels), rtol=rtol, atol=1e-9)


def test_scikit_learn_agrees_at_a_thousand_rows_in_float32():
    from sklearn.metrics import pairwise_distances

    features, labels = sample(rows=1100, size=64, glosses=40, seed=1, dtype=torch.float32)
    pairs = pairwise_distances(features.double().numpy())
    member = np.eye(40)[labels.numpy()]
    counts = member.sum(axis=0)
    total = member.T @ pairs @ member
    intra = np.diag(total) / (counts * (counts - 1))
    mean = total / np.outer(counts, counts)
    inter = (mean.sum(axis=1) - np.diag(mean)) / 39
    density = sign_density_ratio(features, labels, block=256)
    np.testing.assert_allclose(density.intra, intra, rtol=1e-6)
    np.testing.assert_allclose(density.inter, inter, rtol=1e-6)
    matrix = gloss_distances(features, labels, block=256)
    np.testing.assert_allclose(matrix.mean, mean - np.diag(np.diag(mean)) + np.diag(intra), rtol=1e-6)


def test_block_size_changes_nothing():
    features, labels = sample(rows=150, size=16, glosses=5, dtype=torch.float32)  # 5 glosses: blocks split glosses
    whole = sign_density_ratio(features, labels, block=512)
    for block in (7, 64, 149):
        part = sign_density_ratio(features, labels, block=block)
        torch.testing.assert_close(part.intra, whole.intra, rtol=2e-7, atol=0)
        torch.testing.assert_close(part.inter, whole.inter, rtol=2e-7, atol=0)
        part_matrix = gloss_distances(features, labels, block=block)
        torch.testing.assert_close(part_matrix.mean, gloss_distances(features, labels).mean, rtol=4e-7, atol=0)


def test_order_and_names_of_glosses_change_nothing():
    features, labels = sample(rows=80, dtype=torch.float32)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(5))
    one = sign_density_ratio(features, labels)
    other = sign_density_ratio(features[order], labels[order] * 7 - 3)
    torch.testing.assert_close(one.sdr, other.sdr, rtol=1e-6, atol=0)
    assert other.gloss_ids.tolist() == [7 * g - 3 for g in one.gloss_ids.tolist()]


@pytest.mark.parametrize("distance", ["euclidean", "squared"])
def test_ratio_survives_shift_rotation_and_scale(distance):
    features, labels = sample(rows=90, size=6)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    one = sign_density_ratio(features, labels, distance=distance)
    for changed in (features + 500.0, features @ rotation, features * 1e-30, features * 1e150):
        other = sign_density_ratio(changed, labels, distance=distance)
        torch.testing.assert_close(other.sdr, one.sdr, rtol=1e-9, atol=0)


def test_float32_keeps_six_digits_where_its_product_would_not():
    # Tight glosses in pairs (minimal pairs) around far-apart centres: |x|^2 is 10^6 times the squared distance inside.
    generator = torch.Generator().manual_seed(4)
    labels = torch.arange(12).repeat_interleave(6)
    centres = 1e2 * torch.randn(6, 32, generator=generator).repeat_interleave(2, dim=0)
    features = centres[labels] + 0.1 * torch.randn(72, 32, generator=generator)
    assert_same(sign_density_ratio(features, labels, block=16), loop(features, labels), rtol=1e-6)
    # The nearest pair of glosses is all close pairs.
    matrix = gloss_distances(features, labels, block=16)
    x, y = features[labels == 0].double(), features[labels == 1].double()
    torch.testing.assert_close(matrix.mean[0, 1], torch.cdist(x, y).mean(), rtol=1e-6, atol=0)


def test_equal_rows_are_exactly_zero_apart():
    features = torch.randn(50, 128, generator=torch.Generator().manual_seed(1)) + 100.0
    labels = torch.arange(50) // 10
    features[:10] = features[0]  # all of gloss 0
    features[20:30] = features[10:20]  # gloss 2 repeats gloss 1
    density = sign_density_ratio(features, labels, block=16)
    assert density.intra[0] == 0.0
    assert density.sdr[0] == 0.0
    features[10:30] = features[10]
    assert gloss_distances(features, labels, block=16).mean[1, 2] == 0.0
    for distance in ("squared", "cosine"):
        assert sign_density_ratio(features, labels, distance=distance).intra[0] < 1e-25


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_copies_of_one_row_cost_no_digits(dtype):
    features, labels = sample(rows=200, size=12, glosses=6, dtype=dtype)
    features[60:150] = 0  # as where a hand was not found
    features[150:170] = 1e-7 * features[150:170]  # nearly copies of it
    assert_same(sign_density_ratio(features, labels, block=64), loop(features, labels), rtol=2e-6)


def test_large_glosses_take_the_blockwise_way_inside_too():
    features, labels = sample(rows=400, size=5, glosses=2, dtype=torch.float32)
    features[labels == 1] += 1e3  # far from each other, so centring each gloss matters
    assert_same(sign_density_ratio(features, labels, block=64), loop(features, labels), rtol=1e-6)


def test_half_precision_memory_maps_and_arrays_are_read_as_they_are(tmp_path):
    features, labels = sample(rows=120, size=16, glosses=5)
    np.save(tmp_path / "rows.npy", features.numpy().astype(np.float16))
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    expected = loop(mapped, labels)
    assert_same(sign_density_ratio(mapped, labels.numpy(), block=32), expected, rtol=1e-6)
    assert_same(sign_density_ratio(torch.from_numpy(mapped.copy()), labels, block=32), expected, rtol=1e-6)
    whole = (features * 10).round().to(torch.int64)
    assert_same(sign_density_ratio(whole, labels), loop(whole, labels))
    needs_gradient = features.float().requires_grad_()
    assert not sign_density_ratio(needs_gradient, labels).sdr.requires_grad


def test_autocast_does_not_touch_the_measure():
    features, labels = sample(rows=200, size=32, dtype=torch.float32)
    plain = sign_density_ratio(features, labels, block=64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sign_density_ratio(features, labels, block=64).sdr, plain.sdr)


def test_shuffled_glosses_of_a_gaussian_give_about_one():
    features, labels = sample(rows=600, size=256, glosses=20, spread=0.1, dtype=torch.float32)
    assert sign_density_ratio(features, labels).mean < 0.2
    assert shuffle_baseline(features, labels, seed=1).mean == pytest.approx(1.0, abs=0.02)
    noise = torch.randn(600, 256, generator=torch.Generator().manual_seed(0))
    assert sign_density_ratio(noise, labels).mean == pytest.approx(1.0, abs=0.01)
    one, two = shuffle_baseline(features, labels, seed=1), shuffle_baseline(features, labels, seed=1)
    assert torch.equal(one.sdr, two.sdr)
    assert torch.equal(one.counts, sign_density_ratio(features, labels).counts)


def test_interval_covers_the_mean_and_repeats_with_its_seed():
    density = sign_density_ratio(*sample(rows=400, glosses=40))
    interval = sdr_interval(density, samples=500, seed=3)
    assert interval.low < density.mean < interval.high
    assert interval == sdr_interval(density, samples=500, seed=3)
    # Against the normal approximation: half width near 1.96 standard errors.
    half = 1.96 * float(density.sdr.std(correction=0)) / len(density.sdr) ** 0.5
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.2)
    with pytest.raises(ValueError, match="samples >= 1"):
        sdr_interval(density, samples=0)


def test_rows_of_a_table_come_most_crowded_first_with_names():
    features = torch.tensor([[0.0], [1.0], [10.0], [14.0]])
    density = sign_density_ratio(features, torch.tensor([0, 0, 1, 1]))
    table = to_rows(density, ["RAIN", "SUN"])
    assert [row["gloss"] for row in table] == ["SUN", "RAIN"]
    assert table[0] == {"gloss": "SUN", "count": 2, "intra": 4.0, "inter": 11.5, "sdr": 4 / 11.5}
    assert to_rows(density)[0]["gloss"] == 1
    with pytest.raises(ValueError, match="a name for gloss 1"):
        to_rows(density, {0: "RAIN"})


def test_settings_say_what_moves_the_number():
    features, labels = sample(rows=30)
    labels[0] = 50
    density = sign_density_ratio(features, labels, inter="instance", others=False)
    assert density.settings["inter"] == "instance"
    assert density.settings["rows"] == 29
    assert sign_density_ratio(features, labels).settings["rare_glosses"] == 1


@pytest.mark.parametrize(
    ("features", "glosses", "options", "message"),
    [
        (torch.zeros(4), [0, 0, 1, 1], {}, r"features \[N, D\]"),
        (torch.zeros(4, 2), [0, 0, 1], {}, "one gloss number per row"),
        (torch.zeros(0, 2), [], {}, r"features \[N, D\]"),
        (torch.zeros(4, 2), [0.0, 0.0, 1.0, 1.0], {}, "whole numbers"),
        (torch.zeros(4, 2), [0, 0, 1, 1], {}, "4 equal rows"),
        (torch.tensor([[0.0], [float("nan")], [float("inf")], [1.0]]), [0, 0, 1, 1], {}, "infinity in 2 of 4 rows"),
        (torch.eye(4), [0, 0, 0, 0], {}, "at least 2 glosses"),
        (torch.eye(4), [0, 1, 2, 3], {}, "at most 1 each"),
        (torch.eye(4), [0, 0, 1, 2], {"others": False}, "at least 2 glosses"),
        (torch.eye(4), [0, 0, 1, 1], {"min_count": 3}, "with 3 rows"),
        (torch.eye(4), [0, 0, 1, 1], {"min_count": 1}, "min_count of at least 2|min_count >= 2"),
        (torch.eye(4), [0, 0, 1, 1], {"distance": "manhattan"}, "'euclidean', 'squared' or 'cosine'"),
        (torch.eye(4), [0, 0, 1, 1], {"inter": "row"}, "'gloss' or 'instance'"),
        (torch.eye(4) - torch.diag(torch.tensor([1.0, 0, 0, 0])), [0, 0, 1, 1], {"distance": "cosine"}, "all zeros"),
        (torch.tensor([[1.0, 2], [2, 4], [3, 6], [4, 8]]), [0, 0, 1, 1], {"distance": "cosine"}, "all parallel"),
    ],
)
def test_impossible_input_is_one_clear_line(features, glosses, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        sign_density_ratio(features, torch.tensor(glosses), **options)
    assert "\n" not in str(caught.value)


def test_progress_counts_every_pair_of_panels():
    seen = []
    features, labels = sample(rows=40)
    sign_density_ratio(features, labels, block=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k + 1, 6) for k in range(6)]  # 40 rows = 3 panels of 16


def test_centre_mean_and_medoid_of_a_span():
    features = torch.tensor([[0.0], [1.0], [2.0], [10.0], [3.0], [50.0]])
    spans = [Span("A", 0, 4), Span("B", 3, 4), Span("C", 1, 6)]
    assert pool_spans(features, spans).flatten().tolist() == [1.0, 10.0, 10.0]  # the earlier of two middles
    assert pool_spans(features, spans, "mean").flatten().tolist() == pytest.approx([13 / 4, 10.0, 66 / 5])
    # C holds 1 2 10 3 50: sums of distances 61, 58, 64, 57, 185, so 3 is the medoid. A: 13, 11, 11, 27: earliest.
    assert pool_spans(features, spans, "medoid").flatten().tolist() == [1.0, 10.0, 3.0]
    assert pool_spans(features, []).shape == (0, 1)
    assert pool_spans(features.half(), spans, "mean").dtype == torch.float16


def test_frames_map_to_pooled_steps_by_their_middle():
    # Steps of 4 frames look at 2, 6, 10, 14.
    assert span_steps(4, [Span("A", 0, 8), Span("B", 8, 16), Span("C", 7, 9)], stride=4) == [(0, 2), (2, 4), (1, 2)]
    assert span_steps(4, [Span("D", 16, 19)], stride=4) == [(3, 4)]  # frames that pooling dropped: the last step
    assert span_steps(3, [Span("A", 1, 2)], stride=1) == [(1, 2)]
    # K5-P2-K5-P2 without padding: 16 frames make one step, looking at 8.
    assert span_steps(1, [Span("A", 0, 5), Span("B", 12, 16)], stride=4, first_centre=8) == [(0, 1), (0, 1)]
    assert span_steps(2, [Span("B", 10, 16)], stride=4, first_centre=8) == [(1, 2)]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.sampled_from([1.0, 2.0, 4.0, 3.7]), st.data())
def test_every_legal_span_gets_rows_inside_the_clip(steps, stride, data):
    frames = int(steps * stride)
    start = data.draw(st.integers(0, max(frames - 1, 0)))
    stop = data.draw(st.integers(start + 1, max(frames, start + 1)))
    ((first, last),) = span_steps(steps, [Span("A", start, stop)], stride=stride)
    assert 0 <= first < last <= steps
    if stride == 1:
        assert (first, last) == (start, stop)


@pytest.mark.parametrize(
    ("span", "options", "message"),
    [
        (Span("RAIN", 3, 9), {}, "span RAIN:3-9 does not fit a clip of 6 frames"),
        (Span("RAIN", 3, 3), {}, "does not fit"),
        (Span("RAIN", -1, 3), {}, "does not fit"),
        (Span("RAIN", 1, 3), {"choice": "best"}, "'centre', 'mean' or 'medoid'"),
        (Span("RAIN", 1, 3), {"stride": 0}, "positive stride"),
    ],
)
def test_spans_that_do_not_fit_are_named(span, options, message):
    with pytest.raises(ValueError, match=message):
        pool_spans(torch.zeros(6, 2), [span], **options)
    with pytest.raises(ValueError, match=r"one clip \[T, D\]"):
        pool_spans(torch.zeros(2, 6, 2), [span])
