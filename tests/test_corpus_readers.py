"""Readers of published corpora on tiny copies of their layouts, and what `signcl corpus doctor` says of them."""

import csv
import gzip
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from signcl.cli import main
from signcl.data.batch import Segment, Span
from signcl.data.corpora import CORPORA, load_samples
from signcl.data.corpora._layout import clock_seconds, split_by_share
from signcl.data.corpus_doctor import diagnose, layouts
from signcl.data.loading import load_raw
from signcl.data.sections import InputRecipe
from signcl.data.video import read_frames, write_video


def clip(path: Path, frames: int = 50, fps: int = 25) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shades = np.linspace(0, 250, frames).astype(np.uint8)
    return write_video(path, np.broadcast_to(shades[:, None, None, None], (frames, 32, 32, 3)), fps=fps)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def images(folder: Path, count: int = 3) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"images{number:04}.png"), np.full((8, 8, 3), 40 * number, np.uint8))
    return folder


def frames_of(sample) -> np.ndarray:
    return load_raw(sample, InputRecipe())


def test_clock_times_are_seconds():
    assert clock_seconds("00:01:02.500") == 62.5
    assert clock_seconds("01:02,5") == 62.5
    assert clock_seconds("1:00:00") == 3600
    assert [clock_seconds(text) for text in ("", "62.5", "00:61:00", "00:00:60", "-0:01:02", "a:b:c")] == [None] * 6


# --- OpenASL ---------------------------------------------------------------------------------------------------------

OPENASL = "vid\tyid\tstart\tend\traw-text\ttokenized-text\tgloss\tsplit\n"


def openasl_row(yid: str, start: str, end: str, text: str, split: str) -> str:
    return f"{yid}-{start}-{end}\t{yid}\t{start}\t{end}\t{text}\t{text.lower()}\tX\t{split}\n"


@pytest.fixture
def openasl(tmp_path: Path) -> Path:
    clip(tmp_path / "raw-video/AAAAAAAAAA1.mp4")
    clip(tmp_path / "clips/AAAAAAAAAA1-00%00%01.000-00%00%01.400.mp4", 10)
    write(
        tmp_path / "data/openasl-v1.0.tsv",
        OPENASL
        + openasl_row("AAAAAAAAAA1", "00:00:00.200", "00:00:00.600", 'He said "hi".', "train")
        + openasl_row("AAAAAAAAAA1", "00:00:01.000", "00:00:01.400", "Second.", "train")
        + openasl_row("BBBBBBBBBB2", "00:00:01.000", "00:00:01.400", "Gone.", "train")
        + openasl_row("AAAAAAAAAA1", "00:00:01.600", "00:00:02.000", "Third.", "valid"),
    )
    return tmp_path


def test_openasl_takes_the_clip_that_is_cut_or_the_segment_of_the_whole_video(openasl, capsys):
    first, second = load_samples("openasl", openasl, "train")
    assert (first.text, first.name) == ('He said "hi".', "AAAAAAAAAA1-00:00:00.200-00:00:00.600")
    assert (first.segment.start, first.segment.stop) == (0.2, 0.6)
    assert second.segment is None
    assert "left out 1 of 3 train sentences without a clip: BBBBBBBBBB2-" in capsys.readouterr().err
    whole = read_frames(openasl / "raw-video/AAAAAAAAAA1.mp4")
    np.testing.assert_array_equal(frames_of(first), whole[5:15])
    assert len(frames_of(second)) == 10
    (dev,) = load_samples("openasl", openasl, "dev")
    np.testing.assert_array_equal(frames_of(dev), whole[40:50])
    cut = load_samples("openasl", openasl, "train", videos="clips")
    assert [sample.text for sample in cut] == ["Second."]


def test_openasl_names_a_row_with_times_that_are_none(openasl):
    table = openasl / "data/openasl-v1.0.tsv"
    table.write_text(OPENASL + openasl_row("AAAAAAAAAA1", "00:00:02.000", "00:00:01.000", "Late.", "train"))
    with pytest.raises(ValueError, match=r"openasl-v1\.0\.tsv:2: .* needs start before end as HH:MM:SS\.mmm"):
        load_samples("openasl", openasl, "train")


def test_openasl_rows_are_read_through_folder_with_start_and_stop(openasl):
    lines = (openasl / "data/openasl-v1.0.tsv").read_text().splitlines()
    header, *rows = [line.split("\t") for line in lines]
    table = ["name\tpath\ttext\tstart\tstop"]
    for row in rows[:2]:
        cells = dict(zip(header, row))
        start, stop = (clock_seconds(cells[key]) for key in ("start", "end"))
        table.append(f"{cells['vid']}\traw-video/{cells['yid']}.mp4\t{cells['raw-text']}\t{start:g}\t{stop:g}")
    write(openasl / "train.tsv", "\n".join(table) + "\n")
    by_folder = load_samples("folder", openasl, "train")
    by_reader = load_samples("openasl", openasl, "train", videos="whole")
    assert [s.text for s in by_folder] == [s.text for s in by_reader]
    for one, other in zip(by_folder, by_reader):
        np.testing.assert_array_equal(frames_of(one), frames_of(other))


def test_the_real_rows_of_openasl_are_read(tmp_path, real_data):
    with gzip.open(real_data / "annotations/openasl.test.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    lines = []
    for row in rows:
        vid = row["name"].removesuffix(".mp4")
        yid, (start, end) = vid[:11], vid[12:].split("-")
        lines.append(openasl_row(yid, start, end, row["text"], "test"))
        (tmp_path / f"{yid}.mp4").touch()
    write(tmp_path / "openasl-v1.0.tsv", OPENASL + "".join(lines))
    samples = load_samples("openasl", tmp_path, "test")
    assert len(samples) == len(rows) == 976
    assert samples[0].segment == Segment(5.333, 11.166, row=f"{tmp_path / 'openasl-v1.0.tsv'}:2")
    assert min(s.segment.stop - s.segment.start for s in samples) > 0


# --- YouTube-ASL -----------------------------------------------------------------------------------------------------

VTT = "WEBVTT\nKind: captions\n\n1\n00:00:00.400 --> 00:00:00.800 align:start\n<c>Hello</c>\n&amp; welcome\n\n"
VTT += "00:00:01.000 --> 00:00:01.200\n...\n\n01.200 --> 00:00:02.000\nBroken\n"


@pytest.fixture
def youtube(tmp_path: Path) -> Path:
    write(tmp_path / "youtube_asl_video_ids.txt", "AAAAAAAAAA1\nBBBBBBBBBB2\nCCCCCCCCCC3\n")
    for name in ("AAAAAAAAAA1", "BBBBBBBBBB2"):
        clip(tmp_path / f"videos/{name}.mp4")
    write(tmp_path / "captions/AAAAAAAAAA1.en.vtt", VTT.split("01.200 -->")[0])
    transcript = [{"text": "One\nline", "start": 1.2, "duration": 0.4}]
    write(tmp_path / "captions/BBBBBBBBBB2.json", json.dumps(transcript))
    return tmp_path


def test_youtube_asl_reads_captions_as_segments(youtube, capsys):
    first, second = load_samples("youtube_asl", youtube, "train")
    assert (first.name, first.text) == ("AAAAAAAAAA1-0000", "Hello & welcome")
    assert (second.name, second.text) == ("BBBBBBBBBB2-0000", "One line")
    assert "left out 1 of 3" in capsys.readouterr().err
    whole = read_frames(youtube / "videos/AAAAAAAAAA1.mp4")
    np.testing.assert_array_equal(frames_of(first), whole[10:20])
    np.testing.assert_array_equal(frames_of(second), whole[30:40])


def test_youtube_asl_names_a_broken_caption_by_its_line(youtube):
    write(youtube / "captions/AAAAAAAAAA1.en.vtt", VTT)
    with pytest.raises(ValueError, match=r"AAAAAAAAAA1\.en\.vtt:12: needs times such as .* got '01\.200 -->"):
        load_samples("youtube_asl", youtube, "train")
    write(youtube / "captions/AAAAAAAAAA1.en.vtt", "WEBVTT\n\n00:00:02.000 --> 00:00:01.000\nback\n")
    with pytest.raises(ValueError, match=r"en\.vtt:3: a caption needs 0 <= start < end in seconds, got 2 to 1"):
        load_samples("youtube_asl", youtube, "train")


def test_youtube_asl_has_no_splits_until_a_share_is_asked_for(youtube):
    with pytest.raises(
        ValueError, match=r"the release has no splits, and none of its 3 videos is in dev; set .*dev_sh"
    ):
        load_samples("youtube_asl", youtube, "dev")
    dealt = [split_by_share(f"video {i}", 0.1, 0.2) for i in range(2000)]
    assert abs(dealt.count("dev") - 200) < 60
    assert abs(dealt.count("test") - 400) < 80
    for wrong in (0.7, -0.1, float("nan"), "much"):
        with pytest.raises(ValueError, match=r"dev_share needs a number from 0 to 0\.5"):
            load_samples("youtube_asl", youtube, "train", dev_share=wrong)


# --- PHOENIX-2014 ----------------------------------------------------------------------------------------------------


def test_phoenix2014_reads_glosses_without_text(tmp_path, capsys):
    root = tmp_path / "phoenix-2014-multisigner"
    rows = [
        "id|folder|signer|annotation",
        "a-1|a-1/1/*.png|Signer04|__ON__ LIEB  ABEND",
        "b-2|b-2/1/*.png|Signer01|WIND",
    ]
    write(root / "annotations/manual/train.corpus.csv", "\n".join(rows) + "\n")
    images(root / "features/fullFrame-210x260px/train/a-1/1")
    (sample,) = load_samples("phoenix2014", tmp_path, "train")
    assert (sample.name, sample.text, sample.signer) == ("a-1", "", "Signer04")
    assert sample.gloss == ("__ON__", "LIEB", "ABEND")
    assert len(frames_of(sample)) == 3
    assert "left out 1 of 2 train sentences without a clip: b-2" in capsys.readouterr().err
    rows = ["id|folder|signer|annotation", "a-1|../../x/*.png|Signer04|WIND"]
    write(root / "annotations/manual/train.corpus.csv", "\n".join(rows) + "\n")
    with pytest.raises(ValueError, match=r"train\.corpus\.csv:2: .* leaves the corpus folder"):
        load_samples("phoenix2014", root, "train")


@pytest.mark.parametrize(("split", "count"), [("dev", 540), ("test", 629)])
def test_phoenix2014_reads_the_real_annotation(tmp_path, real_data, split, count):
    with gzip.open(real_data / f"annotations/phoenix-2014.{split}.tsv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    lines = ["id|folder|signer|annotation"]
    for row in rows:
        name = row["folder"].split("/")[0]
        lines.append(f"{name}|{row['folder']}|{row['signer']}|{row['gloss']}")
        (tmp_path / "features/fullFrame-210x260px" / split / name).mkdir(parents=True)
    write(tmp_path / f"annotations/manual/{split}.corpus.csv", "\n".join(lines) + "\n")
    samples = load_samples("phoenix2014", tmp_path, split)
    assert len(samples) == count
    assert [s.gloss for s in samples] == [tuple(row["gloss"].split()) for row in rows]


# --- CSL-News --------------------------------------------------------------------------------------------------------


def test_csl_news_reads_its_records(tmp_path, capsys):
    names = ["Common-Concerns_20201113_0-287_14330", "20200102_Dragon-TV__0-100_2", "Common-Concerns_20201114_0-9_1"]
    records = [{"video": f"{name}.mp4", "pose": f"{name}.pkl", "text": f"第{i}条。"} for i, name in enumerate(names)]
    write(tmp_path / "CSL_News_Labels.json", json.dumps(records, ensure_ascii=False))
    for name in names[:2]:
        clip(tmp_path / f"rgb_format/{name}.mp4", 5)
    samples = load_samples("csl_news", tmp_path, "train")
    assert [(s.name, s.text) for s in samples] == [(names[0], "第0条。"), (names[1], "第1条。")]
    assert len(frames_of(samples[0])) == 5
    assert "left out 1 of 3" in capsys.readouterr().err
    with pytest.raises(ValueError, match="the release has no splits"):
        load_samples("csl_news", tmp_path, "test")
    write(tmp_path / "CSL_News_Labels.json", json.dumps([{"video": "a.mp4"}]))
    with pytest.raises(ValueError, match=r"CSL_News_Labels\.json: record 0 needs the keys video and text"):
        load_samples("csl_news", tmp_path, "train")


# --- BOBSL -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["v1.2", "v1.4"])
def bobsl(request, tmp_path: Path) -> Path:
    old = request.param == "v1.2"
    test = "public_test" if old else "test"
    subset = {"train": ["510", "511", "512"], "val": ["520"], test: ["530"]}
    write(
        tmp_path / ("subset2episode.json" if old else "original_data/metadata/subset2episode.json"), json.dumps(subset)
    )
    folder = "subtitles/manually-aligned" if old else "manual_annotations/signing_aligned_subtitles"
    cues = "WEBVTT\n\n00:00:00.400 --> 00:00:00.800\nIt is raining.\n\n00:00:01.200 --> 00:00:01.600\nAnd windy.\n"
    for episode in ("510", "511", "530"):
        write(tmp_path / f"{folder}/{episode}.vtt", cues)
    for episode in ("510", "530"):
        clip(tmp_path / f"{'videos' if old else 'original_data/videos/mp4'}/{episode}.mp4")
    found = {"rain": {"names": ["510", "510"], "global_times": [0.6, 1.4], "probs": [0.9, 0.5]},
             "wind": {"names": ["510"], "global_times": [1.3], "probs": [0.95]}}  # fmt: skip
    write(tmp_path / "spottings/mouthing_spottings.json", json.dumps({"train": found}))
    return tmp_path


def test_bobsl_reads_subtitles_aligned_by_people(bobsl, capsys):
    first, second = load_samples("bobsl", bobsl, "train")
    assert (first.name, first.text, first.gloss) == ("510-0000", "It is raining.", ())
    assert "without a clip: 511" in capsys.readouterr().err
    whole = read_frames(first.clip)
    np.testing.assert_array_equal(frames_of(first), whole[10:20])
    np.testing.assert_array_equal(frames_of(second), whole[30:40])
    assert [s.name for s in load_samples("bobsl", bobsl, "test")] == ["530-0000", "530-0001"]
    spotted = load_samples("bobsl", bobsl, "train", spottings="mouthing")
    assert [s.gloss for s in spotted] == [("rain",), ("wind",)]
    with pytest.raises(ValueError, match=r"needs the audio subtitles in .*; there are those of manual"):
        load_samples("bobsl", bobsl, "train", subtitles="audio")


# --- Isharah ---------------------------------------------------------------------------------------------------------


def test_isharah_reads_both_kinds_of_tables(tmp_path, capsys):
    write(tmp_path / "Annotations/isharah1000/SI/train.txt", "id|gloss|text\n00_0001|سوال هو|من هو\n00_0002|هو|هو\n")
    write(tmp_path / "Annotations/isharah1000/US/train.txt", "id|gloss\n00_0001|سوال هو\n")
    images(tmp_path / "frames/00/00_0001")
    (sample,) = load_samples("isharah", tmp_path, "train")
    assert (sample.name, sample.text, sample.gloss, sample.signer) == ("00_0001", "من هو", ("سوال", "هو"), "00")
    assert len(frames_of(sample)) == 3
    assert "left out 1 of 2" in capsys.readouterr().err
    (sample,) = load_samples("isharah", tmp_path, "train", protocol="US")
    assert (sample.text, sample.gloss) == ("", ("سوال", "هو"))
    write(tmp_path / "Annotations/isharah500/SI/train.txt", "id|gloss|text\n00_0001|هو|هو\n")
    with pytest.raises(ValueError, match=r"annotations of isharah500, isharah1000; choose one with corpus\.opt"):
        load_samples("isharah", tmp_path, "train")
    (sample,) = load_samples("isharah", tmp_path, "train", subset="isharah500")
    assert sample.gloss == ("هو",)
    write(tmp_path / "Annotations/isharah500/SI/test.txt", "id\n00_0001\n")
    with pytest.raises(ValueError, match=r"test\.txt:1: needs the columns id, gloss"):
        load_samples("isharah", tmp_path, "test", subset="isharah500")


# --- MeineDGS --------------------------------------------------------------------------------------------------------


def test_meine_dgs_reads_the_translation_protocols(tmp_path, capsys):
    clip(tmp_path / "videos/1583882_1a1.mp4", 60, fps=50)
    rows = [
        "filename|camera|ger_text|gloss|start_time|stop_time",
        "1583882A-0|A|stimmt das|STIMMT/2/9 NAME//10/14|20|45",
        "1583882B-3|B|ja genau|JA/1/4|5|20",
    ]
    write(tmp_path / "mDGS/mDGS_Protocol_Train.csv", "\n".join(rows) + "\n")
    (sample,) = load_samples("meine_dgs", tmp_path, "train")
    assert (sample.name, sample.text, sample.signer, sample.num_frames) == ("1583882A-0", "stimmt das", "1583882A", 25)
    assert sample.spans == (Span("STIMMT", 2, 9), Span("NAME", 10, 14))
    np.testing.assert_array_equal(frames_of(sample), read_frames(tmp_path / "videos/1583882_1a1.mp4")[20:45])
    assert "left out 1 of 2 train sentences without a clip: 1583882B-3" in capsys.readouterr().err
    write(tmp_path / "mDGS/mDGS_Protocol_Train.csv", "\n".join([rows[0], rows[1].replace("|20|45", "|45|20")]) + "\n")
    with pytest.raises(ValueError, match=r"mDGS_Protocol_Train\.csv:2: 1583882A-0 needs start_time before stop_time"):
        load_samples("meine_dgs", tmp_path, "train")


def test_meine_dgs_reads_transcripts_of_elan(tmp_path):
    pympi = pytest.importorskip("pympi")
    document = pympi.Eaf()
    tiers = {
        "Deutsche_Übersetzung_A": [(200, 700, "Das stimmt.")],
        "Translation_into_English_A": [(200, 700, "That is right.")],
        "Lexem_Gebärde_r_A": [(240, 400, "STIMMT1"), (1000, 1100, "SPÄTER1")],
        "Lexem_Gebärde_l_A": [(420, 500, "DAS1")],
        "Deutsche_Übersetzung_B": [(800, 1000, "Ja?")],
    }
    for tier, annotations in tiers.items():
        document.add_tier(tier)
        for start, end, value in annotations:
            document.add_annotation(tier, start, end, value)
    document.to_file(str(tmp_path / "1583882.eaf"))
    for camera in ("1a1", "1b1"):
        clip(tmp_path / f"1583882_{camera}.mp4", 60, fps=50)
    with pytest.raises(ValueError, match=r"needs one split\*\.json .*, found none"):
        load_samples("meine_dgs", tmp_path, "train")
    write(tmp_path / "split.json", json.dumps({"train": ["1583882"], "dev": ["9"], "test": ["8"]}))
    first, second = load_samples("meine_dgs", tmp_path, "train")
    assert (first.text, second.text) == ("Das stimmt.", "Ja?")
    # 200 ms is frame 10 of 50 a second: 240-400 ms are frames 2-10 of the sentence.
    assert first.spans == (Span("STIMMT1", 2, 10), Span("DAS1", 11, 15))
    np.testing.assert_array_equal(frames_of(first), read_frames(tmp_path / "1583882_1a1.mp4")[10:35])
    np.testing.assert_array_equal(frames_of(second), read_frames(tmp_path / "1583882_1b1.mp4")[40:50])
    english = load_samples("meine_dgs", tmp_path, "train", language="english")
    assert [s.text for s in english] == ["That is right."]


# --- the doctor ------------------------------------------------------------------------------------------------------


def test_every_corpus_of_the_package_says_how_it_is_recognised():
    own = "bobsl csl_daily csl_news dgs_sentences folder how2sign imu_numbers isharah meine_dgs openasl phoenix14t"
    own = {*own.split(), "phoenix2014", "synthetic", "youtube_asl"}
    assert own <= set(layouts()) <= set(CORPORA)
    for layout in layouts().values():
        assert layout.files
        assert layout.about
        assert layout.published
        assert layout.needs


def test_the_doctor_recognises_a_corpus_and_says_what_is_missing(openasl, capsys):
    assert main(["corpus", "doctor", str(openasl)]) == 1
    out = capsys.readouterr().out
    assert "OpenASL, American Sign Language from YouTube; reader openasl (found data/openasl-v1.0.tsv)" in out
    assert "train: 2 sentences" in out
    assert "1 without a file: BBBBBBBBBB2-00:00:01.000-00:00:01.400" in out
    assert "test: cannot be read: " in out
    assert "published: https://github.com/chevalierNoir/OpenASL" in out
    assert f"signcl corpus check {openasl} --corpus openasl" in out
    assert main(["corpus", "doctor", str(openasl), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["corpora"][0]["name"] == "openasl"
    assert found["corpora"][0]["splits"][0]["sentences"] == 2
    assert found["healthy"] is False


def test_the_doctor_recognises_bobsl(bobsl):
    found = diagnose(bobsl).corpora[0]
    assert (found.name, found.splits[0].sentences, found.splits[0].missing) == ("bobsl", 2, ["511"])


def test_the_doctor_recognises_youtube_asl(youtube):
    found = diagnose(youtube).corpora[0]
    assert (found.name, found.splits[0].sentences, found.splits[0].missing) == ("youtube_asl", 2, ["CCCCCCCCCC3"])


def test_the_doctor_of_a_healthy_folder_gives_the_next_command(tmp_path, capsys):
    for split in ("train", "dev", "test"):
        clip(tmp_path / f"{split}.mp4", 4)
        write(tmp_path / f"{split}.tsv", f"name\tpath\ttext\n{split}\t{split}.mp4\ta sentence\n")
    assert main(["corpus", "doctor", str(tmp_path)]) == 0
    assert f"signcl corpus check {tmp_path}\n" in capsys.readouterr().out
    write(tmp_path / "dev.tsv", "name\tpath\ttext\na\tgone.mp4\tone\nb\tdev.mp4\t.\n")
    part = diagnose(tmp_path).corpora[0].splits[1]
    assert (part.sentences, part.missing) == (0, ["a"])
    assert part.broken == [f"{tmp_path / 'dev.tsv'}:3: b has a text without words: '.'"]


def test_the_doctor_of_an_unknown_folder_says_what_it_found_and_how_to_make_a_table(tmp_path, capsys):
    clip(tmp_path / "day one/first clip.mp4", 4)
    write(tmp_path / "sentences.xlsx", "no table")
    assert main(["corpus", "doctor", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "no known corpus; it contains 1 .mp4, 1 .xlsx" in out
    assert "first clip\tday one/first clip.mp4\tthe sentence that is signed" in out
    assert "sentences may be in sentences.xlsx" in out
    (tmp_path / "empty").mkdir()
    assert main(["corpus", "doctor", str(tmp_path / "empty")]) == 1
    assert "it contains nothing" in capsys.readouterr().out
    assert main(["corpus", "doctor", str(tmp_path / "nowhere")]) == 2
    assert "does not exist; give the folder of a corpus" in capsys.readouterr().err


def test_an_unknown_corpus_is_pointed_to_folder():
    with pytest.raises(ValueError, match=r"got 'kvk' \(for any other data: folder, with a table; `signcl corpus d"):
        load_samples("kvk", ".", "train")


@pytest.mark.parametrize("name", sorted(layouts()))
def test_a_missing_corpus_is_named_with_where_it_is_published(name, tmp_path):
    layout = layouts()[name]
    with pytest.raises(ValueError, match="does not exist; give the folder of") as raised:
        load_samples(name, tmp_path / "nothing", "train")
    assert (layout.needs if name == "folder" else layout.published) in str(raised.value)
