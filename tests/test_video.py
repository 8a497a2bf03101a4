"""The clip path: what is written comes back, and every broken clip is refused with a line that names it."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from signcl.data.files import write_bytes
from signcl.data.video import contact_sheet, probe, read_frames, resize_frames, sample_indices, write_video


def moving_square(num_frames: int = 20, height: int = 48, width: int = 64) -> np.ndarray:
    """A red square that moves right by 2 pixels a frame on a grey ground."""
    frames = np.full((num_frames, height, width, 3), 90, np.uint8)
    for t in range(num_frames):
        left = (2 * t) % (width - 12)
        frames[t, 10:22, left : left + 12] = (220, 40, 40)
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".mov"])
def test_what_is_written_comes_back(tmp_path, suffix):
    frames = moving_square()
    path = write_video(tmp_path / f"clip{suffix}", frames, fps=25, crf=10)
    back = read_frames(path)
    assert back.shape == frames.shape
    assert back.dtype == np.uint8
    assert np.abs(back.astype(int) - frames).mean() < 3
    info = probe(path)
    assert (info.num_frames, info.height, info.width, info.fps) == (20, 48, 64, 25.0)


@pytest.mark.parametrize(("height", "width"), [(45, 64), (48, 63), (45, 63)])
def test_odd_sizes_keep_their_size(tmp_path, height, width):
    frames = moving_square(5, height, width)
    back = read_frames(write_video(tmp_path / "odd.mp4", frames))
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 4


def test_writing_takes_an_iterator_and_one_frame(tmp_path):
    frames = moving_square(7)
    assert len(read_frames(write_video(tmp_path / "iterator.mp4", iter(frames)))) == 7
    assert len(read_frames(write_video(tmp_path / "one.mp4", frames[:1]))) == 1


@pytest.mark.parametrize("preset", ["veryfast", "medium"])
def test_the_same_frames_give_the_same_bytes(tmp_path, preset):
    # Smooth moving pictures with a little noise, written between heaps of rubbish: x264's macroblock tree read
    # memory that it had not written, and nearly every try gave another file.
    generator = np.random.default_rng(0)
    grid = np.linspace(0, 6, 64)
    waves = [np.sin(grid[None] + 0.3 * t) * np.cos(grid[:, None] - 0.2 * t) for t in range(60)]
    noise = generator.normal(0, 3, (60, 64, 64, 3))
    frames = (128 + 80 * np.stack(waves)[..., None] + noise).clip(0, 255).astype(np.uint8)
    files = set()
    for _ in range(6):
        rubbish = [generator.integers(0, 255, int(generator.integers(100, 20000)), np.uint8) for _ in range(50)]
        files.add(write_video(tmp_path / "clip.mp4", frames, preset=preset).read_bytes())
        del rubbish
    assert len(files) == 1


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.mp4", moving_square(4))
    before = path.read_bytes()

    def frames():
        yield from moving_square(4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(path, frames())

    def full_disk(self: Path, data: bytes) -> int:
        self.open("wb").write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match=r"no space left while writing .*the previous file is intact"):
        write_bytes(path, b"new content")
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"frames": np.zeros((0, 8, 8, 3), np.uint8)}, "no frames to write"),
        ({"frames": np.zeros((2, 8, 8, 3), np.float32)}, "must be uint8"),
        ({"frames": np.zeros((2, 8, 8), np.uint8)}, "must be uint8"),
        ({"frames": [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)]}, "of one size"),
        ({"frames": moving_square(2), "crf": 60}, "crf in 0..51"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, arguments, words):
    with pytest.raises(ValueError, match=words):
        write_video(tmp_path / "clip.mp4", **arguments)
    with pytest.raises(ValueError, match=r"use one of .mp4"):
        write_video(tmp_path / "clip.webm", moving_square(2))
    assert not list(tmp_path.iterdir())


def test_evaluation_takes_the_middle_of_equal_stretches():
    # By hand: 10 frames in 4 stretches of 2.5; their middles 1.25, 3.75, 6.25, 8.75.
    assert sample_indices(10, 4).tolist() == [1, 3, 6, 8]
    assert sample_indices(10, 1).tolist() == [5]
    assert sample_indices(3, 4).tolist() == [0, 1, 2]
    assert sample_indices(3, None).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="max_frames must be at least 1"):
        sample_indices(3, 0)


def test_training_takes_a_random_subset_in_order_of_time():
    draws = [sample_indices(100, 30, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    assert (np.diff(draws[0]) > 0).all()
    assert len(draws[0]) == 30


def test_chosen_frames_equal_the_same_frames_of_the_whole_clip(tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving_square(20))
    whole = read_frames(path)
    assert np.array_equal(read_frames(path, max_frames=6), whole[sample_indices(20, 6)])
    assert np.array_equal(read_frames(path, indices=[7, 2, 2]), whole[[7, 2, 2]])
    drawn = read_frames(path, max_frames=6, generator=np.random.default_rng(3))
    assert np.array_equal(drawn, read_frames(path, max_frames=6, generator=np.random.default_rng(3)))
    for wrong in ([20], [-1], []):
        with pytest.raises(ValueError, match=r"clip\.mp4: need frame numbers in 0\.\.19"):
            read_frames(path, indices=wrong)


def test_a_folder_of_images_is_a_clip_in_natural_order(tmp_path):
    frames = moving_square(12)
    for t, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"frame{t}.png"), frame[..., ::-1])
    (tmp_path / "._frame0.png").write_bytes(b"what a Mac leaves")
    (tmp_path / "notes.txt").write_text("not a frame")
    assert np.array_equal(read_frames(tmp_path), frames)
    assert np.array_equal(read_frames(tmp_path, indices=[10, 2]), frames[[10, 2]])
    assert np.array_equal(read_frames(tmp_path, max_frames=4), frames[sample_indices(12, 4)])
    assert probe(tmp_path).num_frames == 12
    assert probe(tmp_path).fps is None
    (tmp_path / "frame3.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"frame3\.png: not a readable image"):
        read_frames(tmp_path)
    cv2.imwrite(str(tmp_path / "frame3.png"), np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(ValueError, match=r"frame3\.png: 10 x 10 pixels, but .* 48 x 64"):
        read_frames(tmp_path)
    assert read_frames(tmp_path, size=16).shape == (12, 16, 16, 3)


def test_resizing_stretches_crops_or_pads():
    frames = np.zeros((1, 4, 8, 3), np.uint8)
    frames[:, :, 4:] = 200
    stretched = resize_frames(frames, 4)[0, :, :, 0]
    assert stretched.tolist() == [[0, 0, 200, 200]] * 4
    assert resize_frames(frames, 4, "crop")[0, 0, :, 0].tolist() == [0, 0, 200, 200]
    assert resize_frames(frames, (8, 8), "pad")[0, :, 6, 0].tolist() == [0, 0, 200, 200, 200, 200, 0, 0]
    assert resize_frames(frames, (4, 8)) is frames
    assert resize_frames(frames, (7, 5), "crop").shape == resize_frames(frames, (7, 5), "pad").shape == (1, 7, 5, 3)
    with pytest.raises(ValueError, match="fit stretch, crop or pad"):
        resize_frames(frames, 4, "squash")


def test_broken_clips_are_refused_with_a_line_that_names_them(tmp_path):
    good = write_video(tmp_path / "good.mp4", np.random.default_rng(0).integers(0, 255, (40, 48, 48, 3), np.uint8))
    data = good.read_bytes()

    def broken(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    cases = {
        broken("empty.mp4", b""): r"empty\.mp4: empty file",
        broken("cut.mp4", data[: len(data) // 2]): r"cut\.mp4: truncated .*moov",
        broken("text.mp4", b"hello, this is no video\n" * 50): r"text\.mp4: not a readable video",
        broken("text.txt", b"hello, this is no video\n" * 50): r"text\.txt: not a readable video",
        broken("noise.avi", np.random.default_rng(1).bytes(5000)): r"noise\.avi: not a readable video",
    }
    for path, words in cases.items():
        for read in (read_frames, probe):
            with pytest.raises(ValueError, match=words) as caught:
                read(path)
            assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4: no such clip"):
        read_frames(tmp_path / "gone.mp4")
    (tmp_path / "frames").mkdir()
    with pytest.raises(ValueError, match="no frames in this folder"):
        read_frames(tmp_path / "frames")


def test_a_file_cut_in_the_middle_says_how_many_frames_could_be_read(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (60, 48, 48, 3), np.uint8)
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:  # the index comes first
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 48, "yuv420p"
        for frame in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode(None))
    data = whole.read_bytes()
    assert len(read_frames(whole)) == 60
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cut\.mp4: truncated or damaged, \d+ of 60 frames could be read"):
        read_frames(cut)
    with pytest.raises(ValueError, match="of 60 frames"):
        read_frames(cut, max_frames=8)
    left = read_frames(cut, strict=False)
    assert 10 < len(left) < 50
    assert len(read_frames(cut, strict=False, max_frames=8)) == 8


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_other_containers_cut_in_the_middle_are_refused_too(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (60, 48, 48, 3), np.uint8)
    whole = write_video(tmp_path / f"whole{suffix}", noise)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_frames(cut)
    assert 10 < len(read_frames(cut, strict=False)) < 50


def test_a_file_with_no_frames_or_only_sound_is_refused(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match=r"sound\.mp4: no video in this file"):
        read_frames(tmp_path / "sound.mp4")
    with av.open(str(tmp_path / "zero.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 48, "yuv420p"
        container.start_encoding()
        container.mux(stream.encode(None))
    for read in (read_frames, probe):
        with pytest.raises(ValueError, match=r"zero\.mp4: "):
            read(tmp_path / "zero.mp4")


def test_a_sheet_lays_frames_in_rows():
    frames = np.stack([np.full((2, 3, 3), value, np.uint8) for value in (10, 20, 30)])
    sheet = contact_sheet(frames, 2, gap=1)
    # By hand: 2 rows of 2 px and a gap of 1; 2 columns of 3 px and a gap of 1; the fourth place stays white.
    assert sheet[..., 0].tolist() == [
        [10, 10, 10, 255, 20, 20, 20],
        [10, 10, 10, 255, 20, 20, 20],
        [255] * 7,
        [30, 30, 30, 255, 255, 255, 255],
        [30, 30, 30, 255, 255, 255, 255],
    ]
    with pytest.raises(ValueError, match="at least 1 frame"):
        contact_sheet(frames[:0], 2)


def test_real_clips_decode_to_the_last_frame(real_data):
    folder = real_data / "sample-videos"
    counts = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in (".mp4", ".gif"):
            frames = read_frames(path, size=64)
            counts[path.name] = len(frames)
            assert probe(path).num_frames == len(frames)
            assert frames.std() > 10
            # Bit-equal to the plain, slower way of converting.
            with av.open(str(path)) as container:
                first = next(container.decode(video=0)).to_ndarray(format="rgb24")
            assert np.array_equal(read_frames(path, indices=[0])[0], first)
    assert counts == {
        "dailymoth_0043626-2023.1.4.gif": 181,
        "signer0_sample1000_color.mp4": 43,
        "signer0_sample1000_depth.mp4": 43,
        "slp_pose_test_video.mp4": 58,
    }


def test_a_real_gif_cut_in_the_middle_is_refused(real_data, tmp_path):
    data = (real_data / "sample-videos" / "dailymoth_0043626-2023.1.4.gif").read_bytes()
    cut = tmp_path / "cut.gif"
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"cut\.gif: truncated or damaged"):
        read_frames(cut)
    assert 20 < len(read_frames(cut, strict=False)) < 150
