"""From video to .pose: the process that estimates, gaps, folders that go on, what a run remembers of its key points.

Without MediaPipe, real key points are played back in its place by the same worker; with it (`signcl pose --install`),
a real clip is estimated.
"""

import io
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from signcl.cli import main
from signcl.data.batch import Sample
from signcl.data.pose_estimation import (
    Estimated,
    Estimator,
    Extractor,
    PoseKind,
    PoseProcess,
    check_kind,
    clips_in,
    environment_folder,
    estimate,
    extract_poses,
    folder_extractor,
    kind_of,
    look_at_poses,
    make_environment,
    start_holistic,
)
from signcl.data.pose_estimation import pose_worker as worker
from signcl.data.pose_estimation.pose_environment import READY, find_python
from signcl.data.pose_estimation.pose_of_clip import PARTS, _fill
from signcl.data.pose_files import read_points
from signcl.data.pose_layouts import BODY33
from signcl.data.poses import PoseReading, read_pose, signer_points
from signcl.data.video import write_video
from signcl.inference.estimated_poses import PoseReader, with_estimated_poses
from signcl.training.recipe import InputRecipe

pose_format = pytest.importorskip("pose_format", reason="pose-format is not installed (pip install 'signcl[pose]')")
SETTINGS = {"model_complexity": 1}

REPLAY = """
import sys
sys.path.insert(0, {folder!r})
import numpy, os, pose_worker

class Replay:  # key points of a file, found by the brightness of a frame; of dark frames none
    def __init__(self):
        self.rows = numpy.load({rows!r})
    def described(self):
        return {{"estimator": "replay", "version": {version!r}, "model_complexity": 1}}
    def reset(self):
        self.seen = 0
    def points(self, frame):
        self.seen += 1
        bright = int(frame.mean())
        if bright > 240:
            sys.stderr.write("out of patience\\n"); os._exit(3)
        if bright > 220:
            raise RuntimeError("too bright")
        if bright < 20:
            return numpy.zeros((543, 4), numpy.float32)
        return self.rows[self.seen % len(self.rows)]

pose_worker.serve(Replay, sys.stdin.buffer, sys.stdout.buffer)
"""


def some_points(frames=12, seed=0):
    """Key points of a person that moves a little, everything found. [T, 543, 4]"""
    random = np.random.default_rng(seed)
    places = random.uniform(20, 60, (1, 543, 3)) + random.normal(size=(frames, 543, 3)).cumsum(axis=0)
    places[:, 11, :2], places[:, 12, :2] = (50, 30), (20, 30)  # shoulders
    places[:, 501:522] += places[:, 15:16] - places[:, 501:502]  # hands hang on their wrists
    places[:, 522:543] += places[:, 16:17] - places[:, 522:523]
    return np.concatenate([places, np.ones((frames, 543, 1))], axis=2).astype(np.float32)


@pytest.fixture(scope="module")
def replay(tmp_path_factory, request):
    """Starts the worker with key points played back: those of a real file where there are some."""
    folder = tmp_path_factory.mktemp("replay")
    np.save(folder / "rows.npy", some_points())

    def start(version="1"):
        here = str(Path(worker.__file__).parent)
        code = REPLAY.format(folder=here, rows=str(folder / "rows.npy"), version=version)
        return PoseProcess([sys.executable, "-c", code])

    return start


def clip(path, brightness=100, frames=6):
    write_video(path, np.full((frames, 48, 64, 3), brightness, np.uint8), fps=25)
    return path


# -- the process -------------------------------------------------------------------------------------------------------


class Named:
    """An estimator for the worker's loop, in this process."""

    def __init__(self):
        self.clips = 0

    def described(self):
        return {"estimator": "named", "version": "2"}

    def reset(self):
        self.clips += 1

    def points(self, frame):
        if frame.shape[1] == 3:
            raise RuntimeError("too narrow")
        points = np.zeros((543, 4), np.float32)
        points[0] = frame[0, 0, 0], frame.shape[1], frame.shape[0], self.clips
        return points


def message(name, height=0, width=0, body=b""):
    return worker.HEAD.pack(name.encode().ljust(8), height, width) + body


def answers(data):
    found = []
    while data:
        name, size, _ = worker.HEAD.unpack(data[: worker.HEAD.size])
        found.append((name.strip().decode(), data[worker.HEAD.size : worker.HEAD.size + size]))
        data = data[worker.HEAD.size + size :]
    return found


def test_the_worker_answers_every_message_and_goes_on_after_an_error():
    frame = np.full((2, 5, 3), 7, np.uint8).tobytes()
    sent = message("hello") + message("clip") + message("frame", 2, 5, frame) + message("frame", 2, 3, frame[:18])
    sink = io.BytesIO()
    worker.serve(Named, io.BytesIO(sent + message("clip") + message("frame", 2, 5, frame)), sink)
    (hello, about), (ok, _), (points, rows), (error, why), (_, _), (_, again) = answers(sink.getvalue())
    assert (hello, ok, points, error) == ("ok", "ok", "points", "error")
    assert json.loads(about)["estimator"] == "named"
    assert np.frombuffer(rows, np.float32).reshape(543, 4)[0].tolist() == [7, 5, 2, 1]
    assert why == b"RuntimeError: too narrow"
    assert np.frombuffer(again, np.float32)[3] == 2  # the second clip


def test_a_worker_that_cannot_start_says_why_and_a_cut_message_ends_it():
    def make():
        raise ImportError("No module named 'mediapipe'")

    sink = io.BytesIO()
    worker.serve(make, io.BytesIO(message("hello")), sink)
    assert answers(sink.getvalue()) == [("error", b"ImportError: No module named 'mediapipe'")]
    sink = io.BytesIO()
    worker.serve(Named, io.BytesIO(message("frame", 2, 5, b"short")), sink)
    assert not sink.getvalue()
    assert struct.calcsize("<8sII") == worker.HEAD.size == 16


def test_a_python_without_mediapipe_is_one_line():
    with pytest.raises(ValueError, match=r"python.*the estimator of key points failed: .*mediapipe"):
        start_holistic(sys.executable)


def test_no_environment_names_the_command_that_makes_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert environment_folder().parent == tmp_path / "signcl"
    with pytest.raises(FileNotFoundError, match=r"not installed .* install it with: signcl pose --install"):
        find_python()
    with pytest.raises(FileNotFoundError, match=r"--pose-python .*nothing: no such file"):
        find_python(tmp_path / "nothing")


def test_an_environment_is_made_once_and_a_failed_one_is_cleared(tmp_path):
    commands = []

    def run(command, fails=False):
        commands.append(command)
        if command[1:3] == ["-m", "venv"]:
            python = Path(command[3]) / "bin" / "python"
            python.parent.mkdir(parents=True)
            python.write_text("")
            return ""
        return "ERROR: No matching distribution found" if fails else ""

    folder = tmp_path / "cache" / "env"
    with pytest.raises(ValueError, match=r"MediaPipe cannot be installed .ERROR: No matching .* --pose-python"):
        make_environment(folder, run=lambda command: run(command, fails=True))
    assert not folder.exists()
    python = make_environment(folder, run=run)
    assert python == folder / "bin" / "python"
    assert "mediapipe==0.10.21" in commands[-1]
    assert "--no-deps" in commands[-1]
    before = len(commands)
    assert make_environment(folder, run=run) == python
    assert len(commands) == before
    (folder / READY).unlink()  # killed half-way: made anew
    make_environment(folder, run=run)
    assert len(commands) == before + 2


# -- one clip ----------------------------------------------------------------------------------------------------------


def test_short_gaps_are_filled_and_say_so_and_a_hand_follows_its_wrist():
    points = some_points(9)
    points[3:5, 501:522] = 0  # left hand, 2 frames
    points[2:6, 522:543] = 0  # right hand, 4 frames: longer than is filled
    points[:, 15, 0] = [0, 0, 0, 40, 50, 0, 0, 0, 0]  # the wrist jumps away while the hand is lost, and comes back
    points[:, 501, :3] = points[:, 15, :3]
    points[3:5, 501] = 0
    filled, counts = _fill(points.copy(), 3)
    assert counts == {"left_hand": 2}
    assert (filled[3:5, 501:522, 3] == 0.5).all()
    assert not filled[2:6, 522:543].any()
    np.testing.assert_allclose(filled[3:5, 501, 0], [40, 50], atol=1e-4)  # and not 0, as a line between would have it
    untouched = points[..., 3] > 0
    np.testing.assert_array_equal(filled[untouched], points[untouched])
    again, none = _fill(points, 0)
    assert again is points
    assert none == {}


def test_a_clip_is_measured_before_it_is_filled_and_nobody_in_it_is_one_line(replay, tmp_path):
    with replay() as process:
        found = estimate(process, Sample("a", "", clip=clip(tmp_path / "a.mp4")))
        assert found.points.shape == (6, 543, 4)
        assert (found.height, found.width) == (48, 64)
        assert found.quality.lacks == {"body": 0, "face": 0, "left_hand": 0, "right_hand": 0, "hands": 0}
        with pytest.raises(ValueError, match=r"dark.mp4: no person was found in any of its 6 frames"):
            estimate(process, Sample("dark", "", clip=clip(tmp_path / "dark.mp4", 5)))
        with pytest.raises(ValueError, match="the estimator of key points failed: RuntimeError: too bright"):
            estimate(process, Sample("bright", "", clip=clip(tmp_path / "bright.mp4", 230)))
        assert process.alive()
        with pytest.raises(ValueError, match=r"ended \(exit code 3\): out of patience"):
            estimate(process, Sample("white", "", clip=clip(tmp_path / "white.mp4", 255)))
        assert not process.alive()


def test_another_person_after_a_cut_is_named_with_the_frame():
    found = Estimated(some_points(8), None, {}, (), 48, 64)
    assert signer_points(found.raw("a"), PoseReading()).notes == ()
    found.points[5:, :, :2] += 200
    (note,) = signer_points(found.raw("a"), PoseReading()).notes
    assert note == "the person has moved far in frame 5; another person, or a cut"


def test_what_is_written_is_what_was_estimated_under_the_names_of_the_field(replay, tmp_path, real_data):
    report = extract_poses(clips_in([clip(tmp_path / "a.mp4")]), tmp_path / "out", replay, progress=False)
    assert report.broken == {}
    file = tmp_path / "out" / "a.pose"
    pose = pose_format.Pose.read(file.read_bytes())
    theirs = pose_format.Pose.read((real_data / "sample-videos" / "autsl_signer0_sample1000.pose").read_bytes())
    assert [c.name for c in pose.header.components] == [c.name for c in theirs.header.components]
    assert [c.points for c in pose.header.components] == [c.points for c in theirs.header.components]
    assert len(BODY33) == 33
    assert pose.body.fps == 25
    with replay() as process:
        found = estimate(process, Sample("a", "", clip=tmp_path / "a.mp4"))
    layout, numbers, seen = read_points(file)["a"].placed()
    _, ours, our_seen = found.raw("a").placed()
    assert layout.name == "mediapipe"
    np.testing.assert_allclose(numbers, ours, atol=1e-4)
    np.testing.assert_array_equal(seen, our_seen)
    assert read_pose(file).shape == (6, 356)


# -- folders -----------------------------------------------------------------------------------------------------------


def test_clips_are_found_by_name_and_two_of_one_name_are_refused(tmp_path):
    for name in ("b/two.mp4", "one.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        clip(tmp_path / name)
    pictures = tmp_path / "c" / "three"
    pictures.mkdir(parents=True)
    (pictures / "000.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    assert [s.name for s in clips_in([tmp_path])] == ["one", "b/two", "c/three"]
    assert [s.name for s in clips_in([pictures, tmp_path / "one.mp4", tmp_path / "one.mp4"])] == ["three", "one"]
    clip(tmp_path / "b" / "one.mp4")
    with pytest.raises(ValueError, match="two clips are called one"):
        clips_in([tmp_path / "one.mp4", tmp_path / "b" / "one.mp4"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no video .* and no folder of images"):
        clips_in([tmp_path / "empty"])
    with pytest.raises(FileNotFoundError, match="no such clip"):
        clips_in([tmp_path / "nowhere"])


def test_a_stopped_folder_goes_on_and_clears_what_was_half_written(replay, tmp_path, capsys):
    for name in "abc":
        clip(tmp_path / f"{name}.mp4")
    clip(tmp_path / "dark.mp4", 5)
    clip(tmp_path / "white.mp4", 255)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    samples, out = clips_in([tmp_path]), tmp_path / "out"
    report = extract_poses(samples[:2], out, replay, progress=False)
    assert (report.made, report.broken) == (2, {})
    stamp = (out / "a.pose").stat().st_mtime_ns
    with (out / "clips.jsonl").open("a") as file:
        file.write('{"name": "c", "fra')  # killed while writing
    (out / ".c.pose.abcdefgh.part").write_bytes(b"half")
    report = extract_poses(samples, out, replay, workers=2, progress=False)
    assert "2 of 6 clips are done already" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == [
        ".lock", "a.pose", "b.pose", "c.pose", "clips.jsonl", "pose.json"]  # fmt: skip
    assert (out / "a.pose").stat().st_mtime_ns == stamp
    assert [clip["name"] for clip in report.clips] == ["a", "b", "c"]
    assert set(report.broken) == {"dark", "white", "broken"}
    assert "no person" in report.broken["dark"]
    assert "out of patience" in report.broken["white"]
    assert "3 clips of key points (mediapipe), 18 frames; frames without body 0.0%" in str(report)
    again = extract_poses(samples, out, replay, progress=False)  # nobody in it stays so; what is broken is tried again
    assert again.made == 0
    assert set(again.broken) == set(report.broken)
    clip(tmp_path / "a.mp4", frames=9)  # another clip of that name
    assert extract_poses(samples[:1], out, replay, progress=False).clips[0]["frames"] == 9


def test_a_folder_is_of_one_extractor(replay, tmp_path):
    samples, out = clips_in([clip(tmp_path / "a.mp4")]), tmp_path / "out"
    extract_poses(samples, out, replay, progress=False)
    with pytest.raises(ValueError, match=r"holds key points of another extractor \(replay 1 against replay 2\)"):
        extract_poses(samples, out, lambda: replay("2"), progress=False)
    with pytest.raises(ValueError, match=r"another extractor \(fill 5 against 0\)"):
        extract_poses(samples, out, replay, fill=0, progress=False)
    with pytest.raises(ValueError, match=r"another extractor \(--fps None against 10"):
        extract_poses(samples, out, replay, fps=10, progress=False)
    (out / "pose.json").write_text("{}")
    with pytest.raises(ValueError, match=r"pose\.json is damaged"):
        extract_poses(samples, out, replay, progress=False)


def test_a_look_is_a_picture_with_the_skeleton_in_its_colours(replay, tmp_path):
    import cv2

    samples, out = clips_in([clip(tmp_path / "a.mp4"), clip(tmp_path / "b.mp4")]), tmp_path / "out"
    extract_poses(samples, out, replay, progress=False)
    (picture,) = look_at_poses(samples, out, 1)
    assert picture == out / "look" / "a.png"
    pixels = cv2.imread(str(picture))[..., ::-1].reshape(-1, 3)
    for colour in ((40, 200, 40), (255, 90, 60), (70, 130, 255)):  # body, left hand, right hand
        assert (pixels == colour).all(axis=1).any()
    assert not (pixels == (255, 60, 255)).all(axis=1).any()  # nothing was filled in


# -- runs --------------------------------------------------------------------------------------------------------------


def test_a_run_knows_the_extractor_layout_and_rate_of_its_key_points(replay, tmp_path):
    extract_poses(clips_in([clip(tmp_path / "a.mp4"), clip(tmp_path / "b.mp4")]), tmp_path / "one", replay,
                  progress=False)  # fmt: skip
    extract_poses(clips_in([tmp_path / "a.mp4"]), tmp_path / "two", lambda: replay("2"), progress=False)
    ours = [Sample(n, "x", features=tmp_path / "one" / f"{n}.pose") for n in "ab"]
    other = Sample("a", "x", features=tmp_path / "two" / "a.pose")
    kind = kind_of(ours, 356)
    assert kind == PoseKind("mediapipe", Extractor("replay", "1", SETTINGS, 5), 25.0)
    assert PoseKind.read(json.loads(json.dumps(kind.described())), "card.json") == kind
    assert kind_of([Sample("a", "x", features=np.zeros((3, 356)))], 356) is None
    assert PoseKind.read(None, "card.json") is None
    with pytest.raises(ValueError, match=r"key points of several extractors: replay 1, fill 5 .* and replay 2"):
        kind_of([*ours, other], 356)
    check_kind(kind, ours)
    check_kind(kind, [Sample("a", "x", features=Path("elsewhere/a.pose"))])  # not known: the layout is checked alone
    with pytest.raises(ValueError, match=r"two/a.pose: key points of another extractor .* \(replay 2 against replay 1"):
        check_kind(kind, [other])
    assert folder_extractor(tmp_path) is None
    with pytest.raises(ValueError, match="does not name the extractor"):
        PoseKind.read({"layout": "mediapipe", "extractor": {"estimator": 3}, "fps": None}, "card.json")


def test_a_video_becomes_the_rows_that_training_read_and_another_extractor_is_refused(replay, tmp_path, monkeypatch):
    video = clip(tmp_path / "a.mp4")
    extract_poses(clips_in([video]), tmp_path / "poses", replay, progress=False)
    recipe = InputRecipe(pose_confidence=True)
    kind = PoseKind("mediapipe", Extractor("replay", "1", SETTINGS, 5), 25.0)
    monkeypatch.setattr("signcl.data.pose_estimation.pose_of_clip.start_holistic", lambda python: replay())
    reader = PoseReader(kind, Estimator(kind.extractor))
    notes = []
    rows = reader.rows(Sample("a", "", clip=video), recipe, notes.append)
    np.testing.assert_allclose(rows, read_pose(tmp_path / "poses" / "a.pose", confidence=True), atol=1e-5)
    assert notes == []
    reader.estimator.close()
    strange = PoseReader(kind, Estimator(Extractor("replay", "3", SETTINGS, 5)))
    with pytest.raises(ValueError, match=r"trained on key points of replay 3, .* another extractor \(replay 1 against"):
        strange.check()
    unknown = PoseReader(PoseKind("mediapipe", None, None), Estimator())
    with pytest.raises(ValueError, match="does not record the extractor of its mediapipe key points"):
        unknown.rows(Sample("a", "", clip=video), recipe, notes.append)


def test_a_corpus_of_videos_becomes_one_of_key_points(replay, tmp_path, monkeypatch):
    monkeypatch.setattr("signcl.data.pose_estimation.pose_of_clip.start_holistic", lambda python: replay())
    monkeypatch.setattr("signcl.inference.estimated_poses.start_holistic", lambda python: replay())
    kind = PoseKind("mediapipe", Extractor("replay", "1", SETTINGS, 5), None)
    samples = [
        Sample("a", "one", clip=clip(tmp_path / "a.mp4")),
        Sample("dark", "two", clip=clip(tmp_path / "dark.mp4", 5)),
    ]
    kept, broken = with_estimated_poses(samples, kind, tmp_path / "poses", progress=False)
    assert [(s.name, s.text, s.clip, s.features) for s in kept] == [("a", "one", None, tmp_path / "poses" / "a.pose")]
    assert list(broken) == ["dark"]


def test_a_run_of_key_points_takes_videos_wherever_it_takes_key_points(replay, tmp_path, monkeypatch):
    from signcl import fit
    from signcl.data.video import read_frames
    from signcl.inference.extraction import extract
    from signcl.inference.translation import load_model, translate
    from signcl.pages.uploads import Limits, Refused, read_upload
    from signcl.training.recipe import recipe_from_dict

    monkeypatch.setattr("signcl.data.pose_estimation.pose_of_clip.start_holistic", lambda python: replay())
    monkeypatch.setattr("signcl.inference.estimated_poses.start_holistic", lambda python: replay())
    videos, poses = tmp_path / "videos", tmp_path / "poses"
    for folder, ending in ((videos, "mp4"), (poses, "pose")):
        folder.mkdir()
        for split in ("train", "dev", "test"):
            rows = [f"{name}\t{name}.{ending}\t{text}" for name, text in (("a", "regen"), ("b", "sonne"))]
            (folder / f"{split}.tsv").write_text("\n".join(["name\tpath\ttext", *rows]) + "\n")
    extract_poses(clips_in([clip(videos / "a.mp4"), clip(videos / "b.mp4", frames=8)]), poses, replay, progress=False)
    sizes = {"conv_width": 16, "width": 16, "encoder_layers": 1, "decoder_layers": 1, "heads": 2, "ffn": 16}
    out = fit(recipe_from_dict({
        "out": str(tmp_path / "run"), "corpus": {"name": "folder", "root": str(poses)},
        "input": {"pose_confidence": True},
        "model": {"name": "gfslt", "visual": "pose_stream", "visual_dim": 8, **sizes},
        "train": {"epochs": 1, "batch_size": 2, "device": "cpu"}, "decode": {"max_new_tokens": 4},
    }), progress=False)  # fmt: skip
    model = load_model(out, device="cpu")
    assert model.run.poses == PoseKind("mediapipe", Extractor("replay", "1", SETTINGS, 5), 25.0)
    of_pose, of_video = (translate(model, place) for place in (poses / "a.pose", videos / "a.mp4"))
    of_array = translate(model, read_frames(videos / "a.mp4"))
    assert (of_pose.text, of_pose.num_frames) == (of_video.text, 6) == (of_array.text, of_array.num_frames)
    with pytest.raises(ValueError, match=r"dark\.mp4: no person was found"):
        translate(model, clip(tmp_path / "dark.mp4", 5))

    upload = tmp_path / "clip"  # a name without ending, as the server has it
    upload.write_bytes((videos / "a.mp4").read_bytes())
    rows = read_upload(upload, model.run, Limits(), print, model.poses)
    np.testing.assert_allclose(rows, read_pose(poses / "a.pose", confidence=True), atol=1e-5)
    upload.write_bytes((tmp_path / "dark.mp4").read_bytes())
    with pytest.raises(Refused, match="no person was found in any of its 6 frames"):
        read_upload(upload, model.run, Limits(), print, model.poses)
    model.poses.estimator.close()

    made = extract(out, tmp_path / "store", "test", root=str(videos), device="cpu", progress=False)
    assert (made.clips, made.rows) == (2, 14)
    assert sorted(path.name for path in (tmp_path / "store.poses").glob("*.pose")) == ["a.pose", "b.pose"]


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pose", "-o", "out"], "pose needs either CLIPS, or --corpus"),
        (["pose", "a.mp4", "--corpus", "folder", "-o", "out"], "pose needs either CLIPS, or --corpus"),
        (["pose", "a.mp4"], "pose needs -o DIR"),
        (["pose", "--corpus", "folder", "-o", "out"], "--corpus needs --root"),
        (["pose", "nowhere.mp4", "-o", "out"], "no such clip or folder"),
    ],
)
def test_wrong_use_is_one_line(words, said, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.fixture(scope="module")
def mediapipe():
    """The Python of the environment of MediaPipe."""
    try:
        return find_python()
    except FileNotFoundError:
        pytest.skip("MediaPipe's environment is not there; `signcl pose --install` makes it (about 400 MB)")


@pytest.mark.slow
def test_a_real_clip_has_the_points_that_mediapipe_found_in_it_before(mediapipe, real_data, tmp_path, capsys):
    video = real_data / "sample-videos" / "signer0_sample1000_color.mp4"
    assert main(["pose", str(video), "-o", str(tmp_path), "--pose-python", str(mediapipe), "--look", "1"]) == 0
    assert "1 clips, 43 frames" in capsys.readouterr().out
    ours = read_points(tmp_path / "signer0_sample1000_color.pose")["signer0_sample1000_color"].placed()
    theirs = read_points(real_data / "sample-videos" / "autsl_signer0_sample1000.pose")
    layout, points, seen = theirs["autsl_signer0_sample1000"].placed()
    assert ours[0] is layout
    for part, near in (("face", 0.1), ("right_hand", 3.0)):  # median pixels of 512; the body is smoothed otherwise
        first, last = layout.ranges()[part]
        both = (seen[:, 0, first:last] > 0) & (ours[2][:, 0, first:last] > 0)
        assert both.mean() > 0.9
        apart = np.linalg.norm(points[:, 0, first:last, :2] - ours[1][:, 0, first:last, :2], axis=2)[both]
        assert np.median(apart) < near
    assert all(first < last for first, last in PARTS.values())
