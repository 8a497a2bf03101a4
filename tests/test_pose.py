"""Poses: files as features, the encoder of key points, and the German sentences that come as poses."""

import builtins
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from signcl import fit, load_recipe
from signcl.data.batch import Batch, Sample
from signcl.data.corpora import load_samples
from signcl.data.corpora.dgs_sentences import joined_signs
from signcl.data.corpus_check import check_corpus
from signcl.data.features import count_feature_frames, read_features, with_features
from signcl.data.loading import collate, load_raw
from signcl.data.poses import LAYOUTS, layout_of, read_pose
from signcl.inference.translation import load_model, translate
from signcl.losses import signcl_loss
from signcl.systems.encoders import PoseStream, build_visual
from signcl.systems.parts.frames import frame_features
from signcl.training import run_folder
from signcl.training.recipe import InputRecipe, recipe_from_dict

pose_format = pytest.importorskip("pose_format", reason="pose-format is not installed (pip install 'signcl[pose]')")
MEDIAPIPE = LAYOUTS["mediapipe"]
RECIPE = Path(__file__).parents[1] / "recipes" / "dgs_sentences" / "gfslt-pose.yaml"


def write_pose(path, points, seen, *, layout="mediapipe", extra=0, people=1, dims=3) -> Path:
    """A .pose file of the layout's points (and points of no use in front of each part), written by pose-format."""
    from pose_format import Pose
    from pose_format.numpy.pose_body import NumPyPoseBody
    from pose_format.pose_header import PoseHeader, PoseHeaderComponent, PoseHeaderDimensions

    components, columns, start = [], [], 0
    for part in LAYOUTS[layout].parts:
        names = [f"other{n}" for n in range(extra)] + list(
            part.points or [f"{part.name}{n}" for n in range(part.count)]
        )
        components.append(PoseHeaderComponent(part.component, names, [], [], "XYZC"[:dims] + "C" * (dims < 4)))
        columns += range(start + extra, start + len(names))
        start += len(names)
    data = np.zeros((len(points), people, start, dims), np.float32)
    confidence = np.zeros(data.shape[:3], np.float32)
    data[:, -1, columns], confidence[:, -1, columns] = points[..., :dims], seen
    body = NumPyPoseBody(25, np.ma.masked_array(data, np.repeat(confidence[..., None] == 0, dims, 3)), confidence)
    with path.open("wb") as file:
        Pose(PoseHeader(0.1, PoseHeaderDimensions(640, 480, 0), components), body).write(file)
    return path


def walk(frames=9, points=178, seed=0):
    """Points that wander around places of their own, in pixels, and which of them are seen."""
    random = np.random.default_rng(seed)
    rows = random.uniform(100, 400, (points, 3)) + random.normal(size=(frames, points, 3)).cumsum(axis=0) * 4
    seen = (random.random((frames, points)) > 0.2) * random.uniform(0.5, 1, (frames, points))
    seen[:, :2] = 0.9
    return rows.astype(np.float32), seen.astype(np.float32)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("confidence", [False, True])
def test_points_are_seen_from_between_the_shoulders_and_missing_ones_are_zero(tmp_path, dims, confidence):
    points, seen = walk()
    rows = read_pose(write_pose(tmp_path / "a.pose", points, seen, extra=3), dims=dims, confidence=confidence)
    assert rows.dtype == np.float32
    assert rows.shape == (9, 178 * (dims + confidence))
    table = rows.reshape(9, 178, -1)
    middle = points[:, :2, :dims].mean(axis=(0, 1))
    apart = np.mean([np.linalg.norm(frame[0, :2] - frame[1, :2]) for frame in points])
    for t in range(9):
        for k in range(178):
            expected = (points[t, k, :dims] - middle) / apart if seen[t, k] > 0 else np.zeros(dims)
            np.testing.assert_allclose(table[t, k, :dims], expected, atol=1e-5)
    if confidence:
        np.testing.assert_allclose(table[..., -1], seen, atol=1e-6)


def test_size_and_place_of_the_signer_change_nothing(tmp_path):
    points, seen = walk()
    rows = read_pose(write_pose(tmp_path / "a.pose", points, seen))
    moved = read_pose(write_pose(tmp_path / "b.pose", points * 2.5 + 70, seen))
    np.testing.assert_allclose(moved, rows, atol=1e-4)


def test_of_two_people_the_clearer_one_is_read_and_openpose_has_its_own_points(tmp_path):
    points, seen = walk(points=120)
    rows = read_pose(write_pose(tmp_path / "a.pose", points, seen, layout="openpose", dims=2))
    two = read_pose(write_pose(tmp_path / "b.pose", points, seen, layout="openpose", dims=2, people=2))
    assert rows.shape == (9, 240)
    np.testing.assert_array_equal(two, rows)
    with pytest.raises(ValueError, match=r"has 2 dimensions per point, got input\.pose_dims=3"):
        read_pose(tmp_path / "a.pose", dims=3)


def test_what_is_no_pose_gets_one_clear_line(tmp_path, monkeypatch):
    points, seen = walk()
    seen[:, 0] = 0
    with pytest.raises(ValueError, match="no frame shows both shoulders"):
        read_pose(write_pose(tmp_path / "a.pose", points, seen))
    (tmp_path / "broken.pose").write_bytes(b"\x00" * 7)
    with pytest.raises(ValueError, match=r"broken.pose: not a readable .pose file"):
        read_pose(tmp_path / "broken.pose")
    with pytest.raises(FileNotFoundError):
        read_pose(tmp_path / "nowhere.pose")
    with pytest.raises(ValueError, match="2 or 3 dimensions, got 4"):
        read_pose(tmp_path / "a.pose", dims=4)
    with pytest.raises(ValueError, match=r"input\.pose_dims: needs a number from 2 to 3, got 1"):
        recipe_from_dict({"input": {"pose_dims": 1}})
    real = builtins.__import__

    def without(name, *arguments, **more):
        if name == "pose_format":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        ValueError, match=r"needs the package pose-format; install it with pip install 'signcl\[pose\]'"
    ):
        read_pose(tmp_path / "a.pose")


def test_a_layout_is_known_by_the_size_of_its_rows():
    assert (layout_of(356)[0].name, layout_of(356)[1]) == ("mediapipe", 2)
    assert (layout_of(534)[0].name, layout_of(534)[1]) == ("mediapipe", 3)
    assert (layout_of(360)[0].name, layout_of(360)[1]) == ("openpose", 3)
    assert MEDIAPIPE.points == 178
    assert MEDIAPIPE.ranges()["right_hand"] == (157, 178)
    with pytest.raises(ValueError, match=r"got rows of 36; .* model\.visual=feature_mlp"):
        layout_of(36)


def test_a_folder_of_poses_is_a_corpus_of_features(tmp_path):
    lines = ["name\tpath\ttext"]
    for i in range(3):
        write_pose(tmp_path / f"c{i}.pose", *walk(9 + i, seed=i))
        lines.append(f"c{i}\tc{i}.pose\tregen im norden")
    (tmp_path / "train.tsv").write_text("\n".join(lines) + "\n")
    samples = load_samples("folder", tmp_path, "train")
    assert samples[1].clip is None
    assert load_raw(samples[1], InputRecipe()).shape == (10, 356)
    assert load_raw(samples[1], InputRecipe(pose_dims=3, pose_confidence=True)).shape == (10, 712)
    assert count_feature_frames(samples[2].features) == 11
    np.testing.assert_array_equal(read_features(samples[0].features), read_pose(tmp_path / "c0.pose"))
    videos = [Sample(f"c{i}", "regen", clip=Path("gone.mp4")) for i in range(3)]
    assert with_features(videos, tmp_path)[2].features == tmp_path / "c2.pose"
    assert [p for p in check_corpus(tmp_path) if p.level == "error"] == []


# --- the encoder -------------------------------------------------------------------------------------------------


def pose_batch(lengths, seed=0, dim=534) -> Batch:
    random = np.random.default_rng(seed)
    arrays = [random.normal(size=(n, dim)).astype(np.float32) for n in lengths]
    for rows in arrays:
        rows[::3, 420:] = 0.0  # the hands are lost in every third frame
    return collate([Sample(f"c{i}", "regen") for i in range(len(lengths))], arrays)


def shaken(model):
    """Batch norms as after some training."""
    torch.manual_seed(1)
    for part in model.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.running_mean.uniform_(-0.5, 0.5)
            part.running_var.uniform_(0.5, 2)
    return model.eval()


def test_a_clip_alone_gives_what_it_gives_in_a_padded_batch():
    model = shaken(PoseStream(534, 24))
    batch = pose_batch([9, 23, 1])
    features, lengths = frame_features(model, batch)
    assert features.shape == (3, 23, 24)
    assert torch.equal(lengths, batch.lengths)
    start = 0
    for row, length in enumerate([9, 23, 1]):
        alone = collate([Sample("one", "")], [batch.inputs[start : start + length].numpy()])
        torch.testing.assert_close(frame_features(model, alone)[0][0], features[row, :length], atol=1e-5, rtol=0)
        assert not features[row, length:].any()
        start += length


def test_a_frame_sees_the_kernel_around_it_and_no_further():
    model, batch = shaken(PoseStream(356, 16, kernel=5)), pose_batch([20], dim=356)
    before = frame_features(model, batch)[0]
    batch.inputs[10] += 1.0
    changed = (frame_features(model, batch)[0] - before)[0].abs().amax(dim=1) > 1e-6
    assert changed.nonzero().flatten().tolist() == [8, 9, 10, 11, 12]


def test_a_hand_is_seen_from_its_wrist_and_a_lost_point_stays_zero():
    model = shaken(PoseStream(356, 16, kernel=1))
    hand = model.parts["left_hand"]
    points = torch.randn(4, 21, 2)
    points[1, 5] = 0.0
    moved = torch.where(points.any(dim=2, keepdim=True), points + 0.3, points)
    torch.testing.assert_close(hand(moved), hand(points), atol=1e-5, rtol=0)
    found = points.clone()
    found[1, 5] = points[1, 0]  # where the wrist is: zero as seen from it, as a lost point is
    torch.testing.assert_close(hand(found), hand(points), atol=1e-5, rtol=0)


def test_every_weight_learns_and_signcl_reaches_them():
    model, batch = build_visual("pose_stream", feature_dim=534, dim=16).train(), pose_batch([30, 25])
    assert isinstance(model, PoseStream)
    features, lengths = frame_features(model, batch)
    signcl_loss(features, lengths, 4, distance_margin_mode="relative").backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []
    assert all(part.graph[0].correction.grad.any() for part in model.parts.values())


def test_its_parameters_by_formula():
    hidden, dim, c = 16, 128, 3
    parts = [(8, 2 * 8 * c), (128, 2 * 128 * c), (21, 2 * 21 * c), (21, 2 * 21 * c)]
    graph = sum(norm + 2 * k * k + (c * hidden + 3 * hidden) + (hidden * hidden + 3 * hidden) + k * hidden * dim + dim
                for k, norm in parts)  # fmt: skip
    time = 4 * (5 * dim * dim + dim)
    joined = 2 * 4 * dim + 4 * dim * dim + dim + 2 * dim
    assert sum(p.numel() for p in PoseStream(534).parameters()) == graph + time + joined == 797_520


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="odd kernel"):
        PoseStream(356, kernel=4)
    with pytest.raises(ValueError, match=r"needs key points \[N, 356\].*pose_confidence"):
        PoseStream(356).encode_clips(pose_batch([5]))
    with pytest.raises(ValueError, match="needs a corpus of features"):
        build_visual("pose_stream")


# --- real poses --------------------------------------------------------------------------------------------------


def test_real_files_of_every_kind_give_their_layout(real_data):
    if not (real_data / "poses-misc").is_dir():
        pytest.skip("no poses-misc among the real data")
    files = [*(real_data / "poses-misc").glob("*.pose"), *(real_data / "phoenix14t-pose1").glob("*.pose")]
    assert len(files) >= 5
    for file in files:
        rows = read_pose(file, confidence=True)
        layout, channels = layout_of(rows.shape[1])
        assert layout.name == ("openpose" if "openpose" in file.name else "mediapipe")
        table = rows.reshape(len(rows), layout.points, channels)
        assert np.isfinite(rows).all()
        assert not table[table[..., 2] == 0].any()
        assert abs(table[:, :2, :2].mean()) < 0.05  # the shoulders' middle
        assert 0.8 < np.linalg.norm(table[:, 0, :2] - table[:, 1, :2], axis=1).mean() < 1.2
        assert np.abs(table[..., :2]).max() < 4  # nothing is farther than four shoulder widths


def test_joins_are_found_where_signs_of_any_length_are_put_together():
    random = np.random.default_rng(0)
    for lengths in ([5, 7, 4], [2, 6, 2, 3], [9], [4, 2, 2, 5]):
        pieces = [random.normal(size=(n, 6)) for n in lengths]
        rows, spans, at = [pieces[0]], [], 0
        for before, after in pairwise(pieces):
            steps = np.arange(1, 4)[:, None] / 4
            rows += [before[-1] + steps * (after[0] - before[-1]), after]
        for n in lengths:
            spans.append((at, at + n))
            at += n + 3
        assert joined_signs(np.concatenate(rows)) == spans


def test_the_german_sentences_have_the_frames_of_all_their_signs(real_data):
    root = real_data / "dgs-sentences32"
    if not root.is_dir():
        pytest.skip("no dgs-sentences32 among the real data")
    annotated, found = [], []
    for split in ("train", "test"):
        samples = load_samples("dgs_sentences", root, split)
        assert len(samples) == 16
        for sample in samples:
            glosses = json.loads((root / f"{sample.name}_metadata.json").read_text())["sentence"]["glosses"]
            assert tuple(str(span.token) for span in sample.spans) == sample.gloss == tuple(glosses["gloss"])
            annotated += [(stop - start) / 40 for start, stop in zip(glosses["start"], glosses["end"])]
            found += [span.stop - span.start for span in sample.spans]
    assert len(found) == 190
    assert np.corrcoef(annotated, found)[0, 1] > 0.95  # an outside check: lengths by milliseconds, 25 frames a second
    assert len(load_samples("dgs_sentences", root, "train", language="english", spans=False)) == 15
    assert next(s.name for s in load_samples("dgs_sentences", root, "dev", dev="train", spans=False)) == "train_1"
    with pytest.raises(ValueError, match="needs one of german, english, got 'french'"):
        load_samples("dgs_sentences", root, "train", language="french")
    assert [p for p in check_corpus(root, "dgs_sentences", options={"dev": "test"}) if p.level == "error" and
            "data leak" not in p.what] == []  # fmt: skip


@pytest.mark.slow
def test_four_german_sentences_are_learned_by_heart_from_their_poses(real_data, tmp_path):
    root = real_data / "dgs-sentences32"
    if not root.is_dir():
        pytest.skip("no dgs-sentences32 among the real data")
    small = tmp_path / "four"
    small.mkdir()
    for i in (4, 5, 8, 13):
        for copy in range(8):  # epochs are few: each writes a resumable state
            for end in ("original.pose", "metadata.json"):
                (small / f"train_{i + 100 * copy}_{end}").write_bytes((root / f"train_{i}_{end}").read_bytes())
    changes = [f"corpus.root={small}", f"out={tmp_path}/run", "train.epochs=18", "train.evaluate_every=18",
               "train.bucket=false", "train.device=cpu", "train.lr=0.002", "model.visual_dim=32", "model.width=64",
               "model.conv_width=64"]  # fmt: skip
    run = fit(load_recipe(RECIPE, changes), progress=False)
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines() if '"dev"' in line][-1]
    assert last["translation"] < 0.1
    assert last["exact_match"] == 100
    assert run_folder.read_card(run)["feature_dim"] == 534
    model = load_model(run, device="cpu")
    sentence = json.loads((small / "train_5_metadata.json").read_text())["sentence"]["german"]
    assert translate(model, small / "train_5_original.pose").text == sentence.strip()
