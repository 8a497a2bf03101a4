"""The sampling audit against a plain double loop, on drawn and on real PHOENIX labels, and through the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from signcl.cli import main
from signcl.data.annotation import phoenix_states
from signcl.data.batch import Sample, Span
from signcl.data.text import count_words
from signcl.density.audit import SamplingAudit, audit_pairs, frame_labels, run_audit
from signcl.losses import estimate_frame_margin, frame_distances


def counted(labels, lengths, gaps, anchors=(0, 0), candidates=(0, 0)) -> SamplingAudit:
    """Every pair looked at."""
    out = dict.fromkeys(SamplingAudit.__dataclass_fields__, 0)
    out["clips"] = len(lengths)
    first = 0
    for length, gap in zip(lengths, gaps):
        row = labels[first : first + length]
        first += length
        any_negative = False
        for i in range(anchors[0], length - anchors[1]):
            out["anchors"] += 1
            out["labelled"] += row[i] >= 0
            legal = 0
            for j in range(length):
                both = row[i] >= 0 and row[j] >= 0
                if abs(i - j) == 1:
                    out["positives"] += 1
                    out["positives_labelled"] += both
                    out["positives_same"] += both and row[i] == row[j]
                if candidates[0] <= j < length - candidates[1] and abs(i - j) > gap:
                    legal += 1
                    out["negatives_labelled"] += both
                    out["negatives_same"] += both and row[i] == row[j]
            out["negatives"] += legal
            out["anchors_without_negative"] += legal == 0
            any_negative |= legal > 0
        out["clips_without_negative"] += not any_negative
    return SamplingAudit(**{key: int(value) for key, value in out.items()})


def test_a_clip_worked_by_hand():
    # A A B, no sign, A; gap 2. Neighbours with signs: AA, AB, seen from both ends. Farther than 2: 0-3 (no sign), 0-4
    # (A and A: wrong), 1-4 (A and A: wrong); frame 2 has no negative.
    found = audit_pairs(np.array([0, 0, 1, -1, 0]), np.array([5]), np.array([2.0]))
    assert found == SamplingAudit(5, 4, 8, 4, 2, 6, 4, 4, 1, 0, 1)
    assert (found.positive_share, found.negative_share) == (0.5, 1.0)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.integers(-1, 3), max_size=14), st.floats(-3, 12)), min_size=1, max_size=4),
    st.sampled_from([((0, 0), (0, 0)), ((1, 2), (2, 2)), ((3, 0), (0, 5))]),
)
def test_a_plain_double_loop_agrees(clips, ranges):
    labels = np.array([label for row, _ in clips for label in row], dtype=int)
    lengths, gaps = np.array([len(row) for row, _ in clips]), np.array([gap for _, gap in clips])
    anchors, candidates = ranges
    found = audit_pairs(labels, lengths, gaps, anchors=anchors, candidates=candidates)
    assert found == counted(labels, lengths, gaps, anchors, candidates)


def test_the_legal_negatives_are_those_of_the_loss():
    # With every frame at one place, all legal pairs are within the distance margin; the clip without any has none.
    lengths, words = torch.tensor([50, 21, 90]), torch.tensor([9, 1, 5])
    margin = estimate_frame_margin(lengths, words)
    found = audit_pairs(np.zeros(161, dtype=int), lengths.numpy(), 2 * margin.numpy())
    time = torch.arange(90)
    legal = [((time[:n, None] - time[:n]).abs() > 2 * m).sum() for n, m in zip(lengths, margin)]
    assert found.negatives == sum(map(int, legal))
    active = frame_distances(torch.zeros(3, 90, 2), lengths, margin).active
    assert float(active) == 1.0
    assert found.clips_without_negative == sum(count == 0 for count in legal) == 1


def clip(name: str, frames: int, *spans: Span, text: str = "some words here") -> Sample:
    return Sample(name, text, features=np.zeros((frames, 1)), spans=spans)


def test_rules_strides_and_zipf_factors_become_rows():
    samples = [clip("a", 80, Span("X", 0, 40), Span("Y", 40, 80)), clip("bare", 30)]
    rows = run_audit(samples, strides=(1, 4), zipf=(2.3, 0.3), floor=10)
    assert [(r["rule"], r["stride"], r["zipf"]) for r in rows] == [
        (rule, stride, zipf)
        for stride in (1, 4)
        for rule, zipf in (("paper", 2.3), ("paper", 0.3), ("released", None), ("fixed", None))
    ]
    assert {row["left_out"] for row in rows} == {1}
    by_rule = {(r["rule"], r["stride"], r["zipf"]): r for r in rows}
    # 80 frames / 3 words * 2.3 = 61.3 frames: twice this margin is longer than the clip.
    assert by_rule["paper", 1, 2.3]["anchors_without_negative"] == 80
    assert by_rule["paper", 1, 2.3]["negative_share"] is None
    # One change of sign among 79 neighbours; at stride 4 among 19.
    assert by_rule["fixed", 1, None]["positive_share"] == pytest.approx(78 / 79)
    assert by_rule["fixed", 4, None]["positive_share"] == pytest.approx(18 / 19)
    assert by_rule["paper", 1, 0.3] | {"zipf": None, "rule": "fixed"} == by_rule["fixed", 1, None]


def test_the_released_rule_sees_edge_copies_and_its_clamp():
    # 30 frames get 8 copies on the left, 2 to the multiple of 4 and 8 more: T = 48, clamp (48 - 30) / 2 = 9.
    row = run_audit([clip("a", 30, Span("X", 0, 30))], rules=["released"], strides=[1])[0]
    labels = np.zeros(48, dtype=int)
    expected = counted(labels, [48], [9], anchors=(1, 2), candidates=(2, 2))
    assert row["mean_gap"] == 9
    assert {key: row[key] for key in vars(expected)} == vars(expected)


def test_wrong_settings_are_named():
    good = [clip("a", 30, Span("X", 0, 30))]
    with pytest.raises(ValueError, match="paper, released, fixed, got papr"):
        run_audit(good, rules=["papr"])
    with pytest.raises(ValueError, match=r"at least 1, got \[0\]"):
        run_audit(good, strides=[0])
    with pytest.raises(ValueError, match="must be positive"):
        run_audit(good, zipf=[0.0])
    with pytest.raises(ValueError, match="none of 1 clips has spans"):
        run_audit([clip("a", 30)])
    with pytest.raises(ValueError, match="one frame long, like best frames chosen by people"):
        run_audit([clip("a", 30, Span("X", 3, 4), Span("Y", 9, 10))])
    with pytest.raises(ValueError, match=r"6 spans do not fit .* and 1 more"):
        run_audit([clip(str(i), 30, Span("X", 20, 31)) for i in range(6)])
    with pytest.raises(ValueError, match=r"lengths .* that add up to N"):
        audit_pairs(np.zeros(3), np.array([2]), np.array([1.0]))


@pytest.mark.slow
def test_phoenix_train_pairs_what_the_paper_hopes(real_data):
    samples = phoenix_states.samples(real_data / "phoenix14t-alignments", "train")
    paper, sparse = run_audit(samples, rules=["paper"], strides=[1, 4])
    assert paper["positive_share"] == pytest.approx(0.9392, abs=5e-4)
    assert paper["negative_share"] == pytest.approx(0.0242, abs=5e-4)
    assert paper["clips_without_negative"] == 226
    assert sparse["positive_share"] == pytest.approx(0.7498, abs=5e-4)
    some = [sample for sample in samples if sample.spans][::700]  # the double loop on a few real clips
    labels, _ = frame_labels(some, [sample.num_frames or 0 for sample in some])
    lengths = [len(row) for row in labels]
    gaps = 2 * estimate_frame_margin(torch.tensor(lengths), torch.tensor([count_words(s.text) for s in some])).numpy()
    found = audit_pairs(np.concatenate(labels), np.array(lengths), gaps)
    assert found == counted(np.concatenate(labels), lengths, gaps)


def test_the_command_counts_a_folder_and_a_table_of_spans(tmp_path: Path, capsys):
    np.save(tmp_path / "a.npy", np.zeros((60, 2), dtype=np.float32))
    (tmp_path / "train.tsv").write_text("name\tpath\ttext\tspans\nx\ta.npy\tone two\tA:0-20 B:30-60\n")
    assert main(["audit", str(tmp_path), "--rule", "fixed", "--stride", "1", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert (row["positives_same"], row["positives_labelled"]) == (2 * (19 + 29), 2 * (19 + 29))
    assert main(["audit", str(tmp_path)]) == 0
    assert "pos. same %" in capsys.readouterr().out
    (tmp_path / "spans.tsv").write_text("name\tgloss\tstart\tstop\nx\tA\t0\t10\nx\tB\t10\t60\n")
    assert main(["audit", str(tmp_path), "--spans", str(tmp_path / "spans.tsv"), "--json", "--stride=1"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["positives_same"] == 2 * (9 + 49)
    assert main(["audit"]) == 2
    assert "CORPUS folder or --phoenix-alignments" in capsys.readouterr().err
    assert main(["audit", str(tmp_path), "--spans", str(tmp_path / "none.tsv")]) == 2
    assert "no such file" in capsys.readouterr().err
