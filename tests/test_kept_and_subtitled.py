"""Clips that are kept with consent, and edited subtitles: nothing is lost, and hostile input is refused."""

import json

import pytest

from signcl.data.annotation.elan import read_elan, write_elan
from signcl.data.annotation.subtitles import read_subtitles
from signcl.data.batch import Span
from signcl.data.corpora import load_samples
from signcl.inference.subtitling import Cue, write_cues
from signcl.inference.subtitling import Subtitles as Made
from signcl.pages.clip_form import ClipForm
from signcl.pages.kept_clips import FolderFull, Keeper
from signcl.pages.subtitle_editor import Changed, Subtitles
from signcl.pages.uploads import Refused

AGREED = {"consent": "yes"}


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"a video")
    return path


def test_a_kept_clip_is_a_row_a_file_and_a_consent(tmp_path, clip):
    keeper = Keeper(tmp_path / "kept")
    texts = [' a "quoted"\ttext\n', "=1+1 <script>", "‮reversed", "Grüße 谢谢"]
    names = [keeper.add(clip, keeper.check({**AGREED, "text": text, "signer": "ada"})) for text in texts]
    found = load_samples("folder", tmp_path / "kept", "train")
    assert [s.name for s in found] == names
    assert [s.text for s in found] == ['a "quoted" text', "=1+1 <script>", "‮reversed", "Grüße 谢谢"]
    assert all(s.clip.read_bytes() == b"a video" and s.signer == "ada" for s in found)
    lines = [json.loads(line) for line in (tmp_path / "kept" / "consent.jsonl").read_text().splitlines()]
    assert [line["name"] for line in lines] == names


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        ({"text": "a"}, "consent"),
        ({"text": "a", "consent": "no"}, "consent"),
        ({**AGREED}, "the sentence that is signed"),
        ({**AGREED, "text": " \n\t…"}, "the sentence that is signed"),
        ({**AGREED, "text": "a\x00b"}, "control characters"),
        ({**AGREED, "text": "a" * 1001}, "at most 1000 characters"),
        ({**AGREED, "text": "a", "signer": "x\x1b[2J"}, "control characters"),
    ],
)
def test_what_is_not_kept(tmp_path, texts, match):
    with pytest.raises(ValueError, match=match):
        Keeper(tmp_path).check(texts)
    assert list(tmp_path.iterdir()) == []


def test_rows_go_into_a_table_that_is_there_and_keep_its_other_columns(tmp_path, clip):
    (tmp_path / "a.mp4").write_bytes(b"")
    table = tmp_path / "train.tsv"
    table.write_text("text\tlanguage\tname\tpath\tsigner\r\nold\tde\ta\ta.mp4\t\r\n", encoding="utf-8")
    keeper = Keeper(tmp_path)
    keeper.add(clip, keeper.check({**AGREED, "text": "new"}))
    first, second = load_samples("folder", tmp_path, "train")
    assert (first.text, first.language, second.text, second.language) == ("old", "de", "new", "")
    table.write_text("name\tpath\tgloss\na\ta.mp4\tKEY\n")
    with pytest.raises(ValueError, match="text, signer missing"):
        Keeper(tmp_path)


def test_nothing_of_a_clip_is_left_where_its_row_cannot_be_written(tmp_path, clip, monkeypatch):
    keeper = Keeper(tmp_path / "kept")
    (tmp_path / "kept" / "train.tsv").mkdir()  # nothing can take its place
    with pytest.raises(OSError):
        keeper.add(clip, keeper.check({**AGREED, "text": "a"}))
    assert list((tmp_path / "kept" / "clips").iterdir()) == []
    assert (tmp_path / "kept" / "consent.jsonl").read_bytes() == b"", "no consent to a clip that is not kept"


def test_a_full_folder_takes_no_clip_and_nothing_is_half_written(tmp_path, clip):
    keeper = Keeper(tmp_path / "kept", most=20)  # a clip has 7 bytes
    wish = keeper.check({**AGREED, "text": "a"})
    names = [keeper.add(clip, wish), keeper.add(clip, wish)]
    assert not keeper.full
    keeper.check_room()
    before = {path: path.read_bytes() for path in keeper.folder.rglob("*") if path.is_file()}
    with pytest.raises(FolderFull, match=r"keeps no more clips: 0 of at most 2e-05 MB are used \(--max-kept\)"):
        keeper.add(clip, wish)  # only known once the clip is there: 6 bytes are left
    assert {path: path.read_bytes() for path in keeper.folder.rglob("*") if path.is_file()} == before
    assert [s.name for s in load_samples("folder", keeper.folder, "train")] == names
    (keeper.folder / "clips" / "by another server.mp4").write_bytes(b"123456")
    assert keeper.full
    with pytest.raises(FolderFull):
        keeper.check_room()


@pytest.mark.parametrize(
    ("texts", "part"),
    [
        ({}, None),
        ({"start": "1.5"}, (1.5, None)),
        ({"stop": "2"}, (0.0, 2.0)),
        ({"start": "0", "stop": "0.1"}, (0.0, 0.1)),
    ],
)
def test_the_part_of_a_form(texts, part):
    assert ClipForm("clip", texts).part() == part


@pytest.mark.parametrize("texts", [{"start": "2", "stop": "2"}, {"start": "nan"}, {"stop": "1e3"}, {"start": "-1"}])
def test_no_part_of_a_form(texts):
    with pytest.raises(Refused):
        ClipForm("clip", texts).part()


CUES = (
    Cue(0.0, 1.0, "one", 0.5, 0.2, False),
    Cue(1.5, 2.5, "two", 0.25, 0.1, True),
    Cue(3.0, 4.0, "", error="unreadable"),
)


@pytest.fixture(params=[".srt", ".vtt", ".eaf", ".tsv"])
def subtitled(request, tmp_path):
    path = tmp_path / f"film{request.param}"
    write_cues(path, Made(CUES, (Span("sign 1", 5, 9),), 25.0, 100), tmp_path / "film.mp4")
    return Subtitles(path)


def test_a_changed_sentence_loses_its_confidence_and_the_others_keep_it(subtitled):
    state = subtitled.state()
    assert [(c["start"], c["text"], c["confidence"]) for c in state["cues"]] == [
        (0, "one", 0.5),
        (pytest.approx(1.5, abs=0.03), "two", 0.25),
        (3, "", None),
    ]
    state["cues"][0]["text"] = "one  and\na half"
    state["cues"].append({"start": 5.0, "stop": 6.25, "text": "new"})
    after = subtitled.save(state["cues"], state["version"])
    assert [(c["text"], c["confidence"]) for c in after["cues"]] == [
        ("one and a half", None),
        ("two", 0.25),
        ("", None),
        ("new", None),
    ]
    assert Subtitles(subtitled.path).state() == after
    assert subtitled.path.with_name(f"{subtitled.path.name}.orig").is_file()
    if subtitled.path.suffix == ".eaf":
        (signs,) = read_elan(subtitled.path, fps=25, tier="sign").values()
        assert [(s.token, s.start, s.stop) for s in signs] == [("sign 1", 5, 9)]
    for suffix in (".srt", ".vtt", ".eaf", ".tsv"):
        assert b"one and a half" in subtitled.exported(suffix)


def test_a_file_that_another_program_changed_is_not_written_over(subtitled):
    state = subtitled.state()
    subtitled.path.write_bytes(subtitled.path.read_bytes().replace(b"one", b"ONE"))
    before = subtitled.path.read_bytes()
    with pytest.raises(Changed):
        subtitled.save(state["cues"], state["version"])
    assert subtitled.path.read_bytes() == before


@pytest.mark.parametrize(
    ("cue", "match"),
    [
        ({"start": 2, "stop": 1, "text": "a"}, "0 <= start < stop"),
        ({"start": 0, "stop": float("nan"), "text": "a"}, "0 <= start < stop"),
        ({"start": 0, "stop": 0.0004, "text": "a"}, "0 <= start < stop"),
        ({"start": 0, "stop": 1, "text": "a\x00"}, "control characters"),
        ({"start": 0, "stop": 1, "text": "a <i>b</i>"}, "would be read back differently"),
    ],
)
def test_what_is_no_subtitle_changes_nothing(tmp_path, cue, match):
    path = tmp_path / "film.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\none\n")
    subtitles = Subtitles(path)
    with pytest.raises(ValueError, match=match):
        subtitles.save([cue], subtitles.state()["version"])
    assert read_subtitles(path, fps=1000) == {"film": (Span("one", 0, 1000),)}


def test_an_empty_file_is_a_beginning_and_foreign_tiers_are_refused(tmp_path):
    path = tmp_path / "film.vtt"
    path.write_text("WEBVTT\n\n")
    subtitles = Subtitles(path)
    state = subtitles.save([{"start": 0, "stop": 1, "text": "a & b"}], subtitles.state()["version"])
    assert [cue["text"] for cue in state["cues"]] == ["a & b"]
    assert subtitles.save([], state["version"])["cues"] == []
    write_elan(tmp_path, {"film": [Span("KEY", 0, 9)]}, fps=25, tier="gloss-right")
    with pytest.raises(ValueError, match="tiers gloss-right, which this page would lose"):
        Subtitles(tmp_path / "film.eaf")
