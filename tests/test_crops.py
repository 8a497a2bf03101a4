"""Pictures of hands and face beside key points: where they are cut, what is stored, and what Uni-Sign makes of them."""

import json
import shutil

import numpy as np
import pytest
import torch
from test_vision_encoders import vision  # noqa: F401  (a fixture)

from signcl.cli import main
from signcl.data.batch import Batch, pack_positions
from signcl.data.features import FeatureStore, look_at_features
from signcl.data.loading import load_raw, load_samples
from signcl.data.pose_crops import only_parts, part_squares
from signcl.data.pose_layouts import LAYOUTS
from signcl.data.poses import PoseClip
from signcl.data.sections import InputRecipe
from signcl.systems.encoders import GraphsConfig, PartGraphs, open_vision
from signcl.systems.encoders.published_crops import cut_squares
from signcl.systems.parts.transfer import transfer_parts
from signcl.training.runs import load_run

HANDS = ("left_hand", "right_hand")
COCO = LAYOUTS["coco_wholebody"]


def clip_of(frames, small=False, **boxes):
    """A clip whose parts fill these boxes (x, y, width, height) in each frame; None: not found."""
    points, seen = np.zeros((frames, COCO.points, 2)), np.zeros((frames, COCO.points))
    for part, of_frames in boxes.items():
        first, last = COCO.ranges()[part]
        for t, box in enumerate(of_frames):
            if box is not None:
                x, y, width, height = box
                corners = np.resize([[x, y], [x + width, y + height], [x, y + height]], (last - first, 2))
                points[t, first:last], seen[t, first:last] = corners, 1
    return PoseClip("here", COCO, points, seen, small=small)


def test_a_square_by_hand():
    clip = clip_of(3, left_hand=[(10, 20, 8, 4), (10, 20, 2, 2), (0, 0, 20, 10)], face=[(40, 0, 6, 8), None, None])
    squares, found = part_squares(clip, ["face", "left_hand", "right_hand"], (100, 100))
    assert found.tolist() == [[True, True, False], [False, True, False], [False, True, False]]
    assert squares[0, 0].tolist() == [43, 4, 12]  # 1.5 times the larger side
    assert squares[0, 1].tolist() == [14, 22, 12]
    assert squares[1, 1].tolist() == [11, 21, 12], "a fist is not enlarged beyond the median of the clip"
    assert squares[2, 1].tolist() == [10, 5, 30]
    assert not squares[:, 2].any()


def test_a_short_gap_is_filled_and_relative_points_are_scaled():
    clip = clip_of(4, left_hand=[(10, 10, 4, 4), None, None, (40, 10, 4, 4)])
    squares, found = part_squares(clip, ["left_hand"], (100, 100), fill=2)
    assert found.all()
    assert squares[:, 0, 0].tolist() == [12, 22, 32, 42]
    assert part_squares(clip, ["left_hand"], (100, 100), fill=1)[1].sum() == 2
    small = clip_of(1, small=True, left_hand=[(0.1, 0.1, 0.2, 0.2)])
    squares, _ = part_squares(small, ["left_hand"], (200, 100))
    np.testing.assert_allclose(squares[0, 0], [40, 20, 60])  # 40 pixels wide, 20 high
    two = only_parts(clip, ["face", "left_hand"])
    assert [part.name for part in two.layout.parts] == ["face", "left_hand"]
    assert (part_squares(two, ["left_hand"], (9, 9))[0] == part_squares(clip, ["left_hand"], (9, 9))[0]).all()
    with pytest.raises(ValueError, match=r"key points \(mediapipe_body\) have no face to cut out"):
        only_parts(PoseClip("x", LAYOUTS["mediapipe_body"], np.zeros((1, 8, 2)), np.zeros((1, 8))), ["face"])


def test_a_square_of_whole_pixels_is_those_pixels_and_outside_is_black():
    frames = torch.from_numpy(np.random.default_rng(0).integers(1, 256, (2, 12, 16, 3), dtype=np.uint8))
    cut = cut_squares(frames, torch.tensor([[6.0, 5.0, 4.0], [15.0, 11.0, 6.0]]), (4, 4))
    torch.testing.assert_close(cut[0], frames[0, 3:7, 4:8].permute(2, 0, 1).float(), atol=1e-3, rtol=0)
    whole = cut_squares(frames, torch.tensor([[6.0, 5.0, 4.0], [15.0, 11.0, 6.0]]), (6, 6))[1]
    torch.testing.assert_close(whole[:, :4, :4], frames[1, 8:12, 12:16].permute(2, 0, 1).float(), atol=1e-3, rtol=0)
    assert not whole[:, 4:].any()
    assert not whole[:, :, 4:].any()


# -- a row of key points and pictures ---------------------------------------------------------------------------------

POINTS, SIZE = 354, 5  # x, y and confidence of the layout


def graphs(crops=HANDS):
    torch.manual_seed(0)
    made = PartGraphs(POINTS + SIZE * len(crops), 16, GraphsConfig(list(crops), SIZE if crops else 0))
    for picture in made.pictures.values():
        torch.nn.init.normal_(picture.weight)
    return made.eval()


def batch_of(rows, lengths):
    names = [f"c{i}" for i in range(len(lengths))]
    words = torch.full((len(lengths),), 3.0)
    return Batch(names, names, rows, pack_positions(lengths), torch.tensor(lengths), max(lengths), words)


def test_pictures_start_without_effect_and_reach_their_own_hand_only():
    torch.manual_seed(1)
    lengths, plain, seen = [7, 3], graphs(()), graphs()
    rows = torch.randn(10, POINTS + 2 * SIZE)
    seen.load_state_dict(plain.state_dict(), strict=False)
    for picture in seen.pictures.values():
        torch.nn.init.zeros_(picture.weight)
    before = seen.encode_clips(batch_of(rows, lengths))[0]
    torch.testing.assert_close(before, plain.encode_clips(batch_of(rows[:, :POINTS], lengths))[0])
    seen = graphs()
    first = seen.encode_clips(batch_of(rows, lengths))[0].unflatten(2, (4, 4))  # body, left, right, face
    rows[:, -SIZE:] = 0  # the right hand was not found
    second = seen.encode_clips(batch_of(rows, lengths))[0].unflatten(2, (4, 4))
    changed = (first != second).any(dim=-1).any(dim=0).any(dim=0)
    assert changed.tolist() == [False, False, True, False]
    alone = seen.encode_clips(batch_of(rows[7:], [3]))[0]
    torch.testing.assert_close(second.flatten(2)[1, :3], alone[0])
    padded = torch.zeros(2, 7, rows.shape[1])
    padded[0], padded[1, :3] = rows[:7], rows[7:]
    torch.testing.assert_close(seen.encode_padded(padded, torch.tensor(lengths)), second.flatten(2))
    seen.encode_clips(batch_of(rows, lengths))[0].sum().backward()
    assert seen.pictures["hand"].weight.grad.abs().sum() > 0


@pytest.mark.parametrize(("dim", "config", "said"), [
    (POINTS + 10, GraphsConfig(["left_hand"], 5), "1 crops of crop_size 5 leave 359 for the key points"),
    (POINTS + 5, GraphsConfig(["body"], 5), "coco_wholebody has no part body with pictures"),
    (16 + 5, GraphsConfig(["left_hand"], 5), "mediapipe_body has no part left_hand with pictures"),
])  # fmt: skip
def test_a_row_that_does_not_fit_is_refused(dim, config, said):
    with pytest.raises(ValueError, match=said):
        PartGraphs(dim, 16, config)


def test_tied_tensors_are_taken_over_under_either_name():
    class Tied(torch.nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.words, self.head = torch.nn.Embedding(2, 2), torch.nn.Linear(2, 2, bias=False)
            self.head.weight = self.words.weight
            torch.nn.init.constant_(self.words.weight, value)

    target, source = Tied(1.0), {"head.weight": torch.full((2, 2), 5.0)}  # a file holds one name of two
    transfer_parts(source, target, only=["words"])
    assert (target.head.weight == 5).all()
    with pytest.raises(ValueError, match=r"first head.weight \(absent in the source\)"):
        transfer_parts({}, target, only=["head"])
    transfer_parts({}, target, only=["head"], optional=["head"])


# -- as a user does it ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    place = tmp_path_factory.mktemp("crops") / "corpus"
    assert main(["corpus", "make", str(place), "--clips=40", "--size=48", "--signs=16", "--poses"]) == 0
    return place


def extract(vision, corpus, out, *words, kind="dinov2", crops=HANDS, split="dev"):  # noqa: F811
    encoder = ["--encoder", str(vision(kind)), "--corpus", "synthetic", "--root", str(corpus), "--split", split]
    poses = ["--poses", str(corpus / "poses" / "{split}")]
    return main(["extract", *encoder, *(["--crops", *crops] if crops else []), *poses, "-o", str(out), *words])


def test_a_store_has_the_vector_of_each_hand(vision, corpus, tmp_path):  # noqa: F811
    assert extract(vision, corpus, tmp_path / "dev", "--dtype", "float32", "--chunk", "7", "--batch-size", "3") == 0
    store = FeatureStore(tmp_path / "dev")
    assert (store.dim, store.meta["encoder"]["crops"]) == (32, list(HANDS))
    images = open_vision(str(vision("dinov2")))
    sample = load_samples("synthetic", corpus, "dev")[1]
    frames = torch.from_numpy(load_raw(sample, InputRecipe()))
    _, clip = look_at_features(corpus / "poses" / "dev" / f"{sample.name}.npy", sample.name)
    squares, found = part_squares(clip, HANDS, (48, 48))
    assert found.all()
    for part in (0, 1):
        pictures = cut_squares(frames, torch.from_numpy(squares[:, part]).float(), images.prepare.size)
        expected = images.pooled(images.prepare.normalized(pictures))
        np.testing.assert_allclose(store[sample.name][:, 16 * part : 16 * part + 16], expected, atol=1e-5)


def test_clips_without_key_points_are_named_and_the_others_stored(vision, corpus, tmp_path, capsys):  # noqa: F811
    copy = shutil.copytree(corpus, tmp_path / "copy")
    first, second, *_ = sorted((copy / "poses" / "dev").iterdir())
    first.unlink()
    np.save(second, np.load(second)[:-2])  # two frames less than its clip
    assert extract(vision, copy, tmp_path / "dev", "--json") == 2
    told = capsys.readouterr()
    broken = json.loads(told.out)["broken"]
    assert broken.keys() == {first.stem, second.stem}
    assert "make them again" in broken[second.stem]
    assert "2 clips could not be read" in told.err
    assert len(FeatureStore(tmp_path / "dev")) == 2


@pytest.mark.parametrize(("words", "change", "said"), [
    ([], {"crops": ()}, "--crops and --poses belong together"),
    ([], {"kind": "videomae"}, "reads windows of frames; needs an image model"),
    (["--scales", "1", "2"], {}, "leave out --scales"),
    ([], {"crops": ("face", "face")}, "--crops: names a part twice"),
])  # fmt: skip
def test_what_cannot_be_cut_is_refused(words, change, said, vision, corpus, tmp_path, capsys):  # noqa: F811
    assert extract(vision, corpus, tmp_path / "store", *words, **change) == 2
    assert said in capsys.readouterr().err


def test_a_run_on_key_points_goes_on_with_pictures(vision, corpus, tmp_path, capsys):  # noqa: F811
    for split in ("train", "dev"):
        assert extract(vision, corpus, tmp_path / "hands" / split, split=split) == 0
    small = ["--model.visual_dim=16", "--model.lm={architecture: t5, layers: 1, width: 16, heads: 2, ffn: 16}"]
    small += [f"--corpus.root={corpus}", "--train.epochs=1", "--train.max_steps=2", "--train.device=cpu"]
    small += ["--decode.beams=1", "--decode.max_new_tokens=5", "--train.warmup_steps=0"]
    points = f"{corpus}/poses/{{split}}"
    first, second = tmp_path / "points", tmp_path / "both"
    assert main(["fit", "synthetic/uni-sign", *small, f"--corpus.features={points}", f"--out={first}"]) == 0
    both = [f'--corpus.features=["{points}", "{tmp_path}/hands/{{split}}"]', f"--model.init_from={first}"]
    both += ["--model.graphs={crops: [left_hand, right_hand], crop_size: 16}", f"--out={second}"]
    capsys.readouterr()
    assert main(["fit", "synthetic/uni-sign", *small, *both]) == 0
    assert "start fresh: nothing; unchanged: visual (1)" in capsys.readouterr().err
    run = load_run(second)
    assert run.model.visual.pictures["hand"].weight.abs().sum() > 0, "the map was trained"
    assert main(["evaluate", str(second), "--split=dev", "--device=cpu"]) == 0
