"""Every reader on a fixed number of mutated files; `python -m tests.fuzz` tries more. What it found, each once."""

import gzip
import io
import json
import pickle
import random
import shutil

import numpy as np
import pytest
from fuzz.campaign import new_campaign
from fuzz.mutations import FORMS, mutate
from fuzz.readers import READERS
from fuzz.worker import digest, judge, not_finite, prepare

from signcl.cli.common import message
from signcl.data.annotation.choices import read_decisions
from signcl.data.annotation.span_table import read_spans
from signcl.data.corpora import load_samples
from signcl.data.corpora._layout import clock_seconds
from signcl.data.features import open_features, read_features
from signcl.data.pickles import load_pickle, read_npy
from signcl.density.against import read_scores
from signcl.evaluation.scoring import read_predictions
from signcl.training.record import read_record

CASES, SLOW_CASES = 25, 6


def test_no_reader_is_hurt_by_a_mutated_file(tmp_path):
    campaign = new_campaign(tmp_path / "faults")
    cases = (
        (name, 7, case) for name, reader in READERS.items() for case in range(SLOW_CASES if reader.slow else CASES)
    )
    try:
        for _ in campaign.run(cases):
            pass
    finally:
        shutil.rmtree(campaign.work)
    assert not campaign.faults, "\n".join(map(str, campaign.faults))
    # The suite itself: neither are all files refused, nor do all mutations come to nothing.
    outcomes = {
        outcome: sum(n for (_, o), n in campaign.counts.items() if o == outcome) for outcome in ("read", "refused")
    }
    assert sum(outcomes.values()) > 1000
    assert min(outcomes.values()) > 200


def test_a_case_is_the_same_whenever_it_is_made(tmp_path):
    made = [prepare("spans", 3, 5, tmp_path / str(i))[1].read_bytes() for i in range(2)]
    assert made[0] == made[1]
    texts = {prepare("spans", 3, case, tmp_path / "0")[1].read_bytes() for case in range(20)}
    assert len(texts) > 15


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_is_changed_into_bytes(form):
    content = b'{"a": [1, 2], "b": {"c": "d"}}'
    assert len({mutate(random.Random(i), content, form)[0] for i in range(50)}) > 20


def _raises(error):
    raise error


@pytest.mark.parametrize(("read", "said"), [
    (lambda _: [1.0, np.array([np.nan])], "returns an array"),
    (lambda _: {"a": float("inf")}, "returns the number inf"),
    (lambda _: _raises(KeyError("x")), "traceback of KeyError"),
    (lambda _: int("x"), "traceback of ValueError"),  # not the package's own
    (lambda _: bytearray(1 << 62), "traceback of MemoryError"),
    (lambda _: "other", "something else than before"),
])  # fmt: skip
def test_the_suite_sees_a_fault(monkeypatch, tmp_path, read, said):
    monkeypatch.setitem(READERS, "mine", type(READERS["spans"])(lambda _: None, read, {"x": "bytes"}))
    outcome, text = judge("mine", tmp_path, tmp_path / "x", digest("before"))
    assert outcome == "fault"
    assert said in text


def test_equal_values_have_one_digest():
    assert digest([np.arange(3), {"a": 1}]) == digest([np.arange(3), {"a": 1}])
    assert digest([np.arange(3)]) != digest([np.arange(3.0)])
    assert not not_finite([np.arange(3), "nan", {"a": (1.0, None)}])


# -- what was found ----------------------------------------------------------------------------------------------------


def npy(head: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode() + b"\0" * 80


@pytest.mark.parametrize(("head", "said"), [
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 4), }\n", "needs 1,599,999,999,984 bytes"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4), }\n", "shape"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 4\n", "no head of a .npy file"),  # a TokenError of Python's
    ("\n} ,)4 ,5( :'epahs'", "no head of a .npy file"),
])  # fmt: skip
def test_the_head_of_an_array_is_not_believed(tmp_path, head, said):
    path = tmp_path / "a.npy"
    path.write_bytes(npy(head))
    for read in (read_npy, read_features, open_features):
        with pytest.raises(ValueError, match=rf"a\.npy.*{said}"):
            read(path)
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", npy(head))
    with pytest.raises(ValueError, match=r"a\.npz"):
        read_features(tmp_path / "a.npz")


@pytest.mark.parametrize("code", [b"\x8d", b"\x8e", b"\x95"])  # text, bytes and a frame of so many bytes
def test_a_length_in_a_pickle_sets_no_memory_aside(tmp_path, code, monkeypatch):
    asked = []

    class Watched(io.BytesIO):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    from signcl.data.pickles import read_pickle

    with pytest.raises(ValueError, match="not a readable pickle"):
        read_pickle(Watched(b"\x80\x04" + code + (1 << 40).to_bytes(8, "little") + b"abc."))
    assert max(asked) <= 1 << 20
    (tmp_path / "long.pkl").write_bytes(pickle.dumps("x" * 3_000_000))
    assert load_pickle(tmp_path / "long.pkl") == "x" * 3_000_000


def test_the_checksum_of_a_packed_pickle_is_compared(tmp_path):
    # The pickle ends before its file does: nobody read on to the checksum.
    packed = bytearray(gzip.compress(pickle.dumps([b"abcdefgh" * 4]), compresslevel=0))
    packed[packed.index(b"abcdefgh")] ^= 1
    (tmp_path / "a.pkl").write_bytes(packed)
    with pytest.raises(ValueError, match=r"a\.pkl: cannot be unpacked \(CRC check failed"):
        load_pickle(tmp_path / "a.pkl")


def test_a_time_of_thousands_of_digits_is_none(tmp_path):
    assert clock_seconds("9" * 5000 + ":00:01.5") is None
    assert clock_seconds("100:00:01.5") == 360001.5


def test_a_score_is_a_number(tmp_path):
    (tmp_path / "spans.tsv").write_text("name\tgloss\tstart\tstop\tscore\nc\tA\t0\t5\tinf\n")
    with pytest.raises(ValueError, match=r"spans\.tsv:2: needs a number or nothing as score, got 'inf'"):
        read_spans(tmp_path / "spans.tsv")
    (tmp_path / "scores.tsv").write_text("gloss\tscore\nA\tnan\n")
    with pytest.raises(ValueError, match=r"scores\.tsv:2: needs numbers, got score 'nan'"):
        read_scores(tmp_path / "scores.tsv")


def test_an_id_of_a_decision_is_text(tmp_path):
    line = {"annotator": "a", "clip": "c", "gloss": "A", "start": 0, "stop": 5, "action": "skip", "id": {"a": 1}}
    (tmp_path / "x.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(
        ValueError, match=r"x\.jsonl, line 1: a decision needs time and id as text, got '' and {'a': 1}"
    ):
        read_decisions(tmp_path / "x.jsonl")


def test_text_that_is_no_utf8_is_one_line(tmp_path):
    (tmp_path / "predictions.test.tsv").write_bytes(b"name\treference\thypothesis\na\tb\t\xff\n")
    with pytest.raises(ValueError, match=r"predictions\.test\.tsv:2: must be UTF-8 text"):
        read_predictions(tmp_path / "predictions.test.tsv")
    (tmp_path / "youtube_asl_video_ids.txt").write_bytes(b"AAAAAAAAAA1\n\xff\n")
    with pytest.raises(ValueError, match=r"video_ids\.txt:2: must be UTF-8 text"):
        load_samples("youtube_asl", tmp_path, "train")


def test_predictions_keep_their_first_line_and_odd_separators(tmp_path):
    path = tmp_path / "predictions.test.tsv"
    path.write_text("name\treference\thypothesis\na\tb\u2028c\td\x85e\n", encoding="utf-8")
    assert read_predictions(path) == (["a"], ["b\u2028c"], ["d\x85e"])
    path.write_text("a\tb\tc\nd\te\tf\n")  # no header: the first clip was lost without a word
    with pytest.raises(ValueError, match="three tab-separated columns"):
        read_predictions(path)


def test_a_damaged_line_of_the_log_is_said(tmp_path, capsys):
    good = '{"kind": "train", "step": 1, "epoch": 1, "loss": 2.5}'
    (tmp_path / "metrics.jsonl").write_text(f"{good}\n{good[:-4]}[]}}\n{good}\n")
    assert len(read_record(tmp_path)) == 1
    assert "line 2: loss: needs a number" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text(f"{good}\n{good[:9]}")  # cut by a kill: nothing to say
    assert len(read_record(tmp_path)) == 1
    assert not capsys.readouterr().err


def test_a_message_fits_on_a_screen():
    text = message(ValueError("x" * 100_000 + " at the end"))
    assert len(text) < 1100
    assert text.endswith("at the end")
