"""Loading and batching: what a model sees is a pure function of (seed, epoch, clip)."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from signcl.data.batch import Sample, unpack
from signcl.data.loading import ClipDataset, clip_loader, collate, count_frames, pad, select, thin
from signcl.data.planning import plan_batches
from signcl.data.text import VocabularyTokenizer
from signcl.training.recipe import InputRecipe, Recipe, recipe_from_dict


def features(*lengths, dim=3):
    random = np.random.default_rng(0)
    return [
        Sample(f"clip{i}", f"satz nummer {i}", features=random.normal(size=(n, dim)).astype(np.float32))
        for i, n in enumerate(lengths)
    ]


def dataset(samples, *, training=False, stage="finetune", **recipe):
    tokenizer = VocabularyTokenizer.train([s.text for s in samples])
    model = {"name": "vlp" if stage == "pretrain" else "gfslt"}
    return ClipDataset(
        samples,
        tokenizer,
        recipe_from_dict({"stage": stage, "model": model, **recipe}).reading,
        training=training,
    )


def test_packed_frames_unpack_to_padded_clips():
    samples = features(2, 4, 1)
    batch = collate(samples, [s.features for s in samples])
    assert batch.inputs.shape == (7, 3)
    padded = unpack(batch.inputs, batch.positions, len(batch), batch.max_length)
    assert padded.shape == (3, 4, 3)
    for row, sample in zip(padded, samples):
        n = len(sample.features)
        assert torch.equal(row[:n], torch.from_numpy(sample.features))
        assert not row[n:].any()


def test_thinning_is_even_in_evaluation_and_sorted_random_in_training():
    recipe = InputRecipe(max_frames=5)
    assert thin(9, recipe, None).tolist() == [0, 2, 4, 6, 8]
    a, b = (thin(100, recipe, np.random.default_rng(seed)) for seed in (0, 1))
    assert len(a) == 5
    assert sorted(set(a)) == list(a)
    assert a.tolist() != b.tolist()
    assert thin(7, InputRecipe(stride=3, max_frames=None), None).tolist() == [0, 3, 6]
    assert thin(1, recipe, None).tolist() == [0]


def test_the_crop_is_one_window_for_all_frames():
    frames = np.arange(8 * 8, dtype=np.uint8).reshape(1, 8, 8, 1).repeat(3, axis=3).repeat(4, axis=0)
    out = select(frames, InputRecipe(crop=4), np.random.default_rng(3))
    assert out.shape == (4, 4, 4, 3)
    assert all(np.array_equal(frame, out[0]) for frame in out)
    assert np.array_equal(select(frames, InputRecipe(crop=4)), frames[:, 2:6, 2:6])
    with pytest.raises(ValueError, match=r"input\.crop=9 does not fit into frames of 8x8"):
        select(frames, InputRecipe(crop=9))


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=40),
    st.integers(1, 6),
    st.one_of(st.none(), st.integers(20, 120)),
    st.booleans(),
    st.integers(0, 5),
)
def test_every_clip_is_in_exactly_one_batch_of_legal_size(lengths, batch_size, batch_frames, bucket, epoch):
    plan = plan_batches(lengths, batch_size=batch_size, batch_frames=batch_frames, bucket=bucket, epoch=epoch)
    assert sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    for batch in plan:
        assert len(batch) <= batch_size
        if batch_frames is not None and len(batch) > 1:
            assert sum(lengths[i] for i in batch) <= batch_frames


def test_ranks_share_the_clips_and_take_equal_numbers_of_steps():
    lengths = list(range(1, 24))
    plans = [plan_batches(lengths, batch_size=4, rank=r, ranks=4, epoch=1) for r in range(4)]
    assert len({len(plan) for plan in plans}) == 1
    assert {i for plan in plans for batch in plan for i in batch} == set(range(23))
    scored = [plan_batches(lengths, batch_size=4, rank=r, ranks=4, shuffle=False) for r in range(4)]
    assert sorted(i for plan in scored for batch in plan for i in batch) == list(range(23)), "no clip is scored twice"


def test_a_lone_clip_joins_its_neighbours_where_a_contrast_needs_company():
    for epoch in range(5):
        plan = plan_batches([5] * 9, batch_size=4, drop_single=True, epoch=epoch)
        assert min(len(batch) for batch in plan) >= 2
        assert sorted(i for batch in plan for i in batch) == list(range(9))


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_batches_that_all_hold_one_clip_do_not_become_one_large_batch(count):
    lengths = [100 + i for i in range(count)]
    for limits in ({"batch_size": 1}, {"batch_size": 8, "batch_frames": 150}):
        plan = plan_batches(lengths, drop_single=True, **limits)
        assert sorted(i for batch in plan for i in batch) == list(range(count))
        assert max(map(len, plan)) <= 3


def test_one_clip_of_another_size_does_not_make_the_others_wrong():
    odd, even = features(4, dim=7)[0], features(4, 5, dim=3)[1]
    samples = [odd, even]
    data = ClipDataset(samples, None, recipe_from_dict({}).reading, training=False, dim=3)
    loaded = data[[0, 1]]
    assert loaded.batch.names == ["clip1"]
    assert loaded.broken == [("clip0", "features of size 7, the other clips have 3")]


def test_epochs_differ_and_repeat():
    plans = [plan_batches(list(range(1, 30)), batch_size=4, epoch=e, seed=7) for e in (0, 1, 0)]
    assert plans[0] == plans[2] != plans[1]


def test_workers_and_cache_change_nothing():
    samples = features(30, 41, 12, 55)
    plan = [[0, 1], [2, 3]]
    recipe = {"input": {"max_frames": 10}, "stage": "pretrain"}
    found = []
    for workers, cache in ((0, 0.0), (0, 1.0), (2, 0.0)):
        data = dataset(samples, training=True, **recipe)
        data._room = cache * 1e9
        data.epoch = 3
        found.append([loaded.batch for loaded in clip_loader(data, plan, workers=workers)])
    for other in found[1:]:
        for a, b in zip(found[0], other):
            assert torch.equal(a.inputs, b.inputs)
            assert torch.equal(a.masked_tokens, b.masked_tokens)


def test_a_broken_clip_is_named_and_the_others_are_used(tmp_path):
    good = features(4, 5)
    bad = Sample("bad", "satz", features=np.full((3, 3), np.nan, dtype=np.float32))
    other = Sample("other", "satz", features=np.ones((3, 7), dtype=np.float32))
    gone = Sample("gone", "satz", clip=tmp_path / "gone.mp4")
    loaded = dataset([*good, bad, other, gone])[[0, 1, 2, 3, 4]]
    assert loaded.batch.names == ["clip0", "clip1"]
    reasons = dict(loaded.broken)
    assert "NaN or infinite" in reasons["bad"]
    assert "features of size 7, the other clips have 3" in reasons["other"]
    assert "gone" in reasons
    assert dataset([bad])[[0]].batch is None


def test_masked_sentences_are_shuffled_in_training_alone_by_seed_epoch_and_clip():
    samples = [Sample(f"c{i}", "ein satz mit vielen worten darin", features=np.ones((4, 2))) for i in range(8)]
    weights = {"weights": {"clip": 1.0, "masked_text": 1.0}, "mask_kind": "omit_last"}
    every = list(range(8))

    def ids(training, epoch=0, **loss):
        data = dataset(samples, training=training, stage="pretrain", loss={**weights, **loss})
        data.epoch = epoch
        return data[every].batch.masked_tokens

    assert torch.equal(ids(False, mask_shuffle=1.0), ids(False))
    mixed, plain = ids(True, mask_shuffle=1.0), ids(True)
    assert not torch.equal(mixed, plain)
    assert torch.equal(mixed.sort(dim=1).values, plain.sort(dim=1).values)
    assert torch.equal(mixed, ids(True, mask_shuffle=1.0))
    assert not torch.equal(mixed, ids(True, epoch=1, mask_shuffle=1.0))
    with pytest.raises(ValueError, match=r"loss\.mask_shuffle=0\.5: needs a term .* loss\.weights has translation"):
        recipe_from_dict({"loss": {"mask_shuffle": 0.5}})


def test_masked_text_is_only_made_where_it_is_trained():
    samples = features(4, 5)
    assert dataset(samples)[[0, 1]].batch.masked_tokens is None
    batch = dataset(samples, stage="pretrain")[[0, 1]].batch
    assert (batch.masked_tokens == 4).any()
    weights = {"loss": {"weights": {"clip": 1.0}}}
    assert dataset(samples, stage="pretrain", **weights)[[0]].batch.masked_tokens is None


def test_equal_sentences_have_equal_numbers():
    samples = [
        Sample(n, t, features=np.ones((2, 2), np.float32)) for n, t in (("a", "ja  gut"), ("b", "ja gut"), ("c", "x"))
    ]
    ids = collate(samples, [s.features for s in samples]).sentence_ids.tolist()
    assert ids[0] == ids[1] != ids[2]


def test_long_sentences_are_cut_before_their_end_mark_and_counted():
    samples = [Sample("long", "a b c d e f", features=np.ones((2, 2), np.float32))]
    data = dataset(samples, text={"max_tokens": 4})
    loaded = data[[0]]
    batch = loaded.batch
    assert batch.tokens.shape == (1, 4)
    assert batch.tokens[0, -1] == data.tokenizer.end_id
    assert loaded.cut == ["long"]


def test_lengths_are_known_without_decoding_where_the_corpus_says_them(tmp_path):
    samples = [Sample("a", "x", clip=tmp_path / "absent.mp4", num_frames=900), *features(7)]
    assert count_frames(samples, InputRecipe(max_frames=300)) == [300, 7]
    assert count_frames([Sample("b", "x", clip=tmp_path / "absent.mp4")], Recipe().input) == [1]


def test_padding_of_ids():
    padded, lengths = pad([[5, 6, 2], [7, 2]], 0)
    assert padded.tolist() == [[5, 6, 2], [7, 2, 0]]
    assert lengths.tolist() == [3, 2]


def test_strides_begin_at_the_middle_or_at_random_as_asked():
    # stride 5 from the middle of the first five frames, (5 - 1) // 2 = 2
    assert thin(13, InputRecipe(stride=5), None).tolist() == [0, 5, 10]
    assert thin(13, InputRecipe(stride=5, stride_from="middle"), None).tolist() == [2, 7, 12]
    assert thin(13, InputRecipe(stride=5, stride_from="middle"), np.random.default_rng(0)).tolist() == [2, 7, 12]
    drawn = InputRecipe(stride=5, stride_from="random")
    assert thin(13, drawn, None).tolist() == [2, 7, 12]
    found = {tuple(thin(13, drawn, np.random.default_rng(seed)).tolist()) for seed in range(60)}
    assert found == {tuple(range(first, 13, 5)) for first in range(5)}
    assert thin(2, drawn, None).tolist() == [1], "a clip that ends before its first frame keeps its last one"
    assert count_frames(features(13, 2), drawn) == [3, 1]
    with pytest.raises(ValueError, match=r"input\.stride_from=random: needs input\.stride of at least 2, got 1"):
        recipe_from_dict({"input": {"stride_from": "random"}})


@pytest.mark.parametrize("pixels", [False, True])
def test_masked_frames_are_zero_in_training_and_drawn_by_seed_epoch_and_clip(pixels):
    shape = (11, 4, 4, 3) if pixels else (11, 3)
    ones = np.ones(shape, np.uint8 if pixels else np.float32)
    recipe = InputRecipe(max_frames=None, stride=2, augment=recipe_from_dict(
        {"input": {"augment": {"mask_frames": 0.4}}}).input.augment)  # fmt: skip
    masked = select(ones, recipe, np.random.default_rng(0)).reshape(6, -1)
    assert (masked == 0).all(axis=1).sum() == 2  # floor(0.4 * 6), the others as they are
    assert (masked == 1).all(axis=1).sum() == 4
    assert select(ones, recipe).all(), "dev and test see every frame"
    assert ones.all(), "the cached clip is not touched"


def test_masks_change_with_the_epoch_and_not_with_the_batch():
    samples = [Sample(f"c{i}", "a", features=np.ones((20, 2), np.float32)) for i in range(3)]
    options = {"stride": 2, "stride_from": "random", "augment": {"mask_frames": 0.5}}
    data = dataset(samples, training=True, input=options)
    first = data[[0, 1, 2]].batch
    assert torch.equal(first.inputs[20:], data[[2]].batch.inputs)
    assert torch.equal(first.inputs, dataset(samples, training=True, input=options)[[0, 1, 2]].batch.inputs)
    data.epoch = 1
    assert not torch.equal(first.inputs, data[[0, 1, 2]].batch.inputs)
