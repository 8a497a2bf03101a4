"""Density of a run: the spans of the corpus find the frames that the model saw."""

from pathlib import Path

import numpy as np
import pytest

from signcl.analysis import run_density, sign_instances
from signcl.checkpoint import load_run
from signcl.data import recipe_samples
from signcl.recipe import recipe_from_dict
from signcl.train import fit

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
        small = {"conv_width": 8, "width": 8, "encoder_layers": 1, "decoder_layers": 1, "heads": 1, "ffn": 8,
                 "text_layers": 1, "text_heads": 1, "text_ffn": 8}  # fmt: skip
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
    rows, glosses, where = sign_instances(loaded, samples, frame="centre", tap="features", device="cpu", progress=False)
    assert glosses == ["A", "B"] * 2 * len(samples)
    for frame, (_, start, stop) in zip(rows[:, 0].tolist(), where):
        assert start <= frame < stop


def test_every_tap_of_a_system_has_its_density_and_no_other(run):
    assert run_density(run, "test", tap="steps", picture=False, progress=False)["instances"] == 24
    for tap in ("features", "conv", "steps"):
        found = run_density(run.with_name("pretrain"), "test", tap=tap, picture=False, progress=False)
        assert found["instances"] == 24
        assert found["made"]["tap"] == tap
    with pytest.raises(ValueError, match="tap=layer7: this system has features, conv, steps"):
        run_density(run, "test", tap="layer7", picture=False, progress=False)
