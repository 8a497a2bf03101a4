"""Segments and subtitles of long recordings: scores by hand, exact truth, windows, work that was stopped, mistakes."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from signcl.cli import main
from signcl.data.annotation.elan import read_elan
from signcl.data.annotation.subtitles import read_subtitles
from signcl.data.batch import Span
from signcl.data.corpora import load_samples
from signcl.data.features import read_features
from signcl.data.joining import JoinSettings, join_split
from signcl.data.sections import InputRecipe
from signcl.data.video import read_frames, write_video
from signcl.inference import film as films
from signcl.inference import subtitling
from signcl.inference.film import open_film
from signcl.inference.segmentation import load_segmenter, segment, tag_frames
from signcl.inference.subtitling import subtitle
from signcl.inference.translation import load_model
from signcl.metrics.in_time import aligned_in_time, boundary_f1, mean_iou, segment_f1
from signcl.systems import system_class
from signcl.systems.segmenter import spans_of_tags
from signcl.systems.targets.frame_tags import UNKNOWN, SentenceTags, SignTags
from signcl.testing import shaken, tiny_recipe, write_tiny_corpus
from signcl.training import run_folder
from signcl.training.fitting import fit


def test_scores_of_segments_by_hand():
    true, found = [[(0, 10), (20, 30)]], [[(1, 10), (24, 30), (40, 50)]]
    # Starts 1~0, 24!~20 (4 > 2), 40; stops 10, 30, 50!: 3 of 6 found are right, 3 of 4 true are met.
    score = boundary_f1(found, true, tolerance=2)
    assert (score.precision, score.recall) == (50.0, 75.0)
    assert boundary_f1(found, true, tolerance=4).recall == 100.0  # exactly so far is right
    # IoU 9/10 and 6/10 are enough, the third has none.
    assert segment_f1(found, true).precision == pytest.approx(100 * 2 / 3)
    assert segment_f1(found, true, overlap=0.7).recall == 50.0
    # Time of both: 9 + 6; of either: 10 + 10 + 10.
    assert mean_iou(found, true) == pytest.approx(50.0)
    assert segment_f1([[]], [[]]).f1 == boundary_f1([[]], [[]], tolerance=1).f1 == mean_iou([[]], [[]]) == 100.0
    assert segment_f1([[]], true).f1 == 0.0
    with pytest.raises(ValueError, match="same recordings"):
        mean_iou([[]], [[], []])


def test_one_long_segment_is_not_all_of_the_short_ones_in_it():
    true = [[(0, 10), (10, 20), (20, 30)]]
    assert mean_iou([[(0, 30)]], true) == 100.0
    assert segment_f1([[(0, 30)]], true).f1 == 0.0


def test_subtitles_meet_the_reference_that_they_share_most_time_with():
    true = [(0.0, 2.0, "a"), (3.0, 5.0, "b"), (6.0, 7.0, "c")]
    found = [(0.5, 1.0, "x"), (1.0, 3.5, "y"), (9.0, 9.5, "late")]
    assert aligned_in_time(found, true) == [("x y", "a"), ("", "b"), ("late", "c")]
    with pytest.raises(ValueError, match="have none"):
        aligned_in_time(found, [])


def _log_probs(tags: str) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(["OBI".index(t) for t in tags]), 3).float().log_softmax(dim=1)


@pytest.mark.parametrize(
    ("tags", "options", "spans"),
    [
        ("OBIIOOBI", {}, [(1, 4), (6, 8)]),
        ("BIBI", {}, [(0, 2), (2, 4)]),  # they touch
        ("OIIO", {}, [(1, 3)]),  # a beginning that was missed
        ("OBBIO", {}, [(1, 4)]),  # one beginning seen twice
        ("OBOO", {"shortest": 2}, []),
        ("BIIOIIO", {"bridge": 1}, [(0, 6)]),
        ("BIIOBIO", {"bridge": 1}, [(0, 3), (4, 6)]),  # a gap before a B is none
        ("OOO", {}, []),
    ],
)
def test_tags_become_spans(tags, options, spans):
    found = spans_of_tags(_log_probs(tags), **options)
    assert [(span.start, span.stop) for span in found] == spans


REST = 5


def with_rest(root):
    """The tiny corpus with frames at rest before and after the signs of each clip, as a signer has."""
    random = np.random.default_rng(1)
    for split in ("train", "dev", "test"):
        table = root / f"{split}.tsv"
        head, *lines = table.read_text().splitlines()
        for number, line in enumerate(lines):
            *cells, spans = line.split("\t")
            rows = np.load(root / cells[1])
            rest = 0.3 * random.normal(size=(2, REST, rows.shape[1]))
            np.save(root / cells[1], np.concatenate([rest[0], rows, rest[1]]).astype(np.float32))
            moved = [(word, *map(int, at.split("-"))) for word, at in (span.split(":") for span in spans.split())]
            spans = " ".join(f"{word}:{start + REST}-{stop + REST}" for word, start, stop in moved)
            lines[number] = "\t".join((*cells, spans))
        table.write_text("\n".join([head, *lines]) + "\n")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus of features, its recordings, and a run each of a segmenter and a translator."""
    folder = tmp_path_factory.mktemp("segmenter")
    root = with_rest(write_tiny_corpus(folder / "features"))
    out = folder / "recordings"
    for split in ("train", "dev"):
        join_split(load_samples("folder", root, split), out, split, JoinSettings(seconds=4), progress=False)
    changes = {
        "corpus": {"root": str(out)},
        "input": {"max_frames": 5000},
        "model": {"width": 16, "layers": 3},
        "loss": {"weights": {"sentence_tags": 1.0, "sign_tags": 1.0}},
        "train": {"epochs": 20, "evaluate_every": 20, "lr": 0.01, "batch_size": 1},
    }
    fit(replace(tiny_recipe(system_class("segmenter"), folder, changes), out=str(folder / "segmenter")), progress=False)
    changes = {"train": {"epochs": 12, "evaluate_every": 12}, "loss": {"weights": {"translation": 1}}}
    fit(replace(tiny_recipe(system_class("slt"), folder, changes), out=str(folder / "slt")), progress=False)
    join_split(load_samples("folder", root, "test"), folder, "film", JoinSettings(), film=0.3, progress=False)
    return folder


def test_recordings_hold_every_clip_once_with_exact_truth(made):
    clips = {sample.text: sample for sample in load_samples("folder", made / "features", "train")}
    recordings = load_samples("folder", made / "recordings", "train")
    assert len(recordings) > 1
    said = [(r, span) for r in recordings for span in r.sentences]
    assert len(said) == len(clips)
    for recording, sentence in said:
        clip = clips[str(sentence.token)]
        rows, whole = np.load(clip.features), np.load(recording.features)
        assert np.array_equal(whole[sentence.start : sentence.stop], rows[REST:-REST])
        inside = [s for s in recording.spans if sentence.start <= s.start < sentence.stop]
        assert [(s.token, s.start - sentence.start, s.stop - sentence.start) for s in inside] == [
            (s.token, s.start - REST, s.stop - REST) for s in clip.spans
        ]
        assert len(whole) == recording.num_frames
    for recording in recordings:
        assert recording.text == " ".join(str(span.token) for span in recording.sentences)
        gaps = [b.start - a.stop for a, b in pairwise(recording.sentences)]
        assert all(5 <= gap - 2 * REST <= 50 for gap in gaps)
    again = made / "again"
    samples = load_samples("folder", made / "features", "train")
    join_split(samples, again, "train", JoinSettings(seconds=4), progress=False)
    assert (again / "train.tsv").read_bytes() == (made / "recordings" / "train.tsv").read_bytes()
    with pytest.raises(ValueError, match="already exists"):
        join_split(samples, again, "train", JoinSettings(), progress=False)
    with pytest.raises(ValueError, match="pause_min 2 must not be above pause_max 1"):
        JoinSettings(pause_min=2, pause_max=1)


def test_targets_are_tags_and_unknown_where_nothing_is_told(made):
    (sample, *_) = load_samples("folder", made / "recordings", "dev")
    tags = SentenceTags()([sample, replace(sample, sentences=(), spans=())])
    first = sample.sentences[0]
    assert tags[0, first.start - 1 : first.start + 2].tolist() == [0, 1, 2]
    assert int((tags[0] == 1).sum()) == len(sample.sentences)
    assert (tags[1] == UNKNOWN).all()
    whole = replace(sample, sentences=())  # one clip, one sentence
    assert int((SentenceTags()([whole]) == 1).sum()) == 1
    with pytest.raises(ValueError, match="signcl corpus join"):
        SignTags.build(None, [replace(sample, spans=())], lambda split: [], made)


def test_a_film_in_windows_is_the_film_in_one_piece(made):
    run = load_segmenter(made / "segmenter")
    shaken(run.model)
    film = open_film(made / "film" / "film.npy", run.recipe.input, 25.0)
    whole = tag_frames(run, film, window=10**6, device="cpu", progress=False)
    assert len(whole) == film.num_frames > 300
    for window in (37, 300):
        parts = tag_frames(run, film, window=window, device="cpu", progress=False)
        np.testing.assert_allclose(parts, whole, atol=1e-5)
        assert np.array_equal(parts[:, :3].argmax(1), whole[:, :3].argmax(1))
    # what lies beyond the reach is not seen, and what lies at its edge is
    reach, at = run.model.reach, 150
    assert reach == 7
    for distance, seen in ((reach, True), (reach + 1, False)):
        changed = film.read(0, film.num_frames)
        changed[at + distance] += 100
        other = tag_frames(run, replace(film, features=changed), window=10**6, device="cpu", progress=False)
        assert (np.abs(other[at] - whole[at]).max() > 1e-6) == seen


def test_segment_finds_the_sentences_and_writes_every_kind(made, capsys):
    film = str(made / "film" / "film.npy")
    words = ["--run", str(made / "segmenter"), "--device=cpu"]
    for suffix in ("eaf", "srt", "vtt", "tsv"):
        assert main(["segment", film, "-o", str(made / f"found.{suffix}"), *words, "--json", "--window=64"]) == 0
        said = json.loads(capsys.readouterr().out)
    truth = read_subtitles(made / "film" / "film.srt", fps=25)["film"]
    ours = read_subtitles(made / "found.srt", fps=25)["found"]
    assert said["sentences"] == len(ours)
    pair = [[(s.start, s.stop) for s in spans] for spans in (ours, truth)]
    assert segment_f1(pair[:1], pair[1:]).f1 > 80
    assert len(read_elan(made / "found.eaf", fps=25, tier="sign")["found"]) == said["signs"] > len(ours)
    assert main(["score", str(made / "found.eaf"), str(made / "film" / "film.srt"), "--json", "--bootstrap=0"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["segments"]["f1"] == pytest.approx(segment_f1(pair[:1], pair[1:]).f1)
    assert main(["score", str(made / "found.vtt"), str(made / "film" / "film.srt"), "--bootstrap=0"]) == 0
    assert "boundaries within 0.2 s" in capsys.readouterr().out


def test_subtitles_go_on_where_they_were_stopped(made, capsys, monkeypatch):
    model, segmenter = load_model(made / "slt", device="cpu"), load_segmenter(made / "segmenter")
    film, work = made / "film" / "film.npy", made / "stopped.srt.work"
    whole = subtitle(model, film, segmenter, device="cpu", progress=False)
    assert len(whole.cues) > 4
    assert all(cue.text and 0 < cue.probability <= 1 and cue.confidence is None for cue in whole.cues)

    answers, calls = type(model.run.model).answer_scored, []

    def stop(self, batch, decode):
        calls.append(batch.names)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return answers(self, batch, decode)

    monkeypatch.setattr(type(model.run.model), "answer_scored", stop)
    words = ["subtitle", str(film), "--run", str(made / "slt"), "--device=cpu", "-o", str(made / "stopped.srt")]
    words += ["--segmenter", str(made / "segmenter")]
    assert main(words) == 130
    assert "resumes from there" in capsys.readouterr().err
    assert not (made / "stopped.srt").exists()
    with (work / "cues.jsonl").open("a") as file:
        file.write('{"start": 1.0, "sto')  # a line that was cut off
    monkeypatch.setattr(subtitling, "segment", _read_nothing(segmenter, work))
    assert main([*words, "--pad=1"]) == 2
    assert "unfinished work with another settings" in capsys.readouterr().err
    assert main(words) == 0
    assert calls[2] == calls[1]  # the first sentences are not translated again
    assert not work.exists()
    lines = (made / "stopped.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[2] for line in lines] == [cue.text for cue in whole.cues]
    cues = read_subtitles(made / "stopped.srt", fps=25)["stopped"]
    assert [(c.start, c.stop) for c in cues] == [(round(c.start * 25), round(c.stop * 25)) for c in whole.cues]


def _read_nothing(segmenter, work):
    """`segment`, which must find all of its windows done."""

    def again(run, path, **options):
        read = films.Film.read
        films.Film.read = None
        try:
            return segment(segmenter, path, **options)
        finally:
            films.Film.read = read

    return again


def test_a_window_that_was_cut_off_is_made_again(made, tmp_path):
    run = load_segmenter(made / "segmenter")
    film = open_film(made / "film" / "film.npy", run.recipe.input, 25.0)
    whole = tag_frames(run, film, window=50, device="cpu", work=tmp_path, progress=False)
    tags = tmp_path / "tags"
    tags.write_bytes(tags.read_bytes()[: 24 * 130 + 5])
    again = tag_frames(run, film, window=50, device="cpu", work=tmp_path, progress=False)
    assert np.array_equal(again, whole)
    assert tags.stat().st_size == 24 * film.num_frames


def test_given_segments_confidence_and_marks(made, capsys):
    film = str(made / "film" / "film.npy")
    words = ["subtitle", film, "--run", str(made / "slt"), "--device=cpu"]
    words += ["--segments", str(made / "film" / "film.srt")]
    (made / "slt" / "confidence.json").write_text(
        json.dumps({
            "made": {"split": "dev", "clips": 40, "search": {"beams": 2, "length_penalty": 1.0}},
            "calibration": {"kind": "logistic", "x": [0.0, -3.0], "y": []}, "limit": None, "texts": [],
        })
    )  # fmt: skip
    try:
        for suffix in ("vtt", "eaf"):
            assert main([*words, "-o", str(made / f"given.{suffix}"), "--mark-below=0.5", "--json"]) == 0
    finally:
        (made / "slt" / "confidence.json").unlink()
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["mean_confidence"] == pytest.approx(0.0474, abs=1e-3)
    cues = read_subtitles(made / "given.vtt", fps=25)["given"]
    truth = read_subtitles(made / "film" / "film.srt", fps=25)["film"]
    assert [(c.start, c.stop) for c in cues] == [(t.start, t.stop) for t in truth]
    assert all(str(cue.token).startswith("[?] ") for cue in cues)
    assert {str(c.token) for c in read_elan(made / "given.eaf", fps=25, tier="confidence")["given"]} == {"0.05"}


def test_mistakes_are_said_in_a_line(made, tmp_path, capsys):
    film, out = str(made / "film" / "film.npy"), str(tmp_path / "o.srt")

    def mistake(*words):
        assert main([*words, "--device=cpu"]) == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if "Error" not in line][-1:]
        return line

    segmenter, slt = str(made / "segmenter"), str(made / "slt")
    assert "is a run of slt, but a segmenter is needed" in mistake("segment", film, "--run", slt, "-o", out)
    translating = ("subtitle", film, "--run", segmenter, "--segmenter", segmenter, "-o", out)
    assert "needs a finetune run" in mistake(*translating)
    assert "ends in .srt, .vtt, .eaf, .tsv" in mistake("segment", film, "--run", segmenter, "-o", f"{out}x")
    assert "no recording at" in mistake("segment", "absent.mp4", "--run", segmenter, "-o", out)
    alone = tmp_path / "alone" / "there"
    alone.mkdir(parents=True)
    np.save(alone / "f.npy", np.zeros((50, 12), np.float32))
    wanted = ("segment", str(alone / "f.npy"), "--run", segmenter, "-o", out)
    assert "give --fps (the run was trained at 25)" in mistake(*wanted)
    assert "has 50 frames per second, but the run's features had 25" in mistake(*wanted, "--fps=50")
    np.save(alone / "f.npy", np.zeros((50, 7), np.float32))
    assert "was trained on features of size 12, this is features of size 7" in mistake(*wanted, "--fps=25")
    video = tmp_path / "v.mp4"
    write_video(video, np.zeros((30, 32, 32, 3), np.uint8))
    assert "this is video frames; give what the" in mistake("segment", str(video), "--run", segmenter, "-o", out)
    # a mistake leaves no work folder behind that would stop the right command
    translating = ("subtitle", str(video), "--run", slt, "--segmenter", segmenter, "-o", out)
    assert "this is video frames" in mistake(*translating)
    assert not (tmp_path / "o.srt.work").exists()


def test_a_recording_without_a_sentence_gives_an_empty_file_and_code_1(made, tmp_path, capsys):
    run = load_segmenter(made / "segmenter")
    with torch.no_grad():
        run.model.head.weight.zero_()
        run.model.head.bias.copy_(torch.tensor([9.0, 0, 0, 9, 0, 0]))
    folder = tmp_path / "mute"
    run_folder.save_run_start(folder, run.recipe, run.tokenizer, run.glosses, run.targets)
    run_folder.save_weights(folder, run.model)
    run_folder.save_card(folder, {"feature_dim": 12})
    film = str(made / "film" / "film.npy")
    for suffix in ("srt", "vtt", "eaf", "tsv"):
        out = tmp_path / f"o.{suffix}"
        assert main(["segment", film, "--run", str(folder), "-o", str(out), "--device=cpu"]) == 1
        assert "no sentence was found in" in capsys.readouterr().err
        assert out.is_file()
    words = ["subtitle", film, "--run", str(made / "slt"), "--segmenter", str(folder), "--device=cpu"]
    assert main([*words, "-o", str(tmp_path / "s.srt")]) == 1
    assert not (tmp_path / "s.srt.work").exists()
    capsys.readouterr()
    assert main(["score", str(tmp_path / "s.srt"), str(made / "film" / "film.srt"), "--json", "--bootstrap=0"]) == 0
    assert json.loads(capsys.readouterr().out)["segments"]["f1"] == 0


def test_an_hour_of_features_is_read_in_parts_and_a_sentence_of_key_points_is_normalised_alone(tmp_path):
    rows = np.arange(90.0 * 4).reshape(90, 4).astype(np.float16)
    np.save(tmp_path / "plain.npy", rows)
    film = open_film(tmp_path / "plain.npy", InputRecipe(), None, 25.0)
    assert (film.num_frames, film.features, film.points) == (90, None, None)
    assert np.array_equal(film.read(20, 33), rows[20:33].astype(np.float32))
    rows[40] = np.nan
    np.save(tmp_path / "plain.npy", rows)
    assert len(film.read(0, 40)) == 40
    with pytest.raises(ValueError, match=r"40-60 frames: .* NaN or infinity"):
        film.read(40, 60)
    # a signer who comes nearer: a translator has seen clips, each normalised by its own shoulders
    points = np.random.default_rng(0).uniform(100, 200, size=(60, 133, 3)).astype(np.float32)
    points[..., 2] = 1
    points[30:, :, :2] = 2 * points[30:, :, :2] + 50
    np.save(tmp_path / "film.npy", points)
    np.save(tmp_path / "clip.npy", points[32:50])
    film = open_film(tmp_path / "film.npy", InputRecipe(), None, 25.0)
    assert np.array_equal(film.read_sentence(32, 50), read_features(tmp_path / "clip.npy"))
    assert np.array_equal(film.read(32, 50), read_features(tmp_path / "film.npy")[32:50])
    assert not np.allclose(film.read(32, 50), film.read_sentence(32, 50))


def test_videos_are_read_by_windows_at_the_rate_of_training(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, size=(50, 16, 16, 3)).astype(np.uint8)
    path = write_video(tmp_path / "v.mp4", frames, 25, gop=7)
    recipe = load_plain_input()
    film = open_film(path, recipe, 25.0)
    whole = read_frames(path)
    assert (film.num_frames, film.fps, film.note) == (50, 25.0, "")
    assert np.array_equal(np.concatenate([film.read(0, 13), film.read(13, 50)]), whole)
    slow = open_film(path, recipe, 10.0)
    assert (slow.num_frames, slow.fps) == (20, 10.0)
    assert "resampled to" in slow.note
    assert np.array_equal(np.concatenate([slow.read(0, 7), slow.read(7, 20)]), read_frames(path, fps=10))


def load_plain_input():
    from signcl.data.sections import InputRecipe

    return InputRecipe(max_frames=3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"input": {"stride": 2}}, "input.stride: a segmenter tags every frame"),
        ({"input": {"fps": 10.0}}, "input.fps"),
        ({"model": {"kernel": 4}}, "model.kernel: needs an odd number"),
        ({"model": {"visual": "i3d"}}, "i3d gives one for several"),
        ({"corpus": {"isolated": True}}, "corpus.isolated"),
    ],
)
def test_recipes_that_would_move_frames_are_refused(made, change, said):
    with pytest.raises(ValueError, match=said):
        tiny_recipe(system_class("segmenter"), made, change)


def test_recordings_that_are_thinned_are_refused_not_mislabelled(made, tmp_path):
    changes = {
        "corpus": {"root": str(made / "recordings")},
        "input": {"max_frames": 60},
        "train": {"epochs": 1},
        "loss": {"weights": {"sentence_tags": 1.0}},
    }
    recipe = replace(tiny_recipe(system_class("segmenter"), made, changes), out=str(tmp_path / "run"))
    with pytest.raises(ValueError, match=r"raise input\.max_frames"):
        fit(recipe, progress=False)


def test_the_dev_loss_of_sentences_chooses_the_weights():
    # F1 of sentences is soon 100 and would keep the first epoch that reaches it
    assert system_class("segmenter").select_by({"sign_tags": 1, "sentence_tags": 1, "signcl": 1}) == "-sentence_tags"
    assert system_class("segmenter").select_by({"sign_tags": 1}) == "-sign_tags"


def test_a_span_at_the_end_and_one_that_overlaps():
    from signcl.systems.targets.frame_tags import tags_of

    assert tags_of([Span("a", 1, 3), Span("b", 2, 9)], 4).tolist() == [0, 1, 1, 2]
