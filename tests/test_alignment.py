"""`signcl align` and `signcl spans`: drawn answers come back on the clip's own clock, leaks are said, files convert."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from systems import write_corpus

from signcl.cli import main
from signcl.data.annotation.elan import read_elan, write_elan
from signcl.data.annotation.span_table import read_spans, write_spans
from signcl.data.batch import Sample, Span
from signcl.data.corpora.folder import samples as folder_samples
from signcl.data.features import count_feature_frames, write_store
from signcl.inference.alignment import align_log_probs, align_run
from signcl.training import fit
from signcl.training.recipe import recipe_from_dict, recipe_samples

GLOSSES = ["HAUS", "REGEN", "WIND"]


def drawn(lengths: list[int], seed: int = 0) -> tuple[list[Sample], dict[str, np.ndarray]]:
    """Clips whose log-probabilities spell known spans (frames 2s and 2s + 1 are step s)."""
    random = np.random.default_rng(seed)
    clips, rows = [], {}
    for number, steps in enumerate(lengths):
        edges = np.sort(random.choice(np.arange(1, steps), size=3, replace=False))
        bounds = [0, *edges.tolist(), steps]
        order = random.permutation(3)
        # blank, then three signs, each as long as its part
        says = np.concatenate(
            [[0] * (bounds[1]), *([c + 2] * (bounds[k + 2] - bounds[k + 1]) for k, c in enumerate(order))]
        )
        scores = random.normal(size=(steps, 5)) + 9 * np.eye(5)[says]
        name = f"clip{number}"
        rows[name] = torch.from_numpy(scores).log_softmax(1).float().numpy()
        spans = tuple(Span(GLOSSES[c], 2 * bounds[k + 1], 2 * bounds[k + 2]) for k, c in enumerate(order))
        clips.append(Sample(name, "x", gloss=tuple(s.token for s in spans), num_frames=2 * steps, spans=spans))
    return clips, rows


def test_drawn_spans_come_back_in_frames_of_the_clip(tmp_path):
    clips, rows = drawn([9, 14, 21])
    write_store(tmp_path / "probs", rows.items(), dtype="float32")
    (tmp_path / "classes.txt").write_text("<blank>\n<unk>\n" + "\n".join(GLOSSES) + "\n")
    report = align_log_probs(
        tmp_path / "probs", tmp_path / "classes.txt", clips, tmp_path / "spans.tsv", fill="label", stride=2
    )
    found = read_spans(tmp_path / "spans.tsv", lengths={c.name: c.num_frames for c in clips})
    for clip in clips:
        assert [(s.token, s.start, s.stop) for s in found[clip.name]] == [
            (s.token, s.start, s.stop) for s in clip.spans
        ]
    assert report["wer"] == 0
    assert report["against_truth"]["boundary_error"] == 0
    assert report["against_truth"]["frame_accuracy"] == 1
    lines = (tmp_path / "spans.tsv").read_text().splitlines()
    assert lines[0].split("\t")[-1] == "peak"
    for line, span in zip(lines[1:], [s for c in clips for s in c.spans]):
        assert span.start <= int(line.split("\t")[-1]) < span.stop
    assert json.loads((tmp_path / "spans.json").read_text())["signs"] == 9


def test_a_table_of_glosses_is_enough_for_log_probs(tmp_path, capsys):
    clips, rows = drawn([9, 14])
    np.savez(tmp_path / "probs.npz", **rows)
    (tmp_path / "classes.txt").write_text("<blank>\n<unk>\n" + "\n".join(GLOSSES) + "\n")
    table, out = tmp_path / "glosses.tsv", tmp_path / "spans.tsv"
    table.write_text("name\tgloss\n" + "".join(f"{c.name}\t{' '.join(c.gloss)}\n" for c in clips))
    words = ["align", "--log-probs", str(tmp_path / "probs.npz"), "--classes", str(tmp_path / "classes.txt")]
    words += ["--stride=2", "--fill=label", "-o", str(out)]
    assert main([*words, f"--glosses={table}"]) == 0
    for name, found in read_spans(out).items():
        (clip,) = (c for c in clips if c.name == name)
        assert [(s.token, s.start, s.stop) for s in found] == [(s.token, s.start, s.stop) for s in clip.spans]
    assert len(read_spans(out)) == 2
    capsys.readouterr()
    table.write_text(table.read_text() + "clip0\tHAUS\n")
    assert main([*words, f"--glosses={table}"]) == 2
    assert "got 'clip0'" in capsys.readouterr().err
    assert main(words) == 2
    assert "and either --root" in capsys.readouterr().err
    table.write_text("name\tgloss\nclip0\tHAUS\n")
    (tmp_path / "classes.txt").write_text("<blank>\n" + "\n".join([*GLOSSES, "MEHR"]) + "\n")
    assert main([*words, f"--glosses={table}"]) == 2
    assert "line 2 is class 1" in capsys.readouterr().err


def test_clips_that_cannot_be_aligned_are_named_and_the_others_aligned(tmp_path, capsys):
    clips, rows = drawn([9, 9, 9, 9])
    clips[1] = replace(clips[1], gloss=("HAUS", "SCHNEE"))
    clips[2] = replace(clips[2], gloss=("HAUS",) * 6)  # needs 11 steps: equal neighbours have a blank between them
    rows["clip3"] = rows["clip3"] + 1
    clips.append(replace(clips[0], name="elsewhere"))
    np.savez(tmp_path / "probs.npz", **rows)
    (tmp_path / "glosses.json").write_text(json.dumps(GLOSSES))
    report = align_log_probs(tmp_path / "probs.npz", tmp_path / "glosses.json", clips, tmp_path / "s.tsv", stride=2)
    assert report["clips"] == 1
    assert report["left_out"].keys() == {"clip1", "clip2", "clip3", "elsewhere"}
    assert "the gloss SCHNEE is not in" in report["left_out"]["clip1"]
    assert "need 11 steps, it has 9" in report["left_out"]["clip2"]
    assert "apply log_softmax" in report["left_out"]["clip3"]
    assert "left out clip1" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"no clip could be aligned; the first: clip1: .*SCHNEE"):
        align_log_probs(tmp_path / "probs.npz", tmp_path / "glosses.json", clips[1:2], tmp_path / "t.tsv", stride=2)
    assert not (tmp_path / "t.tsv").exists()
    (tmp_path / "few.txt").write_text("<blank>\n<unk>\nHAUS\n")
    with pytest.raises(ValueError, match=r"has 5 classes, .*few\.txt names 3"):
        align_log_probs(tmp_path / "probs.npz", tmp_path / "few.txt", clips, tmp_path / "t.tsv")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("align") / "corpus", pixels=False)


def recogniser(corpus: Path, out: Path, **corpus_options) -> Path:
    return fit(recipe_from_dict({
        "stage": "recognise",
        "out": str(out),
        "corpus": {"name": "folder", "root": str(corpus), **corpus_options},
        "input": {"stride": 2},
        "model": {"name": "recogniser", "visual": "feature_mlp", "visual_dim": 16, "width": 32, "encoder_layers": 1,
                  "heads": 2, "ffn": 32, "dropout": 0.0},
        "train": {"epochs": 60, "batch_size": 4, "device": "cpu", "lr": 5e-3, "evaluate_every": 60},
    }), progress=False)  # fmt: skip


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory) -> Path:
    return recogniser(corpus, tmp_path_factory.mktemp("runs") / "recogniser")


def test_a_trained_recogniser_finds_signs_on_the_clock_of_the_clip(run, corpus, tmp_path, capsys):
    """The recogniser sees every second frame; its spans count all of them."""
    assert main(["align", str(run), "--split", "train", "-o", str(tmp_path / "s.tsv"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["clips"] == 8
    truth = report["against_truth"]
    assert truth["sign_accuracy"] > 0.8
    spans = read_spans(tmp_path / "s.tsv", lengths={s.name: None for s in folder_samples(corpus, "train")})
    for sample in folder_samples(corpus, "train"):
        found = spans[sample.name]
        assert found[0].start == 0  # nearest: every frame belongs to a sign
        assert found[-1].stop == sample.spans[-1].stop
        assert all(a.stop == b.start for a, b in pairwise(found))
    assert main(["align", str(run), "--split", "train", "-o", str(tmp_path / "t.tsv")]) == 0
    assert "against the corpus's own spans: boundaries" in capsys.readouterr().out


def test_training_on_test_must_be_asked_for_and_is_said(run, corpus, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"--transductive needs a run that was trained with corpus\.transductive"):
        align_run(run, "test", tmp_path / "s.tsv", transductive=True, progress=False)
    leaky = recogniser(corpus, tmp_path / "leaky", transductive=True)
    from signcl.training.runs import load_run

    assert len(recipe_samples(load_run(leaky).recipe, "train")) == 12  # 8 of train, 4 of test
    with pytest.raises(ValueError, match="was trained on the test split"):
        align_run(leaky, "test", tmp_path / "s.tsv", progress=False)
    report = align_run(leaky, "test", tmp_path / "s.tsv", transductive=True, progress=False)
    assert report["made"]["transductive"] is True
    assert main(["evaluate", str(leaky), "--split", "test", "--bootstrap", "0", "--json"]) == 0
    found = capsys.readouterr()
    assert json.loads(found.out)["made"]["trained_on_this_split"] is True
    assert "these are not held-out scores" in found.err
    with pytest.raises(ValueError, match="is for aligners"):
        recipe_from_dict({"corpus": {"transductive": True}})


def test_spans_go_to_elan_and_back_unchanged(tmp_path):
    spans = {"a/b": (Span("HAUS", 0, 7), Span("REGEN & WIND", 7, 31)), "c": (Span("Ä", 3, 4),)}
    for fps in (25, 29.97, 50, 59.94):
        paths = write_elan(tmp_path / str(fps), spans, fps=fps, clips={"c": Path("clips/c.mp4")})
        assert [p.name for p in paths] == ["b.eaf", "c.eaf"]
        again = read_elan(tmp_path / str(fps), fps=fps)
        assert {k: [(s.token, s.start, s.stop) for s in v] for k, v in again.items()} == {
            k: [(s.token, s.start, s.stop) for s in v] for k, v in spans.items()
        }
    write_elan(tmp_path / "25", spans, fps=25)  # a second time: replaced, and no backup is left lying
    assert sorted(p.name for p in (tmp_path / "25").rglob("*") if p.is_file()) == ["b.eaf", "c.eaf"]


def test_what_is_no_elan_file_is_said(tmp_path):
    (tmp_path / "bad.eaf").write_text("<xml")
    with pytest.raises(ValueError, match="is not an ELAN file"):
        read_elan(tmp_path / "bad.eaf", fps=25)
    with pytest.raises(ValueError, match="found none"):
        read_elan(tmp_path / "nothing.eaf", fps=25)
    write_elan(tmp_path, {"c": (Span("HAUS", 0, 1),)}, fps=50)
    with pytest.raises(ValueError, match=r"has no frame at 10 frames per second; is --fps right\?"):
        read_elan(tmp_path / "c.eaf", fps=10)
    with pytest.raises(ValueError, match="has no tier 'hand'; it has gloss"):
        read_elan(tmp_path / "c.eaf", fps=50, tier="hand")


def test_the_verb_spans_converts(corpus, tmp_path, capsys):
    table, folder = tmp_path / "own.tsv", tmp_path / "eaf"
    assert main(["spans", "--root", str(corpus), "--split", "dev", "-o", str(table)]) == 0
    assert main(["spans", str(table), "-o", str(folder), "--fps", "25"]) == 0
    assert main(["spans", str(folder), "-o", str(tmp_path / "back.tsv"), "--fps", "25"]) == 0
    assert read_spans(tmp_path / "back.tsv") == read_spans(table)
    assert "spans of 4 clips" in capsys.readouterr().out
    assert main(["spans", "-o", str(table)]) == 2
    assert main(["spans", str(table), "-o", str(tmp_path / "x.csv")]) == 2
    write_spans(tmp_path / "none.tsv", {})
    assert main(["spans", str(tmp_path / "none.tsv"), "-o", str(folder)]) == 2
    assert "has a header but no rows" in capsys.readouterr().err
    assert main(["align", "-o", str(table)]) == 2


@pytest.mark.parametrize("conv", ["k3", "k5p2"])
def test_steps_that_see_copies_alone_hold_no_sign(corpus, tmp_path, conv):
    """The convolution has 5 and 2 steps before the first frame; frames 1, 4, 7, ... stand for those beside them."""
    run = fit(recipe_from_dict({
        "stage": "recognise",
        "out": str(tmp_path / "run"),
        "corpus": {"name": "folder", "root": str(corpus)},
        "input": {"stride": 3, "stride_from": "middle"},
        "model": {"name": "smkd", "visual": "identity", "width": 8, "conv_width": 8, "encoder_layers": 1, "conv": conv},
        "train": {"max_steps": 1, "device": "cpu"},
    }), progress=False)  # fmt: skip
    align_run(run, "train", tmp_path / "s.tsv", device="cpu", progress=False)
    lengths = {s.name: count_feature_frames(s.features) for s in folder_samples(corpus, "train")}
    for name, found in read_spans(tmp_path / "s.tsv", lengths=lengths).items():
        assert (found[0].start, found[-1].stop) == (0, lengths[name])
        assert all(a.stop == b.start and a.stop % 3 == 0 for a, b in pairwise(found))
