"""Subtitles in and out: SubRip and WebVTT as people have them, and the verb that turns any kind into any other."""

import numpy as np
import pytest

from signcl.cli import main
from signcl.data.annotation.elan import write_elan
from signcl.data.annotation.span_table import read_spans, write_spans
from signcl.data.annotation.subtitles import read_subtitles, write_subtitles
from signcl.data.batch import Span
from signcl.data.video.writing import write_video
from signcl.evaluation.subtitle_scores import score_subtitles
from signcl.inference.subtitling import read_segments
from signcl.pages.subtitle_editor import Subtitles


def cues(path, text, **options):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    ((_, spans),) = read_subtitles(path, **{"fps": 10, **options}).items()
    return [(span.token, span.start, span.stop) for span in spans]


TWO = [("Hello world", 0, 10), ("Bye", 5, 20)]
SRT = "1\n00:00:00,000 --> 00:00:01,000\nHello\nworld\n\n2\n00:00:00,500 --> 00:00:02,000\nBye\n"


@pytest.mark.parametrize(
    "text",
    [
        SRT,
        SRT.encode("utf-8-sig"),
        SRT.encode("utf-16"),
        SRT.replace("\n", "\r\n"),
        SRT.replace("\n", "\r"),
        SRT.replace("\n", "\r\r\n"),
        SRT.replace(",", "."),
        SRT.replace("00:00:", "00:"),  # hours left out: still seconds, not minutes
        SRT.replace("1\n00", "00").replace("2\n00", "00"),  # no counters
        SRT.replace("\n\n", "\n"),  # no empty lines between
        SRT.replace("\n\n", "\n \n\n\n"),
        SRT.replace("00,000\nHello", "00,000 X1:10 X2:20\n<i>Hello</i>").replace(
            "Bye", r"{\an8}<font color='#fff'>Bye</font>"
        ),
        SRT.replace("Hello\nworld", "  Hello\tworld "),
        SRT.rstrip("\n"),
        "WEBVTT\n\n" + SRT.replace(",", "."),  # WebVTT inside, by its first line
    ],
)
def test_subrip_of_every_kind_is_one(tmp_path, text):
    assert cues(tmp_path / "a.srt", text) == TWO


VTT = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

REGION
id:r1

NOTE
a comment

intro
00:00.000 --> 00:01.000 align:start position:0%
<v.loud Ann>Hel<00:00.500>lo</v>
<c.yellow>world</c>

00:00:00.500 --> 00:00:02.000
Bye &lt;b&gt; &amp; 1 < 2
"""


@pytest.mark.parametrize("text", [VTT, VTT.encode("utf-8-sig"), VTT.replace("\n", "\r\n"), VTT.replace("\n", "\r")])
def test_webvtt_with_all_that_it_may_hold(tmp_path, text):
    assert cues(tmp_path / "a.vtt", text) == [("Hello world", 0, 10), ("Bye <b> & 1 < 2", 5, 20)]


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("a.srt", SRT.replace("00:00:00,500", "00:00:xx,500"), r"a\.srt:7: '00:00:xx,500 --> .* not a line of times"),
        ("a.srt", SRT.replace("00:00:00,500", "00:99:00,500"), r"a\.srt:7: .* more than 59 minutes or seconds"),
        ("a.srt", SRT.replace("00,500", "00,5"), r"a\.srt:7: .* milliseconds have three digits"),
        ("a.srt", SRT.replace("02,000", "02,000 again"), r"a\.srt:7: .* is not a line of times"),
        ("a.srt", "# my file\n\n" + SRT, r"a\.srt:1: '# my file' is outside a cue"),
        ("a.srt", SRT + "\nmore\n", r"a\.srt:10: 'more' is outside a cue"),
        ("a.srt", SRT + "\n3\n", r"a\.srt:10: '3' is outside a cue"),
        (
            "a.srt",
            SRT.replace("02,000", "00,100"),
            r"a\.srt: the cue in line 7, 'Bye' from 500 to 100 ms, ends before it",
        ),
        ("a.srt", SRT.replace("02,000", "00,500"), "the cue in line 7, 'Bye' .* has no length"),
        ("a.srt", SRT.replace("02,000", "00,510"), "the cue in line 7, 'Bye' .* has no frame at 10 frames per second"),
        ("a.srt", SRT.replace("00:00:02", "99:00:02"), "the cue in line 7, 'Bye' .* ends more than a day after"),
        ("a.srt", SRT.replace("Bye", "B\x1fye"), "the cue in line 7, .* cannot be a gloss: .* control characters"),
        ("a.srt", "", r"a\.srt: contains no cue"),
        ("a.srt", SRT.replace("Bye", "Grüße").encode("latin-1"), r"a\.srt:8: must be UTF-8 text"),
        ("a.srt", SRT.replace("Bye", "By\0e"), r"a\.srt:8: contains a NUL byte"),
        ("a.vtt", SRT, r"a\.vtt:1: needs the line WEBVTT first, got '1'; is it SubRip"),
        ("a.vtt", "WEBVTT\n" + SRT, r"a\.vtt:3: the WebVTT header contains '00:00"),
        (
            "a.vtt",
            "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000\n\n" + SRT,
            r"a\.vtt:2: the WebVTT header contains 'X-TIME",
        ),
        (
            "a.vtt",
            "WEBVTT\n\nNOTE off\n00:00.000 --> 00:01.000\nx\n\n" + SRT,
            r"a\.vtt:4: NOTE contains a cue, which WebVTT",
        ),
    ],
)
def test_what_is_no_subtitle_is_named_by_file_and_line(tmp_path, name, text, match):
    with pytest.raises(ValueError, match=match) as caught:
        cues(tmp_path / name, text)
    assert len(str(caught.value).splitlines()) == 1


def test_a_number_in_front_of_the_next_cue_is_its_counter_or_a_text(tmp_path):
    joined = "7\n00:00,000 --> 00:01,000\nroom\n{}\n00:01,000 --> 00:02,000\nBye\n"
    assert cues(tmp_path / "a.srt", joined.format(8)) == [("room", 0, 10), ("Bye", 10, 20)]
    assert cues(tmp_path / "a.srt", joined.format(9)) == [("room 9", 0, 10), ("Bye", 10, 20)]
    assert cues(tmp_path / "a.srt", joined[2:].format(8)) == [("room 8", 0, 10), ("Bye", 10, 20)]


def test_cues_without_text_are_counted(tmp_path, capsys):
    assert cues(tmp_path / "a.srt", SRT.replace("Bye", "<i></i>")) == TWO[:1]
    assert "1 annotation without text, left out: a.srt" in capsys.readouterr().err


def test_the_video_of_the_same_name_sets_the_rate_and_the_end(tmp_path, capsys):
    write_video(tmp_path / "a.mp4", np.zeros((40, 16, 16, 3), np.uint8), fps=20)
    assert cues(tmp_path / "a.srt", SRT, fps=None) == [("Hello world", 0, 20), ("Bye", 10, 40)]
    assert "20 frames per second, from its video: a.srt (a.mp4)" in capsys.readouterr().err
    with pytest.raises(
        ValueError, match=r"the cue in line 7, 'Bye' .* lies beyond the clip, which ends after 40 frames"
    ):
        cues(tmp_path / "a.srt", SRT.replace("02,000", "03,000"), fps=None)


@pytest.mark.parametrize("suffix", [".srt", ".eaf"])
def test_nobody_asked_for_a_rate_where_times_are_only_counted_in_milliseconds(tmp_path, capsys, suffix):
    # `serve --subtitles`, `score` and `subtitle --segments` once blamed a --fps that nobody had given
    write_video(tmp_path / "a.mp4", np.zeros((40, 16, 16, 3), np.uint8), fps=20)
    file = tmp_path / f"a{suffix}"
    spans = {"a": (Span("Hello", 250, 1100), Span("Bye", 1100, 1900))}
    clips = {"a": tmp_path / "a.mp4"}
    if suffix == ".eaf":
        write_elan(tmp_path, spans, fps=1000, tier="sentence", clips=clips, file=file)
    else:
        write_subtitles(tmp_path, spans, fps=1000, file=file)
    capsys.readouterr()
    assert [(cue["start"], cue["stop"]) for cue in Subtitles(file).state()["cues"]] == [(0.25, 1.1), (1.1, 1.9)]
    assert read_segments(file, 10.0) == (Span("Hello", 2, 11), Span("Bye", 11, 19))
    assert score_subtitles(file, file, samples=0)["cues"]["found"] == 2
    assert "--fps" not in capsys.readouterr().err


def test_what_markup_would_swallow_is_refused_on_writing(tmp_path):
    spans = {"a": (Span("<i>", 0, 5), Span("FINE", 5, 9))}
    with pytest.raises(ValueError, match=r"a: the text '<i>' would be read back differently from \.srt"):
        write_subtitles(tmp_path, spans, fps=25)
    assert not list(tmp_path.iterdir())
    write_subtitles(tmp_path, spans, suffix=".vtt", fps=25)  # WebVTT has entities
    assert read_subtitles(tmp_path, fps=25) == spans
    with pytest.raises(ValueError, match=r"subtitles are written as \.srt or \.vtt, got '\.ass'"):
        write_subtitles(tmp_path, spans, suffix=".ass", fps=25)


def test_the_verb_spans_turns_every_kind_into_every_other(tmp_path, capsys):
    spans = {"a": (Span("A", 0, 5), Span("B", 3, 9)), "d/b": (Span("C", 1, 2),)}
    write_spans(tmp_path / "0.tsv", spans)
    last = tmp_path / "0.tsv"
    for number, kind in enumerate(("srt", "eaf", "vtt"), start=1):
        folder = tmp_path / f"{number}"
        assert main(["spans", str(last), "-o", str(folder), "--to", kind, "--fps", "25"]) == 0
        assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*")) == [
            f"a.{kind}",
            f"d/b.{kind}",
        ]
        last = folder
    assert main(["spans", str(last), "-o", str(tmp_path / "1.tsv"), "--fps", "25"]) == 0
    assert read_spans(tmp_path / "1.tsv") == spans
    # One clip to one file, by its ending in any case.
    assert main(["spans", str(tmp_path / "3" / "a.vtt"), "-o", str(tmp_path / "one.SRT"), "--fps", "25"]) == 0
    assert read_subtitles(tmp_path / "one.SRT", fps=25) == {"one": spans["a"]}
    assert "one.SRT: holds the clip a, but reading this file back will name it one" in capsys.readouterr().err
    capsys.readouterr()
    for words, said in [
        (["0.tsv", "-o", "two.srt"], "two.srt: can hold only one clip, got 2; give a folder and --to srt"),
        (["0.tsv", "-o", "x.ass"], "x.ass: spans can be written to a .tsv table, to one .eaf, .srt or .vtt file"),
        (["0.tsv", "-o", "x.tsv", "--to", "srt"], "--to srt is the kind of files in a folder"),
        (["0.tsv", "-o", "x", "--from", "srt"], "--from srt is the kind of files in a folder"),
        (
            ["none", "-o", "x.tsv"],
            "none: holds no .eaf, .srt or .vtt file; if it is a corpus folder, give it as --root",
        ),
        (["mixed", "-o", "x.tsv"], "mixed: holds files of several kinds (eaf, vtt); choose one with --from"),
    ]:
        mixed = tmp_path / "mixed"
        mixed.mkdir(exist_ok=True)
        (tmp_path / "none").mkdir(exist_ok=True)
        (mixed / "a.eaf").touch()
        (mixed / "a.vtt").touch()
        paths = [str(tmp_path / w) if not w.startswith("-") and w not in ("srt",) else w for w in words]
        assert main(["spans", *paths]) == 2
        assert said in capsys.readouterr().err
    assert main(["align", "run", "-o", str(tmp_path / "x.eaf")]) == 2
    assert (
        "align writes a .tsv table; `signcl spans TABLE -o TO` converts it to .eaf, .srt or .vtt"
        in capsys.readouterr().err
    )
