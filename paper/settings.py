"""What is trained on each corpus, and how the scripts are called. Fixed before any result was looked at.

The synthetic corpus has 600 clips of 48 pixels (480 to train), drawn with the settings below: 40 % of its signs have a
minimal-pair twin by default, so that density is a real difficulty. Sizes and lengths of training are those of the
shipped CPU recipes; what a recipe does not say, a script says beside its runs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paper.jobs import Place, code_version

__all__ = ["CORPORA", "Setting", "add_arguments", "describe", "place_of"]


@dataclass(frozen=True)
class Setting:
    """The recipes that play each part on a corpus."""

    title: str
    root: str
    recipes: dict[str, str]
    """Part -> shipped recipe: vlp, gfslt, nslt, joint-slt, recogniser, smkd."""
    gfslt_weight: float
    """Weight of SignCL in pretraining and finetuning."""
    licensed: bool = False


CORPORA = {
    "synthetic": Setting(
        "synthetic corpus (600 clips)",
        "runs/paper/synthetic/corpus",
        {
            "vlp": "synthetic/pretrain.yaml",
            "vlp-signcl": "synthetic/pretrain-signcl.yaml",
            "gfslt": "synthetic/finetune.yaml",
            "gfslt-signcl": "synthetic/finetune-signcl.yaml",
            "joint-slt": "synthetic/joint-slt.yaml",
            "recogniser": "synthetic/recogniser.yaml",
            "smkd": "synthetic/smkd.yaml",
        },
        0.03,
    ),
    "imu_numbers": Setting(
        "Persian number signs (sensor glove)",
        "../shared/data/imu-number-signs",
        {
            "gfslt": "imu_numbers/finetune.yaml",
            "gfslt-signcl": "imu_numbers/finetune-signcl.yaml",
            "nslt": "imu_numbers/nslt.yaml",
            "joint-slt": "imu_numbers/joint-slt.yaml",
            "recogniser": "imu_numbers/recogniser.yaml",
            "smkd": "imu_numbers/smkd.yaml",
        },
        0.03,
    ),
    "phoenix14t": Setting(
        "PHOENIX-2014T",
        "data/phoenix14t",
        {
            "vlp": "phoenix14t/vlp.yaml",
            "vlp-signcl": "phoenix14t/vlp-signcl.yaml",
            "gfslt": "phoenix14t/gfslt.yaml",
            "gfslt-signcl": "phoenix14t/gfslt-vlp-signcl-finetune.yaml",
            "nslt": "phoenix14t/nslt.yaml",
            "nslt-signcl": "phoenix14t/nslt-signcl.yaml",
            "joint-slt": "phoenix14t/joint-slt.yaml",
            "recogniser": "phoenix14t/recogniser.yaml",
            "smkd": "phoenix14t/smkd.yaml",
        },
        0.01,
        licensed=True,
    ),
    "csl_daily": Setting(
        "CSL-Daily",
        "data/csl_daily",
        {
            "vlp": "csl_daily/vlp.yaml",
            "vlp-signcl": "csl_daily/vlp-signcl.yaml",
            "gfslt": "csl_daily/gfslt.yaml",
            "gfslt-signcl": "csl_daily/gfslt-vlp-signcl-finetune.yaml",
            "nslt": "csl_daily/nslt.yaml",
            "nslt-signcl": "csl_daily/nslt-signcl.yaml",
            "joint-slt": "csl_daily/joint-slt.yaml",
            "recogniser": "csl_daily/recogniser.yaml",
            "smkd": "csl_daily/smkd.yaml",
        },
        0.01,
        licensed=True,
    ),
}


def add_arguments(parser: argparse.ArgumentParser, corpora: tuple[str, ...] = tuple(CORPORA)) -> None:
    """The options that every script has."""
    parser.add_argument("--corpus", choices=corpora, default=corpora[0])
    parser.add_argument("--root", help="the corpus folder, where it is not the usual one")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="runs at a time, one thread each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="where the runs go")
    parser.add_argument("--results", type=Path, default=Path("paper/results"), help="where the tables go")
    parser.add_argument("--changes", nargs="*", default=[], metavar="KEY=VALUE", help="recipe values for every run")


def place_of(options: argparse.Namespace) -> Place:
    """Where runs go; the synthetic corpus is made where it is missing."""
    setting = CORPORA[options.corpus]
    out = options.out / options.corpus
    root = Path(options.root or (out / "corpus" if options.corpus == "synthetic" else setting.root))
    if options.corpus == "synthetic" and options.root is None:
        make_synthetic(root)
    if not root.is_dir():
        raise SystemExit(f"{options.corpus} is needed at {root}, there is no such folder; name it with --root")
    return Place(out, root, corpus_id(root), options.device, options.jobs)


def make_synthetic(root: Path, **settings: Any) -> None:
    """The corpus of the settings, made where it is missing (the same clips anywhere)."""
    from signcl.corpora.synthetic import SyntheticSettings, make_corpus

    make_corpus(root, SyntheticSettings(**{"clips": 600, "size": 48, **settings}))


def corpus_id(root: Path) -> str:
    """A number of what the tables of a corpus say, and of what its maker says of the pictures."""
    digest = hashlib.sha1()
    for path in sorted(p for p in root.iterdir() if p.suffix in (".tsv", ".csv", ".json", ".txt") and p.is_file()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:10]


def describe(options: argparse.Namespace, place: Place, **more: Any) -> dict[str, Any]:
    """How a table was made."""
    facts = {"corpus": options.corpus, "corpus content": place.corpus_id, "seeds": options.seeds}
    return facts | {
        "code": code_version(),
        **({"changes": " ".join(options.changes)} if options.changes else {}),
        **more,
    }


def as_dict(setting: Setting) -> dict[str, Any]:
    """For --check."""
    return asdict(setting)
