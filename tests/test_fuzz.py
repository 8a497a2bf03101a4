"""Every reader on a fixed number of mutated files; `python -m tests.fuzz` tries more. What it found, each once."""

import gzip
import io
import json
import pickle
import random
import re
import shutil
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzz.campaign import new_campaign
from fuzz.mutations import FORMS, mutate
from fuzz.readers import READERS
from fuzz.worker import digest, judge, limited, not_finite, prepare, read_valid
from video_files import greys, make_video

import signcl
from signcl.cli.common import message
from signcl.data.annotation import phoenix_states
from signcl.data.annotation.choices import read_decisions
from signcl.data.annotation.plain_text import read_plain
from signcl.data.annotation.span_table import read_spans
from signcl.data.batch import Sample, Segment
from signcl.data.corpora import load_samples
from signcl.data.corpora._layout import clock_seconds
from signcl.data.features import FeatureStore, open_features, read_features, write_store
from signcl.data.json_files import read_json
from signcl.data.pickles import load_pickle, read_npy
from signcl.data.poses import read_pose
from signcl.data.segments import read_rows
from signcl.data.text.word_vectors import read_vectors
from signcl.data.video import read_frames
from signcl.data.whole_numbers import whole_number
from signcl.density.against import read_scores
from signcl.evaluation.scoring import read_predictions
from signcl.evaluation.sentence_files import read_sentences
from signcl.systems.parts.checkpoints import read_data
from signcl.training.recipe import load_recipe
from signcl.training.record import read_record

CASES, SLOW_CASES = 8, 6


def test_no_reader_is_hurt_by_a_mutated_file(tmp_path):
    # In this process, which has already imported everything; a crash would end it and be noticed.
    found = Counter()
    for name, reader in READERS.items():
        before = read_valid(name, tmp_path)
        with limited():
            for case in range(SLOW_CASES if reader.slow else CASES):
                folder, file, exact = prepare(name, 7, case, tmp_path)
                outcome, said = judge(name, folder, file, before if exact else None)
                assert outcome != "fault", f"python -m tests.fuzz --reader {name} --seed 7 --case {case}: {said}"
                found[outcome] += 1
                shutil.rmtree(folder)
    # Check the fuzzer itself: some mutated files are refused, and some are read.
    assert min(found["read"], found["refused"]) > 80


def test_a_campaign_counts_its_cases(tmp_path):
    campaign = new_campaign(tmp_path / "faults")
    try:
        said = list(campaign.run(("spans", 7, case) for case in range(3)))
    finally:
        shutil.rmtree(campaign.work)
    assert len(said) == sum(campaign.counts.values()) == 3
    assert not campaign.faults


def test_a_case_is_the_same_whenever_it_is_made(tmp_path):
    made = [prepare("spans", 3, 5, tmp_path / str(i))[1].read_bytes() for i in range(2)]
    assert made[0] == made[1]
    texts = {prepare("spans", 3, case, tmp_path / "0")[1].read_bytes() for case in range(20)}
    assert len(texts) > 15


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_is_changed_into_bytes(form):
    content = b'{"a": [1, 2], "b": {"c": "d"}}'
    assert len({mutate(random.Random(i), content, form)[0] for i in range(25)}) > 10


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
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 4\n", "not a .npy header"),  # a TokenError of Python's
    ("\n} ,)4 ,5( :'epahs'", "not a .npy header"),
])  # fmt: skip
def test_the_head_of_an_array_is_not_believed(tmp_path, head, said):
    path = tmp_path / "a.npy"
    path.write_bytes(npy(head))
    for read in (read_npy, read_features, open_features):
        with pytest.raises(ValueError, match=rf"a\.npy.*{said}"):
            read(path)
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


# -- digits of a file become a number in one place ---------------------------------------------------------------------


def test_digits_become_a_number_in_one_place():
    package = Path(signcl.__file__).parent
    uses = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"\.is(decimal|digit|numeric)\(", path.read_text(encoding="utf-8"))
    }
    # names of images are short, and a header may have any length that is refused
    assert uses == {"data/whole_numbers.py", "data/video/reading.py", "pages/guard.py"}


def test_a_whole_number_has_at_most_15_digits():
    texts = ("0", "007", "１２", "9" * 15, "0" * 5000 + "3", "9" * 16, "9" * 5000, "", "²", "-1", "1_0", " 1", "1.0")
    found = [whole_number(text) for text in texts]
    assert found == [0, 7, 12, 10**15 - 1, 3, *[None] * 8]


@pytest.mark.parametrize("digits", ["9" * 5000, "9" * 30])
def test_thousands_of_digits_in_a_table_are_one_line(tmp_path, digits):
    def refused(read, said):
        with pytest.raises(ValueError, match=said) as caught:
            read()
        assert "set_int_max_str_digits" not in str(caught.value)

    row = "name\tpath\ttext\tnum_frames\tspans\tstart_frame\tstop_frame\nc\tc.npy\tein Satz\t{}\t{}\t{}\t{}\n"
    for cells in ((digits, "", "", ""), ("5", f"A:0-{digits}", "", ""), ("5", "", "0", digits)):
        (tmp_path / "train.tsv").write_text(row.format(*cells))
        refused(lambda: load_samples("folder", tmp_path, "train"), r"train\.tsv:2")
    (tmp_path / "train.tsv").write_text(row.format("5", "", "", ""))
    (tmp_path / "train.sentences.tsv").write_text(f"name\ttext\tstart\tstop\nc\ta b\t0\t{digits}\n")
    refused(lambda: load_samples("folder", tmp_path, "train"), r"train\.sentences\.tsv:2")
    (tmp_path / "spans.tsv").write_text(f"name\tgloss\tstart\tstop\nc\tA\t0\t{digits}\n")
    refused(lambda: read_spans(tmp_path / "spans.tsv"), r"spans\.tsv:2")
    (tmp_path / "scores.tsv").write_text(f"gloss\tscore\tfrequency\nA\t1\t{digits}\n")
    refused(lambda: read_scores(tmp_path / "scores.tsv"), r"scores\.tsv:2: needs whole numbers")
    head = "name\tnum_frames\tgloss\ttext\tpami0_gloss_hmm_state\n"
    (tmp_path / "dev.tsv").write_text(f"{head}c\t1\tA\tein satz\t{digits}\n")
    (tmp_path / "unit2gloss.json").write_text('{"0": "A"}')
    refused(lambda: phoenix_states.samples(tmp_path, "dev"), r"dev\.tsv:2")
    points = {"image_id": f"{digits}.jpg", "keypoints": [1.0] * 399, "score": 1.0}
    (tmp_path / "clip.json").write_text(json.dumps([points]))
    refused(lambda: read_pose(tmp_path / "clip.json"), r"clip\.json: image_id")
    (tmp_path / "labels.json").write_text(f'{{"a": {digits[:400]}}}')
    for kind in (int, float):
        refused(lambda kind=kind: read_json(tmp_path / "labels.json", {"a": kind}, "x"), r"labels\.json is damaged")
    (tmp_path / "words.bin").write_bytes(f"3 {digits[:60]}\nwort ".encode() + bytes(16))
    refused(lambda: read_vectors(tmp_path / "words.bin"), r"words\.bin holds no word vectors.*1 to 100,000, got ")


# -- what a head asks for is compared with the file, before memory is set aside ----------------------------------------


@pytest.mark.parametrize(("content", "said"), [
    (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'" + bytes(90), "expected 4294967295 bytes got 98"),
    (npy("-" * 9000 + "1"), "an expression nested too deeply"),
])  # fmt: skip
def test_a_head_sets_no_memory_aside(tmp_path, content, said):
    (tmp_path / "a.npy").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"a\.npy.*{said}"):
        open_features(tmp_path / "a.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("packed", [False, True])
def test_a_member_that_is_to_unpack_to_gigabytes_is_refused(tmp_path, packed):
    torch.save({"a": torch.ones(5, 4)}, tmp_path / "plain.pt")
    np.savez(tmp_path / "plain.npz", a=np.ones((5, 4), np.float32))
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    for name in ("a.pt", "a.npz"):
        plain = tmp_path / name.replace("a.", "plain.")
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(tmp_path / name, "w", kind) as target:
            for member in source.namelist():
                target.writestr(member, source.read(member))
        open_features(tmp_path / name)
        content = bytearray((tmp_path / name).read_bytes())
        place = content.index(b"PK\x01\x02")  # the first member in the archive's list, its size unpacked
        content[place + 24 : place + 28] = (2**31 - 65308).to_bytes(4, "little")
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.\w+.*claims to unpack to 2,147,418,340"):
            open_features(tmp_path / name)


@pytest.mark.parametrize(("old", "new", "said"), [
    (b"K\x05K\x04\x86", b"J\x00\x00\x00\x20K\x04\x86", r"\(536870912, 4\) that reaches outside"),  # would be 8 GB
    (b"K\x05K\x04\x86", b"K\x06K\x04\x86", r"\(6, 4\) that reaches outside"),  # would show other memory
    (b"K\x14N", b"J\x00\x00\x00\x20N", "its tensors need 2,147,483,648 bytes"),
])  # fmt: skip
def test_tensors_of_the_form_before_the_zip_lie_in_their_file(tmp_path, old, new, said):
    torch.save({"a": torch.ones(5, 4)}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "w.pth").read_bytes()
    assert content.count(old) == 1
    (tmp_path / "w.pth").write_bytes(content.replace(old, new))
    for read in (read_data, open_features):
        with pytest.raises(ValueError, match=rf"w\.pth.*{said}"):
            read(tmp_path / "w.pth")


def test_views_and_shared_storages_lie_in_their_file(tmp_path):
    wide = torch.arange(16.0).view(4, 4)
    tensors = {"whole": wide, "part": wide[1:, ::2].expand(2, 3, 2), "none": torch.ones(0, 3), "b": wide.bool()}
    for legacy in (False, True):
        torch.save(tensors, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
        found = read_data(tmp_path / "w.pt")
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_nan_in_stored_features_is_named(tmp_path):
    write_store(tmp_path / "store", [(f"clip {i}", np.ones((5, 4))) for i in range(2)])
    (shard,) = (tmp_path / "store").glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-2] + b"\x00\x7e")
    store = FeatureStore(tmp_path / "store")
    assert store["clip 0"].shape == (5, 4)
    with pytest.raises(
        ValueError, match=r"shard-00000.*features of 'clip 1' contain NaN or infinity, first in frame 4"
    ):
        store["clip 1"]
    rows = np.ones((10, 4), np.float32)
    rows[7] = np.inf
    np.save(tmp_path / "long.npy", rows)
    for start, stop in ((0, 5), (5, 10)):
        part = Sample("c", "a", features=tmp_path / "long.npy", segment=Segment(start, stop, "frames"))
        if stop == 5:
            assert read_rows(part).shape == (5, 4)
        else:
            with pytest.raises(ValueError, match=r"long\.npy.*NaN or infinity, first in frame 2"):
                read_rows(part)


# -- errors without the name of a file ---------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file whose first byte cannot be read")
def test_an_error_of_the_disk_names_the_file(tmp_path):
    readers = {
        "a.json": lambda path: read_json(path, dict, "x"),
        "a.tsv": read_plain,
        "a.csv": read_sentences,
        "a.pkl": load_pickle,
        "a.npy": open_features,
        "a.npz": open_features,
        "a.pt": open_features,
        "a.pth": read_data,
        "a.choices.jsonl": read_decisions,
        "a.yaml": load_recipe,
        "a.pose": read_pose,
        "a.vec": read_vectors,
        "0.png": lambda path: read_frames(path.parent),
        "metrics.jsonl": lambda path: read_record(path.parent),
    }
    for name, read in readers.items():
        (tmp_path / name).symlink_to("/proc/self/mem")  # reading it is an Input/output error
        with pytest.raises((OSError, ValueError)) as caught:
            read(tmp_path / name)
        assert str(tmp_path / name) in message(caught.value), name
        assert "Input/output error" in message(caught.value)


def test_a_long_file_name_is_cut():
    error = OSError(36, "File name too long", "/a/" + "x" * 70_000)
    assert message(error).startswith("File name too long: /a/x")
    assert len(message(error)) < 1100


# -- the heads of videos -----------------------------------------------------------------------------------------------


def test_an_impossible_packet_and_box_of_a_video_are_said(tmp_path):
    path = tmp_path / "clip.mp4"
    make_video(path, greys(6))
    content = path.read_bytes()
    # libav keeps a size in 30 bits with a sign, and calls a negative one a lack of memory
    last = content.index(b"stsz") + 16 + 4 * 5  # behind version, one size for all, count, and five sizes
    path.write_bytes(content[:last] + b"\x25\xe5\xe5\xe5" + content[last + 4 :])
    with pytest.raises(ValueError, match=r"clip\.mp4.*a packet of -437,918,235 bytes in its index"):
        read_frames(path)
    media = content.index(b"mdat") - 4
    path.write_bytes(
        content[:media] + b"\x00\x00\x00\x01mdat" + b"\xff" * 8 + content[media + 16 :].replace(b"moov", b"mooo")
    )
    with pytest.raises(ValueError, match=r"clip\.mp4: truncated"):
        read_frames(path)
