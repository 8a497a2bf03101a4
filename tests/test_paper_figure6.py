"""Figure 6: words per gloss against the paper's, audits with and without aligned frames, labels of a corpus folder."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from systems import write_png

sys.path.insert(0, str(Path(__file__).parents[1]))

from paper import figure6
from paper.figure6 import equal_spans, mean_interval, rounds_to, samples_of
from paper.statistics import Effect
from signcl.data.batch import Sample, Span

REAL = Path(os.environ.get("SIGNCL_REAL_DATA", "../shared/data"))


def interval(low: float, high: float) -> Effect:
    return Effect((low + high) / 2, low, high, 100, "clips")


def test_the_interval_is_of_the_mean_and_not_of_clips():
    # By hand: mean 2, standard deviation 1 over 100 clips, 1.96 / 10
    values = np.tile([1.0, 3.0], 50) * 1.0
    found = mean_interval(values)
    assert found.difference == 2
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std(ddof=1) / 10)


@pytest.mark.parametrize(("low", "high", "said"), [
    (1.88, 1.92, "contradicted"),  # 2.3 within a range of clips is no matter
    (2.06, 2.14, "supported"),
    (2.16, 2.30, "contradicted"),
    (2.00, 2.10, "not seen"),  # 2.05 and less would be printed 2.0
    (1.00, 3.00, "not seen"),
])  # fmt: skip
def test_a_number_is_held_against_what_rounds_to_it(low, high, said):
    assert rounds_to(interval(low, high), 2.1) == said


def test_equal_spans_fill_the_clip():
    sample = equal_spans(Sample("a", "x", gloss=("A", "B", "A"), num_frames=10))
    assert sample.spans == (Span("A", 0, 3), Span("B", 3, 7), Span("A", 7, 10))
    short = equal_spans(Sample("a", "x", gloss=("A", "B", "C"), num_frames=2))
    assert sum(span.stop - span.start for span in short.spans) == 2


def clips(spans: bool) -> list[Sample]:
    return [
        Sample(
            f"c{i}",
            "am montag regnet es im ganzen norden",
            gloss=("MONTAG", "REGEN", "NORD"),
            num_frames=90,
            spans=(Span("MONTAG", 0, 50), Span("REGEN", 50, 60), Span("NORD", 60, 90)) if spans else (),
        )
        for i in range(3)
    ]


def test_each_audit_says_which_frames_it_takes(tmp_path):
    both = "\n".join(figure6.table("phoenix14t", clips(True), tmp_path, "c", "here").notes)
    assert both.count("Audit, frames of signs as aligned, rule ") == 9
    assert both.count("Audit, signs of equal length, rule ") == 9
    assert "cannot be made" not in both
    chinese = [Sample("a", "他买了很多东西", gloss=("他", "买", "东西"), num_frames=90)]
    made = figure6.table("csl_daily", chinese, tmp_path, "c", "here")
    notes = "\n".join(made.notes)
    assert "the audit proper cannot be made" in notes
    assert "as aligned, rule" not in notes
    assert notes.count("Audit, signs of equal length, rule ") == 6
    assert not made.claims, "its words are made from the factor"


def test_labels_come_from_a_corpus_folder_as_from_the_published_files(tmp_path, capsys):
    root = tmp_path / "csl"
    root.mkdir()
    rows = ["S1\tP01\t52\t你们 好\t你们好！", "S2\tP01\tunknown\t他 买\t他买了。"]
    (root / "csl-daily.train.tsv").write_text("name\tsigner\tnum_frames\tgloss\ttext\n" + "\n".join(rows) + "\n")
    results = ["--corpus", "csl_daily", "--root", str(root), "--results", str(tmp_path / "r")]
    with pytest.raises(ValueError, match="1 of 2 train clips have no length"):
        figure6.main(results)
    folder = root / "sentence/frames_512x512/S2"
    folder.mkdir(parents=True)
    for frame in range(40):
        write_png(folder / f"{frame:06d}.png", np.full((16, 16, 3), 90, np.uint8))
    assert [s.num_frames for s in samples_of("csl_daily", tmp_path, "train", root)] == [52, 40]
    figure6.main(results)
    out = capsys.readouterr().out
    assert "2 training clips with glosses; 23.0 frames per gloss" in out
    assert "labels corpus folder" in out
    assert (tmp_path / "r/csl_daily/figure6.png").is_file()


def test_a_check_is_the_dry_run_and_missing_labels_end_with_2(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        figure6.main(["--corpus", "phoenix14t", "--root", str(tmp_path / "no"), "--check"])
    assert ended.value.code == 2
    assert "phoenix14t is needed at" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["figure6", "--root", str(tmp_path / "no")])
    with pytest.raises(SystemExit) as ended:
        figure6.main()
    assert ended.value.code == 2
    assert "does not exist" in capsys.readouterr().err
    with pytest.raises(ValueError, match="name their folder with --data"):
        figure6.main(["--data", str(tmp_path / "no")])


@pytest.mark.skipif(not (REAL / "phoenix14t-alignments").is_dir(), reason="needs the published labels")
def test_the_paper_s_words_per_gloss_on_the_real_labels():
    claim, note = figure6.words_per_gloss([s for s in samples_of("phoenix14t", REAL, "train") if s.gloss])
    assert claim.ours == "1.90 (1.88 to 1.92)"
    assert claim.verdict == "contradicted"
    assert "mean over clips 2.06 (2.04 to 2.08)" in note
