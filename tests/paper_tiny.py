"""Tiny runs and corpora for the tests of paper/."""

import argparse
import sys
from pathlib import Path

from systems import write_corpus

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from paper import settings  # noqa: E402
from paper.jobs import Place  # noqa: E402

SIZES = ("model.width=16", "model.heads=2", "model.ffn=16", "model.encoder_layers=1", "train.warmup_steps=0")
TINY = (*SIZES, "corpus.name=folder", "train.max_steps=2", "train.epochs=1", "decode.max_new_tokens=6")


def options_of(tmp_path: Path, corpus: str, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    settings.add_arguments(parser)
    shared = [
        "--corpus",
        corpus,
        "--jobs",
        "1",
        "--out",
        str(tmp_path / "runs"),
        "--results",
        str(tmp_path / "results"),
    ]
    return parser.parse_args([*shared, *words])


def place_of_features(root: Path) -> Place:
    """A corpus of features with spans, known as the number signs."""
    return Place(root / "runs", write_corpus(root / "corpus", pixels=False), "one", jobs=1)
