"""How two definitions of the p-value of a paired bootstrap disagree, on the real outputs of a PHOENIX-2014T run.

The baseline is the output of a Sign Language Transformer for the 642 test sentences. In each compared system, 32
answers (5 %) are replaced by those of another clip, and some others, a number per row, are corrected. So each system is
better on some sentences, as real systems are. Our p-value is two-sided; sacreBLEU's `--paired-bs` centres |A - B| and
counts one tail, which is nearly one-sided. Prints the table of docs/scoring.md.

    python benchmarks/paired_p_values.py FOLDER_OF_REAL_DATA
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from signcl.evaluation.sentence_files import align, read_sentences
from signcl.metrics import paired_bootstrap

SAMPLES = 1000
DAMAGED = 32
MENDED = range(1, 20, 2)


def altered(answers: list[str], references: list[str], mended: int) -> list[str]:
    """The answers, with `DAMAGED` of them replaced by those of the previous clip, and `mended` others corrected."""
    drawn = random.Random(0).sample(range(len(answers)), DAMAGED + mended)
    changed = list(answers)
    for i in drawn[:DAMAGED]:
        changed[i] = answers[i - 1]
    for i in drawn[DAMAGED:]:
        changed[i] = references[i]
    return changed


def main(words: list[str] | None = None) -> None:
    """Print the table as Markdown."""
    arguments = sys.argv[1:] if words is None else words
    if len(arguments) != 1:
        raise SystemExit("usage: python benchmarks/paired_p_values.py FOLDER_OF_REAL_DATA")
    root = Path(arguments[0])
    system = read_sentences(root / "signjoey-phoenix14t-outputs" / "best.IT_00093000.BW_02.A_4.test.txt")
    true = read_sentences(root / "phoenix14t-alignments" / "test.tsv.gz", "reference")
    _, [answers], references, _ = align([system], true)
    print("| answers put right | BLEU-4 | difference | ours, two-sided | sacrebleu --paired-bs | below 0.05 |")
    print("|---|---|---|---|---|---|")
    apart = rows = 0
    for mended in MENDED:
        other = altered(answers, references, mended)
        ours = paired_bootstrap("bleu4", other, answers, references, SAMPLES, tokenize="none")
        test = PairedTest(
            [("baseline", answers), ("other", other)],
            {"BLEU": BLEU(tokenize="none", references=[references], force=True)},
            references=None,
            test_type="bs",
            n_samples=SAMPLES,
        )
        theirs = test()[1]["BLEU"][1].p_value
        verdicts = [p < 0.05 for p in (ours.p_value, theirs)]
        apart, rows = apart + (verdicts[0] != verdicts[1]), rows + 1
        said = (
            "both"
            if all(verdicts)
            else "sacrebleu alone"
            if verdicts[1]
            else "ours alone"
            if verdicts[0]
            else "neither"
        )
        print(f"| {mended} | {ours.a:.2f} | {ours.difference:+.2f} | {ours.p_value:.3f} | {theirs:.3f} | {said} |")
    print(f"\nThe two disagree about 0.05 in {apart} of {rows} comparisons.")


if __name__ == "__main__":
    main()
