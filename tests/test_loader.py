"""Workers read clips straight into the batch: the same batches as one process, whatever happens to a clip or worker."""

import os
import signal
import time

import cv2
import numpy as np
import pytest
import torch
from test_data import dataset, features
from video_files import break_packets

from signcl.data.batch import Sample
from signcl.data.loading import ClipLoader, clip_loader, load_raw, read_selected, select
from signcl.data.video import probe, write_video
from signcl.data.workers import BatchMemory, _Ring
from signcl.training.recipe import InputRecipe, recipe_from_dict


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three videos and three folders of images, of one size; one more that is cut off, and a broken image."""
    root = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(0)
    samples = []
    for i, length in enumerate((7, 12, 9, 5, 11, 6)):
        frames = random.integers(0, 255, (length, 20, 24, 3), np.uint8)
        path = root / (f"c{i}.mp4" if i < 3 else f"c{i}")
        if i < 3:
            write_video(path, frames)
        else:
            path.mkdir()
            for t, frame in enumerate(frames):
                cv2.imwrite(str(path / f"{t:03}.png"), frame)
        samples.append(Sample(f"c{i}", f"satz {i} mit worten", clip=path, num_frames=length))
    (root / "cut.mp4").write_bytes((root / "c1.mp4").read_bytes()[:900])
    (root / "broken").mkdir()
    for t in range(8):
        cv2.imwrite(str(root / "broken" / f"{t}.png"), np.zeros((20, 24, 3), np.uint8))
    (root / "broken" / "5.png").write_bytes(b"no image")
    return [*samples, Sample("cut", "x", clip=root / "cut.mp4"), Sample("broken", "x", clip=root / "broken")]


INPUTS = [
    {"size": 16, "crop": 12},
    {"size": 16},
    {"crop": 14, "max_frames": 6},
    {"size": 30, "crop": 16, "stride": 2, "stride_from": "random", "augment": {"mask_frames": 0.3}},
    {"size": 16, "augment": {"temporal_rescale": 0.4}},
    {"size": 16, "max_frames": 5, "thinning": "window"},
]


@pytest.mark.parametrize("settings", INPUTS, ids=str)
def test_frames_read_into_their_place_are_those_of_reading_all_and_selecting(clips, settings):
    recipe = recipe_from_dict({"input": settings}).input
    for number, sample in enumerate(clips[:6]):
        for seed in (None, number):
            draw = lambda seed=seed: None if seed is None else np.random.default_rng(seed)  # noqa: E731
            expected = select(load_raw(sample, recipe), recipe, draw())
            out = np.full_like(expected, 255)
            assert read_selected(sample, recipe, draw, out) is out
            assert np.array_equal(out, expected)
            assert np.array_equal(read_selected(sample, recipe, draw), expected)


def test_a_cut_of_a_clip_is_read_alone(clips):
    part = Sample("part", "x", clip=clips[1].clip, cut=(3, 8))
    assert np.array_equal(read_selected(part, InputRecipe()), load_raw(clips[1], InputRecipe())[3:8])


@pytest.mark.filterwarnings("ignore::signcl.data.video.DamagedClip")
def test_a_frame_that_is_lost_changes_no_draw(clips, tmp_path):
    # 3 broken frames are let pass; what is drawn must not depend on the number that the index promises.
    path = write_video(tmp_path / "c.mp4", np.random.default_rng(1).integers(0, 255, (20, 16, 16, 3), np.uint8))
    break_packets(path, [7])
    assert probe(path).num_frames == 20
    recipe = recipe_from_dict({"input": {"crop": 8, "max_frames": 9, "augment": {"mask_frames": 0.2}}}).input
    sample = Sample("short", "x", clip=path)
    raw = load_raw(sample, recipe)
    assert len(raw) == 19
    for seed in range(4):
        expected = select(raw, recipe, np.random.default_rng(seed))
        found = read_selected(sample, recipe, lambda seed=seed: np.random.default_rng(seed))
        assert np.array_equal(found, expected)


def same(a, b):
    assert (a.batch is None) == (b.batch is None)
    assert (a.broken, a.cut, a.error) == (b.broken, b.cut, b.error)
    if a.batch is not None:
        for name in ("inputs", "lengths", "positions", "tokens", "masked_tokens"):
            assert torch.equal(getattr(a.batch, name), getattr(b.batch, name)), name
        assert a.batch.names == b.batch.names


def of_clips(samples, **options):
    options = {"input": {"size": 16, "crop": 12, "max_frames": 8}, **options}
    return dataset(samples, training=True, stage="pretrain", **options)


PLAN = [[0, 4], [1, 6, 2], [7], [3, 5, 0], [2, 1]]


@pytest.mark.parametrize("threads", [False, True])
def test_workers_give_the_batches_of_one_process_over_epochs_and_datasets(clips, threads):
    data, dev = of_clips(clips), of_clips(clips[:4])
    with ClipLoader([data, dev], workers=2) as loader:
        loader.threads = threads
        for epoch in (0, 3):
            data.epoch = epoch
            for found, expected in zip(loader.batches(data, PLAN), [data[batch] for batch in PLAN], strict=True):
                same(found, expected)
            for found, expected in zip(loader.batches(dev, [[2, 1]]), [dev[[2, 1]]], strict=True):
                same(found, expected)
        crew = loader._crew
        assert (crew is None) == threads
        if crew is not None:
            assert all(process.is_alive() for process in crew.processes), "they stay from one pass to the next"
    assert crew is None or not any(process.is_alive() for process in crew.processes)


def test_an_abandoned_pass_leaves_the_next_one_right(clips):
    data = of_clips(clips)
    with ClipLoader([data], workers=2) as loader:
        for _ in range(3):
            first = next(iter(loader.batches(data, PLAN)))
            same(first, data[PLAN[0]])
        for found, batch in zip(loader.batches(data, PLAN), PLAN, strict=True):
            same(found, data[batch])
        del first, found
        assert not loader._crew.ring.used, "every piece of the ring came back"


def test_batches_that_are_all_kept_and_a_ring_that_is_full_change_nothing(clips, monkeypatch):
    monkeypatch.setattr("signcl.data.workers.SHARE_OF_RAM", 0.0)  # one page: no batch fits
    data = of_clips(clips)
    kept = list(clip_loader(data, PLAN * 3, workers=2))
    for found, batch in zip(kept, PLAN * 3, strict=True):
        same(found, data[batch])


def test_kept_batches_are_not_overwritten(clips):
    data = of_clips(clips)
    kept = list(clip_loader(data, PLAN * 4, workers=2))
    for found, batch in zip(kept, PLAN * 4, strict=True):
        same(found, data[batch])


def test_the_ring_gives_out_what_is_free():
    ring = _Ring(4 * 4096)
    a, b, c = ring.take(4096), ring.take(5000), ring.take(100)
    assert (a, b, c) == (0, 4096, 3 * 4096)
    assert ring.take(1) is None
    ring.give_back(b)
    assert ring.take(3 * 4096) is None
    assert ring.take(2 * 4096) == 4096
    memory = BatchMemory((2, 3), (4,), np.dtype(np.float32))
    assert [part.shape for part in memory.parts(memory.of())] == [(2, 4), (3, 4)]
    assert memory.nbytes == 80


def test_a_killed_worker_is_an_error_that_says_so_and_no_hang(clips):
    data = of_clips(clips)
    with ClipLoader([data], workers=2) as loader:
        passed = loader.batches(data, PLAN * 20)
        next(passed)
        os.kill(loader._crew.processes[1].pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match=r"a loader worker ended by signal SIGKILL.*train\.workers"):
            list(passed)
        for found, batch in zip(loader.batches(data, PLAN), PLAN, strict=True):
            same(found, data[batch])


def test_an_error_of_the_code_comes_with_its_traceback():
    class Broken:
        pad_id = 0

        def encode(self, text):
            raise TypeError("a bug")

    data = dataset(features(4, 5))
    data.tokenizer = Broken()
    with pytest.raises(RuntimeError, match=r"(?s)loader worker failed.*TypeError: a bug"):
        list(clip_loader(data, [[0, 1]], workers=1))


def test_workers_end_with_a_main_process_that_is_killed(clips, tmp_path):
    told = tmp_path / "pids"
    main = os.fork()
    if main == 0:
        loader = ClipLoader([data := of_clips(clips)], workers=2)
        next(loader.batches(data, PLAN))
        told.write_text(" ".join(str(process.pid) for process in loader._crew.processes))
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(main, 0)[1]) == signal.SIGKILL
    pids = [int(word) for word in told.read_text().split()]
    assert len(pids) == 2
    for _ in range(50):
        left = [pid for pid in pids if os.path.exists(f"/proc/{pid}") and state(pid) not in "ZX"]
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError(f"{left} go on without their main process")


def state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"


def test_features_of_unknown_size_go_through_workers_too(tmp_path):
    samples = []
    for i, length in enumerate((5, 3, 8)):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).normal(size=(length, 6)).astype(np.float32))
        samples.append(Sample(f"f{i}", "ein satz", features=tmp_path / f"{i}.npy"))
    data = dataset(samples)
    for found, batch in zip(clip_loader(data, [[0, 2], [1]], workers=2), [[0, 2], [1]], strict=True):
        expected = dataset(samples)[batch]
        assert torch.equal(found.batch.inputs, expected.batch.inputs)
