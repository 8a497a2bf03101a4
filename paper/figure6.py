"""Figure 6 and the basis of Tables 6 and 7: frame margins computed from real clip lengths and sentences, no pixels.

    python -m paper.figure6 --corpus phoenix14t [--data DIR | --root DIR] [--check]

For each factor (1, the clip's own words per gloss, 2.3, 3, 4): the margins max(10, frames / words * factor) of the
training clips, the share of clips whose margin is the floor, and the share of clips too short for any negative beyond
twice the margin. Then the sampling audit, which counts SignCL's correct positives and negatives. It needs the frames of
each sign, published only for PHOENIX-2014T. For any corpus with glosses it is also made with signs of equal length; if
both versions are possible, both are shown. Lengths and sentences come from the published label files of the tests' real
data (`phoenix14t-alignments`, `annotations`), or from a corpus folder (--root).
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from paper.output import Claim, Table
from paper.script import dry_run, end
from paper.statistics import Effect, verdict
from signcl.data.annotation import phoenix_states
from signcl.data.annotation.table_files import read_table
from signcl.data.batch import Sample, Span
from signcl.data.corpora import load_samples
from signcl.data.corpus_stats import frame_counts
from signcl.data.text import count_words
from signcl.density.audit import Rule, run_audit

__all__ = ["equal_spans", "main", "margins", "mean_interval", "rounds_to", "samples_of", "table"]

FACTORS = ("1", "own", "2.3", "3", "4")
FLOOR = 10
TRUE_FACTOR = 2.1
"""Words per gloss of PHOENIX-2014T according to the legend of Figure 6: "GT Zipf's factor = 2.1"."""


def samples_of(corpus: str, data: Path, split: str, root: Path | None = None) -> list[Sample]:
    """Names, lengths, sentences and glosses of a split, with spans if they are published.

    Args:
        data: folder of published label files.
        root: the corpus folder, used instead of `data` if given.

    Raises:
        ValueError: missing labels or clips.
    """
    if root is not None:
        samples = load_samples(corpus, root, split)
        counted = [replace(s, num_frames=n) for s, n in zip(samples, frame_counts(samples), strict=True) if n]
        if len(counted) < len(samples):
            raise ValueError(f"{root}: {len(samples) - len(counted)} of {len(samples)} {split} clips have no length")
        return counted
    if corpus == "phoenix14t":
        return phoenix_states.samples(data / "phoenix14t-alignments", split)
    rows = read_table(data / "annotations" / f"csl-daily.{split}.tsv.gz", ("name", "num_frames", "gloss", "text"))
    return [
        Sample(
            r.cells["name"],
            r.cells["text"],
            gloss=tuple(r.cells["gloss"].split()),
            num_frames=int(r.cells["num_frames"]),
        )
        for r in rows
    ]


def margins(samples: Sequence[Sample], factor: str) -> np.ndarray:
    """Frame margin of each clip; the factor `own` is the clip's words per gloss, which gives its frames per gloss."""
    frames = np.array([s.num_frames for s in samples], dtype=float)
    words = np.array([count_words(s.text) for s in samples])
    zipf = words / np.maximum([len(s.gloss) for s in samples], 1) if factor == "own" else float(factor)
    return np.maximum(FLOOR, frames / words * zipf)


def equal_spans(sample: Sample) -> Sample:
    """The same clip with spans of its glosses that fill it one after the other, with equal lengths up to rounding."""
    assert sample.num_frames is not None
    edges = [round(i * sample.num_frames / len(sample.gloss)) for i in range(len(sample.gloss) + 1)]
    spans = tuple(Span(g, a, b) for g, a, b in zip(sample.gloss, edges, edges[1:]) if a < b)
    return replace(sample, spans=spans)


def mean_interval(values: np.ndarray) -> Effect:
    """The mean with its 95 % interval over clips (normal approximation)."""
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Effect(mean, mean - half, mean + half, len(values), "clips")


def rounds_to(found: Effect, said: float, step: float = 0.1) -> str:
    """Verdict on the claim that a mean is `said`, a number printed in steps of `step`.

    Supported if the full interval rounds to that number, contradicted if no part of it does.
    """
    low, high = said - step / 2, said + step / 2
    if found.low >= low and found.high <= high:
        return "supported"
    below = verdict(Effect(found.difference - low, found.low - low, found.high - low, found.seeds, found.over), -1)
    above = verdict(Effect(found.difference - high, found.low - high, found.high - high, found.seeds, found.over), 1)
    return "contradicted" if "supported" in (below, above) else "not seen"


def words_per_gloss(samples: Sequence[Sample]) -> tuple[Claim, str]:
    """Compares the paper's true factor with the corpus; the note explains other ways to count it."""
    words = np.array([count_words(s.text) for s in samples])
    glosses = np.array([len(s.gloss) for s in samples])
    mean, dotted = mean_interval(words / glosses), mean_interval((words + 1) / glosses)
    claim = Claim(
        "the ground truth is 2.1 spoken words per gloss (mean over training clips)",
        '2.1 (Figure 6: "GT Zipf\'s factor = 2.1")',
        _with_interval(mean),
        rounds_to(mean, TRUE_FACTOR),
    )
    low, high = np.quantile(words / glosses, [0.05, 0.95])
    note = (
        f"Words per gloss: mean over clips {_with_interval(mean)}, 90 % of clips {low:.2f} to {high:.2f}; of the whole "
        f"corpus {words.sum() / glosses.sum():.2f}. With the final full stop counted as a word, which "
        f"`signcl.data.text.count_words` does not do: mean over clips {_with_interval(dotted)}, which may be "
        'how the paper came to 2.1. The 2.3 of its margin is "according to the speech-to-gesture Zipf\'s Law" (section '
        "4.1), not a count of this corpus."
    )
    return claim, note


def _with_interval(found: Effect) -> str:
    return f"{found.difference:.2f} ({found.low:.2f} to {found.high:.2f})"


def audits(samples: Sequence[Sample], rules: Sequence[Rule], what: str) -> list[str]:
    """One line per rule and stride."""
    notes = []
    for row in run_audit(samples, rules=rules, strides=(1, 2, 4)):
        if row["negative_share"] is None:
            continue
        clips = 100 * row["clips_without_negative"] / row["clips"]
        notes.append(
            f"Audit, {what}, rule {row['rule']}, stride {row['stride']}: positives of one gloss "
            f"{100 * row['positive_share']:.1f} %, negatives {100 * row['negative_share']:.2f} %, clips without "
            f"negative {clips:.1f} %."
        )
    return notes


def table(corpus: str, samples: Sequence[Sample], results: Path, command: str, source: str) -> Table:
    """Builds the table of margins and audits of the training clips.

    Args:
        source: where lengths and sentences come from, as text.
    """
    samples = [s for s in samples if s.gloss]
    frames = np.array([s.num_frames for s in samples], dtype=float)
    ratio = np.array([count_words(s.text) / len(s.gloss) for s in samples])
    found = {factor: margins(samples, factor) for factor in FACTORS}
    rows = []
    for factor, values in found.items():
        none = (frames - 1 <= 2 * values).mean()  # even the first and last frame are too close
        rows.append([
            "own words per gloss" if factor == "own" else factor,
            f"{values.mean():.2f}", f"{np.median(values):.1f}", f"{values.max():.0f}",
            f"{100 * (values == FLOOR).mean():.1f}", f"{100 * none:.1f}",
        ])  # fmt: skip
    glosses = sum(len(s.gloss) for s in samples)
    notes = [f"{len(samples)} training clips with glosses; {frames.sum() / glosses:.1f} frames per gloss."]
    claims, rules = [], ["paper", "released", "fixed"]
    if corpus == "phoenix14t":
        claim, note = words_per_gloss(samples)
        claims.append(claim)
        notes.append(note)
    else:  # for Chinese, the word count is itself derived from this factor
        rules.remove("released")
        notes.append(
            "Chinese words are counted as 2.3 x characters / 2.18 (`signcl.data.text.count_words`), so that the factor "
            "2.3 gives frames per gloss; the row of own words is in that unit, and the paper's words per gloss cannot "
            "be tested. The rule as released counts tokens; how many a word has is known for PHOENIX-2014T only, so it "
            "is not audited here."
        )
    spanned = [s for s in samples if s.spans]
    if spanned:
        notes += audits(spanned, rules, "frames of signs as aligned")
    else:
        notes.append(
            "Which frames a sign takes is not known for these clips, so the audit proper cannot be made. What follows "
            "has every gloss of a clip at equal length, no frame without sign: of negatives it tells how often a gloss "
            "comes again, its positives only how many signs a clip has. How far that is from aligned frames shows in "
            "the table of PHOENIX-2014T, which has both."
        )
    notes += audits([equal_spans(s) for s in samples], rules, "signs of equal length")
    picture(results / "figure6.png", found, ratio, corpus == "phoenix14t")
    return Table(
        "figure6", f"Figure 6: margins on the training split of {corpus}", command,
        ["factor", "mean margin", "median", "largest", "at the floor of 10 (% of clips)", "no negative (% of clips)"],
        rows, notes, claims, {"corpus": corpus, "clips": len(samples), "labels": source},
    )  # fmt: skip


def picture(path: Path, found: dict[str, np.ndarray], ratio: np.ndarray, true: bool) -> None:
    """Draws histograms of the margins and of the words per gloss."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from signcl.data.files import atomic_write

    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", width_ratios=(2, 1))
    edges = np.arange(FLOOR, 61, 2)
    for (factor, values), colour in zip(found.items(), colours):
        label = f"own (mean {ratio.mean():.2f})" if factor == "own" else factor
        left.hist(values.clip(max=60), bins=edges, histtype="step", linewidth=1.6, color=colour, label=label)
    left.set_xlabel("frame margin (frames; the last bin holds all beyond)")
    left.set_ylabel("training clips")
    left.legend(title="words per gloss", frameon=False)
    right.hist(ratio.clip(max=5), bins=np.arange(0, 5.1, 0.2), color="#0072B2")
    right.axvline(ratio.mean(), color="black", linewidth=1.2, label=f"mean {ratio.mean():.2f}")
    if true:
        right.axvline(TRUE_FACTOR, color="#E69F00", linestyle=":", label="2.1, the paper's GT")
    right.axvline(2.3, color="#D55E00", linestyle="--", label="2.3, the paper's rule")
    right.set_xlabel("words per gloss of a clip")
    right.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160, metadata={"Software": None})
    plt.close(figure)


def main(words: list[str] | None = None) -> None:
    """Makes the figure."""
    parser = argparse.ArgumentParser(prog="python -m paper.figure6", description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", choices=("phoenix14t", "csl_daily"), default="phoenix14t")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SIGNCL_REAL_DATA", "../shared/data")))
    parser.add_argument("--root", type=Path, help="corpus folder; use its labels instead of the published files")
    parser.add_argument("--results", type=Path, default=Path("paper/results"))
    parser.add_argument("--check", action="store_true", help="check the files of a licensed corpus and estimate costs")
    parser.add_argument("--from-results", action="store_true", help="do nothing: this figure needs labels, not runs")
    options = parser.parse_args(words)
    if options.check:
        raise SystemExit(dry_run(options.corpus, options.root))
    if options.from_results:
        print("figure6 reads published labels and trains no run; its files are not changed", file=sys.stderr)
        return
    try:
        if options.root is None and not options.data.is_dir():
            raise ValueError(f"the published labels are needed at {options.data}; name their folder with --data")
        samples = samples_of(options.corpus, options.data, "train", options.root)
    except (ValueError, OSError) as error:
        end("figure6", error, words)
    folder = options.results / options.corpus
    source = "corpus folder" if options.root else "published files"
    made = table(options.corpus, samples, folder, f"python -m paper.figure6 --corpus {options.corpus}", source)
    made.write(folder)
    print(made.markdown())
    print(f"written: {folder}/{made.name}.md .tex .csv .png", file=sys.stderr)


if __name__ == "__main__":
    main()
