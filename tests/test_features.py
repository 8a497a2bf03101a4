"""Feature stores and the readers of .npy, .npz and pickles."""

import ast
import gzip
import json
import multiprocessing
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from signcl.data.array_files import npy_head
from signcl.data.batch import Sample, Span
from signcl.data.features import (
    FeatureStore,
    count_feature_frames,
    finished_store,
    open_features,
    read_features,
    stored_names,
    with_features,
    write_store,
)
from signcl.data.loading import load_raw
from signcl.data.sections import InputRecipe


def clips(number, dim=4, seed=0):
    rng = np.random.default_rng(seed)
    return [(f"clip {i}", rng.normal(size=(rng.integers(1, 9), dim)).astype(np.float32)) for i in range(number)]


@pytest.mark.parametrize("shard_samples", [1, 3, 500])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_is_written_is_read(tmp_path, shard_samples, dtype):
    items = clips(7)
    store = write_store(tmp_path / "s", items, shard_samples=shard_samples, dtype=dtype, meta={"layer": "avgpool"})
    for opened in (store, open_features(tmp_path / "s")):
        assert opened.names == [name for name, _ in items]
        assert opened.lengths == {name: len(array) for name, array in items}
        assert (opened.dim, opened.dtype, opened.meta, len(opened)) == (4, dtype, {"layer": "avgpool"}, 7)
        for name, array in items:
            assert opened[name].dtype == np.float32
            np.testing.assert_array_equal(opened[name], array.astype(dtype).astype(np.float32))
    assert len(list((tmp_path / "s").glob("*.safetensors"))) == -(-7 // shard_samples)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.integers(1, 4), st.integers(1, 3))
def test_any_lengths_and_sharding_come_back(tmp_path_factory, lengths, shard_samples, dim):
    folder = tmp_path_factory.mktemp("store") / "s"
    items = [(str(i), np.full((length, dim), i, dtype=np.float32)) for i, length in enumerate(lengths)]
    store = write_store(folder, items, shard_samples=shard_samples)
    for name, array in items:
        np.testing.assert_array_equal(store[name], array)


def test_torch_tensors_are_taken_even_bfloat16(tmp_path):
    store = write_store(tmp_path / "s", [("a", torch.ones(2, 3, dtype=torch.bfloat16, requires_grad=True))])
    np.testing.assert_array_equal(store["a"], np.ones((2, 3)))


def test_an_interrupted_writing_goes_on_and_computes_nothing_twice(tmp_path):
    items, computed = clips(7), []

    def lazily(stop):
        for i, (name, array) in enumerate(items):
            if i == stop:
                raise KeyboardInterrupt
            yield name, lambda name=name, array=array: (computed.append(name), array)[1]

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "s", lazily(5), shard_samples=2)
    assert stored_names(tmp_path / "s") == {f"clip {i}" for i in range(4)}  # two whole shards
    with pytest.raises(ValueError, match="unfinished: run the command that writes it again"):
        FeatureStore(tmp_path / "s")
    computed.clear()
    store = write_store(tmp_path / "s", lazily(None), shard_samples=2)
    assert computed == ["clip 4", "clip 5", "clip 6"]
    for name, array in items:
        np.testing.assert_array_equal(store[name], array.astype(np.float16))
    assert stored_names(tmp_path / "s") == set(store.names)
    assert not list((tmp_path / "s").glob("*partial*"))
    assert not list((tmp_path / "s").glob(".*"))


def test_going_on_with_other_settings_is_refused(tmp_path):
    def broken():
        yield "a", np.ones((1, 2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_store(tmp_path / "s", broken(), shard_samples=1, meta={"layer": 1})
    with pytest.raises(ValueError, match=r"unfinished store with layer 1, got 2; use the same"):
        write_store(tmp_path / "s", [("b", np.ones((1, 2)))], meta={"layer": 2})
    write_store(tmp_path / "whole", [("b", np.ones((1, 2)))], meta={"encoder": {"source": "x" * 200, "scales": [1, 2]}})
    with pytest.raises(ValueError, match=r"finished store with encoder\.scales \[1, 2\], got \[1\]; use the same"):
        finished_store(tmp_path / "whole", {"encoder": {"source": "x" * 200, "scales": [1]}}, "float16")
    with pytest.raises(ValueError, match="unfinished store with dtype"):
        write_store(tmp_path / "s", [("b", np.ones((1, 2)))], meta={"layer": 1}, dtype="float32")
    with pytest.raises(ValueError, match="D = 3, the others 2"):
        write_store(tmp_path / "s", [("b", np.ones((1, 3)))], meta={"layer": 1})


def test_a_finished_store_is_not_overwritten(tmp_path):
    write_store(tmp_path / "s", clips(2))
    with pytest.raises(ValueError, match="finished feature store"):
        write_store(tmp_path / "s", clips(2))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.array([[1.0, np.nan]]), "'bad' contain NaN or infinity, first in frame 0"),
        (np.array([[1.0, 0.0], [np.inf, 0.0]]), "'bad' contain NaN or infinity, first in frame 1"),
        (np.array([[1.0, 0.0], [0.0, 1e39]]), "'bad' contain numbers beyond 3.4e38, .*first in frame 1"),
        (np.zeros((0, 2)), r"'bad' must be numbers \[T, D\] with at least one frame"),
        (np.zeros(5), r"'bad' must be numbers \[T, D\]"),
        (np.zeros((2, 3, 4)), r"'bad' must be numbers \[T, D\]"),
        (np.array([["a", "b"]]), r"'bad' must be numbers"),
        ([[1.0, 2.0], [3.0]], "'bad' are ragged"),
        (np.zeros((2, 3)), "'bad' have D = 3, the others 2"),
        (np.array([[7e4, 0.0]]), "'bad' reach 70000, but float16 ends at 65504"),
        (np.array([[-7e4, 0.0]]), "'bad' reach 70000"),
    ],
)
def test_bad_features_are_refused_by_name(tmp_path, features, message):
    with pytest.raises(ValueError, match=message):
        write_store(tmp_path / "s", [("good", np.zeros((3, 2))), ("bad", features)])


def test_float32_holds_what_float16_cannot(tmp_path):
    store = write_store(tmp_path / "s", [("a", np.array([[7e4, 1e-6]]))], dtype="float32")
    np.testing.assert_array_equal(store["a"], np.array([[7e4, 1e-6]], dtype=np.float32))


def test_names_twice_and_nothing_at_all_are_refused(tmp_path):
    with pytest.raises(ValueError, match="'a' occurs twice"):
        write_store(tmp_path / "s", [("a", np.ones((1, 2))), ("a", np.ones((1, 2)))])
    with pytest.raises(ValueError, match="nothing to write"):
        write_store(tmp_path / "t", [])
    with pytest.raises(ValueError, match="dtype must be one of float16, float32"):
        write_store(tmp_path / "u", clips(1), dtype="int8")


def total(store_and_name):
    store, name = store_and_name
    return float(store[name].sum())


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.slow
def test_an_open_store_works_in_worker_processes(tmp_path, method):
    store = write_store(tmp_path / "s", clips(4), shard_samples=2)
    here = [total((store, name)) for name in store.names]  # opens the maps in this process first
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(total, [(store, name) for name in store.names]) == here


def test_a_damaged_store_is_named(tmp_path):
    write_store(tmp_path / "s", clips(4), shard_samples=2)
    shard = tmp_path / "s" / "shard-00001.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-3])
    with pytest.raises(ValueError, match=r"shard-00001\.safetensors: not a readable shard"):
        FeatureStore(tmp_path / "s")["clip 3"]
    (tmp_path / "s" / "shard-00000.safetensors").replace(shard)
    with pytest.raises(ValueError, match=r"shard-00000\.safetensors of the store is missing"):
        FeatureStore(tmp_path / "s")
    (tmp_path / "s" / "index.json").write_text("{")
    with pytest.raises(ValueError, match=r"index\.json is damaged"):
        FeatureStore(tmp_path / "s")
    (tmp_path / "s" / "index.json").write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(ValueError, match=r"index.json is damaged \(the file has no 'format'\)"):
        FeatureStore(tmp_path / "s")
    with pytest.raises(ValueError, match=r"has no index\.json"):
        open_features(tmp_path)


def test_a_clip_that_is_not_there_is_named(tmp_path):
    store = write_store(tmp_path / "s", clips(2))
    with pytest.raises(ValueError, match=r"no features of 'clip 9' \(it has 2 clips\)"):
        store["clip 9"]
    with pytest.raises(ValueError, match=r"has 2 clips, give the name of one; it has clip 0, clip 1"):
        read_features(tmp_path / "s")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_features(tmp_path / "none.npy")


def test_read_features_takes_every_form(tmp_path):
    array = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "one.npz", x=array)
    np.savez_compressed(tmp_path / "two.npz", a=array, b=array + 1)
    write_store(tmp_path / "store", [("a", array), ("b", array + 1)])
    record = {"name": "b", "signer": "s", "gloss": "A B", "text": "a b .", "sign": torch.from_numpy(array + 1)}
    with gzip.open(tmp_path / "phoenix14t.pami0.dev", "wb") as file:
        pickle.dump([{**record, "name": "a", "sign": torch.from_numpy(array)}, record], file)
    (tmp_path / "dict.pkl").write_bytes(pickle.dumps({"a": array, "b": array + 1}))

    for path, name in [("a.npy", None), ("a.npy", "row 7"), ("one.npz", "row 7"), ("two.npz", "a"), ("store", "a")]:
        np.testing.assert_array_equal(read_features(tmp_path / path, name), array)
    for path in ("two.npz", "store", "phoenix14t.pami0.dev", "dict.pkl"):
        read = read_features(tmp_path / path, "b")
        assert read.dtype == np.float32
        np.testing.assert_array_equal(read, array + 1)
        assert open_features(tmp_path / path).lengths == {"a": 3, "b": 3}
    np.testing.assert_array_equal(read_features(array), array)


def test_a_store_written_again_is_not_remembered_wrongly(tmp_path):
    write_store(tmp_path / "s", [("a", np.zeros((1, 2)))])
    assert read_features(tmp_path / "s", "a").sum() == 0
    for file in (tmp_path / "s").iterdir():
        file.unlink()
    write_store(tmp_path / "s", [("a", np.ones((1, 2)))])
    assert read_features(tmp_path / "s", "a").sum() == 2


def test_broken_and_unfit_files_are_named(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "nan.npy", np.full((2, 2), np.nan))
    np.save(tmp_path / "whole.npy", np.zeros((50, 4)))
    (tmp_path / "half.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:200])
    (tmp_path / "text.npz").write_text("no")
    (tmp_path / "labels.pkl").write_bytes(pickle.dumps({"a": {"name": "a", "text": "no features"}}))
    (tmp_path / "number.pkl").write_bytes(pickle.dumps(3))
    for name, message in [
        ("objects.npy", r"objects\.npy: not a readable \.npy of numbers"),
        ("nan.npy", r"nan\.npy: features of 'nan' contain NaN"),
        ("half.npy", r"half\.npy: not a readable"),
        ("text.npz", r"text\.npz: not a readable"),
        ("labels.pkl", "'a' has no features"),
        ("number.pkl", "needs a list of records with 'name', or a dict by name, got int"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            read_features(tmp_path / name, "a")
        assert "\n" not in str(caught.value)


def test_frames_are_counted_without_reading(tmp_path, monkeypatch):
    write_store(tmp_path / "store", clips(3))
    np.save(tmp_path / "a.npy", np.zeros((7, 2)))
    np.savez(tmp_path / "b.npz", np.zeros((5, 2)))
    np.save(tmp_path / "flat.npy", np.zeros(7))
    assert count_feature_frames(tmp_path / "b.npz", "row 7") == 5
    monkeypatch.setattr(FeatureStore, "__getitem__", lambda *_: pytest.fail("read"))
    assert count_feature_frames(tmp_path / "a.npy", "row 7") == 7
    assert count_feature_frames(tmp_path / "store", "clip 2") == len(clips(3)[2][1])
    with pytest.raises(ValueError, match=r"'flat' must be numbers \[T, D\]"):
        count_feature_frames(tmp_path / "flat.npy")


def test_features_that_lie_column_by_column_in_memory_are_stored_as_they_read(tmp_path):
    # a transposed tensor, such as the output of a convolution over time, came back scrambled
    rows = torch.arange(12.0).view(3, 4)
    store = write_store(tmp_path / "s", [("a", rows.T), ("b", rows.T.numpy() + 1)], dtype="float32")
    assert np.array_equal(store["a"], rows.T.numpy())
    assert np.array_equal(store["b"], rows.T.numpy() + 1)


def test_the_clock_of_thinned_rows_counts_from_the_first_frame_used(tmp_path):
    # stride 3 from frame 1: frames 1, 4, 7, ..., 91 (31 of them); thinned to 16, frames 1, 7, 13, ...
    meta = {"stride": 3, "first_centre": 1.5, "offset": 1, "thinned": {"long": [31, 16]}}
    store = write_store(tmp_path, [("long", np.ones((16, 2))), ("short", np.ones((4, 2)))], meta=meta)
    assert store.clock("long") == (6.0, 1.5)
    assert store.clock("short") == (3.0, 1.5)


def test_features_of_several_sources_stand_side_by_side(tmp_path):
    random = np.random.default_rng(0)
    a, b = random.normal(size=(5, 2)).astype(np.float32), random.normal(size=(5, 3)).astype(np.float32)
    write_store(tmp_path / "a", [("c", a)], dtype="float32")
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"c": b}))
    (tmp_path / "n").mkdir()
    np.save(tmp_path / "n" / "c.npy", b[:, :1])
    (sample,) = with_features([Sample("c", "x")], tmp_path / "a", tmp_path / "b.pkl", tmp_path / "n")
    np.testing.assert_array_equal(load_raw(sample, InputRecipe()), np.concatenate([a, b, b[:, :1]], axis=1))
    np.testing.assert_array_equal(read_features(sample.features, "c"), load_raw(sample, InputRecipe()))
    assert count_feature_frames(sample.features, "c") == 5
    cut = replace(sample, name="c#0", whole="c", cut=(1, 3))
    np.testing.assert_array_equal(load_raw(cut, InputRecipe())[:, :2], a[1:3])


def test_sources_of_other_lengths_are_refused_with_clip_source_and_lengths(tmp_path):
    write_store(tmp_path / "a", [("c", np.ones((5, 2)))])
    write_store(tmp_path / "b", [("c", np.ones((4, 2)))])
    with pytest.raises(ValueError, match=r"corpus\.features: .* c has 5 rows in \S*a and 4 in \S*b; extract both"):
        with_features([Sample("c", "x")], tmp_path / "a", tmp_path / "b")
    np.save(tmp_path / "c.npy", np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"c has 5 rows in \S*a and 4 in \S*c\.npy"):
        load_raw(Sample("c", "x", features=(tmp_path / "a", tmp_path / "c.npy")), InputRecipe())


def test_a_slower_source_gives_each_row_the_one_nearest_in_time(tmp_path):
    # Ten frames; windows of 4 every 2 have their middles at 2, 4, 6, 8. Frame t has its middle at t + 0.5.
    write_store(tmp_path / "frames", [("c", np.arange(10.0)[:, None])])
    slow = {"stride": 2, "first_centre": 2}
    write_store(tmp_path / "windows", [("c", np.array([[2.0], [4.0], [6.0], [8.0]]))], meta=slow)
    spans = (Span("A", 2, 6),)
    (sample,) = with_features([Sample("c", "x", spans=spans)], tmp_path / "frames", tmp_path / "windows")
    joined = load_raw(sample, InputRecipe())
    assert joined[:, 0].tolist() == list(range(10))
    assert joined[:, 1].tolist() == [2, 2, 2, 4, 4, 6, 6, 8, 8, 8]
    assert sample.spans == spans
    (other,) = with_features([Sample("c", "x", spans=spans)], tmp_path / "windows", tmp_path / "frames")
    assert load_raw(other, InputRecipe())[:, 0].tolist() == [2, 4, 6, 8]
    assert np.abs(load_raw(other, InputRecipe()) @ [1, -1] - 0.5).max() <= 0.5  # frames whose middle is nearest
    assert other.spans == (Span("A", 0, 2),), "spans are on the clock of the first"
    write_store(tmp_path / "short", [("c", np.ones((3, 1)))], meta=slow)
    with pytest.raises(ValueError, match=r"c has about 10 frames by the clock of \S*frames and 8 by that of \S*short"):
        with_features([Sample("c", "x")], tmp_path / "frames", tmp_path / "short")


def test_a_failure_of_pythons_parser_in_another_thread_is_no_broken_file(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.ones((3, 2), np.float32))
    np.savez(tmp_path / "b.npz", one=np.ones((3, 2), np.float32))
    real, calls = ast.literal_eval, []

    def flaky(text):
        calls.append(text)
        if len(calls) % 3:
            raise SystemError("AST constructor recursion depth mismatch (before=45, after=42)")
        return real(text)

    monkeypatch.setattr(ast, "literal_eval", flaky)
    assert read_features(tmp_path / "a.npy").shape == (3, 2)
    assert count_feature_frames(tmp_path / "a.npy") == 3
    assert read_features(tmp_path / "b.npz").shape == (3, 2)
    assert npy_head((tmp_path / "a.npy").open("rb"))[0] == (3, 2)
    monkeypatch.setattr(ast, "literal_eval", lambda text: (_ for _ in ()).throw(SystemError("always")))
    with pytest.raises(ValueError, match="always"):
        read_features(tmp_path / "a.npy")
