"""Videos as people have them: edit lists, turned and mirrored pictures, odd containers, damage, and their times.

The files of `reader-cases` have their right values from ffprobe and ffmpeg; the others are made here.
"""

import itertools
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from video_files import break_packets, corner_names, corners, greys, make_video, numbers

from signcl.data.corpus_check import check_corpus
from signcl.data.video import DamagedClip, frames_at, probe, read_frames, remarks, write_video
from signcl.data.video.timing import resample

CASES = {
    "edit-list.mp4": 42,
    "audio-longer.webm": 50,
    "variable-rate.webm": 48,
    "null-frames.avi": 25,
    "cover-first.mkv": 50,
    "mirrored.mp4": 25,
    "junk-after-end.gif": 10,
    "pixel-shape.mp4": 25,
}

pytestmark = pytest.mark.filterwarnings("error::signcl.data.video.DamagedClip")  # a whole file is never called damaged


@pytest.mark.parametrize(("name", "count"), CASES.items())
def test_whole_files_of_every_kind_are_read_whole(real_data, name, count):
    path = real_data / "reader-cases" / "video" / name
    assert len(read_frames(path, damaged="refuse")) == count
    assert probe(path).num_frames == count
    assert len(read_frames(path, size=16, max_frames=8)) == 8


def test_the_25_frames_of_an_avi_with_null_frames_differ(real_data):
    frames = read_frames(real_data / "reader-cases" / "video" / "null-frames.avi")
    assert all((a != b).any() for a, b in itertools.pairwise(frames))


def test_a_front_camera_is_mirrored(real_data):
    picture = read_frames(real_data / "reader-cases" / "video" / "mirrored.mp4")[0]
    colours = {"green": (0, 255, 0), "red": (255, 0, 0), "white": (255, 255, 255), "blue": (0, 0, 255)}
    for (name, colour), (y, x) in zip(colours.items(), ((10, 10), (10, -10), (-10, 10), (-10, -10))):
        assert np.abs(picture[y, x].astype(int) - colour).max() < 40, name


def test_a_picture_that_changes_size_needs_a_size(real_data):
    path = real_data / "reader-cases" / "video" / "size-change.webm"
    assert read_frames(path, size=32).shape == (50, 32, 32, 3)
    with pytest.raises(ValueError, match=r"size-change\.webm frame 25: 40 x 48 pixels.* give a size") as caught:
        read_frames(path)
    assert "\n" not in str(caught.value)


def test_pixels_that_are_not_square_stay_as_stored_and_are_named(real_data):
    path = real_data / "reader-cases" / "video" / "pixel-shape.mp4"
    assert read_frames(path).shape == (25, 58, 72, 3)
    assert remarks(path) == [
        "its pixels are 16:11, not square: it is shown as 105 x 58 and read as it is stored, 72 x 58"
    ]


@pytest.mark.parametrize("name", ["truly-truncated.mp4", "truly-truncated.webm"])
def test_truly_truncated_files_stay_refused(real_data, name):
    with pytest.raises(ValueError, match=r"truly-truncated.*truncated") as caught:
        read_frames(real_data / "reader-cases" / "video" / name)
    assert "\n" not in str(caught.value)


# --- how a picture is shown ------------------------------------------------------------------------------------------

# What ffmpeg's autorotate shows of red, green / blue, white, by the two flips and the quarter turns that a display
# matrix can say; PyAV's degrees turn counterclockwise.
SHOWN = {
    (0, False, False): "red green blue white",
    (90, False, False): "green white red blue",
    (180, False, False): "white blue green red",
    (270, False, False): "blue red white green",
    (0, True, False): "green red white blue",
    (90, True, False): "white green blue red",
    (180, True, False): "blue white red green",
    (270, True, False): "red blue green white",
}


@pytest.mark.parametrize(("turn", "colours"), SHOWN.items(), ids=str)
def test_all_eight_ways_to_turn_and_mirror(tmp_path, turn, colours):
    path = make_video(tmp_path / "turned.mp4", np.stack([corners()] * 2), turn=turn)
    picture = read_frames(path)[0]
    assert picture.shape[:2] == ((48, 32) if turn[0] % 180 else (32, 48))
    assert corner_names(picture) == colours.split()


KINDS = {
    "b.mp4": {"options": {"x264-params": "open-gop=1:keyint=8:min-keyint=8:scenecut=0:bframes=3"}},
    "b.mkv": {"options": {"x264-params": "open-gop=1:keyint=8:min-keyint=8:scenecut=0:bframes=3"}},
    "444.mp4": {"pix_fmt": "yuv444p"},
    "ten-bit.mp4": {"pix_fmt": "yuv420p10le"},
    "full-range.mp4": {"pix_fmt": "yuvj420p"},
    "alpha.webm": {"codec": "libvpx-vp9", "pix_fmt": "yuva420p"},
    "hidden.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=8:bframes=3"}},
    "jpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "lossless.mkv": {"codec": "ffv1", "pix_fmt": "bgr0"},
    "b.ts": {"options": {"bf": "2"}},
    "interlaced.ts": {"options": {"x264-params": "interlaced=1"}},
    "fragments.mp4": {"options": {"g": "5"}, "file_options": {"movflags": "frag_keyframe+empty_moov"}},
    "live.webm": {"codec": "libvpx", "file_options": {"live": "1"}},
    "picture.apng": {"codec": "apng", "pix_fmt": "rgb24"},
    "picture.gif": {"codec": "gif", "pix_fmt": "rgb8", "rate": 10},
    "negative.mkv": {"moved": -3},
    "late.mp4": {"moved": 10, "sound": 2.0},
    "late.ts": {"moved": 1000},
    "sound.mp4": {"sound": 4.0},
    "sound.mkv": {"sound": 4.0},
    "uneven.mkv": {"stamps": [0, 1, 2, 9, *range(10, 42, 2)], "unit": Fraction(1, 25)},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_comes_back_in_its_place(tmp_path, name):
    path = make_video(tmp_path / name, greys(20), **KINDS[name])
    assert numbers(read_frames(path, damaged="refuse")) == list(range(20))
    assert probe(path).num_frames == 20
    assert numbers(read_frames(path, indices=[19, 3])) == [19, 3]


@pytest.mark.parametrize("bframes", ["0", "2"])
def test_frames_before_an_edit_list_are_decoded_and_not_shown(tmp_path, bframes):
    path = make_video(
        tmp_path / "cut.mp4",
        greys(20),
        moved=-5,
        options={"bf": bframes},
        file_options={"avoid_negative_ts": "disabled"},
    )
    assert numbers(read_frames(path)) == list(range(5, 20))
    assert probe(path).num_frames == 15


def test_a_single_frame_is_a_clip(tmp_path):
    for name, options in {"one.mp4": {}, "one.webm": {"codec": "libvpx"}, "one.gif": KINDS["picture.gif"]}.items():
        path = make_video(tmp_path / name, greys(1), **options)
        assert len(read_frames(path)) == len(read_frames(path, fps=10)) == 1


def test_a_still_beside_a_video_is_not_the_video_and_alone_is_none(tmp_path):
    # Two videos: the one that the file names as its default is read, and the choice is named.
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, disposition in zip(streams, (0, av.stream.Disposition.default)):
            stream.height, stream.width, stream.pix_fmt, stream.disposition = 48, 64, "yuv420p", disposition
        for stream, frames in zip(streams, (greys(3), greys(8))):
            for frame in frames:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
            file.mux(stream.encode(None))
    assert len(read_frames(path)) == 8
    assert remarks(path) == ["has 2 videos; number 1 is read, which it names as its default"]
    # Music with a cover picture is no clip.
    with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as file:
        sound = file.add_stream("aac", rate=16000, layout="mono")
        cover = file.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 16000
        file.mux(sound.encode(silence))
        file.mux(sound.encode(None))
        file.mux(cover.encode(av.VideoFrame.from_ndarray(greys(1)[0])))
        file.mux(cover.encode(None))
    with pytest.raises(ValueError, match=r"song\.m4a: no video in this file \(only a cover picture\)"):
        read_frames(tmp_path / "song.m4a")


def test_an_animated_webp_says_what_to_do(tmp_path):
    path = make_video(tmp_path / "a.webp", greys(4), codec="libwebp_anim", pix_fmt="bgra")
    with pytest.raises(ValueError, match=r"a\.webp: an animated WebP.*convert it"):
        read_frames(path)


# --- damage ----------------------------------------------------------------------------------------------------------


def noise(count: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 48, 48, 3), np.uint8)


def test_few_broken_frames_are_read_and_named_by_default(tmp_path):
    path = write_video(tmp_path / "hit.mp4", noise())
    break_packets(path, [30])
    notes: list[str] = []
    assert len(read_frames(path, note=notes.append)) == 39
    assert len(notes) == 1
    assert notes[0].startswith(f"{path}: damaged, 1 of 40 frames are broken or lost (the decoder refused 1")
    with pytest.warns(DamagedClip, match=r"hit\.mp4: damaged, 1 of 40"):
        read_frames(path)
    with pytest.raises(ValueError, match=r"hit\.mp4: damaged, 1 of 40 .*input\.damaged=read"):
        read_frames(path, damaged="refuse")


def test_many_broken_frames_are_refused_unless_asked_for(tmp_path):
    path = write_video(tmp_path / "hit.mp4", noise())
    break_packets(path, [10, 15, 20, 25, 30])
    with pytest.raises(ValueError, match=r"hit\.mp4: damaged, \d+ of 40"):
        read_frames(path)
    with pytest.warns(DamagedClip, match=r"hit\.mp4: damaged"):
        assert len(read_frames(path, damaged="read")) == 35
    with pytest.raises(ValueError, match=r"needs damaged=refuse \| few \| read"):
        read_frames(path, damaged="some")


def test_a_broken_frame_that_an_edit_list_hides_is_named(tmp_path):
    # What is shown is copied from what is not: 5 of the 20 frames are only decoded.
    path = make_video(
        tmp_path / "cut.mp4", noise(20), moved=-5, options={"bf": "0"}, file_options={"avoid_negative_ts": "disabled"}
    )
    break_packets(path, [2])
    with pytest.warns(DamagedClip, match=r"cut\.mp4: damaged"):
        read_frames(path, damaged="read")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"file_options": {"movflags": "faststart"}}),
        ("a.mkv", {}),
        ("a.webm", {"codec": "libvpx"}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
        ("fragments.mp4", {"options": {"g": "5"}, "file_options": {"movflags": "frag_keyframe+empty_moov"}}),
        ("sound.mkv", {"sound": 0.5}),
    ],
)
def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path, name, options):
    data = make_video(tmp_path / name, noise(), **options).read_bytes()
    cut = tmp_path / f"cut-{name}"
    for share in (0.35, 0.5, 0.8, 0.9):
        cut.write_bytes(data[: int(share * len(data))])
        with pytest.raises(ValueError, match=rf"cut-{name}: ") as caught:
            read_frames(cut)
        assert "\n" not in str(caught.value)
    # A copy that stopped into a file of the full size: the rest is zeros.
    cut.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(ValueError, match=rf"cut-{name}: "):
        read_frames(cut)


def test_a_gif_that_lost_frames_or_pixels_is_named(tmp_path):
    data = bytearray(make_video(tmp_path / "a.gif", noise(12), codec="gif", pix_fmt="rgb8").read_bytes())
    assert len(read_frames(tmp_path / "a.gif")) == 12
    (tmp_path / "junk.gif").write_bytes(bytes(data) + b"a comment of some program" * 20)
    assert len(read_frames(tmp_path / "junk.gif")) == 12
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    (tmp_path / "hit.gif").write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"hit\.gif: .*damaged"):
        read_frames(tmp_path / "hit.gif", damaged="refuse")


def test_the_end_of_a_longer_sound_may_be_missing(tmp_path):
    # Everything of the video is there: this is no truncated clip.
    data = make_video(tmp_path / "a.mkv", greys(20), sound=8.0).read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) - 300])
    assert numbers(read_frames(cut)) == list(range(20))


# --- times -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "length", "fps", "expected"),
    [
        (np.arange(4) / 25, 4 / 25, 25, [0, 1, 2, 3]),
        (np.arange(8) / 50, 8 / 50, 25, [0, 2, 4, 6]),
        (np.arange(6) / 30, 6 / 30, 25, [0, 1, 2, 4, 5]),  # at 0, 1.2, 2.4, 3.6, 4.8 frames: the nearest
        (np.arange(3) / 12.5, 3 / 12.5, 25, [0, 0, 1, 1, 2, 2]),
        ([0, 0.04, 0.6], 0.64, 25, [0] + [1] * 14 + [2]),  # 0.6 s begins at 15 / 25
        ([0, 0.041, 0.079, 0.122], 0.16, 25, [0, 1, 2, 3]),  # times that jitter
        ([0.0], 1.0, 4, [0, 0, 0, 0]),
        ([0.0], 0.001, 25, [0]),
    ],
)
def test_frames_at_another_rate_by_hand(times, length, fps, expected):
    assert resample(np.asarray(times, dtype=float), length, fps).tolist() == expected


def test_a_rate_is_reached_by_the_times_of_the_frames(tmp_path, real_data):
    phone = make_video(tmp_path / "phone.mp4", greys(20), rate=60)
    assert numbers(read_frames(phone, fps=30)) == list(range(0, 20, 2))
    assert numbers(read_frames(phone, fps=30, max_frames=2)) == [4, 14]  # frames 2 and 7 of the ten
    assert frames_at(phone, 30).tolist() == list(range(0, 20, 2))
    held = make_video(tmp_path / "held.mkv", greys(4), stamps=[0, 1, 2, 8], unit=Fraction(1, 25))
    assert numbers(read_frames(held, fps=25)) == [0, 1, 2, 2, 2, 2, 2, 2, 3]
    cases = real_data / "reader-cases" / "video"
    assert len(read_frames(cases / "variable-rate.webm", fps=25, size=8)) == 95  # 3.8 s
    assert len(read_frames(cases / "null-frames.avi", fps=25, size=8)) == 45  # the header's 45 places
    assert len(read_frames(cases / "edit-list.mp4", fps=25, size=8)) == 43  # 1.72 s


def test_few_frames_that_claim_to_last_for_hours_are_refused(tmp_path):
    path = make_video(tmp_path / "slides.mkv", greys(3), stamps=[0, 1, 4000], unit=Fraction(1, 1))
    assert len(read_frames(path)) == 3
    with pytest.raises(ValueError, match=r"slides\.mkv: 3 frames for 400\d s .*input\.fps"):
        read_frames(path, fps=25)


# --- corpora ---------------------------------------------------------------------------------------------------------


def test_the_check_of_a_corpus_names_rates_pixels_and_damage(tmp_path, real_data):
    shape = (real_data / "reader-cases" / "video" / "pixel-shape.mp4").read_bytes()
    make_video(tmp_path / "a.mp4", noise(20))
    make_video(tmp_path / "b.mp4", noise(20)[::-1], rate=50)
    break_packets(make_video(tmp_path / "c.mp4", noise(30)), [20])
    (tmp_path / "d.mp4").write_bytes(shape)
    (tmp_path / "images").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), np.zeros((8, 8, 3), np.uint8))
    lines = [f"{name}\t{name}.mp4\tsome {name}\n" for name in "abcd"] + ["e\timages\tsome e\n"]
    (tmp_path / "train.tsv").write_text("name\tpath\ttext\n" + "".join(lines))
    found = check_corpus(tmp_path, splits=["train"])
    assert [problem.level for problem in found] == ["warning"] * 3
    damage, pixels, rates = (problem.what for problem in found)
    assert damage.startswith("damaged, 1 of 30 frames are broken or lost")
    assert pixels.startswith("its pixels are 16:11, not square")
    assert rates == (
        "clips have several rates (frames per second): 25 (3 clips, e.g. a), 50 (1 clips, e.g. b); input.fps=25 "
        "resamples them to one rate"
    )
