"""Label tables as editors and spreadsheets save them: read correctly, or refused with file and line number."""

import gzip

import pytest

from signcl.data.annotation.table_files import read_table
from signcl.data.corpora import load_samples

TABLE = "name\tpath\ttext\na\ta.mp4\thello\nb\tb.mp4\tGrüße 今天\n"
ROWS = [("a", "hello"), ("b", "Grüße 今天")]


def rows(path, content, required=("name", "path", "text"), **how):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(row.cells["name"], row.cells["text"]) for row in read_table(path, required, **how)]


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        TABLE.replace("\n", "\r\n"),
        TABLE.replace("\n", "\r"),  # an old Mac's
        TABLE.replace("\n", "\r\r\n"),
        TABLE.replace("\n", "\n\n"),
        TABLE.rstrip("\n"),
        TABLE.encode("utf-8-sig"),
        TABLE.encode("utf-16"),  # a spreadsheet's "Unicode text"
        TABLE.encode("utf-32"),
        TABLE.replace("name\tpath\ttext", " name \tpath  \ttext "),
        TABLE.replace("\n", "\t\t\n"),  # empty columns without a name
        TABLE.replace("hello", " hello "),
    ],
)
def test_tables_of_every_editor_are_one(tmp_path, content, capsys):
    assert rows(tmp_path / "a.tsv", content) == ROWS
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (
            "name\tpath\ttext\ttext\na\ta.mp4\tGLOSS\thello\n",
            r"a\.tsv:1: the column 'text' occurs 2 times in the header line",
        ),
        ("name\tpath\ttext\ttext \na\ta.mp4\tGLOSS\thello\n", r"a\.tsv:1: the column 'text' occurs 2 times"),
        (TABLE.replace("hello", "hel\0lo"), r"a\.tsv:2: contains a NUL byte"),
        (TABLE.encode("utf-16-le"), r"a\.tsv:\d: (holds a NUL byte|must be UTF-8 text)"),  # without its mark
        (TABLE.replace("今天", "").encode("latin-1"), r"a\.tsv:3: must be UTF-8 text"),
        (TABLE.replace("hello", "hel\rlo"), r"a\.tsv:2: contains a carriage return"),
        (
            TABLE.replace("hello", "hel\tlo"),
            r"a\.tsv:2: has 4 cells where the header has 3; remove the delimiter '\\t'",
        ),
        (TABLE.replace("\thello", ""), r"a\.tsv:2: has 2 cells where the header has 3; text missing"),
        (
            TABLE.replace("text\n", "text\t\n").replace("hello", "hello\tHALLO"),
            r"a\.tsv:2: has 'HALLO' in a column without",
        ),
        (TABLE.replace("\t", ","), r"a\.tsv:1: needs the columns .* separated by commas, but tabs are needed"),
        (TABLE.replace("\t", ";"), r"a\.tsv:1: needs the columns .* separated by semicolons, but tabs are needed"),
        ('"name","path","text"\n"a","a.mp4","hello"\n', r"a\.tsv:1: .* separated by commas, but tabs are needed"),
        ('"name"\t"path"\t"text"\n"a"\t"a.mp4"\t"hello"\n', r"a\.tsv:1: .* the names are in double quotes"),
        ("", r"a\.tsv:1: needs the columns .* found nothing"),
    ],
)
def test_what_would_be_misread_is_named_with_its_line(tmp_path, content, match):
    with pytest.raises(ValueError, match=match) as caught:
        rows(tmp_path / "a.tsv", content)
    assert len(str(caught.value).splitlines()) == 1


def test_the_same_counts_for_a_corpus(tmp_path):
    """A header `name path text text` trained on glosses."""
    (tmp_path / "train.tsv").write_text("name\tpath\ttext\ttext\na\ta.mp4\thello\tHELLO\n")
    with pytest.raises(ValueError, match=r"train\.tsv:1: the column 'text' occurs 2 times"):
        load_samples("folder", tmp_path, "train")
    broken = []
    (tmp_path / "dev.tsv").write_text("name\tpath\ttext\na\ta.mp4\nb\tb.mp4\tfine\nc\tc.mp4\ta\rb\n")
    found = load_samples("folder", tmp_path, "dev", on_error=lambda error: broken.append(str(error)))
    assert [sample.name for sample in found] == ["b"]
    assert [error.split("dev.tsv")[1][:3] for error in broken] == [":2:", ":4:"]  # each row by itself


def test_cells_in_quotes_are_kept_and_said(tmp_path, capsys):
    content = 'name\tpath\ttext\na\ta.mp4\t"say ""hi"", you"\nb\tb.mp4\tsay "hi"\nc\tc.mp4\t"x"\n'
    assert rows(tmp_path / "a.tsv", content)[0] == ("a", '"say ""hi"", you"')
    assert "a.tsv: 2 lines (the first is 2) have cells in double quotes" in capsys.readouterr().err
    assert rows(tmp_path / "a.csv", content, quoted=True)[0] == ("a", 'say "hi", you')
    assert capsys.readouterr().err == ""


def test_rows_without_their_last_optional_cells_are_said(tmp_path, capsys):
    content = "name\ttext\tsigner\tgloss\na\thello\tada\tHELLO\nb\tbye\tada\nc\tyes\n"
    assert len(rows(tmp_path / "a.tsv", content, ("name", "text"))) == 3
    assert "a.tsv: 2 lines (the first is 3) have fewer cells than the header" in capsys.readouterr().err


def test_quoted_tables_may_hold_line_ends_and_broken_quotes_are_named(tmp_path):
    assert rows(
        tmp_path / "a.csv", 'name,text\na,"two\nlines"\nb,"x, y"\n', ("name", "text"), delimiter=",", quoted=True
    ) == [
        ("a", "two\nlines"),
        ("b", "x, y"),
    ]
    for mac in ("name,text\ra,x\r", "name,text\r\na,x\r\n"):
        assert rows(tmp_path / "a.csv", mac, ("name", "text"), delimiter=",", quoted=True) == [("a", "x")]
    with pytest.raises(ValueError, match=r"a\.csv:3: is not well-formed quoted text"):
        rows(tmp_path / "a.csv", 'name,text\na,x\nb,"open\nc,z\n', ("name", "text"), delimiter=",", quoted=True)
    with pytest.raises(ValueError, match=r"a\.csv:4: has 1 cells where the header has 2; text missing"):
        rows(tmp_path / "a.csv", 'name,text\na,"two\nlines"\nb\n', ("name", "text"), delimiter=",", quoted=True)


def test_packed_tables_are_read_and_broken_ones_named(tmp_path):
    assert rows(tmp_path / "a.tsv.gz", gzip.compress(TABLE.encode())) == ROWS
    with pytest.raises(ValueError, match="cannot be unpacked"):
        rows(tmp_path / "a.tsv.gz", gzip.compress(TABLE.encode())[:-9])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        rows(tmp_path / "a.tsv.gz", TABLE)


def test_a_clip_of_two_signers_or_two_splits_is_named(tmp_path):
    from signcl.data.corpora.csl_daily import PICKLE, SPLIT_FILE
    from signcl.density.instance_files import _signers_of_clips

    table = tmp_path / "signers.tsv"
    table.write_text("name\tsigner\na\tada\na\tada\na\tbob\n")
    with pytest.raises(ValueError, match=r"signers\.tsv:4: the clip 'a' has the signers 'ada' and 'bob'"):
        _signers_of_clips(table)
    for file in (PICKLE, SPLIT_FILE):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("name|split\na|train\na|test\n")
    with pytest.raises(ValueError, match=r"split_1\.txt:3: 'a' is in the splits 'train' and 'test'"):
        load_samples("csl_daily", tmp_path, "train")
