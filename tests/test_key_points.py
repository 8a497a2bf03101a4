"""Key points of every estimator: layouts, files, people, gaps, quality, and what is refused in one line."""

import json
import pickle
import typing
from pathlib import Path

import numpy as np
import pytest
import torch

from signcl import fit, load_recipe
from signcl.cli import main
from signcl.data.batch import Sample
from signcl.data.corpora import load_samples
from signcl.data.corpus_check import check_corpus
from signcl.data.features import count_feature_frames, look_at_features, open_features, read_features, with_features
from signcl.data.loading import check_size, load_raw
from signcl.data.pose_files import RawPoints
from signcl.data.poses import LAYOUTS, POINT_ORDERS, PoseReading, layout_of, other_layout, pose_rows, signer_points
from signcl.inference.translation import load_model, translate
from signcl.training.recipe import InputRecipe, recipe_from_dict

COCO = LAYOUTS["coco_wholebody"]
RECIPE = Path(__file__).parents[1] / "recipes" / "dgs_sentences" / "gfslt-pose.yaml"


def person(frames=12, points=133, at=(300.0, 200.0), width=80.0, seed=0, order="coco_wholebody133"):
    """x, y, confidence of a person whose shoulders are `width` pixels apart, each point at a place of its own."""
    random = np.random.default_rng(seed)
    clip = np.empty((frames, points, 3), np.float32)
    clip[..., :2] = random.uniform(-1, 1, (points, 2)) * width + at + random.normal(size=(frames, points, 2))
    left, right = POINT_ORDERS[order].columns[:2]
    clip[:, left, :2], clip[:, right, :2] = np.add(at, (width / 2, 0)), np.subtract(at, (width / 2, 0))
    clip[..., 2] = random.uniform(0.4, 0.9, (frames, points))
    if "left_hand" in (ranges := POINT_ORDERS[order].layout.ranges()):
        columns = POINT_ORDERS[order].columns
        for hand, wrist in (("left_hand", 4), ("right_hand", 5)):
            clip[:, columns[ranges[hand][0]], :2] = clip[:, columns[wrist], :2] + 1
    return clip


def by_hand(clip, layout="coco_wholebody133"):
    """Rows of x and y: points of the layout, from between the shoulders, in shoulder widths."""
    points = clip[:, list(POINT_ORDERS[layout].columns), :2]
    middle = (points[:, 0] + points[:, 1]).mean(axis=0) / 2
    apart = np.linalg.norm(points[:, 0] - points[:, 1], axis=1).mean()
    return ((points - middle) / apart).reshape(len(points), -1)


# --- the table ---------------------------------------------------------------------------------------------------


def test_the_table_of_orders_is_whole_and_a_recipe_knows_its_names():
    hints = typing.get_type_hints(InputRecipe)["pose_layout"]
    assert set(typing.get_args(hints)) == {"auto", *POINT_ORDERS}
    for order in POINT_ORDERS.values():
        assert len(order.columns) == len(set(order.columns)) == order.layout.points
        assert min(order.columns) >= 0
        assert max(order.columns) < order.points
    sizes = [layout.points * numbers for layout in LAYOUTS.values() for numbers in (2, 3, 4)]
    assert len(set(sizes)) == len(sizes)
    for layout in LAYOUTS.values():
        assert layout_of(3 * layout.points) == (layout, 3)
    assert POINT_ORDERS["coco_wholebody133"].columns[:8] == (5, 6, 7, 8, 9, 10, 11, 12)
    assert COCO.ranges()["left_hand"] == (76, 97)
    assert POINT_ORDERS["coco_wholebody133"].columns[76] == 91  # the root of the left hand in COCO-WholeBody
    assert POINT_ORDERS["openpose137"].columns[78] == 95  # body 25, face 70
    assert POINT_ORDERS["mediapipe543"].columns[136] == 33 + 468
    with pytest.raises(ValueError, match=r"input.pose_layout.*coco_wholebody133"):
        recipe_from_dict({"input": {"pose_layout": "openpose"}})
    with pytest.raises(ValueError, match=r"input\.pose_fill: needs a number from 0 to 1000, got -1"):
        recipe_from_dict({"input": {"pose_fill": -1}})
    with pytest.raises(ValueError, match=r"input\.pose_min_confidence"):
        recipe_from_dict({"input": {"pose_min_confidence": 1}})


BY_SHOULDERS = sorted(POINT_ORDERS.keys() - {"uni_sign133"})  # its own scale: test_official_uni_sign.py


@pytest.mark.parametrize("name", BY_SHOULDERS)
def test_an_array_of_every_order_gives_the_points_of_its_layout(name, tmp_path):
    order = POINT_ORDERS[name]
    clip = person(points=order.points, order=name)
    np.save(tmp_path / "a.npy", clip[..., :2])
    rows = read_features(tmp_path / "a.npy", "a", PoseReading(layout=name))
    assert layout_of(rows.shape[1])[0] is order.layout
    np.testing.assert_allclose(rows, by_hand(clip, name), atol=1e-4)
    if order.points == 543:
        with pytest.raises(ValueError, match="543 points can have 2 orders; choose yours with"):
            read_features(tmp_path / "a.npy")
    else:
        np.testing.assert_array_equal(read_features(tmp_path / "a.npy"), rows)


# --- files -------------------------------------------------------------------------------------------------------


def mmpose(clip, first=0):
    return [
        {"frame_id": t + first, "instances": [{"keypoints": f[:, :2].tolist(), "keypoint_scores": f[:, 2].tolist()}]}
        for t, f in enumerate(clip)
    ]


def openpose(folder: Path, clip, people=1, first=0) -> Path:
    folder.mkdir(parents=True)
    cuts = {"pose_keypoints_2d": (0, 25), "face_keypoints_2d": (25, 95)}
    cuts |= {"hand_left_keypoints_2d": (95, 116), "hand_right_keypoints_2d": (116, 137)}
    for t, frame in enumerate(clip):
        entry = {name: frame[start:stop].flatten().tolist() for name, (start, stop) in cuts.items()}
        file = folder / f"{folder.name}_{t + first:012d}_keypoints.json"
        file.write_text(json.dumps({"version": 1.3, "people": [entry] * people}))
    return folder


def test_one_clip_in_every_file_of_the_field_gives_the_same_rows(tmp_path):
    clip = person()
    xy, scores = clip[..., :2], clip[..., 2]
    np.save(tmp_path / "array.npy", clip)
    np.save(tmp_path / "batch.npy", clip[None])
    np.save(tmp_path / "people.npy", clip[:, None])
    np.save(tmp_path / "double.npy", clip.astype(np.float64))
    np.savez(tmp_path / "keys.npz", keypoints=xy, scores=scores)
    np.savez(tmp_path / "one.npz", clip)
    torch.save(torch.from_numpy(clip), tmp_path / "tensor.pt")
    torch.save({"keypoints": torch.from_numpy(xy), "scores": torch.from_numpy(scores)}, tmp_path / "keys.pt")
    pickles = {
        "unisign.pkl": {"keypoints": list(xy[:, None]), "scores": list(scores[:, None])},
        "stacked.pkl": {"keypoints": xy[:, None], "scores": scores[:, None]},
        "flat.pkl": {"keypoints": list(xy), "scores": list(scores)},
        "mska.pkl": {"train/mska": {"name": "train/mska", "keypoint": torch.from_numpy(clip), "text": "x"}},
        "records.pkl": [{"name": "records", "keypoint": clip, "gloss": "A"}],
        "bare.pkl": clip,
    }
    for name, content in pickles.items():
        (tmp_path / name).write_bytes(pickle.dumps(content))
    (tmp_path / "demo.json").write_text(json.dumps({"meta_info": {}, "instance_info": mmpose(clip, first=1)}))
    (tmp_path / "inferencer.json").write_text(json.dumps(mmpose(clip)))
    (tmp_path / "record.json").write_text(json.dumps({"keypoints": xy.tolist(), "scores": scores.tolist()}))
    alphapose = [{"image_id": f"{t}.jpg", "keypoints": f.flatten().tolist(), "score": 2.1} for t, f in enumerate(clip)]
    (tmp_path / "alphapose.json").write_text(json.dumps(alphapose))
    files = sorted(tmp_path.iterdir())
    assert len(files) == 18
    for file in files:
        rows = read_features(file, file.stem, PoseReading(confidence=True)).reshape(12, COCO.points, 3)
        np.testing.assert_allclose(rows[..., :2].reshape(12, -1), by_hand(clip), atol=1e-4, err_msg=file.name)
        columns = list(POINT_ORDERS["coco_wholebody133"].columns)
        np.testing.assert_allclose(rows[..., 2], scores[:, columns], atol=1e-6, err_msg=file.name)
        assert count_feature_frames(file, file.stem) == 12


def test_a_folder_of_openpose_is_a_clip_by_itself_and_in_a_corpus(tmp_path):
    clip = person(points=137, order="openpose137")
    folder = openpose(tmp_path / "json" / "c0", clip, first=40)
    rows = read_features(folder, "other name")
    np.testing.assert_allclose(rows, by_hand(clip, "openpose137"), atol=1e-4)
    (sample,) = with_features([Sample("c0", "regen", clip=Path("gone.mp4"))], tmp_path / "json")
    np.testing.assert_array_equal(load_raw(sample, InputRecipe()), rows)
    (tmp_path / "train.tsv").write_text("name\tpath\ttext\nc0\tjson/c0\tregen\n")
    (sample,) = load_samples("folder", tmp_path, "train")
    assert (sample.clip, sample.features) == (None, tmp_path / "json" / "c0")
    (folder / "._c0_000000000041_keypoints.json").write_bytes(b"\x00\x05mac")  # a Mac's shadow of a file
    assert len(read_features(folder)) == 12
    (folder / "c0_000000000045_keypoints.json").unlink()
    with pytest.raises(
        ValueError, match="frame 44 is followed by frame 46; frames without a person need an empty entry"
    ):
        read_features(folder)
    (folder / "c0_000000000045_keypoints.json").write_text('{"people": []}')
    assert not read_features(folder)[5].any()
    (folder / "c0_000000000045_keypoints.json").write_text('{"people": [{"pose_keypoints_2d": [1, 2, 3]}]}')
    with pytest.raises(ValueError, match=r"045_keypoints.json: has no face_keypoints_2d, .*run OpenPose with --face"):
        read_features(folder)


def test_a_folder_of_pickles_of_one_clip_each_is_a_source_by_name(tmp_path):
    for i in range(3):
        clip = person(9 + i, seed=i)
        record = {"keypoints": list(clip[:, None, :, :2]), "scores": list(clip[:, None, :, 2])}
        (tmp_path / f"c{i}.pkl").write_bytes(pickle.dumps(record))
    samples = with_features([Sample(f"c{i}", "regen", clip=Path("gone.mp4")) for i in range(3)], tmp_path)
    assert [load_raw(sample, InputRecipe(pose_confidence=True)).shape for sample in samples] == [
        (9 + i, 3 * 118) for i in range(3)
    ]


def test_a_pickle_that_says_where_its_clip_starts_and_ends_is_that_clip(tmp_path):
    clip = person(12)
    record = {"keypoints": list(clip[:, None, :, :2]), "scores": list(clip[:, None, :, 2])}
    (tmp_path / "whole.pkl").write_bytes(pickle.dumps(record))
    (tmp_path / "part.pkl").write_bytes(pickle.dumps(record | {"start": np.int64(2), "end": 9}))
    (tmp_path / "cut.pkl").write_bytes(pickle.dumps({key: value[2:9] for key, value in record.items()}))
    np.testing.assert_array_equal(read_features(tmp_path / "part.pkl"), read_features(tmp_path / "cut.pkl"))
    assert len(read_features(tmp_path / "whole.pkl")) == 12


REFUSED = {
    "unknown.npy": (np.zeros((5, 99, 3)), r"99 points are no known layout.*coco_wholebody133 \(body 17.*mediapipe33"),
    "numbers.npy": (np.zeros((5, 133, 4)) + 1, "x, y and a confidence, got 4 numbers per point"),
    "turned.npy": (np.ones((2, 60, 133, 3)), r"\(frames, people, points\), got \[2, 60, 133, 3\].*put frames first"),
    "inf.npy": (np.full((5, 133, 3), np.inf), "infinite key point in body"),
    "empty.npy": (np.zeros((0, 133, 3)), r"got \[0, 133, 3\]"),
    "nobody.npy": (np.zeros((5, 133, 3)), "no frame shows both shoulders"),
    "onepoint.npy": (np.ones((5, 133, 3)), "both shoulders are at the same point"),
    "text.npz": ({"keypoints": np.full((5, 133, 3), "a")}, "must be numbers|not numbers"),
    "axes.npz": ({"keypoints": np.ones((3, 5, 133))}, r"\[T, K, 2 to 4\].*got \[3, 5, 133\]"),
    "rows.npz": ({"keypoints": np.ones((5, 266))}, r"\[T, K, 2 to 4\].*got \[5, 266\]"),
    "scores.npz": ({"keypoints": np.ones((5, 133, 2)), "scores": np.ones((5, 17))}, r"need \[5, 133\].*\[5, 17\]"),
    "twice.npz": ({"keypoints": np.ones((5, 133, 3)), "scores": np.zeros((5, 133))}, "third number per point"),
    "lists.pkl": ({"keypoints": [np.ones((1, 133, 2))], "scores": []}, "1 frames of keypoints and 0 of scores"),
    "ragged.pkl": ({"keypoints": [np.ones((1, 133, 2)), np.ones((1, 17, 2))]}, r"frame 1: key points \[17, 2\]"),
    "words.pkl": ({"keypoints": ["a", "b"]}, "frame 0: needs key points .* got str"),
    "numbers.pkl": ({"keypoints": [7, 8]}, "frame 0: needs key points .* got int"),
    "infinite.npy": (np.full((5, 133, 2), np.inf), "infinite key point in body"),
    "huge.npy": (np.full((5, 133, 2), 1e300), "infinite key point in body"),
    "seconds.pkl": ({"keypoints": np.ones((5, 133, 2)), "start": 0.5, "end": 2.0}, "start: needs a frame from 0 to 5"),
    "beyond.pkl": ({"keypoints": np.ones((5, 133, 2)), "start": 0, "end": 6}, "end: needs a frame from 0 to 5, got 6"),
    "turned.pkl": ({"keypoints": np.ones((5, 133, 2)), "start": 3, "end": 3}, "starts at frame 3 and ends before"),
    "number.pkl": ({"keypoints": 7}, "keypoints needs an array.*got int"),
    "nothing.pkl": ({"keypoints": [None, []]}, "no frame has a person"),
    "half.pkl": ({"a": {"keypoint": np.ones((5, 133, 3))}, "b": {"text": "x"}}, "'b' has no key points"),
    "frame.json": ({"version": 1.3, "people": []}, "one frame of OpenPose; give the folder"),
    "keys.json": ({"boxes": [1]}, "JSON of MMPose.*got keys boxes"),
    "gap.json": ([{"frame_id": 1, "instances": []}, {"frame_id": 5, "instances": []}], "frame 1 is followed by"),
    "instances.json": ([{"frame_id": 1, "instances": [{"box": 1}]}], "instances need a list of entries with keypoints"),
    "halpe.json": ([{"image_id": "0.jpg", "keypoints": [1.0] * 136 * 3}], "136 points are no known layout"),
    "weights.pt": ({"layer.weight": torch.ones(3, 4), "layer.bias": torch.ones(3)}, "looks like weights of a model"),
    "object.pt": ({"a": Path("x")}, "a torch file that holds more than tensors.*write it with torch.save"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_read_right_is_refused_in_one_line_that_names_the_file(name, tmp_path):
    content, message = REFUSED[name]
    path = tmp_path / name
    write = {".npy": np.save, ".npz": lambda p, c: np.savez(p, **c), ".pt": lambda p, c: torch.save(c, p)}
    write[".pkl"] = lambda p, c: p.write_bytes(pickle.dumps(c))
    write[".json"] = lambda p, c: p.write_text(json.dumps(c))
    write[path.suffix](path, content)
    with pytest.raises(ValueError, match=message) as error:
        read_features(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_broken_bytes_of_every_kind_are_one_line(tmp_path):
    for name in ("a.json", "a.pt", "a.pkl", "a.npy", "a.npz", "a.pose"):
        path = tmp_path / name
        path.write_bytes(b"\x80\x04junk{[\x00")
        with pytest.raises(ValueError, match=name) as error:
            read_features(path)
        assert "\n" not in str(error.value)
        with pytest.raises(FileNotFoundError):
            read_features(tmp_path / "gone" / name)


def test_a_tensor_of_features_in_a_pt_file_is_features(tmp_path):
    torch.save(torch.arange(12.0).view(3, 4), tmp_path / "a.pt")
    np.testing.assert_array_equal(read_features(tmp_path / "a.pt", "other"), np.arange(12.0).reshape(3, 4))


# --- numbers -----------------------------------------------------------------------------------------------------


def points_of(clip) -> RawPoints:
    return RawPoints("clip", clip if clip.ndim == 4 else clip[:, None])


def test_nan_and_zero_mean_not_found_and_confidence_decides_where_there_is_one():
    clip = person()
    clip[3, 91, 0] = np.nan  # the root of the left hand
    clip[4, 91, :2] = 0.0
    clip[5, 91, 2] = -0.3
    clip[6, 91, 2] = 0.2
    rows = pose_rows(points_of(clip), PoseReading(confidence=True)).reshape(12, 118, 3)[:, 76]
    assert [bool(row.any()) for row in rows[3:7]] == [False, True, False, True]  # (0, 0) with a confidence is a place
    strict = pose_rows(points_of(clip), PoseReading(confidence=True, min_confidence=0.3)).reshape(12, 118, 3)[:, 76]
    assert not strict[6].any()
    bare = pose_rows(points_of(clip[..., :2]), PoseReading(confidence=True)).reshape(12, 118, 3)[:, 76]
    assert bare[:, 2].tolist() == [1, 1, 1, 0, 0] + [1] * 7
    clip[..., 2] *= 3
    assert pose_rows(points_of(clip), PoseReading(confidence=True)).reshape(12, 118, 3)[..., 2].max() == 1
    clip[..., 2] *= 30
    with pytest.raises(ValueError, match=r"confidences up to .*percent\? divide by 100"):
        pose_rows(points_of(clip), PoseReading(confidence=True))
    assert pose_rows(points_of(clip), PoseReading()).any()
    with pytest.raises(ValueError, match=r"has 2 dimensions per point, got input\.pose_dims=3"):
        pose_rows(points_of(clip), PoseReading(dims=3))


def test_mediapipe_rates_its_body_only_and_has_a_depth():
    clip = person(points=75, order="mediapipe75")
    depth = np.random.default_rng(1).normal(size=(12, 75, 1)).astype(np.float32)
    rated = np.concatenate([clip[..., :2], depth, clip[..., 2:]], axis=2)
    rated[:, 33:, 3] = 0.0  # hands have no visibility of their own
    rated[4, 33:54, :2] = np.nan  # the left hand of a frame was not found
    rows = pose_rows(points_of(rated), PoseReading(dims=3, confidence=True)).reshape(12, 50, 4)
    assert rows[3, 8:29].any(axis=1).all()
    assert not rows[4, 8:29].any()
    np.testing.assert_allclose(rows[:, 29:, 2], depth[:, 54:, 0] / 80 - depth[:, (11, 12), 0].mean() / 80, atol=1e-4)


def test_shares_of_a_wide_picture_are_stretched_by_its_aspect_and_pixels_are_not():
    pixels = person()
    shares = pixels.copy()
    shares[..., :2] /= (640, 360)
    wide = pose_rows(points_of(shares), PoseReading(aspect=640 / 360))
    np.testing.assert_allclose(wide, pose_rows(points_of(pixels), PoseReading(aspect=640 / 360)), atol=1e-3)
    assert not np.allclose(pose_rows(points_of(shares), PoseReading()), wide, atol=0.1)


def test_gaps_are_filled_on_a_straight_line_up_to_their_length():
    clip = person(frames=10)
    clip[:, 91, :2] = np.arange(10)[:, None] * (10.0, 20.0)
    clip[:, 91, 2] = 0.8
    clip[6:, 91, 2] = 0.5
    clip[[0, 3, 4], 91, 2] = 0  # the first frame, and a gap of two between 2 and 5
    clip[7:9, 112, 2] = 0
    bare = pose_rows(points_of(clip), PoseReading(confidence=True)).reshape(10, 118, 3)
    for fill, given in ((0, [False, False]), (1, [False, False]), (2, [True, True])):
        rows = pose_rows(points_of(clip), PoseReading(confidence=True, fill=fill)).reshape(10, 118, 3)
        assert [bool(rows[t, 76].any()) for t in (3, 4)] == given
        assert not rows[0, 76].any()
        if fill == 2:
            np.testing.assert_allclose(rows[3, 76, :2], (2 * bare[2, 76, :2] + bare[5, 76, :2]) / 3, atol=1e-5)
            assert rows[7, 97, 2] == min(bare[6, 97, 2], bare[9, 97, 2])
        else:
            np.testing.assert_array_equal(rows, bare)


# --- people ------------------------------------------------------------------------------------------------------


def test_a_signer_whose_number_changes_is_followed_beside_another_person():
    signer, other = person(40, width=80), person(40, at=(520, 220), width=60, seed=1)
    clip = np.stack([signer, other], axis=1)
    clip[13:] = clip[13:, ::-1]
    clip[25:] = clip[25:, ::-1]
    clip[31, :, :, 2] = 0  # nobody is found in a frame
    found = signer_points(points_of(clip), PoseReading())
    expected = signer[:, list(POINT_ORDERS["coco_wholebody133"].columns), :2]
    expected[31] = 0
    np.testing.assert_array_equal(found.points, expected)
    assert found.notes == ()


def test_the_more_visible_and_larger_person_is_the_signer_also_among_passers_by():
    signer = person(30, width=60)
    large = person(30, at=(900, 300), width=140, seed=1)
    large[5:, :, 2] = 0  # walks past the camera at the start
    small = person(30, at=(600, 210), width=30, seed=2)
    clip = np.stack([large, small, signer], axis=1)
    found = signer_points(points_of(clip), PoseReading())
    np.testing.assert_array_equal(found.points, signer[:, list(POINT_ORDERS["coco_wholebody133"].columns), :2])
    rival = np.stack([signer, person(30, at=(900, 300), width=60, seed=3)], axis=1)
    (note,) = signer_points(points_of(rival), PoseReading()).notes
    assert "two people are about equally large and clear in frames 0-29" in note


def test_a_lost_signer_is_not_replaced_by_the_other_person_and_a_cut_is_named():
    signer, other = person(30), person(30, at=(560, 200), width=50, seed=1)
    clip = np.stack([signer, other], axis=1)
    clip[20:26, 0, :, 2] = 0
    found = signer_points(points_of(clip), PoseReading())
    assert np.flatnonzero(~found.seen.any(axis=1)).tolist() == list(range(20, 26))
    assert "the signer is lost among other people in frames 20-25" in found.notes[0]
    cut = np.stack([signer, np.zeros_like(signer)], axis=1)
    cut[15:, 1] = person(15, at=(1500, 200), seed=1)
    cut[15:, 0, :, 2] = 0
    found = signer_points(points_of(cut), PoseReading())
    assert found.seen.any(axis=1).all()
    assert found.notes == ("the person has moved far in frame 15; another person, or a cut",)


def test_people_may_differ_in_number_from_frame_to_frame(tmp_path):
    signer, other = person(20), person(20, at=(700, 200), width=50, seed=1)
    frames = [[f, g] if t % 3 else [g, f] if t % 2 else [f] for t, (f, g) in enumerate(zip(signer, other))]
    frames[7] = []
    entries = [
        {"frame_id": t, "instances": [{"keypoints": p[:, :2].tolist(), "keypoint_scores": p[:, 2].tolist()} for p in f]}
        for t, f in enumerate(frames)
    ]
    (tmp_path / "a.json").write_text(json.dumps(entries))
    rows, clip = look_at_features(tmp_path / "a.json")
    assert clip is not None
    assert clip.notes == ()
    there = [t for t in range(20) if t != 7]
    np.testing.assert_allclose(rows[there], by_hand(signer[there]), atol=1e-4)
    assert not rows[7].any()


# --- quality, training and use -----------------------------------------------------------------------------------


def test_the_check_says_how_often_hands_are_missing_and_which_clips_lack_most(tmp_path, capsys):
    lines = ["name\tpath\ttext"]
    for i in range(4):
        clip = person(10, seed=i)
        clip[: 2 * i, 91:112, 2] = 0  # the left hand: 0, 2, 4, 6 of 10 frames
        clip[:i, 112:, 2] = 0  # the right hand: 0, 1, 2, 3
        np.save(tmp_path / f"c{i}.npy", clip)
        lines.append(f"c{i}\tc{i}.npy\tregen {i}")
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    (note,) = check_corpus(tmp_path, splits=("train",))
    assert note.level == "note"
    assert "4 clips of key points (coco_wholebody), 40 frames" in note.what
    assert "frames without body 0.0%, left hand 30.0%, right hand 15.0%, either hand 15.0%, face 0.0%" in note.what
    assert "most without either hand: c3 30%, c2 20%, c1 10%" in note.what
    (strict,) = check_corpus(tmp_path, splits=("train",), pose=PoseReading(min_confidence=0.95))[-1:]
    assert strict.level == "error"  # nothing is left: no shoulders
    assert main(["corpus", "check", str(tmp_path), "--json"]) == 0
    assert any(p["level"] == "note" for p in json.loads(capsys.readouterr().out))
    assert main(["corpus", "check", str(tmp_path), "--pose-layout", "nonsense"]) == 2
    assert "--pose-layout: needs one of auto, coco_wholebody133" in capsys.readouterr().err
    gone = check_corpus(tmp_path, splits=("train",), features=str(tmp_path / "gone.pkl"))
    assert [(p.file, p.what[:12]) for p in gone] == [(str(tmp_path / "gone.pkl"), "no such file")]
    np.save(tmp_path / "c3.npy", person(10, points=137, order="openpose137"))
    assert "3 of coco_wholebody (such as c0), 1 of openpose (such as c3)" in str(check_corpus(tmp_path)[-2:])


def test_points_in_another_order_than_the_named_one_are_warned_about(tmp_path):
    clip = person(points=137, order="openpose137")
    exchanged = np.concatenate([clip[:, :95], clip[:, 116:], clip[:, 95:116]], axis=1)
    hands_first = np.concatenate([clip[:, :25], clip[:, 95:], clip[:, 25:95]], axis=1)
    hands_first[:, 25:67, :2] += (0, 200)
    for points, what in ((exchanged, "left and right hand are swapped"), (hands_first, "not where the wrists are")):
        np.save(tmp_path / "c.npy", points)
        (tmp_path / "train.tsv").write_text("name\tpath\ttext\nc\tc.npy\tregen\n")
        first = check_corpus(tmp_path, splits=("train",))[0]
        assert first.level == "warning"
        assert what in first.what


def test_two_people_are_named_by_the_check_with_their_frames(tmp_path):
    clip = np.stack([person(30), person(30, at=(900, 300), seed=3)], axis=1)
    np.save(tmp_path / "c.npy", clip)
    (tmp_path / "train.tsv").write_text("name\tpath\ttext\nc\tc.npy\tregen\n")
    first = check_corpus(tmp_path, splits=("train",))[0]
    assert first.level == "warning"
    assert "two people are about equally large and clear in frames 0-29" in first.what


def test_a_layout_other_than_that_of_training_is_refused_by_its_missing_parts(tmp_path):
    whole, hands, body = (LAYOUTS[name].points * 2 for name in ("mediapipe", "mediapipe_hands", "mediapipe_body"))
    assert "missing face, left_hand, right_hand; extract the same kind of key points as in training" in other_layout(
        whole, body
    )
    assert "the model does not use left_hand, right_hand" in other_layout(body, hands)
    assert "its face (70 points, here 68) differ" in other_layout(240, 236)
    assert "with 2 numbers per point, these have 3" in other_layout(236, 354)
    assert other_layout(512, 236) == ""
    np.save(tmp_path / "body.npy", person(points=33, order="mediapipe33")[..., :2])
    with pytest.raises(
        ValueError, match=r"trained on coco_wholebody key points .* missing face, left_hand, right_hand"
    ):
        check_size([Sample("body", "regen", features=tmp_path / "body.npy")], InputRecipe(), 236)


def test_a_run_on_one_layout_translates_its_files_and_names_what_another_lacks(tmp_path):
    lines = ["name\tpath\ttext"]
    for i in range(4):
        np.save(tmp_path / f"c{i}.npy", person(10, seed=i))
        lines.append(f"c{i}\tc{i}.npy\tregen im norden")
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    changes = ["corpus.name=folder", "corpus.options={}", f"corpus.root={tmp_path}", f"out={tmp_path}/run",
               "train.epochs=1", "train.evaluate_every=1", "train.device=cpu", "model.visual_dim=8", "model.width=16",
               "model.conv_width=16", "model.ffn=16", "model.heads=2", "model.encoder_layers=1",
               "model.decoder_layers=1", "input.pose_fill=3"]  # fmt: skip
    model = load_model(fit(load_recipe(RECIPE, changes), progress=False), device="cpu")
    clip = person(12, seed=9)
    record = {"keypoints": list(clip[:, None, :, :2]), "scores": list(clip[:, None, :, 2])}
    (tmp_path / "new.pkl").write_bytes(pickle.dumps(record))
    np.save(tmp_path / "new.npy", clip)
    assert translate(model, tmp_path / "new.pkl").text == translate(model, tmp_path / "new.npy").text
    two = np.stack([clip, person(12, at=(900, 300), seed=3)], axis=1)
    np.save(tmp_path / "two.npy", two)
    assert "about equally large and clear in frames 0-11" in translate(model, tmp_path / "two.npy").notes[0]
    assert translate(model, tmp_path / "new.npy").notes == ()
    np.save(tmp_path / "body.npy", person(points=33, order="mediapipe33")[..., :2])
    with pytest.raises(
        ValueError, match=r"body\.npy: the model was trained on coco_wholebody .* missing face, left_hand"
    ):
        translate(model, tmp_path / "body.npy")
    with pytest.raises(ValueError, match=r"openpose: the model was trained on coco_wholebody .* these are openpose"):
        translate(model, openpose(tmp_path / "openpose", person(points=137, order="openpose137")))


# --- real files --------------------------------------------------------------------------------------------------


def reader_cases(real_data: Path) -> Path:
    folder = real_data / "reader-cases" / "pose"
    if not folder.is_dir():
        pytest.skip("no reader-cases among the real data")
    return folder


def test_the_pickles_of_mska_and_uni_sign_are_read_as_key_points(real_data):
    folder = reader_cases(real_data)
    mska = open_features(folder / "keypoints133-mska.pkl")
    assert (mska.names, mska.dim, mska.lengths) == (["c0", "c1"], 236, {"c0": 20, "c1": 20})
    uni = read_features(folder / "keypoints133-unisign.pkl", "any name", PoseReading(confidence=True))
    assert uni.shape == (20, 3 * 118)
    raw = pickle.loads((folder / "keypoints133-unisign.pkl").read_bytes())  # ours, and safe: numpy arrays only
    clip = np.concatenate(raw["keypoints"]).astype(np.float32)
    np.testing.assert_allclose(uni.reshape(20, 118, 3)[..., :2].reshape(20, -1), by_hand(clip), atol=1e-4)


def test_a_signer_that_changes_index_half_way_is_read_throughout(real_data):
    path = reader_cases(real_data) / "person-swap.pose"
    pytest.importorskip("pose_format", reason="pose-format is not installed (pip install 'signcl[pose]')")
    rows, clip = look_at_features(path)
    assert len(rows) == 170
    assert rows.any(axis=1).all()
    assert clip is not None
    assert all("frame 85" in note for note in clip.notes)


def test_real_poses_have_hands_and_no_warning(real_data):
    root = real_data / "dgs-sentences32"
    if not root.is_dir():
        pytest.skip("no dgs-sentences32 among the real data")
    pytest.importorskip("pose_format", reason="pose-format is not installed (pip install 'signcl[pose]')")
    found = check_corpus(root, "dgs_sentences", splits=("train",))
    assert [problem.level for problem in found] == ["note"]
    assert "16 clips of key points (mediapipe), 910 frames" in found[0].what
