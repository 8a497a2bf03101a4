"""`check_corpus` finds every planted fault and nothing else; `corpus_stats` counts what can be counted by hand."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from signcl.data.corpus_check import Problem, check_corpus, corpus_stats
from signcl.data.features import write_store
from signcl.data.video import write_video

HEADER = "name\tpath\ttext\tsigner\tgloss\tnum_frames\tspans\n"


def rows(folder: Path, split: str, *lines: str) -> None:
    (folder / f"{split}.tsv").write_text(HEADER + "".join(line + "\n" for line in lines), encoding="utf-8")


def clip(path: Path, frames: int = 6, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.name.encode()])
    return write_video(path, rng.integers(0, 255, (frames, 32, 32, 3), dtype=np.uint8), preset="ultrafast")


def images(folder: Path, frames: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(frames):
        cv2.imwrite(str(folder / f"images{number + 1}.png"), np.full((8, 8, 3), 40 * number, dtype=np.uint8))
    return folder


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    for split in ("train", "dev", "test"):
        clip(tmp_path / f"clips/{split}.mp4")
        images(tmp_path / f"frames/{split}")
        rows(
            tmp_path,
            split,
            f"{split}-a\tclips/{split}.mp4\tone {split} here\tAnna\tONE HERE\t6\tONE:0-2 HERE:3-6",
            f"{split}-b\tframes/{split}\ttwo {split}\tBert\tTWO\t3\t",
        )
    return tmp_path


def what(problems: list[Problem], level: str = "error") -> list[str]:
    return [str(problem) for problem in problems if problem.level == level]


@pytest.mark.parametrize("fast", [False, True])
def test_a_healthy_corpus_has_no_problem(healthy, fast):
    assert check_corpus(healthy, fast=fast) == []


def test_every_planted_fault_is_found_with_its_file_and_nothing_else(healthy):
    clips = healthy / "clips"
    whole = clip(clips / "whole.mp4", frames=40).read_bytes()
    (clips / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (clips / "empty.mp4").touch()
    (clips / "text.mp4").write_text("no video")
    (healthy / "frames/nothing").mkdir()
    images(healthy / "frames/broken")
    (healthy / "frames/broken/images2.png").write_bytes(b"\x89PNG no")
    clip(clips / "one.mp4", frames=1)
    for name in ("count", "late", "cross", "differ"):
        clip(clips / f"{name}.mp4", frames=6)
    rows(
        healthy,
        "train",
        "missing\tclips/missing.mp4\tfine",
        "truncated\tclips/truncated.mp4\tfine",
        "empty\tclips/empty.mp4\tfine",
        "text\tclips/text.mp4\tfine",
        "nothing\tframes/nothing\tfine",
        "broken\tframes/broken\tfine",
        "one\tclips/one.mp4\tfine",
        "count\tclips/count.mp4\tfine\t\t\t9",
        "late\tclips/late.mp4\tfine\t\tA\t\tA:3-7",
        "cross\tclips/cross.mp4\tfine\t\tA B\t\tA:0-4 B:3-6",
        "differ\tclips/differ.mp4\tfine\t\tA B\t\tA:0-2 C:3-5",
        "wordless\tclips/train.mp4\t?!",
        "missing\tclips/train.mp4\tfine",
        "good\tclips/train.mp4\tfine",
    )
    expected = [
        ("train.tsv:13", "wordless has a text without words: '?!'"),
        ("train.tsv:14", "name 'missing' is already in line 2"),
        ("clips/missing.mp4", "no such clip"),
        ("clips/truncated.mp4", "truncated"),
        ("clips/empty.mp4", "empty file"),
        ("clips/text.mp4", "not a readable video"),
        ("frames/nothing", "no"),
        ("frames/broken", "images2.png"),
        ("clips/one.mp4", "has 1 frame; a signed sentence needs at least 2"),
        ("clips/late.mp4", "span A:3-7 ends after the clip's 6 frames"),
        ("clips/differ.mp4", "spans name the signs A C, gloss says A B"),
    ]
    problems = check_corpus(healthy)
    errors = what(problems)
    assert len(errors) == len(expected)
    for error, (file, reason) in zip(errors, expected, strict=True):
        assert file in error
        assert reason in error
        assert "\n" not in error
    crossing, warning = sorted(what(problems, "warning"), key=len, reverse=True)
    assert "span B:3-6 begins before the previous one ends (4)" in crossing, "two hands may"
    assert warning == f"{clips / 'count.mp4'} (count): warning: has 6 frames, the table says 9"


def test_fast_reads_headers_and_still_finds_what_is_missing(healthy):
    (healthy / "clips/dev.mp4").unlink()
    (error,) = what(check_corpus(healthy, fast=True))
    assert "clips/dev.mp4" in error
    assert "no such clip" in error


def test_a_clip_in_two_splits_is_an_error_even_as_a_copy(healthy):
    shutil.copy(healthy / "clips/train.mp4", healthy / "clips/copy.mp4")
    rows(
        healthy,
        "test",
        "a\tclips/../clips2/x.mp4\tbad path",
        "b\t./clips//train.mp4\tthe same file",
        "c\tclips/copy.mp4\tits copy",
    )
    errors = what(check_corpus(healthy))
    assert len(errors) == 3
    assert "test.tsv:2" in errors[0]
    assert errors[1] == f"{healthy}/clips/train.mp4: is in train (train-a) and in test (b): data leak"
    assert errors[2].startswith(f"{healthy}/clips/copy.mp4: is a copy of {healthy}/clips/train.mp4: train and test")


def test_a_sentence_of_train_in_test_and_a_clip_twice_are_warnings(healthy):
    rows(healthy, "test", "a\tclips/test.mp4\tone train here", "b\tframes/test\tnew", "c\tclips/test.mp4\tnewer")
    problems = check_corpus(healthy)
    assert what(problems) == []
    twice, seen = what(problems, "warning")
    assert twice == f"{healthy}/clips/test.mp4: warning: is the clip of both a and c in test"
    assert seen == f"{healthy}, test: warning: 1 of 3 sentences (33.3%) occur in train, e.g. a = train-a"


def test_features_are_looked_into(tmp_path):
    write_store(tmp_path / "store", [("a", np.zeros((4, 2))), ("b", np.ones((4, 2)))])
    np.save(tmp_path / "nan.npy", np.array([[0.0, np.nan], [0.0, 0.0]]))
    np.save(tmp_path / "flat.npy", np.zeros(3))
    rows(tmp_path, "train", "a\tstore\tone\t\t\t4", "x\tstore\ttwo", "n\tnan.npy\tthree", "f\tflat.npy\tfour")
    rows(tmp_path, "dev", "b\tstore\tfive")
    rows(tmp_path, "test", "a\tstore\tsix")
    errors = what(check_corpus(tmp_path))
    assert [error.partition(": ")[2] for error in errors] == [
        "the store has no features of 'x' (it has 2 clips)",
        "features of 'nan' contain NaN or infinity, first in frame 0; extract it again",
        "features of 'flat' must be numbers [T, D] with at least one frame, got float64 [3]",
        "is in train (a) and in test (a): data leak",
    ]
    assert errors[1].startswith(f"{tmp_path}/nan.npy")
    fast = what(check_corpus(tmp_path, fast=True))
    assert any("no features of 'x'" in error for error in fast)
    assert not any("NaN" in error for error in fast)


def test_a_missing_table_is_a_warning_and_no_table_an_error(healthy, tmp_path_factory):
    (healthy / "dev.tsv").unlink()
    (problem,) = check_corpus(healthy)
    assert problem.level == "warning"
    assert "needs the file dev.tsv" in problem.what
    empty = tmp_path_factory.mktemp("empty")
    assert [problem.level for problem in check_corpus(empty)] == ["error"] * 3
    with pytest.raises(ValueError, match="no such folder"):
        check_corpus(empty / "none")
    with pytest.raises(ValueError, match=r"corpus\.name: needs one of"):
        check_corpus(empty, "nix")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_is_named(healthy):
    (healthy / "clips/train.mp4").chmod(0)
    (error,) = what(check_corpus(healthy))
    assert "clips/train.mp4" in error
    assert "Permission denied" in error


def test_the_real_number_corpus_is_clean(real_data):
    assert check_corpus(real_data / "imu-number-signs", "imu_numbers") == []


def test_problems_can_be_written_as_json():
    problem = Problem("a.mp4", "empty file", "warning")
    assert json.loads(json.dumps(vars(problem))) == {"file": "a.mp4", "what": "empty file", "level": "warning"}


# --- counts ----------------------------------------------------------------------------------------------------------


def test_stats_by_hand(tmp_path):
    rows(
        tmp_path,
        "train",
        "a\tx/a.mp4\tit rains .\tS1\tRAIN\t60\tRAIN:10-30",  # margin 60 / 2 * 2.3 = 69: no negative
        "b\tx/b.mp4\tit snows and rains\tS2\tSNOW RAIN\t40\tSNOW:0-10 RAIN:12-30",  # 40 / 4 * 2.3 = 23: none
        "c\tx/c.mp4\tit rains and it rains and it rains\tS2\tRAIN\t22\t",  # 22 / 8 * 2.3 = 6.3 -> 10: 21 > 20
    )
    rows(tmp_path, "test", "d\tx/d.mp4\tit rains .\tS3\t\t21\t", "e\tx/e.mp4\tit hails .\tS3\t\t\t")
    stats = corpus_stats(tmp_path)
    assert list(stats.splits) == ["train", "test"]
    train, test = stats.splits["train"], stats.splits["test"]
    assert (train.sentences, train.distinct_sentences, train.seen_in_train, train.signers) == (3, 3, 0, 2)
    assert (train.frames_total, train.frames_median, train.frames_max) == (122, 40, 60)
    assert (train.vocabulary, train.singletons, train.unknown_words) == (4, 1, 0)
    assert train.words_mean == pytest.approx(14 / 3)
    assert (train.gloss_vocabulary, train.gloss_singletons) == (2, 1)
    assert train.words_per_gloss == pytest.approx(14 / 4)
    assert train.frames_per_gloss == pytest.approx(122 / 4)
    assert train.span_frames == pytest.approx((20 + 10 + 18) / 3)
    assert train.margin_mean == pytest.approx((69 + 23 + 10) / 3)
    assert train.margin_at_floor == pytest.approx(1 / 3)
    assert train.without_negative == pytest.approx(2 / 3)
    assert (test.seen_in_train, test.unknown_words, test.unreadable) == (1, 1, 1)
    assert test.unknown_share == pytest.approx(1 / 4)
    assert test.frames_total == 21
    assert (test.gloss_vocabulary, test.words_per_gloss) == (None, None)
    lines = {line[:18].strip(): line[18:].split() for line in str(stats).splitlines()}
    assert lines["sentences"] == ["3", "2"]
    assert lines["without negative"] == ["66.7%", "100.0%"]  # 21 frames, 2 words: margin 24
    assert lines["words per gloss"] == ["3.50", "-"]
    json.dumps(dataclasses.asdict(stats))


def test_stats_count_what_the_table_does_not_say(healthy):
    for split in ("train", "dev", "test"):
        table = healthy / f"{split}.tsv"
        table.write_text(table.read_text().replace("\t6\t", "\t\t").replace("\t3\t", "\t\t"))
    (healthy / "clips/dev.mp4").unlink()
    stats = corpus_stats(healthy)
    assert (stats.splits["train"].frames_min, stats.splits["train"].frames_max) == (3, 6)
    assert (stats.splits["dev"].unreadable, stats.splits["dev"].frames_total) == (1, 3)


def test_stats_of_a_broken_or_missing_corpus_say_so(healthy, tmp_path_factory):
    with pytest.raises(ValueError, match=r"needs the file train\.tsv"):
        corpus_stats(tmp_path_factory.mktemp("empty"))
    with pytest.raises(ValueError, match="does not exist"):
        corpus_stats(healthy / "none")
    rows(healthy, "dev", "a\tx.mp4\t...")
    with pytest.raises(ValueError, match=r"dev\.tsv:2: a has a text without words"):
        corpus_stats(healthy)


@pytest.mark.slow
def test_stats_of_phoenix_and_csl_are_the_published_ones(tmp_path, real_data):
    """Numbers of the two corpora counted elsewhere: sizes, vocabularies, singletons, repeated sentences, margins."""
    import csv
    import gzip

    sources = {"phoenix": "phoenix14t-alignments/{}.tsv.gz", "csl": "annotations/csl-daily.{}.tsv.gz"}
    stats = {}
    for corpus, pattern in sources.items():
        (tmp_path / corpus).mkdir()
        for split in ("train", "dev", "test"):
            with gzip.open(real_data / pattern.format(split), "rt", encoding="utf-8", newline="") as file:
                table = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                keys = ("text", "signer", "gloss", "num_frames")
                lines = ["\t".join([row["name"], f"x/{row['name']}", *(row[key] for key in keys)]) for row in table]
            rows(tmp_path / corpus, split, *lines)
        stats[corpus] = corpus_stats(tmp_path / corpus).splits
    train, dev, test = stats["phoenix"].values()
    assert [part.sentences for part in (train, dev, test)] == [7096, 519, 642]
    assert [round(part.frames_mean, 1) for part in (train, dev, test)] == [116.6, 107.5, 100.7]
    assert (train.vocabulary, train.gloss_vocabulary, train.gloss_singletons) == (2887, 1085, 355)
    assert (train.distinct_sentences, dev.seen_in_train, test.seen_in_train) == (6853, 25, 32)
    assert (round(train.words_mean, 2), round(train.frames_per_gloss, 1)) == (13.96, 15.0)
    assert round(train.margin_mean, 1) == 19.8
    train, dev, test = stats["csl"].values()
    assert (train.sentences, train.distinct_sentences, train.gloss_vocabulary) == (18401, 6578, 2000)
    assert (dev.seen_in_train, test.seen_in_train) == (2, 2)
    assert (round(train.frames_mean, 1), train.frames_max, train.frames_min) == (118.8, 493, 10)
