"""A dry run for a licensed corpus: is everything there, what will it cost, and which numbers are to be expected.

    python -m paper.check --corpus phoenix14t --root DIR [--all] [--seeds 3]

Nothing is trained or written. Errors make the tables wrong or impossible (exit code 1); warnings are worth knowing.
Every expected number says whose it is; differences within the noise of the test set are no differences.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paper.settings import CORPORA
from signcl.batch import Sample
from signcl.tables import table as drawn

__all__ = ["EXPECTED", "Report", "check", "main"]

COUNTS = {
    "phoenix14t": {"train": 7096, "dev": 519, "test": 642},
    "csl_daily": {"train": 18401, "dev": 1077, "test": 1176},
}
MEAN_FRAMES = {"phoenix14t": 116.6, "csl_daily": 118.8}
"""Of the training clips."""
LOOKED_AT = 60
"""Clips of each split that are opened unless --all is given."""
EXPECTED = {
    "phoenix14t": [
        ("paper, Table 2 (8 A800, no seeds given)", "GFSLT-VLP", "21.25"),
        ("paper, Table 2", "+ SignCL in pretraining", "22.69"),
        ("paper, Table 2", "+ SignCL in finetuning", "22.16"),
        ("paper, Table 2", "+ SignCL in both", "22.74"),
        ("independent, sltbaselines, 3 seeds", "GFSLT-VLP", "21.97 ± 0.27"),
        ("independent, sltbaselines, 3 seeds", "+ SignCL", "22.35 ± 0.28"),
        ("independent, Beyond BLEU, one pipeline (95 %)", "GFSLT-VLP", "22.2 ± 2.3"),
        ("independent, Beyond BLEU, one pipeline (95 %)", "+ SignCL", "22.7 ± 2.2"),
    ],
    "csl_daily": [
        ("paper, Table 3 (8 A800, no seeds given)", "GFSLT-VLP", "11.10"),
        ("paper, Table 3", "+ SignCL in pretraining", "15.85"),
        ("paper, Table 3", "+ SignCL in finetuning", "15.98"),
        ("paper, Table 3", "+ SignCL in both", "16.16"),
        ("independent, sltbaselines, 3 seeds", "GFSLT-VLP", "10.41 ± 0.17"),
        ("independent, sltbaselines, 3 seeds", "+ SignCL", "11.22 ± 0.18"),
        ("independent, Beyond BLEU, one pipeline (95 %)", "GFSLT-VLP", "10.9 ± 0.9"),
        ("independent, Beyond BLEU, one pipeline (95 %)", "+ SignCL", "10.9 ± 0.8"),
    ],
}
"""BLEU-4 on test: whose, of what, how much."""
NOISE = {"phoenix14t": "2.2", "csl_daily": "0.8 to 1.0"}
"""Half width of the 95 % bootstrap interval of BLEU-4 on test, by Beyond BLEU, Table 5."""
PRETRAIN_HOURS, FINETUNE_HOURS = 4 * 24.0, 4 * 36.0
"""GPU hours on a 3090, PHOENIX-2014T: 4 cards, 24 h of VLP and 36 h of finetuning (issue GFSLT-VLP#6)."""
PAPER_HOURS = 8 * 12.0
"""GPU hours on an A800: "8 A800, about 12 hours" (paper, appendix); it does not say for which of its runs."""
PRETRAINED, FINETUNED = 223.5e6, 263.9e6
"""Parameters of the released networks, by their logs."""
PRETRAININGS, FINETUNINGS = 3, 8
"""Runs of Table 8 for each seed: VLP, SignCL alone, both; and the eight arms."""
FEATURE_DIM = 512


@dataclass
class Report:
    """What the dry run has found."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)
    """What, how much."""


def check(corpus: str, root: Path, *, seeds: int = 3, out: Path = Path("runs/paper"), every: bool = False) -> Report:
    """Look at a licensed corpus without training anything.

    Args:
        corpus: phoenix14t or csl_daily.
        root: its folder.
        seeds: of the cost.
        out: where runs would go, for the room on that disk.
        every: open every clip instead of some of each split.

    Raises:
        ValueError: no such folder.
    """
    from signcl.corpora import load_samples

    if not root.is_dir():
        raise ValueError(f"{corpus} is needed at {root}, there is no such folder; name it with --root")
    report = Report()
    parts: dict[str, list[Sample]] = {}
    for split in COUNTS[corpus]:
        try:
            parts[split] = load_samples(corpus, root, split)
        except (ValueError, OSError) as error:
            report.errors.append(f"{split}: {error}")
    _counts(corpus, parts, report)
    _glosses(corpus, root, parts, report)
    _texts(parts, report)
    _clips(parts, every, report)
    _costs(corpus, parts, seeds, out, report)
    return report


def _counts(corpus: str, parts: dict[str, list[Sample]], report: Report) -> None:
    for split, samples in parts.items():
        wanted = COUNTS[corpus][split]
        report.facts.append((f"{split} sentences", f"{len(samples)} of {wanted}"))
        if len(samples) != wanted:
            report.errors.append(
                f"{split} has {len(samples)} sentences, the published split has {wanted}; scores on it are not "
                "comparable"
            )
    names = [sample.name for samples in parts.values() for sample in samples]
    if len(set(names)) < len(names):
        report.errors.append(f"{len(names) - len(set(names))} clips are in two splits")


def _glosses(corpus: str, root: Path, parts: dict[str, list[Sample]], report: Report) -> None:
    """Where glosses come from: WER, density per gloss, aligner and Joint-SLT need true ones."""
    for split, samples in parts.items():
        bare = sum(not sample.gloss for sample in samples)
        if not bare:
            continue
        top = root / "PHOENIX-2014-T" if (root / "PHOENIX-2014-T").is_dir() else root
        if corpus == "phoenix14t" and bare == len(samples) and (top / f"labels.{split}").is_file():
            report.errors.append(
                f"{split}: only labels.{split} of GFSLT-VLP is there. Its glosses are not the annotation (they differ "
                "in 475 of the 642 test sentences) and are not read: Tables 1, 9, 10 and Figures 2, 3 need "
                "annotations/manual/PHOENIX-2014-T.*.corpus.csv or phoenix14t.* of neccam/slt"
            )
        else:
            report.errors.append(
                f"{split}: {bare} of {len(samples)} sentences have no gloss; WER and density need them"
            )
    held = {gloss for sample in parts.get("train", ()) for gloss in sample.gloss}
    if held:
        report.facts.append(("gloss types in train", str(len(held))))
    if parts and not any(sample.spans for samples in parts.values() for sample in samples):
        report.warnings.append(
            "no frames of signs come with this corpus: Figures 2, 3 and Table 10 train the aligner of Table 9 for "
            "them, or "
            "take --spans TABLE" + (" (signcl spans --phoenix-alignments DIR)" if corpus == "phoenix14t" else "")
        )


def _texts(parts: dict[str, list[Sample]], report: Report) -> None:
    """The convention of the final full stop, and test sentences that training has."""
    texts = [sample.text for samples in parts.values() for sample in samples]
    if not texts:
        return
    dots = sum(text.rstrip().endswith(" .") for text in texts)
    report.facts.append(("sentences that end in ' .'", f"{100 * dots / len(texts):.1f} %"))
    if 0 < dots < len(texts) / 2:
        report.warnings.append(
            "some sentences end in ' .' and most do not; BLEU-1 moves by 3 to 5 with that convention"
        )
    train = {" ".join(sample.text.split()) for sample in parts.get("train", ())}
    for split in ("dev", "test"):
        seen = sum(" ".join(sample.text.split()) in train for sample in parts.get(split, ()))
        if split in parts:
            report.facts.append((f"{split} sentences that occur in train", str(seen)))


def _clips(parts: dict[str, list[Sample]], every: bool, report: Report) -> None:
    """Whether clips are there and as long as the labels say."""
    from signcl.video import probe

    for split, samples in parts.items():
        chosen = samples if every else samples[:: max(1, len(samples) // LOOKED_AT)]
        chosen = [sample for sample in chosen if sample.clip is not None]
        wrong, other = [], []
        for sample in chosen:
            assert sample.clip is not None
            try:
                frames = probe(sample.clip).num_frames
            except (ValueError, OSError) as error:
                wrong.append(str(error))
                continue
            if sample.num_frames is not None and frames != sample.num_frames:
                other.append(f"{sample.name}: {frames}, labels say {sample.num_frames}")
        report.facts.append((f"{split} clips opened", f"{len(chosen) - len(wrong)} of {len(chosen)}"))
        if wrong:
            report.errors.append(
                f"{split}: {len(wrong)} of {len(chosen)} clips cannot be opened, the first: {wrong[0]}"
            )
        if other:
            report.warnings.append(f"{split}: {len(other)} of {len(chosen)} clips have other lengths, first {other[0]}")
    if not every:
        report.facts.append(("opened", "some clips of each split; --all opens every one"))


def _costs(corpus: str, parts: dict[str, list[Sample]], seeds: int, out: Path, report: Report) -> None:
    """Room and time of Table 8 and of the features, with what the figures rest on."""
    clips = sum(COUNTS[corpus].values())
    frames = MEAN_FRAMES[corpus] * clips
    held = [s.num_frames for samples in parts.values() for s in samples if s.num_frames]
    if held:
        frames = sum(held) / len(held) * clips
    state = 3 * 4  # weights, and two states of the optimizer to go on with, in float32
    checkpoints = seeds * (PRETRAININGS * PRETRAINED + FINETUNINGS * FINETUNED) * (4 + state)
    features = seeds * 3 * frames * FEATURE_DIM * 2
    place = out
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    report.facts += [
        (
            "room for the runs of Table 8",
            f"{checkpoints / 1e9:.0f} GB ({seeds} seeds, 11 runs each, best and last state)",
        ),
        ("room for features of 3 kinds", f"{features / 1e9:.1f} GB ({frames:,.0f} frames x {FEATURE_DIM} x 2 bytes)"),
        (f"free at {place}", f"{free / 1e9:.0f} GB"),
    ]
    if free < checkpoints + features:
        report.warnings.append(
            f"{(checkpoints + features) / 1e9:.0f} GB are needed for all tables, {free / 1e9:.0f} GB are free at "
            f"{place}; name another disk by --out"
        )
    scale = frames / (MEAN_FRAMES["phoenix14t"] * sum(COUNTS["phoenix14t"].values()))
    one = (PRETRAININGS * PRETRAIN_HOURS + FINETUNINGS * FINETUNE_HOURS) * scale
    report.facts += [
        ("one pretraining", f"{PRETRAIN_HOURS * scale:.0f} GPU hours (3090)"),
        ("one finetuning", f"{FINETUNE_HOURS * scale:.0f} GPU hours (3090)"),
        (f"Table 8, {seeds} seeds", f"{seeds * one:,.0f} GPU hours (3090)"),
        (
            "the paper's own figure",
            f"{PAPER_HOURS:.0f} GPU hours (8 A800, about 12 hours; for which runs it does not say)",
        ),
        ("basis", "GFSLT-VLP#6: 4 x 3090, 24 h and 36 h on PHOENIX-2014T; scaled by frames. Not measured here"),
    ]


def text(corpus: str, report: Report) -> str:
    """The report for people."""
    expected = [[of, number, whose] for whose, of, number in EXPECTED[corpus]]
    lines = [drawn([list(fact) for fact in report.facts], [CORPORA[corpus].title, ""]), ""]
    lines += [drawn(expected, ["BLEU-4 on test", "", "whose"]), ""]
    lines += [
        f"Noise of one test score: ± {NOISE[corpus]} BLEU-4 (95 % bootstrap over sentences); standard deviation over "
        "seeds 0.2 to 0.6. A gain within it needs a paired test and several seeds.",
        "",
    ]
    lines += [f"error: {line}" for line in report.errors] + [f"warning: {line}" for line in report.warnings]
    lines.append("ready" if not report.errors else f"not ready: {len(report.errors)} errors")
    return "\n".join(lines)


def main(words: Sequence[str] | None = None) -> int:
    """Print the report; the exit code: 0 ready, 1 errors found, 2 no such folder."""
    parser = argparse.ArgumentParser(prog="python -m paper.check", description=(__doc__ or "").splitlines()[0])
    licensed = [name for name, setting in CORPORA.items() if setting.licensed]
    parser.add_argument("--corpus", choices=licensed, required=True)
    parser.add_argument("--root", type=Path, help="the corpus folder, where it is not the usual one")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="where the runs would go")
    parser.add_argument("--all", action="store_true", help="open every clip")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(words)
    root: Path = options.root or Path(CORPORA[options.corpus].root)
    try:
        report = check(options.corpus, root, seeds=options.seeds, out=options.out, every=options.all)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        import json

        found: dict[str, Any] = {
            "errors": report.errors,
            "warnings": report.warnings,
            "facts": dict(report.facts),
            "expected": [dict(zip(("source", "system", "bleu4"), row)) for row in EXPECTED[options.corpus]],
            "noise": NOISE[options.corpus],
        }
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print(text(options.corpus, report))
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
