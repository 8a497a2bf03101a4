"""A run trained at 25 frames per second reads clips of other rates: phones, mixed corpora, older runs."""

import json
from pathlib import Path

import numpy as np
import pytest
from video_files import break_packets, greys, make_video, numbers

from signcl import fit, load_model, translate
from signcl.cli import main
from signcl.data.batch import Sample, Span
from signcl.data.loading import ClipDataset, count_frames, frames_used, load_raw, read_batches, read_selected
from signcl.data.sections import InputRecipe, Reading
from signcl.inference.translation import input_for
from signcl.pages.uploads import Limits, Refused, read_upload
from signcl.training.recipe import recipe_from_dict
from signcl.training.runs import load_run


def phone_clip(path: Path) -> Path:
    """As phones write them: 60 frames a second, turned, mirrored, cut by an edit list, the sound longer.

    Frames 4 to 23 of 24 are shown, 20 frames in a third of a second.
    """
    return make_video(
        path,
        greys(24, 32, 48),
        rate=60,
        turn=(90, True, False),
        moved=-4,
        sound=1.5,
        options={"bf": "2"},
        file_options={"avoid_negative_ts": "disabled"},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("rates")
    for split in ("train", "dev"):
        lines = ["name\tpath\ttext"]
        for number in range(3):
            make_video(place / "corpus" / f"{split}{number}.mp4", greys(8 + number, 32, 32))
            lines.append(f"{split}{number}\t{split}{number}.mp4\tsatz nummer {number}")
        (place / "corpus" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    small = {"visual": "small_cnn", "visual_dim": 8, "conv_width": 8, "width": 8, "heads": 2, "ffn": 8}
    recipe = recipe_from_dict({
        "stage": "finetune",
        "out": str(place / "run"),
        "corpus": {"name": "folder", "root": str(place / "corpus")},
        "input": {"size": 16},
        "model": {"name": "gfslt", **small, "encoder_layers": 1, "decoder_layers": 1},
        "loss": {"weights": {"translation": 1.0}},
        "train": {"epochs": 1, "batch_size": 3, "device": "cpu"},
    })  # fmt: skip
    return fit(recipe, progress=False)


def test_a_phone_clip_is_read_as_it_is_shown(tmp_path):
    from signcl.data.video import read_frames

    frames = read_frames(phone_clip(tmp_path / "phone.mp4"), damaged="refuse")
    assert frames.shape == (20, 48, 32, 3)
    assert numbers(frames) == list(range(4, 24))


def test_a_phone_clip_is_brought_to_the_rate_of_training_and_this_is_said(run, tmp_path, capsys):
    assert json.loads((run / "card.json").read_text())["fps"] == 25
    clip = phone_clip(tmp_path / "phone.mp4")
    model = load_model(run, device="cpu")
    recipe, _ = input_for(model.run, clip)
    # A third of a second at 25: 8 frames, at 0, 2.4, 4.8 ... of the 60, the nearest.
    assert numbers(load_raw(Sample("phone", "", clip=clip), recipe)) == [4 + n for n in (0, 2, 5, 7, 10, 12, 14, 17)]
    said = "phone.mp4: 60 frames per second, the run was trained at 25: its 20 frames are resampled to 8"
    found = translate(model, clip)
    assert found.num_frames == 8
    assert found.notes == (said,)
    assert said in capsys.readouterr().err
    assert translate(model, clip, fps=60).num_frames == 20
    assert main(["translate", str(run), str(clip), "--json", "--fps=30", "--device=cpu"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["frames"] == 10
    assert "30 are asked for: its 20 frames are resampled to 10" in printed.err


def test_a_clip_of_the_rate_of_training_is_read_as_ever(run, tmp_path, capsys):
    clip = make_video(tmp_path / "same.mp4", greys(12))
    found = translate(load_model(run, device="cpu"), clip)
    assert (found.num_frames, found.notes) == (12, ())
    near = make_video(tmp_path / "near.mp4", greys(12), rate=25)
    assert input_for(load_run(run), near) == (load_run(run).recipe.input, "")


def test_a_run_that_does_not_say_its_rate_reads_every_frame(run, tmp_path):
    model = load_model(run, device="cpu")
    del model.run.card["fps"]
    found = translate(model, phone_clip(tmp_path / "phone.mp4"))
    assert (found.num_frames, found.notes) == (20, ())


def test_an_upload_is_brought_to_the_rate_within_the_limits(run, tmp_path):
    loaded, notes = load_run(run), []
    raw = read_upload(phone_clip(tmp_path / "up.mp4"), loaded, Limits(), notes.append)
    assert len(raw) == 8
    assert notes == ["60 frames per second, the run was trained at 25: its 20 frames are resampled to 8"]
    slow = make_video(tmp_path / "slow.mp4", greys(20), rate=5)
    with pytest.raises(Refused, match="100 frames at 25 per second; the limit is 50"):
        read_upload(slow, loaded, Limits(frames=50), notes.append)


def test_damage_is_a_choice_of_the_recipe_and_the_flag(run, tmp_path, capsys):
    clip = make_video(tmp_path / "hit.mp4", np.random.default_rng(0).integers(0, 255, (30, 32, 32, 3), np.uint8))
    break_packets(clip, [20])
    assert main(["translate", str(run), str(clip), "--device=cpu"]) == 0
    assert "hit.mp4: damaged, 1 of 30 frames are broken or lost" in capsys.readouterr().err
    assert main(["translate", str(run), str(clip), "--device=cpu", "--damaged=refuse"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "input.damaged=read" in said[0]


# --- batches ---------------------------------------------------------------------------------------------------------


def test_clips_of_a_batch_are_brought_to_one_rate(tmp_path, capsys):
    samples = [
        Sample("a", "x", clip=make_video(tmp_path / "a.mp4", greys(10)), num_frames=10),
        Sample("b", "x", clip=make_video(tmp_path / "b.mp4", greys(20), rate=50), num_frames=20),
        Sample("c", "x", clip=make_video(tmp_path / "b.mp4", greys(20), rate=50), cut=(4, 12)),
    ]
    recipe = InputRecipe(fps=25, size=16)
    data = ClipDataset(samples, None, Reading(recipe), training=False)
    assert count_frames(samples, recipe) == data.lengths == [10, 10, 4]
    batch = data[[0, 1, 2]].checked().batch
    assert batch.lengths.tolist() == [10, 10, 4]
    shown = numbers(batch.inputs.numpy())
    assert shown == [*range(10), *range(0, 20, 2), 4, 6, 8, 10]
    for sample in samples:
        assert np.array_equal(read_selected(sample, recipe), load_raw(sample, recipe))


def test_spans_are_found_at_another_rate(tmp_path):
    # Annotation counts frames of the file: a sign in frames 4 to 8 of 50 a second is in 2 to 4 of 25.
    from signcl.inference.run_density import _among

    sample = Sample("b", "x", clip=make_video(tmp_path / "b.mp4", greys(20), rate=50), num_frames=20)
    ((kept, count),) = frames_used([sample], InputRecipe(fps=25))
    assert (kept.tolist(), count) == (list(range(0, 20, 2)), 20)
    assert _among(Span("A", 4, 8), kept) == Span("A", 2, 4)
    ((kept, count),) = frames_used([sample], InputRecipe(fps=25, stride=3))
    assert (kept.tolist(), count) == ([0, 6, 12, 18], 20)


def test_damaged_clips_of_a_batch_are_counted_and_named(tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 255, (30, 32, 32, 3), np.uint8)
    samples = [Sample(name, "x", clip=make_video(tmp_path / f"{name}.mp4", noise)) for name in "ab"]
    break_packets(samples[1].clip, [20])
    broken: dict[str, str] = {}
    data = ClipDataset(samples, None, Reading(InputRecipe()), training=False)
    list(read_batches(data, [[0, 1]], device="cpu", broken=broken, progress=False))
    said = capsys.readouterr().err
    assert broken == {}
    assert said.startswith("1 clips are damaged and were read anyway (input.damaged): b: ")
    data = ClipDataset(samples, None, Reading(InputRecipe(damaged="refuse")), training=False)
    list(read_batches(data, [[0, 1]], device="cpu", broken=broken, progress=False))
    assert list(broken) == ["b"]


def test_training_on_several_rates_says_so(tmp_path, capsys):
    from signcl.data.loading import training_rate

    samples = [
        Sample(str(rate), "x", clip=make_video(tmp_path / f"{rate}.mp4", greys(5), rate=rate)) for rate in (25, 30, 30)
    ]
    assert training_rate(samples[1:], InputRecipe()) == 30
    assert training_rate(samples, InputRecipe()) is None
    assert "several rates, 25 to 30 frames per second" in capsys.readouterr().err
    assert training_rate(samples, InputRecipe(fps=12.5)) == 12.5
    assert training_rate([Sample("f", "x", features=np.zeros((3, 2)))], InputRecipe()) is None
