"""Sentences that are segments of long files: the frames are those of the whole file, and nothing else is read."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from signcl.data.batch import Sample, Segment
from signcl.data.corpora import load_samples
from signcl.data.corpus_check import check_corpus, corpus_stats
from signcl.data.features import write_store
from signcl.data.loading import count_frames, frames_used, load_raw, read_selected
from signcl.data.packing import PackSettings, pack_corpus
from signcl.data.sections import InputRecipe
from signcl.data.segments import count_sample, read_clip
from signcl.data.video import read_frames

TIMED = "name\tpath\ttext\tstart\tstop\n"


def video(path: Path, frames: int = 60, fps: str = "25", *, gop: int = 12, stamps: list[int] | None = None) -> Path:
    """A video whose frame n is the grey 4 n, with B-frames where the codec has them; `stamps` in milliseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = {".mp4": "libx264", ".mkv": "libx264", ".mov": "libx264", ".webm": "libvpx", ".avi": "mpeg4"}[path.suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 32, 32, "yuv420p", gop
        if stamps is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames):
            picture = np.full((32, 32, 3), 4 * (number % 60), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = stream.codec_context.time_base if stamps is not None else 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def table(folder: Path, *rows: str, header: str = TIMED, split: str = "train") -> Path:
    (folder / f"{split}.tsv").write_text(header + "".join(row + "\n" for row in rows), encoding="utf-8")
    return folder


def clip(path: Path, start: float, stop: float, unit: str = "seconds") -> Sample:
    return Sample("a", "text", clip=path, segment=Segment(start, stop, unit, row="train.tsv:2"))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm", ".avi"])
@pytest.mark.parametrize("fps", ["25", "30000/1001"])
def test_a_segment_has_the_frames_that_the_whole_video_has_there(tmp_path, suffix, fps):
    path = video(tmp_path / f"long{suffix}", fps=fps)
    whole, rate = read_frames(path), float(Fraction(fps))
    for start, stop in ((0, 5), (1, 2), (11, 13), (12, 24), (13, 30), (47, 60), (0, 60), (59, 60)):
        by_number = read_clip(clip(path, start, stop, "frames"))
        np.testing.assert_array_equal(by_number, whole[start:stop], err_msg=f"{start}-{stop} frames")
        # Times rounded to milliseconds, as tables have them.
        by_time = clip(path, round(start / rate, 3), round(stop / rate, 3))
        np.testing.assert_array_equal(read_clip(by_time), whole[start:stop], err_msg=f"{start}-{stop} as seconds")
        assert count_sample(by_time) == stop - start


def test_of_frames_that_are_not_evenly_spaced_those_shown_in_the_segment_are_taken(tmp_path):
    # Frame 10 is shown from 0.4 s to 1.4 s, the later ones follow every 40 ms.
    stamps = [40 * n if n <= 10 else 1000 + 40 * n for n in range(40)]
    path = video(tmp_path / "pause.mp4", 40, stamps=stamps)
    whole = read_frames(path)
    np.testing.assert_array_equal(read_clip(clip(path, 1.44, 1.6)), whole[11:15])
    np.testing.assert_array_equal(read_clip(clip(path, 0.36, 1.44)), whole[9:11])
    np.testing.assert_array_equal(read_clip(clip(path, 11, 15, "frames")), whole[11:15])
    # The loader draws for the count of the header, and draws again for the true one.
    loaded = read_selected(clip(path, 0.36, 1.44), InputRecipe(stride=1))
    np.testing.assert_array_equal(loaded, whole[9:11])


def test_a_segment_is_brought_to_the_rate_of_the_recipe(tmp_path):
    path = video(tmp_path / "long.mp4", fps="50")
    whole, sample = read_frames(path), clip(path, 0.4, 0.8)
    np.testing.assert_array_equal(load_raw(sample, InputRecipe(fps=25)), whole[20:40:2])
    np.testing.assert_array_equal(read_selected(sample, InputRecipe(fps=25)), whole[20:40:2])
    assert count_frames([sample], InputRecipe(fps=25)) == [10]
    ((rows, total),) = frames_used([sample], InputRecipe(fps=25))
    assert (rows.tolist(), total) == (list(range(0, 20, 2)), 20)


def test_only_the_segment_is_decoded(tmp_path):
    # The packets of frames 1 to 20 are overwritten; whatever decodes them fails or shows rubbish.
    path = video(tmp_path / "long.mp4")
    good = read_frames(path)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size, p.pts * p.time_base) for p in container.demux(video=0) if p.size]
    for place, size, time in packets:
        if 0 < time < Fraction(20, 25):
            content[place : place + size] = bytes(size)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="long"):
        read_frames(path)
    np.testing.assert_array_equal(read_clip(clip(path, 48, 60, "frames")), good[48:])
    np.testing.assert_array_equal(read_clip(clip(path, 1.92, 2.4)), good[48:])
    with pytest.raises(ValueError, match=r"long\.mp4.*|train\.tsv:2"):
        read_clip(clip(path, 2, 18, "frames"))


@pytest.mark.parametrize(
    ("start", "stop", "unit", "message"),
    [
        (1.0, 9.5, "seconds", r"^train\.tsv:2: the segment 1-9\.5 seconds ends after .*long\.mp4, which lasts 2\.400"),
        (50, 61, "frames", r"^train\.tsv:2: the segment 50-61 frames ends after .*long\.mp4, which has 60 frames"),
        (5.0, 9.5, "seconds", r"^train\.tsv:2: the segment 5-9\.5 seconds ends after .*long\.mp4"),
        (0.501, 0.502, "seconds", r"^train\.tsv:2: the segment 0\.501-0\.502 seconds holds no frame of .*long\.mp4"),
    ],
)
def test_a_segment_that_the_video_does_not_hold_is_named_by_its_line(tmp_path, start, stop, unit, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_clip(clip(video(tmp_path / "long.mp4"), start, stop, unit))
    assert "\n" not in str(caught.value)


def test_rows_of_a_table_are_segments_of_one_video(tmp_path):
    video(tmp_path / "long.mp4")
    table(
        tmp_path,
        "a\tlong.mp4\tone\t0\t0.4\t\t\t0:0-5",
        "b\tlong.mp4\ttwo\t\t\t10\t25\t",
        "c\tlong.mp4\tthree\t\t\t\t\t",
        header="name\tpath\ttext\tstart\tstop\tstart_frame\tstop_frame\tspans\n",
    )
    whole = read_frames(tmp_path / "long.mp4")
    a, b, c = load_samples("folder", tmp_path, "train")
    assert (a.segment.start, a.segment.stop, a.segment.unit) == (0, 0.4, "seconds")
    assert (b.segment.start, b.segment.stop, b.segment.unit) == (10, 25, "frames")
    assert c.segment is None
    recipe = InputRecipe()
    for sample, wanted in ((a, whole[:10]), (b, whole[10:25]), (c, whole)):
        np.testing.assert_array_equal(load_raw(sample, recipe), wanted)
        np.testing.assert_array_equal(read_selected(sample, recipe), wanted)
    assert count_frames([a, b, c], recipe) == [10, 15, 60]
    stats = corpus_stats(tmp_path).splits["train"]
    assert (stats.frames_min, stats.frames_max, stats.frames_total) == (10, 60, 85)


def test_the_loader_thins_a_segment_and_not_its_video(tmp_path):
    path = video(tmp_path / "long.mp4")
    whole = read_frames(path)
    np.testing.assert_array_equal(read_selected(clip(path, 10, 30, "frames"), InputRecipe(stride=4)), whole[10:30:4])


def test_spans_count_from_the_segment_and_become_isolated_signs(tmp_path):
    from signcl.data.annotation.isolated import isolated

    video(tmp_path / "long.mp4")
    header = "name\tpath\ttext\tstart\tstop\tspans\n"
    table(tmp_path, "a\tlong.mp4\tone\t0.4\t0.8\tONE:2-5 TWO:6-10", header=header)
    whole = read_frames(tmp_path / "long.mp4")
    first, second = isolated(load_samples("folder", tmp_path, "train"), "test")
    np.testing.assert_array_equal(load_raw(first, InputRecipe()), whole[12:15])
    np.testing.assert_array_equal(read_selected(second, InputRecipe()), whole[16:20])


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("5\t2", r"train\.tsv:2: a has start 5 and stop 2; start must be before stop"),
        ("2\t2", r"train\.tsv:2: a has start 2 and stop 2; start must be before stop"),
        ("-1\t2", r"train\.tsv:2: a has start '-1', needs seconds"),
        ("nan\t2", r"train\.tsv:2: a has start 'nan', needs seconds"),
        ("0\tinf", r"train\.tsv:2: a has stop 'inf', needs seconds"),
        ("0\t1e3", r"train\.tsv:2: a has stop '1e3', needs seconds"),
        ("1:30\t2", r"train\.tsv:2: a has start '1:30', .*; write 90 if it is minutes:...:seconds"),
        ("0\t00:01:02.5", r"train\.tsv:2: a has stop '00:01:02\.5', .*; write 62\.5 if it is hours:...:seconds"),
        ("0\t1,5", r"train\.tsv:2: a has stop '1,5', .*; write 1\.5"),
        ("\t2", r"train\.tsv:2: a has stop but no start; a segment needs both"),
        ("2\t", r"train\.tsv:2: a has start but no stop; a segment needs both"),
        ("0\t99999999999", r"train\.tsv:2: a has stop 99999999999, more than any file has"),
        ("0\t²", r"train\.tsv:2: a has stop '²', needs seconds"),
    ],
)
def test_a_bad_time_is_named_by_file_and_line(tmp_path, cells, message):
    table(tmp_path, f"a\tlong.mp4\tone\t{cells}")
    with pytest.raises(ValueError, match=message) as caught:
        load_samples("folder", tmp_path, "train")
    assert "\n" not in str(caught.value)


def test_bad_frames_and_mixed_units_are_named_by_file_and_line(tmp_path):
    header = "name\tpath\ttext\tstart\tstop\tstart_frame\tstop_frame\tfps\n"
    for cells, message in (
        ("\t\t1.5\t9\t", r"start_frame '1\.5', needs a whole number"),
        ("\t\t-3\t9\t", r"start_frame '-3', needs a whole number"),
        ("\t\t9\t3\t", "start_frame must be before stop_frame"),
        ("0\t1\t2\t3\t", "in seconds and in frames"),
        ("0\t1\t\t\t0", "fps '0', needs a number above 0"),
        ("0\t1\t\t\tfast", "fps 'fast', needs a number of frames per second"),
    ):
        table(tmp_path, f"a\tlong.mp4\tone\t{cells}", header=header)
        with pytest.raises(ValueError, match=rf"train\.tsv:2: a has .*{message}"):
            load_samples("folder", tmp_path, "train")
    table(tmp_path, "a\tlong.mp4\tone\t1", header="name\tpath\ttext\tstart\n")
    with pytest.raises(ValueError, match=r"train\.tsv:1: has the column start without stop"):
        load_samples("folder", tmp_path, "train")


def test_segments_of_features_and_image_folders(tmp_path):
    rows = np.arange(100, dtype=np.float32)[:, None] * [1, 10]
    np.save(tmp_path / "long.npy", rows)
    np.savez(tmp_path / "many.npz", a=rows, b=-rows)
    write_store(tmp_path / "store", [("a", rows), ("b", -rows)], dtype="float32")
    write_store(tmp_path / "slow", [("a", rows)], dtype="float32", meta={"stride": 2, "first_centre": 4})
    (tmp_path / "pictures").mkdir()
    for number in range(20):
        cv2.imwrite(str(tmp_path / f"pictures/{number}.png"), np.full((8, 8, 3), 10 * number, np.uint8))
    table(
        tmp_path,
        "n\tlong.npy\tone\t\t\t10\t14\t\t",
        "z\tmany.npz\tone\t\t\t10\t14\t\tb",
        "s\tstore\tone\t0.5\t0.9\t\t\t10\tb",
        "w\tslow\tone\t\t\t10\t20\t\ta",
        "p\tpictures\tone\t0.2\t0.5\t\t\t10\t",
        "t\tlong.npy\tone\t0.5\t0.9\t\t\t\t",
        "e\tlong.npy\tone\t\t\t90\t101\t\t",
        header="name\tpath\ttext\tstart\tstop\tstart_frame\tstop_frame\tfps\tkey\n",
    )
    samples = {sample.name: sample for sample in load_samples("folder", tmp_path, "train")}
    found = {name: load_raw(samples[name], InputRecipe()) for name in "nzswp"}
    np.testing.assert_array_equal(found["n"], rows[10:14])
    np.testing.assert_array_equal(found["z"], -rows[10:14])
    np.testing.assert_array_equal(found["s"], -rows[5:9])
    # Row r of the slow store is centred on frame 4 + 2 r: rows 3 to 7 lie in frames 10-20.
    np.testing.assert_array_equal(found["w"], rows[3:8])
    assert found["p"][:, 0, 0, 0].tolist() == [20, 30, 40]
    assert count_frames([samples[name] for name in "nzswp"], InputRecipe()) == [4, 4, 4, 5, 3]
    with pytest.raises(ValueError, match=r"train\.tsv:7: .*long\.npy does not say its frames a second; add a column"):
        load_raw(samples["t"], InputRecipe())
    with pytest.raises(ValueError, match=r"train\.tsv:8: the segment 90-101 frames ends after .*which has 100 frames"):
        load_raw(samples["e"], InputRecipe())


def test_a_segment_of_a_pose_file_is_the_file_that_holds_the_part_alone(tmp_path, real_data):
    pose_format = pytest.importorskip("pose_format")
    source = real_data / "dgs-sentences32/train_1_original.pose"
    pose = pose_format.Pose.read(source.read_bytes())
    part = pose_format.Pose(
        pose.header, type(pose.body)(pose.body.fps, pose.body.data[5:25], pose.body.confidence[5:25])
    )
    with (tmp_path / "part.pose").open("wb") as file:
        part.write(file)
    wanted = load_raw(Sample("a", "x", features=tmp_path / "part.pose"), InputRecipe())
    fps = pose.body.fps
    for segment in (Segment(5, 25, "frames"), Segment(round(5 / fps, 3), round(25 / fps, 3))):
        found = load_raw(Sample("a", "x", features=source, segment=segment), InputRecipe())
        np.testing.assert_array_equal(found, wanted)


def test_check_tells_segments_that_leak_and_those_beyond_the_end(tmp_path):
    video(tmp_path / "long.mp4")
    table(tmp_path, "a\tlong.mp4\tone\t0\t0.8", "b\tlong.mp4\ttwo\t0.8\t1.2")
    table(tmp_path, "c\tlong.mp4\tthree\t1.2\t1.6", "d\tlong.mp4\tfour\t1.6\t9", split="dev")
    table(tmp_path, "e\tlong.mp4\tfive\t0.4\t0.9", "f\tlong.mp4\tsix\t1.2\t1.6", split="test")
    for fast in (False, True):
        problems = [str(p) for p in check_corpus(tmp_path, fast=fast) if p.level == "error"]
        leaks = [p for p in problems if "data leak" in p]
        assert len(leaks) == 3, problems
        assert any("0.4-0.9 of test (e) overlaps 0-0.8 of train (a)" in p for p in leaks)
        assert any("0.8-1.2 of train (b) overlaps 0.4-0.9 of test (e)" in p for p in leaks)
        assert any("is in dev (c) and in test (f)" in p for p in leaks)
    assert any("dev.tsv:3: the segment 1.6-9 seconds ends after" in str(p) for p in check_corpus(tmp_path))


def test_check_tells_a_whole_file_in_one_split_and_a_segment_of_it_in_another(tmp_path):
    video(tmp_path / "long.mp4")
    table(tmp_path, "a\tlong.mp4\tone\t\t")
    table(tmp_path, "b\tlong.mp4\ttwo\t0.8\t1.2", split="dev")
    problems = [str(p) for p in check_corpus(tmp_path, fast=True) if p.level == "error"]
    assert len(problems) == 1
    assert "0.8-1.2 of dev (b) overlaps 0-inf of train (a)" in problems[0]


def test_a_video_whose_sound_begins_first_is_cut_by_the_clock_of_a_player(tmp_path):
    # The picture begins half a second after the sound: 0.7 s of the file is frame 5.
    path = tmp_path / "late.mkv"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=25)
        sound = container.add_stream("pcm_s16le", rate=8000)
        picture.width, picture.height, picture.pix_fmt = 32, 32, "yuv420p"
        picture.codec_context.time_base = Fraction(1, 1000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        silence.sample_rate, silence.pts = 8000, 0
        container.mux(sound.encode(silence))
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 6 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 500 + 40 * number, Fraction(1, 1000)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
    whole = read_frames(path, strict=False)
    np.testing.assert_array_equal(read_clip(clip(path, 0.7, 0.9)), whole[5:10])
    np.testing.assert_array_equal(read_clip(clip(path, 5, 10, "frames")), whole[5:10])
    with pytest.raises(ValueError, match=r"the segment 0-0\.4 seconds holds no frame"):
        read_clip(clip(path, 0, 0.4))


def test_a_pack_of_segments_holds_the_segments(tmp_path):
    (tmp_path / "corpus").mkdir()
    video(tmp_path / "corpus/long.mp4")
    table(tmp_path / "corpus", "a\tlong.mp4\tone\t0\t0.8", "b\tlong.mp4\ttwo\t0.8\t1.2")
    settings = PackSettings(size=32, form="uint8")
    pack_corpus(tmp_path / "corpus", tmp_path / "pack", "folder", settings, splits=["train"], progress=False)
    whole = read_frames(tmp_path / "corpus/long.mp4")
    a, b = load_samples("folder", tmp_path / "pack", "train")
    np.testing.assert_array_equal(load_raw(a, InputRecipe()), whole[:20])
    np.testing.assert_array_equal(load_raw(b, InputRecipe()), whole[20:30])
