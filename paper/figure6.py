"""Figure 6 and what stands behind Tables 6 and 7: the frame margins that real lengths and sentences give. No pixels.

    python -m paper.figure6 --corpus phoenix14t [--data DIR]

For each factor (1, the clip's own words per gloss, 2.3, 3, 4) the margins max(10, frames / words * factor) of the
training clips; how many of them the floor decides; how many clips are so short that no frame has a negative beyond
twice the margin. Then the sampling audit: what SignCL's positives and negatives are, where frame labels are published
(PHOENIX-2014T). The labels come with the real data of the tests: `phoenix14t-alignments`, `annotations`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paper.output import Claim, Table
from signcl.audit import run_audit
from signcl.batch import Sample
from signcl.corpora import phoenix_states
from signcl.corpora.tables import read_table
from signcl.text import count_words

__all__ = ["main", "margins", "table"]

FACTORS = ("1", "own", "2.3", "3", "4")
FLOOR = 10


def samples_of(corpus: str, data: Path, split: str) -> list[Sample]:
    """Names, lengths, sentences and glosses of a split, with spans where they are published."""
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
    """Frame margin of each clip; `own` takes the clip's own words per gloss, so frames per gloss."""
    frames = np.array([s.num_frames for s in samples], dtype=float)
    words = np.array([count_words(s.text) for s in samples])
    zipf = words / np.maximum([len(s.gloss) for s in samples], 1) if factor == "own" else float(factor)
    return np.maximum(FLOOR, frames / words * zipf)


def table(corpus: str, data: Path, results: Path, command: str) -> Table:
    """Lay out the margins, and the audit where there are labels."""
    samples = [s for s in samples_of(corpus, data, "train") if s.gloss]
    frames = np.array([s.num_frames for s in samples], dtype=float)
    ratio = np.array([count_words(s.text) / len(s.gloss) for s in samples])
    found = {factor: margins(samples, factor) for factor in FACTORS}
    rows = []
    for factor, values in found.items():
        none = (frames - 1 <= 2 * values).mean()  # not even the outermost two frames are far enough apart
        rows.append([
            "own words per gloss" if factor == "own" else factor,
            f"{values.mean():.2f}", f"{np.median(values):.1f}", f"{values.max():.0f}",
            f"{100 * (values == FLOOR).mean():.1f}", f"{100 * none:.1f}",
        ])  # fmt: skip
    words, glosses = sum(count_words(s.text) for s in samples), sum(len(s.gloss) for s in samples)
    claims = []
    if corpus == "phoenix14t":  # in Chinese the unit of words is made from this very factor
        seen = f"mean {ratio.mean():.2f} over clips, {words / glosses:.2f} over the corpus"
        low, high = np.quantile(ratio, [0.05, 0.95])
        seen += f"; 90 % of clips {low:.2f} to {high:.2f}"
        claims.append(
            Claim(
                "a gloss is 2.3 spoken words",
                "2.3 (true: 2.1 in Figure 6)",
                seen,
                "contradicted" if high < 2.2 or abs(ratio.mean() - 2.3) > 0.1 else "supported",
            )
        )
    notes = [f"{len(samples)} training clips with glosses; {frames.sum() / glosses:.1f} frames per gloss."]
    if corpus == "csl_daily":
        notes.append(
            "Chinese words are counted as 2.3 x characters / 2.18 (`signcl.text.count_words`), so that the factor 2.3 "
            "gives frames per gloss; the row of own words is in that unit. No frame labels are published for this "
            "corpus, so its sampling cannot be audited without an aligner."
        )
    if any(s.spans for s in samples):
        for row in run_audit([s for s in samples if s.spans], rules=["paper", "released", "fixed"], strides=(1, 2, 4)):
            if row["negative_share"] is None:
                continue
            clips = 100 * row["clips_without_negative"] / row["clips"]
            notes.append(
                f"Audit, rule {row['rule']}, stride {row['stride']}: positives of one gloss "
                f"{100 * row['positive_share']:.1f} %, negatives {100 * row['negative_share']:.2f} %, clips without "
                f"negative {clips:.1f} %."
            )
    picture(results / "figure6.png", found, ratio)
    return Table(
        "figure6", f"Figure 6: margins on the training split of {corpus}", command,
        ["factor", "mean margin", "median", "largest", "at the floor of 10 (% of clips)", "no negative (% of clips)"],
        rows, notes, claims, {"corpus": corpus, "clips": len(samples)},
    )  # fmt: skip


def picture(path: Path, found: dict[str, np.ndarray], ratio: np.ndarray) -> None:
    """Histograms of the margins, and of the words per gloss."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from signcl.files import atomic_write

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
    right.axvline(2.3, color="#D55E00", linestyle="--", label="2.3")
    right.set_xlabel("words per gloss of a clip")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160)
    plt.close(figure)


def main(words: list[str] | None = None) -> None:
    """Make the figure."""
    parser = argparse.ArgumentParser(prog="python -m paper.figure6", description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", choices=("phoenix14t", "csl_daily"), default="phoenix14t")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SIGNCL_REAL_DATA", "../shared/data")))
    parser.add_argument("--results", type=Path, default=Path("paper/results"))
    options = parser.parse_args(words)
    if not options.data.is_dir():
        raise SystemExit(f"the published labels are needed at {options.data}; name their folder with --data")
    folder = options.results / options.corpus
    made = table(options.corpus, options.data, folder, f"python -m paper.figure6 --corpus {options.corpus}")
    made.write(folder)
    print(made.markdown())
    print(f"written: {folder}/{made.name}.md .tex .csv .png", file=sys.stderr)


if __name__ == "__main__":
    main()
