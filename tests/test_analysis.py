"""Density of a run: the spans of the corpus find the frames that the model saw."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from systems import having

from signcl.data.annotation.span_table import attach_spans, write_spans
from signcl.data.batch import Sample
from signcl.data.loading import collate
from signcl.inference.run_density import run_density, run_label_free, sign_instances
from signcl.training import fit
from signcl.training.recipe import recipe_from_dict, recipe_samples
from signcl.training.runs import load_run

SPANS = "A:0-10 B:12-20 A:22-30 B:31-39"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run that sees every second frame, on a corpus of features whose first table column is the frame's number."""
    root = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    for split in ("train", "dev", "test"):
        lines = ["name\tpath\ttext\tspans"]
        for i in range(6):
            rows = random.normal(size=(40 + i, 4)).astype(np.float32)
            rows[:, 0] = np.arange(len(rows))
            np.save(root / f"{split}{i}.npy", rows)
            lines.append(f"{split}{i}\t{split}{i}.npy\teins zwei\t{SPANS}")
        (root / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    out = tmp_path_factory.mktemp("runs")
    for stage, name in (("pretrain", "vlp"), ("finetune", "gfslt")):
        every = {"conv_width": 8, "width": 8, "encoder_layers": 1, "decoder_layers": 1, "heads": 1, "ffn": 8,
                 "text_layers": 1, "text_heads": 1, "text_ffn": 8}  # fmt: skip
        small = having(name, every)
        fit(
            recipe_from_dict(
                {
                    "stage": stage,
                    "out": str(out / stage),
                    "corpus": {"name": "folder", "root": str(root)},
                    "input": {"stride": 2, "max_frames": 15},
                    "model": {"name": name, "visual": "identity", **small},
                    "train": {"max_steps": 1, "device": "cpu"},
                }
            ),
            progress=False,
        )
    return out / "finetune"


def test_spans_find_the_frames_of_a_thinned_clip_whose_table_does_not_count_them(run):
    loaded = load_run(run)
    samples = recipe_samples(loaded.recipe, "test")
    assert all(s.num_frames is None for s in samples)
    found = sign_instances(loaded, samples, ["centre", "mean"], tap="features", device="cpu", progress=False)
    assert [instances.frame for instances in found] == ["centre", "mean"]
    for instances in found:
        assert instances.glosses == ["A", "B"] * 2 * len(samples)
        for frame, (_, start, stop) in zip(instances.features[:, 0].tolist(), instances.where):
            assert start <= frame < stop


def test_every_tap_of_a_system_has_its_density_and_no_other(run):
    assert run_density(run, "test", tap="steps", picture=False, progress=False)["instances"] == 24
    for tap in ("features", "conv", "steps"):
        found = run_density(run.with_name("pretrain"), "test", tap=tap, picture=False, progress=False)
        assert found["instances"] == 24
        assert found["made"]["tap"] == tap
    with pytest.raises(ValueError, match="tap=layer7: this system has features, conv, steps"):
        run_density(run, "test", tap="layer7", picture=False, progress=False)


@pytest.fixture(scope="module")
def recogniser(run, tmp_path_factory) -> Path:
    """A run that recognises glosses, on the same corpus with its glosses written down."""
    root = tmp_path_factory.mktemp("glosses")
    source = Path(load_run(run).recipe.corpus.root)
    for split in ("train", "dev", "test"):
        lines = (source / f"{split}.tsv").read_text().splitlines()
        table = [lines[0] + "\tgloss", *(f"{line}\tA B A B" for line in lines[1:])]
        (root / f"{split}.tsv").write_text("\n".join(table) + "\n")
    for path in source.glob("*.npy"):
        (root / path.name).write_bytes(path.read_bytes())
    model = {"name": "recogniser", "visual": "identity", "width": 8, "encoder_layers": 1, "heads": 1, "ffn": 8}
    out = root / "run"
    recipe = {"stage": "recognise", "out": str(out), "corpus": {"name": "folder", "root": str(root)}, "model": model}
    recipe |= {"loss": {"weights": {"recognition": 1.0}}, "train": {"max_steps": 1, "device": "cpu"}}
    fit(recipe_from_dict(recipe), progress=False)
    return out


def test_the_peak_of_a_run_is_where_it_is_surest(recogniser):
    loaded = load_run(recogniser)
    samples = recipe_samples(loaded.recipe, "test")
    (found,) = sign_instances(loaded, samples, ["peak"], tap="visual", device="cpu", progress=False)
    rows = {s.name: np.load(s.features) for s in samples}
    for frame, gloss, (name, start, stop) in zip(found.features[:, 0].tolist(), found.glosses, found.where):
        batch = collate([Sample("x", "")], [rows[name]])
        said = loaded.model.recognise(batch)[0][0][:, loaded.glosses.encode([gloss])[0]]
        assert frame == start + int(said[start:stop].argmax())


def test_a_run_that_recognises_nothing_has_only_the_peaks_of_a_table(run, tmp_path):
    with pytest.raises(ValueError, match="--frame peak needs a run that recognises glosses"):
        run_density(run, "test", frame=["peak"], picture=False, progress=False)
    loaded = load_run(run)
    samples = recipe_samples(loaded.recipe, "test")
    last = {s.name: [span.stop - 1 for span in s.spans] for s in samples}
    write_spans(tmp_path / "spans.tsv", {s.name: s.spans for s in samples}, peaks=last)
    samples = attach_spans(samples, tmp_path / "spans.tsv")
    (found,) = sign_instances(loaded, samples, ["peak"], tap="features", device="cpu", progress=False)
    only = [replace(s, spans=tuple(replace(p, start=p.stop - 1) for p in s.spans)) for s in samples]
    (expected,) = sign_instances(loaded, only, ["centre"], tap="features", device="cpu", progress=False)
    assert torch.equal(found.features, expected.features)
    assert sorted(found.where) == sorted((s.name, p.start, p.stop) for s in samples for p in s.spans)


def test_two_runs_and_a_table_of_spans(run, tmp_path):
    loaded = load_run(run)
    write_spans(tmp_path / "spans.tsv", {s.name: s.spans[:3] for s in recipe_samples(loaded.recipe, "test")})
    options = {"spans": str(tmp_path / "spans.tsv"), "picture": False, "progress": False}
    found = run_density(run, "test", versus=str(run.with_name("pretrain")), **options)
    assert found["instances"] == 18
    assert found["versus"]["low"] <= found["versus"]["difference"] <= found["versus"]["high"]
    assert found["versus"]["b"] == pytest.approx(run_density(run.with_name("pretrain"), "test", **options)["sdr"])


def test_a_run_has_label_free_estimates_too(run):
    found = run_label_free(run, "test", frames_per_sign=5, progress=False)
    assert found["clips"] == 6
    assert 0 < found["segment_ratio"] < 2
