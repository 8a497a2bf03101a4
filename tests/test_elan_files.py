"""ELAN files as people have them: implied times, clocks of videos, vocabularies; what is wrong is named."""

import time
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signcl.cli import main
from signcl.data.annotation.elan import read_elan, write_elan
from signcl.data.annotation.span_table import read_spans, write_spans
from signcl.data.batch import Span
from signcl.data.video.writing import write_video

TYPES = {"": "default", "Symbolic_Association": "sym", "Symbolic_Subdivision": "sub", "Time_Subdivision": "tsub"}


def aligned(name, start, stop, value="X", **more):
    more = "".join(f" {key}={quoteattr(text)}" for key, text in more.items())
    return (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}" TIME_SLOT_REF1="{start}" '
        f'TIME_SLOT_REF2="{stop}"{more}>'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
    )


def child(name, parent, value="X", previous=None):
    previous = f' PREVIOUS_ANNOTATION="{previous}"' if previous else ""
    return (
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{name}" ANNOTATION_REF="{parent}"{previous}>'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
    )


def tier(name, *annotations, kind="", **more):
    more = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<TIER LINGUISTIC_TYPE_REF="{TYPES.get(kind, kind)}" TIER_ID="{name}"{more}>{"".join(annotations)}</TIER>'


def eaf(path, slots, *tiers, media="", units="milliseconds", extra="", head=""):
    """Write a file; `slots` are times, None for one without."""
    times = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="ts{n}"' + ("/>" if t is None else f' TIME_VALUE="{t}"/>')
        for n, t in enumerate(slots, start=1)
    )
    types = "".join(
        f'<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="{name}"' + (f' CONSTRAINTS="{kind}"/>' if kind else "/>")
        for kind, name in TYPES.items()
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>{head}<ANNOTATION_DOCUMENT FORMAT="3.0" VERSION="3.0">'
        f'<HEADER MEDIA_FILE="" TIME_UNITS="{units}">{media}</HEADER><TIME_ORDER>{times}</TIME_ORDER>{"".join(tiers)}'
        f"{types}{extra}</ANNOTATION_DOCUMENT>",
        encoding="utf-8",
    )
    return path


def spans_of(path, **options):
    ((_, spans),) = read_elan(path, **{"fps": 25, "tier": "gloss", **options}).items()
    return [(span.token, span.start, span.stop) for span in spans]


@pytest.mark.parametrize(
    ("case", "right"),
    [
        ("unaligned", [("HELLO", 0, 10), ("WORLD", 10, 20)]),
        ("subdiv", [("HELLO", 0, 12), ("WORLD", 12, 25)]),  # 12.5 goes to the even edge, for both
        ("origin", [("HELLO", 10, 20), ("WORLD", 22, 35)]),  # 400 ms later in the video
        ("fps/base50", [("HELLO", 0, 20), ("WORLD", 24, 50)]),
        ("mac", [("HELLO", 0, 10), ("WORLD", 12, 25)]),
    ],
)
def test_reader_cases_are_read_right_and_come_back(case, right, real_data, tmp_path, capsys):
    cases = real_data / "reader-cases" / "elan"
    source = cases / case if case == "mac" else cases / f"{case}.eaf"
    table = tmp_path / "spans.tsv"
    assert main(["spans", str(source), "--tier", "gloss", "-o", str(table)]) == 0
    ((_, spans),) = read_spans(table).items()
    assert [(span.token, span.start, span.stop) for span in spans] == right
    said = capsys.readouterr().err
    assert ("50 frames per second, from its video: base50.eaf (base50.mp4)" in said) == (case == "fps/base50")
    assert ("1 hidden file is skipped" in said) == (case == "mac")


@pytest.mark.parametrize(
    ("case", "match"),
    [
        (
            "dangling",
            "dangling.eaf: annotation a1 of tier 'gloss', 'HELLO', has the time slot 'ts9', which does not exist",
        ),
        (
            "newline",
            r"newline.eaf: annotation a1 of tier 'gloss', 'HELLO\\nagain' from 0 to 400 ms, contains a line break",
        ),
        ("mac/._clip", "_clip.eaf: is a macOS metadata file without annotations; give clip.eaf"),
    ],
)
def test_reader_cases_that_cannot_be_read_are_one_line(case, match, real_data, tmp_path, capsys):
    source = real_data / "reader-cases" / "elan" / f"{case}.eaf"
    assert main(["spans", str(source), "--tier", "gloss", "-o", str(tmp_path / "x.tsv")]) == 2
    said = capsys.readouterr().err
    assert match.replace("\\\\", "\\") in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_slots_without_a_time_share_the_time_of_their_chain(tmp_path):
    # Between 0 and 900 ms lie three annotations; the slot at 100 belongs to another tier and changes nothing.
    chain = [aligned("b1", "ts1", "ts2", "A"), aligned("b2", "ts2", "ts4", "B"), aligned("b3", "ts4", "ts5", "C")]
    other = tier("other", aligned("o1", "ts1", "ts3"))
    path = eaf(tmp_path / "a.eaf", [0, None, 100, None, 900], tier("gloss", *chain, kind="Time_Subdivision"), other)
    assert spans_of(path, fps=10) == [("A", 0, 3), ("B", 3, 6), ("C", 6, 9)]
    # Without a chain the neighbours in the list of slots count: 0, ?, ?, 900.
    apart = tier("gloss", aligned("a1", "ts1", "ts2", "A"), aligned("a2", "ts3", "ts4", "B"))
    assert spans_of(eaf(tmp_path / "b.eaf", [0, None, None, 900], apart), fps=10) == [("A", 0, 3), ("B", 6, 9)]


def test_children_divide_or_take_their_parents_time_through_several_tiers(tmp_path):
    sentence = tier("sentence", aligned("a1", "ts1", "ts2"), aligned("a2", "ts2", "ts3"))
    # The order is that of PREVIOUS_ANNOTATION, not of the file.
    words = tier("word", child("b3", "a1", "C", "b2"), child("b1", "a1", "A"), child("b2", "a1", "B", "b1"),
                 child("b4", "a2", "D"), kind="Symbolic_Subdivision", PARENT_REF="sentence")  # fmt: skip
    gloss = tier("gloss", child("c1", "b3", "GC"), child("c2", "b4", "GD"), kind="Symbolic_Association")
    path = eaf(tmp_path / "a.eaf", [0, 600, 1000], sentence, words, gloss)
    assert spans_of(path, tier="word", fps=10) == [("A", 0, 2), ("B", 2, 4), ("C", 4, 6), ("D", 6, 10)]
    assert spans_of(path, fps=10) == [("GC", 4, 6), ("GD", 6, 10)]


@pytest.mark.parametrize(
    ("annotations", "kind", "match"),
    [
        ([child("b1", "nobody", "A")], "Symbolic_Subdivision", "b1 .* 'A', refers to the annotation 'nobody'"),
        ([child("b1", "b2"), child("b2", "b1")], "Symbolic_Subdivision", "b[12] .* refers to itself through"),
        ([child("b1", "a1"), child("b2", "a1")], "Symbolic_Subdivision", "b2 .* is the first child .*, like b1"),
        ([child("b1", "a1"), child("b2", "a1", "B", "zz")], "Symbolic_Subdivision", "b2 .* follows zz, which is not"),
        ([child("b1", "a1"), child("b2", "a1", "B", "b1")], "Symbolic_Association", "b2 .* second child of"),
    ],
)  # fmt: skip
def test_references_that_lead_nowhere_are_named(tmp_path, annotations, kind, match):
    path = eaf(
        tmp_path / "a.eaf", [0, 600], tier("s", aligned("a1", "ts1", "ts2")), tier("gloss", *annotations, kind=kind)
    )
    with pytest.raises(ValueError, match=f"a.eaf: annotation {match}"):
        spans_of(path)


@pytest.mark.parametrize(
    ("slots", "match"),
    [
        ([-40, 400], "has the time slot ts1 at -40 ms, before the start"),
        ([0, "abc"], "needs whole milliseconds as the time of slot ts2, got 'abc'"),
        ([0, "1e3"], "needs whole milliseconds .* got '1e3'"),
        ([0, "40.5"], "needs whole milliseconds .* got '40.5'"),
        ([0, ""], "needs whole milliseconds .* got ''"),
        ([0, 10**11], "ends more than a day after the start"),
        ([0, 10**30], "needs whole milliseconds"),
        ([400, 400], "from 400 to 400 ms, has no length"),
        ([400, 0], "from 400 to 0 ms, ends before it starts"),
        ([0, 19], "has no frame at 25 frames per second; is --fps right"),
        ([None, 400], "has the time slot ts1 without a time, and not both sides have a slot"),
    ],
)
def test_wrong_times_are_named_with_file_and_annotation(tmp_path, slots, match):
    path = eaf(tmp_path / "a.eaf", slots, tier("gloss", aligned("a7", "ts1", "ts2", "HELLO")))
    with pytest.raises(ValueError, match=rf"a\.eaf: annotation a7 of tier 'gloss', 'HELLO'.* {match}"):
        spans_of(path)


def test_annotations_in_any_order_may_overlap_and_empty_ones_are_counted(tmp_path, capsys):
    marks = [
        aligned("a1", "ts3", "ts4", "LATE"),
        aligned("a2", "ts1", "ts2", " EARLY\n"),
        aligned("a3", "ts1", "ts4", " "),
    ]
    path = eaf(tmp_path / "a.eaf", [0, 600, 400, 1000], tier("gloss", *marks))
    assert spans_of(path) == [("EARLY", 0, 15), ("LATE", 10, 25)]
    assert "1 annotation without text, left out: a.eaf" in capsys.readouterr().err


def test_entries_of_controlled_vocabularies_are_values(tmp_path, capsys):
    vocabulary = (
        '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="cv" CONTROLLED_VOCABULARY_REF="Signs"/>'
        '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="far" CONTROLLED_VOCABULARY_REF="Far"/>'
        '<CONTROLLED_VOCABULARY CV_ID="Other"><CV_ENTRY_ML CVE_ID="e1"><CVE_VALUE LANG_REF="en">WRONG</CVE_VALUE>'
        '</CV_ENTRY_ML></CONTROLLED_VOCABULARY><CONTROLLED_VOCABULARY CV_ID="Far" EXT_REF="er1"/>'
        '<CONTROLLED_VOCABULARY CV_ID="Signs"><CV_ENTRY_ML CVE_ID="e1"><CVE_VALUE LANG_REF="en">HOUSE</CVE_VALUE>'
        '<CVE_VALUE LANG_REF="de">HAUS</CVE_VALUE></CV_ENTRY_ML></CONTROLLED_VOCABULARY>'
    )
    marks = [
        aligned("a1", "ts1", "ts2", "", CVE_REF="e1"),  # no text: the entry in the tier's language
        aligned("a2", "ts2", "ts3", "HUS", CVE_REF="e1"),  # an old text: the entry counts
        aligned("a3", "ts3", "ts4", "TREE", CVE_REF="gone"),  # an entry that is gone: the text is all there is
    ]
    slots = [0, 400, 800, 1200]
    path = eaf(tmp_path / "a.eaf", slots, tier("gloss", *marks, kind="cv", LANG_REF="de"), extra=vocabulary)
    assert spans_of(path) == [("HAUS", 0, 10), ("HAUS", 10, 20), ("TREE", 20, 30)]
    assert "1 annotations differ from their entry" in capsys.readouterr().err
    path = eaf(tmp_path / "b.eaf", slots, tier("gloss", *marks[:1], kind="cv"), extra=vocabulary)
    assert spans_of(path) == [("HOUSE", 0, 10)]  # no language said: the first
    path = eaf(tmp_path / "c.eaf", slots, tier("gloss", *marks[:1], kind="far"), extra=vocabulary)
    with pytest.raises(
        ValueError, match=r"c.eaf: annotation a1 .* entry 'e1' of the external vocabulary Far and has no text"
    ):
        spans_of(path)


MARK = tier("gloss", aligned("a1", "ts1", "ts2", "HELLO"))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "it is empty"),
        ("<xml", r"is not an ELAN file \(.*line 1"),
        ("<ANNOTATION_DOCUMENT><TIER></ANNOTATION_DOCUMENT>", "is not an ELAN file .*mismatch"),
        ("\0\1\2", "is not an ELAN file"),
        ("<html/>", "needs the root <ANNOTATION_DOCUMENT>, got <html>"),
        ("<ANNOTATION_DOCUMENT><TIER/></ANNOTATION_DOCUMENT>", ":1: <TIER> has no TIER_ID"),
        ("<a>" * 100_000, "is not an ELAN file"),
    ],
)
def test_what_is_no_elan_file_is_said_in_one_line(tmp_path, content, match):
    (tmp_path / "a.eaf").write_text(content)
    with pytest.raises(ValueError, match=match) as caught:
        spans_of(tmp_path / "a.eaf")
    assert "a.eaf" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_encodings_are_those_that_the_file_declares(tmp_path):
    path = eaf(tmp_path / "a.eaf", [0, 400], tier("gloss", aligned("a1", "ts1", "ts2", "GRÜSSE")))
    text = path.read_text(encoding="utf-8")
    path.write_bytes(text.replace("UTF-8", "UTF-16").encode("utf-16"))
    assert spans_of(path) == [("GRÜSSE", 0, 10)]
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.eaf: is not an ELAN file \(.*line 1"):
        spans_of(path)


def test_entities_are_refused_and_open_nothing(tmp_path):
    bomb = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    (tmp_path / "secret.txt").write_text("SECRET")
    for head, value in [
        (f'<!DOCTYPE a [<!ENTITY l0 "lol">{bomb}]>', "&l9;"),
        (f'<!DOCTYPE a [<!ENTITY x SYSTEM "{(tmp_path / "secret.txt").as_uri()}">]>', "&x;"),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">', "A"),
    ]:
        path = eaf(tmp_path / "a.eaf", [0, 400], tier("gloss", aligned("a1", "ts1", "ts2", value)), head=head)
        start = time.monotonic()
        with pytest.raises(ValueError, match=r"a\.eaf: declares a document type"):
            spans_of(path)
        assert time.monotonic() - start < 2


def test_repeated_names_and_other_units_are_refused(tmp_path):
    other = tier("gloss", aligned("a2", "ts1", "ts2", "WORLD"))
    with pytest.raises(ValueError, match=r"a\.eaf: has two tiers 'gloss', in lines 1 and 1; rename"):
        spans_of(eaf(tmp_path / "a.eaf", [0, 400], MARK, other))
    with pytest.raises(ValueError, match=r"a\.eaf:1: annotation a1 of tier 'b' has an ANNOTATION_ID that occurs twice"):
        spans_of(eaf(tmp_path / "a.eaf", [0, 400], MARK, tier("b", aligned("a1", "ts1", "ts2"))))
    twice = eaf(tmp_path / "a.eaf", [0, 400], MARK)
    twice.write_text(twice.read_text().replace('"ts2" TIME_VALUE', '"ts1" TIME_VALUE'))
    with pytest.raises(ValueError, match=r"a\.eaf:1: the time slot ts1 occurs twice"):
        spans_of(twice)
    with pytest.raises(ValueError, match=r"a\.eaf: needs TIME_UNITS milliseconds, got 'PAL-frames'"):
        spans_of(eaf(tmp_path / "a.eaf", [0, 400], MARK, units="PAL-frames"))
    with pytest.raises(ValueError, match=r"needs whole milliseconds as TIME_ORIGIN .* got 'x'"):
        spans_of(eaf(tmp_path / "a.eaf", [0, 400], MARK, media=link("v.mp4", origin="x")))


def link(name, origin=0, kind="video/mp4"):
    return (
        f'<MEDIA_DESCRIPTOR MEDIA_URL="file:///gone/{name}" RELATIVE_MEDIA_URL="./{name}" MIME_TYPE="{kind}" '
        f'TIME_ORIGIN="{origin}"/>'
    )


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """v10.mp4 and v20.mp4: one second at 10 and at 20 frames a second."""
    folder = tmp_path_factory.mktemp("videos")
    for fps in (10, 20):
        write_video(folder / f"v{fps}.mp4", np.zeros((fps, 16, 16, 3), np.uint8), fps=fps)
    return folder


def test_the_rate_of_the_linked_video_is_used_and_said(videos, capsys):
    path = eaf(videos / "a.eaf", [0, 400], MARK, media=link("v20.mp4") + link("sound.wav", 999, "audio/x-wav"))
    assert spans_of(path, fps=None) == [("HELLO", 0, 8)]
    assert "20 frames per second, from its video: a.eaf (v20.mp4)" in capsys.readouterr().err
    assert spans_of(path, fps=25) == [("HELLO", 0, 10)]
    assert "--fps is used, although the video has another rate: a.eaf (v20.mp4 has 20)" in capsys.readouterr().err
    (videos / "my clip.mp4").write_bytes((videos / "v20.mp4").read_bytes())
    path = eaf(videos / "b.eaf", [0, 400], MARK, media=link("my%20clip.mp4"))
    assert spans_of(path, fps=None) == [("HELLO", 0, 8)]
    path.write_text(
        path.read_text().replace('MEDIA_FILE=""', 'MEDIA_FILE="C:\\x\\v10.mp4"').replace("MEDIA_DESC", "GONE_")
    )
    assert spans_of(path, fps=None) == [("HELLO", 0, 4)]  # as ELAN linked in its first years
    path = eaf(videos / "v10.eaf", [0, 400], MARK)  # no link: the video of the same name beside it
    assert spans_of(path, fps=None) == [("HELLO", 0, 4)]
    path = eaf(videos / "b.eaf", [0, 400], MARK, media=link("gone.mp4", origin=1000))
    assert spans_of(path, fps=None) == [("HELLO", 25, 35)]
    assert "25 frames per second, without a video next to it; --fps sets another rate: b.eaf" in capsys.readouterr().err
    (videos / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(
        ValueError, match=r"c\.eaf: needs the frame rate of its video .*broken.mp4.*; give it with --fps"
    ):
        spans_of(eaf(videos / "c.eaf", [0, 400], MARK, media=link("broken.mp4")), fps=None)


def test_of_several_videos_one_is_the_clip_or_it_is_asked(videos):
    path = eaf(videos / "two.eaf", [0, 400], MARK, media=link("v10.mp4") + link("v20.mp4"))
    with pytest.raises(ValueError, match=r"two\.eaf: its videos have different frame rates \(v10.mp4 10, v20.mp4 20\)"):
        spans_of(path, fps=None)
    assert spans_of(path, fps=None, media="*20*") == [("HELLO", 0, 8)]
    with pytest.raises(ValueError, match=r"has no linked video named 'x' \(--media\); it has v10.mp4, v20.mp4"):
        spans_of(path, media="x")
    path = eaf(videos / "o.eaf", [0, 400], MARK, media=link("v10.mp4", 100) + link("b.mp4", 200))
    with pytest.raises(
        ValueError, match=r"different TIME_ORIGINs \(v10.mp4 100 ms, b.mp4 200 ms\); choose one with --media"
    ):
        spans_of(path, fps=10)
    path = eaf(videos / "v20.eaf", [0, 400], MARK, media=link("v10.mp4", 100) + link("v20.mp4", 200))
    assert spans_of(path, fps=None) == [("HELLO", 4, 12)]  # the one of its name, 200 ms later


def test_annotations_beyond_the_clip_are_refused_and_a_little_is_cut(videos, capsys):
    media = link("v20.mp4")
    path = eaf(videos / "a.eaf", [0, 1040], MARK, media=media)
    assert spans_of(path, fps=None) == [("HELLO", 0, 20)]
    assert "1 annotation cut to the end of the clip: a.eaf" in capsys.readouterr().err
    for slots in ([0, 2000], [1000, 1100]):
        with pytest.raises(
            ValueError, match=r"annotation a1 .* lies beyond the clip, which ends after 20 frames at 20"
        ):
            spans_of(eaf(videos / "a.eaf", slots, MARK, media=media), fps=None)
    with pytest.raises(ValueError, match=r"starts before the clip with the video's origin of -300 ms"):
        spans_of(eaf(videos / "a.eaf", [0, 400], MARK, media=link("v20.mp4", -300)))


def test_folders_hold_capitals_hidden_files_and_no_clip_twice(tmp_path, capsys):
    eaf(tmp_path / "sub" / "B.EAF", [0, 400], MARK)
    eaf(tmp_path / "a.eaf", [0, 400], MARK)
    for hidden in ("._a.eaf", ".trash/b.eaf"):
        path = tmp_path / hidden
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\0\5\x16\7")
    assert list(read_elan(tmp_path, fps=25)) == ["a", "sub/B"]
    assert "2 hidden files are skipped" in capsys.readouterr().err
    eaf(tmp_path / "sub" / "B.eaf", [0, 400], MARK)
    with pytest.raises(ValueError, match=r"is a second file for the clip sub/B, besides B\.E"):
        read_elan(tmp_path, fps=25)


@pytest.mark.parametrize(
    "name",
    ["../x", "a/../../x", "/tmp/x", "a//b", "./a", "a\\..\\b", "C:x", "a\0b", "con", "a/NUL.txt", "COM1", ".hidden",
     "._a", "x" * 250, "ü" * 110, "a/ b", "a.", "a\tb", "a\nb", "", " a", "a\x7f", "\ud800"],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["eaf", "srt"])
def test_names_of_clips_never_leave_the_folder(tmp_path, name, ending):
    from signcl.data.annotation.subtitles import write_subtitles

    write = write_elan if ending == "eaf" else write_subtitles
    with pytest.raises(ValueError, match=r"cannot write a file for the clip .* rename the clip"):
        write(tmp_path / "in" / "out", {"fine": [Span("A", 0, 1)], name: [Span("A", 0, 1)]}, fps=25)
    assert not list(tmp_path.iterdir())  # not even the fine one


def test_names_that_one_disk_takes_for_one_are_refused(tmp_path):
    one = [Span("A", 0, 1)]
    for a, b in [("clip", "CLIP"), ("é", "e\u0301"), ("d/a", "D/a")]:
        with pytest.raises(ValueError, match="would be the same file"):
            write_elan(tmp_path, {a: one, b: one}, fps=25)
    with pytest.raises(ValueError, match=r"the file of the clip 'a' is also the folder of the clip 'a\.eaf/b'"):
        write_elan(tmp_path, {"a": one, "a.eaf/b": one}, fps=25)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="a link leads out of"):
        write_elan(tmp_path / "out", {"link/a": one}, fps=25)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


TEXTS = st.text(min_size=1, max_size=12) | st.sampled_from(
    ["<i>", "a & b", "-->", "]]>", "{\\an8}", "&amp;", "1", "NOTE"]
)
SPANS = st.lists(st.tuples(TEXTS, st.integers(0, 3000), st.integers(1, 400)), max_size=5)
RATES = st.sampled_from([23.976, 25, 29.97, 50, 59.94, 119.88, 240])


@settings(max_examples=25, deadline=None)
@given(name=st.text(min_size=1, max_size=8), spans=SPANS, fps=RATES)
def test_what_is_written_is_read_again_or_refused(tmp_path_factory, name, spans, fps):
    from signcl.data.annotation.subtitles import read_subtitles, write_subtitles

    folder = tmp_path_factory.mktemp("round")
    spans = {name: tuple(Span(text, start, start + length) for text, start, length in spans)}
    right = sorted((s.token, s.start, s.stop) for s in spans[name])
    ways = [
        (
            lambda: write_elan(folder / "elan", spans, fps=fps),
            lambda: read_elan(folder / "elan", fps=fps, tier="gloss"),
        ),
        (lambda: write_spans(folder / "t.tsv", spans), lambda: read_spans(folder / "t.tsv")),
        *(
            (
                lambda end=end: write_subtitles(folder / end, spans, fps=fps, suffix=f".{end}"),
                lambda end=end: read_subtitles(folder / end, fps=fps),
            )
            for end in ("srt", "vtt")
        ),
    ]
    for number, (write, read) in enumerate(ways):
        try:
            write()
        except ValueError:
            continue
        if not right and number:  # an empty table or subtitle file is said to be one
            continue
        (found,) = read().items()
        assert found[0] == name
        assert sorted((s.token, s.start, s.stop) for s in found[1]) == right


def test_plain_texts_are_never_refused(tmp_path):
    """The other side of the test before: what people write does go into every format."""
    from signcl.data.annotation.subtitles import read_subtitles, write_subtitles

    texts = [
        "HAUS",
        "ICH & DU",
        "IX:1<2",
        "Wie geht's?",
        "今天",
        "안녕",
        "٣",
        "1",
        "a -- b",
        'say "x"',
        "{x}",
        "e\u0301",
    ]
    spans = {"dir/clip#1": tuple(Span(text, 10 * n, 10 * n + 15) for n, text in enumerate(texts))}
    right = {name: [(s.token, s.start, s.stop) for s in found] for name, found in spans.items()}
    write_elan(tmp_path / "e", spans, fps=25)
    write_spans(tmp_path / "t.tsv", spans)
    found = [read_elan(tmp_path / "e", fps=25), read_spans(tmp_path / "t.tsv")]
    for suffix in (".srt", ".vtt"):
        write_subtitles(tmp_path / suffix[1:], spans, suffix=suffix, fps=25)
        found.append(read_subtitles(tmp_path / suffix[1:], fps=25))
    for one in found:
        assert {name: [(s.token, s.start, s.stop) for s in spans] for name, spans in one.items()} == right


def test_milliseconds_that_cannot_tell_frames_apart_are_said(tmp_path):
    with pytest.raises(ValueError, match="milliseconds cannot tell its frames apart; is --fps right"):
        write_elan(tmp_path, {"a": [Span("A", 0, 1)]}, fps=4000)
    with pytest.raises(ValueError, match="it ends more than a day after the start"):
        write_elan(tmp_path, {"a": [Span("A", 0, 10**9)]}, fps=25)
    assert not list(tmp_path.iterdir())


def test_a_linked_clip_comes_back_at_its_own_rate(videos, tmp_path, capsys):
    """Written without --fps from a corpus, the file links the clip and has its rate; so has the reading."""
    spans = {"x": (Span("A", 0, 3), Span("B", 3, 20))}
    (path,) = write_elan(tmp_path, spans, clips={"x": videos / "v20.mp4"})
    assert read_elan(path) == spans
    assert "20 frames per second, from its video: x.eaf (v20.mp4)" in capsys.readouterr().err
    assert 'TIME_VALUE="1000"' in path.read_text()
