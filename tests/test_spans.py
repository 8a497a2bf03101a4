"""Where spans come from: the HMM states of PHOENIX-2014T, and tables of spans in and out."""

import gzip
import json
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signcl.data.annotation import phoenix_states
from signcl.data.annotation.elan import read_elan, write_elan
from signcl.data.annotation.phoenix_states import SILENCE, collapse, decode_states, read_unit_glosses
from signcl.data.annotation.span_table import attach_spans, read_spans, write_spans
from signcl.data.batch import Sample, Span
from signcl.density.audit import run_audit
from signcl.density.instances import Instances
from signcl.density.measuring import Settings, measure_instances
from signcl.density.results import density_text
from signcl.metrics import wer


def test_states_worked_by_hand():
    # Unit 0 has states 1, 2, 3; unit 1 has 4, 5, 6. Falling back from 3 to 1 is the sign again; 0 ends a sign.
    states = [0, 1, 1, 2, 3, 1, 3, 4, 6, 0, 6, 0]
    spans = decode_states(states)
    assert [(s.token, s.start, s.stop) for s in spans] == [(0, 1, 5), (0, 5, 7), (1, 7, 9), (1, 10, 11)]
    merged = decode_states(states, {0: "A", 1: "B"}, merge=True)
    assert [(s.token, s.start, s.stop) for s in merged] == [("A", 1, 7), ("B", 7, 9), ("B", 10, 11)]


def test_silence_and_units_without_gloss_are_no_signs():
    start, end = (3 * unit + 1 for unit in reversed(SILENCE))
    assert decode_states([start, start, 7, 7, end]) == [Span(2, 2, 4)]
    assert decode_states([1, 7], {0: "A"}) == [Span("A", 0, 1)]
    assert decode_states([start], silence=()) == [Span(1058, 0, 1)]
    assert decode_states([]) == decode_states([0, 0]) == []


def test_two_units_of_one_gloss_are_two_signs_unless_merged():
    glosses = {2: "AB", 4: "AB"}
    assert decode_states([7, 13], glosses) == [Span("AB", 0, 1), Span("AB", 1, 2)]
    assert decode_states([7, 13], glosses, merge=True) == [Span("AB", 0, 2)]


@given(st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(1, 3), min_size=3, max_size=3), st.integers(0, 2))))
def test_drawn_signs_come_back(signs):
    states, expected = [], []
    for unit, counts, rest in signs:
        start = len(states)
        for state, count in enumerate(counts, start=1):
            states += [3 * unit + state] * count
        expected.append(Span(unit, start, len(states)))
        states += [0] * rest
    assert decode_states(states) == expected


def test_wrong_states_are_named():
    with pytest.raises(ValueError, match=r"whole number >= 0 per frame \[T\], got int64 of shape \(2,\) from -1"):
        decode_states([-1, 2])
    with pytest.raises(ValueError, match="got float64"):
        decode_states([0.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        decode_states([[1, 2]])  # type: ignore[list-item]


def folder(tmp_path: Path, *rows: str) -> Path:
    (tmp_path / "unit2gloss.json").write_text('{"0": "A", "1": "B"}')
    header = "name\tsigner\tnum_frames\tgloss\ttext\tpami0_gloss_hmm_state"
    with gzip.open(tmp_path / "train.tsv.gz", "wt") as file:
        file.write("\n".join([header, *rows]) + "\n")
    return tmp_path


def test_a_table_of_states_becomes_samples(tmp_path, capsys):
    root = folder(tmp_path, "train/x\tS1\t5\tA B\tein wort\t1 2 3 4 31", "train/y\tS2\t1\tB\tzwei\t0")
    x, y = phoenix_states.samples(root, "train")
    assert (x.name, x.signer, x.num_frames, x.gloss) == ("x", "S1", 5, ("A", "B"))
    assert x.spans == (Span("A", 0, 3), Span("B", 3, 4))
    assert y.spans == ()
    assert "1 units have no gloss and are left out, in 1 clips" in capsys.readouterr().err


def test_broken_tables_of_states_are_named(tmp_path):
    def said(row: str) -> str:
        with pytest.raises(ValueError, match=r"train\.tsv\.gz:2: x has ") as caught:
            phoenix_states.samples(folder(tmp_path, row), "train")
        return str(caught.value)

    assert "2 states for 3 frames" in said("train/x\tS\t3\tA\twort\t1 2")
    assert "states that are not whole numbers" in said("train/x\tS\t2\tA\twort\t1 z")
    assert "text without words" in said("train/x\tS\t2\tA\t.\t1 2")
    with pytest.raises(ValueError, match=r"dev\.tsv or dev\.tsv\.gz"):
        phoenix_states.samples(tmp_path, "dev")
    with pytest.raises(ValueError, match="header but no rows"):
        phoenix_states.samples(folder(tmp_path), "train")
    for text in ("[]", "nonsense", '{"a": "B"}'):
        (tmp_path / "unit2gloss.json").write_text(text)
        with pytest.raises(ValueError, match=r"unit2gloss\.json.*needs"):
            read_unit_glosses(tmp_path / "unit2gloss.json")
    with pytest.raises(ValueError, match="no such file"):
        read_unit_glosses(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("split", "spans", "frames", "errors"),
    [("train", 60_669, 13.03, 2.31), ("dev", 4_054, 12.87, 2.59), ("test", 3_818, 14.48, 19.93)],
)
def test_real_states_spell_the_annotation(real_data, split, spans, frames, errors):
    # Train and dev are forced alignments, test is a recognition: 20 % errors say so.
    samples = phoenix_states.samples(real_data / "phoenix14t-alignments", split)
    lengths = [span.stop - span.start for sample in samples for span in sample.spans]
    assert len(lengths) == spans
    assert fmean(lengths) == pytest.approx(frames, abs=0.01)
    found = [" ".join(collapse(str(span.token) for span in sample.spans)) for sample in samples]
    # An immediate repetition counts once on both sides; percent of the annotation's tokens, as it stands.
    gold = [" ".join(collapse(sample.gloss)) for sample in samples]
    scored = wer(found, gold)
    tokens = sum(len(sample.gloss) for sample in samples)
    assert scored.wer * scored.reference_tokens / tokens == pytest.approx(errors, abs=0.02)


SPANS = {"a": (Span("A:B", 0, 3, -0.25), Span("Ä", 3, 9)), "b": (Span("C", 2, 4, -12.5),)}


def test_a_table_of_spans_comes_back(tmp_path):
    write_spans(tmp_path / "sub" / "spans.tsv", SPANS)
    assert read_spans(tmp_path / "sub" / "spans.tsv", lengths={"a": 9, "b": None}) == SPANS
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["spans.tsv"]


def test_real_spans_come_back(tmp_path, real_data):
    samples = phoenix_states.samples(real_data / "phoenix14t-alignments", "dev")
    write_spans(tmp_path / "dev.tsv", {sample.name: sample.spans for sample in samples})
    bare = [Sample(s.name, s.text, num_frames=s.num_frames) for s in samples]
    assert [s.spans for s in attach_spans(bare, tmp_path / "dev.tsv")] == [s.spans for s in samples]


def test_order_score_and_further_columns_are_free(tmp_path):
    path = tmp_path / "spans.tsv"
    path.write_text("gloss\tname\tstop\tstart\twho\nB\ta\t9\t5\tme\n\nA\ta\t5\t0\tme\n")
    assert read_spans(path) == {"a": (Span("A", 0, 5), Span("B", 5, 9))}
    replaced = attach_spans([Sample("a", "t", num_frames=9), Sample("b", "t", spans=(Span("X", 0, 1),))], path)
    assert [len(sample.spans) for sample in replaced] == [2, 0]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "header but no rows"),
        (["a\tA\t5\t5"], r":2: needs whole frames .* got start '5', stop '5'"),
        (["a\tA\t-1\t5"], "got start '-1'"),
        (["a\tA\t1.5\t5"], "got start '1.5'"),
        (["a\tA\t0\t" + "9" * 5000], r":2: needs whole frames"),
        (["a\tA\t1"], r":2: has 3 cells where the header has 5; stop missing"),
        (["a\tA\t1\t"], "got start '1', stop ''"),
        (["\tA\t1\t5"], "needs a name and a gloss"),
        (["a\tA\t1\t5\tsure"], "number or nothing as score, got 'sure'"),
        (["a\tA\t1\t5\tnan"], "number or nothing as score"),
        (["a\tA\t0\t11"], "1 spans beyond the clip: a A:0-11 of 10 frames"),
        ([f"z{i}\tA\t0\t1" for i in range(7)], "7 names of unknown clips: z0; z1; z2; z3; z4 and 2 more"),
    ],
)
def test_wrong_tables_of_spans_are_named(tmp_path, rows, match):
    path = tmp_path / "spans.tsv"
    path.write_text("\n".join(["name\tgloss\tstart\tstop\tscore", *rows]) + "\n")
    with pytest.raises(ValueError, match=match):
        read_spans(path, lengths={"a": 10})


def test_no_table_an_empty_one_and_one_without_columns(tmp_path):
    with pytest.raises(ValueError, match="needs a table of spans with the columns name, gloss, start, stop, score"):
        read_spans(tmp_path / "none.tsv")
    (tmp_path / "empty.tsv").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        read_spans(tmp_path / "empty.tsv")
    (tmp_path / "other.tsv").write_text(json.dumps(np.arange(3).tolist()))
    with pytest.raises(ValueError, match="name, gloss, start, stop missing"):
        read_spans(tmp_path / "other.tsv")


@pytest.mark.parametrize(
    "spans",
    [{"a\tb": [Span("A", 0, 1)]}, {"a": [Span("", 0, 1)]}, {"a": [Span("A\nB", 0, 1)]}, {" a": [Span("A", 0, 1)]}],
)
def test_what_a_table_cannot_hold_is_refused(tmp_path, spans):
    with pytest.raises(ValueError, match="must not have tabs, line breaks or outer spaces"):
        write_spans(tmp_path / "spans.tsv", spans)
    with pytest.raises(ValueError, match="0 <= start < stop"):
        write_spans(tmp_path / "spans.tsv", {"a": [Span("A", 2, 2)]})
    assert not list(tmp_path.iterdir())


def test_overlapping_spans_are_kept_everywhere_and_said(tmp_path, capsys):
    """Two hands or coarticulated signs overlap: one rule for tables, folder corpora, ELAN and density."""
    both = (Span("A", 0, 6), Span("B", 4, 9), Span("C", 6, 8))
    write_spans(tmp_path / "spans.tsv", {"a": both})
    assert read_spans(tmp_path / "spans.tsv") == {"a": both}
    write_elan(tmp_path / "elan", {"a": both}, fps=25)
    assert read_elan(tmp_path / "elan", fps=25) == {"a": both}  # B is on a tier of its own, `gloss 2`
    sample = Sample("a", "x y z", gloss=("A", "B", "C"), num_frames=10, spans=both)
    run_audit([sample, sample], rules=["fixed"], strides=[1])
    assert "4 signs begin before another ends; a frame in both counts for the later one" in capsys.readouterr().err
    draw = np.random.default_rng(0)
    instances = Instances(
        draw.normal(size=(6, 4)), ["A", "B", "C"] * 2, [(c, s.start, s.stop) for c in "ab" for s in both], "centre"
    )
    found, _ = measure_instances([instances], Settings())
    assert found["overlapping"] == 4
    assert "4 signs overlap another in time" in density_text(found)
