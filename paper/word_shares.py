"""Does word-aware SignCL find the frames of a word? Compares its word shares with the spans of the signs, on dev.

    python -m paper.word_shares

Needs the runs of `python -m paper.density_effect --challengers` and `--all-words`. Training never sees the spans. Not
part of the design: looked at after the results were known.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from paper.density_effect import CORPUS
from paper.effect_design import ALL_WORDS
from paper.output import Table
from paper.raw_results import Rows, read_rows
from signcl.data.batch import Span
from signcl.data.corpora.synthetic.words import choose_entries
from signcl.data.files import write_text
from signcl.data.text import count_words
from signcl.inference.run_density import extract_features
from signcl.losses import estimate_frame_margin
from signcl.training.recipe import recipe_samples
from signcl.training.runs import load_run

__all__ = ["SHARES", "compare", "main"]

HERE = Path(__file__).parent
ARMS = ("word-aware SignCL", f"word-aware SignCL{ALL_WORDS}")
"""Word-aware SignCL, without and with short words."""
SHARES = {
    "named": "frames of signs, % with a word of the sign",
    "found": "of these, % given to it",
    "chance": "% if given at random",
    "same": "far pairs of one sign, % spared",
    "other": "far pairs of two signs, % spared",
}


def compare(shares: Tensor, spans: Sequence[Span], margin: float, words: Mapping[str, set[int]]) -> dict[str, Tensor]:
    """What one clip adds to each of `SHARES`, before averaging: one number per frame or pair.

    Args:
        shares: word shares of the frames. [T, V]
        spans: the clip's signs.
        margin: frames; the frames of a far pair are more than twice the margin apart.
        words: gloss -> places of its words in the vocabulary.
    """
    own = set(shares.sum(dim=0).nonzero().flatten().tolist())
    kinds = sorted({str(span.token) for span in spans})
    signs = torch.full((len(shares),), -1)
    for span in spans:
        signs[span.start : span.stop] = kinds.index(str(span.token))
    likeliest, named, found, chance = shares.argmax(dim=1), [], [], []
    for place, kind in enumerate(kinds):
        here, possible = signs == place, words.get(kind, set()) & own
        frames = likeliest[here]
        named.append(torch.full((len(frames),), float(bool(possible))))
        if possible:
            found.append(torch.isin(frames, torch.tensor(sorted(possible))).float())
            chance.append(torch.full((len(frames),), len(possible) / len(own)))
    time = torch.arange(len(shares))
    far = ((time[:, None] - time).abs() > 2 * margin) & (signs[:, None] >= 0) & (signs >= 0)
    spared, alike = shares @ shares.T, signs[:, None] == signs
    none = torch.zeros(0)
    return {
        "named": torch.cat([none, *named]),
        "found": torch.cat([none, *found]),
        "chance": torch.cat([none, *chance]),
        "same": spared[far & alike],
        "other": spared[far & ~alike],
    }


def percentages(folder: Path, root: Path, words: Mapping[str, set[str]]) -> dict[str, float]:
    """`SHARES` of one run, percent, over all frames and pairs of dev.

    Args:
        words: gloss -> the words that it may become in a sentence.
    """
    run = load_run(folder)
    memory, maker = run.model.term_memory["word_signcl"], run.targets.makers["word_signcl"]
    places = {word: place for place, word in enumerate(maker.words.vocabulary)}
    known = {gloss: {places[word] for word in own if word in places} for gloss, own in words.items()}
    own, signcl = run.recipe.loss.sections["word_signcl"], run.recipe.loss.signcl
    made = []
    for sample, tapped in extract_features(run, recipe_samples(run.recipe, "dev", root), progress=False):
        frames, length, said = tapped.rows, torch.tensor([len(tapped.rows)]), torch.tensor([count_words(sample.text)])
        shares = memory.shares(frames[None], length, maker([sample]), own.share_temperature)[0]
        margin = estimate_frame_margin(length, said, signcl.words_per_gloss, signcl.frame_margin_floor)
        made.append(compare(shares, sample.spans, float(margin), known))
    return {name: 100 * float(torch.cat([clip[name] for clip in made]).mean()) for name in SHARES}


def table(rows: Rows, out: Path) -> Table:
    """One row for each start and arm: means over the runs.

    Raises:
        FileNotFoundError: no runs, or the folder of one is missing.
    """
    rows = {key: row for key, row in rows.items() if key[1] in ARMS}
    missing = [row["run"] for row in rows.values() if not (out / row["run"]).is_dir()]
    if missing or not rows:
        what = f"{len(missing)} of {len(rows)} runs are not in {out}" if rows else "no run of word-aware SignCL yet"
        raise FileNotFoundError(
            f"{what}; make them with `python -m paper.density_effect --challengers` and `--all-words`"
        )
    entries = choose_entries(CORPUS["signs"], conjunctions=CORPUS["clauses"] > 1)
    words = {
        entry.gloss: {word.split()[-1] for form in entry.forms for word in (form.base, form.other, form.third) if word}
        for entry in entries
    }
    made: dict[tuple[str, str], list[dict[str, float]]] = {}
    for (start, arm, _), row in sorted(rows.items()):
        made.setdefault((start, arm), []).append(percentages(out / row["run"], out / "corpus", words))
    return Table(
        "word_shares",
        "Word shares of word-aware SignCL beside the spans of the signs, synthetic-long, dev",
        "python -m paper.word_shares",
        ["start", "arm", "runs", *SHARES.values()],
        [
            [start, arm, str(len(runs)), *(f"{fmean(run[name] for run in runs):.1f}" for name in SHARES)]
            for (start, arm), runs in made.items()
        ],
        ["Spared: the mean of a_t^T a_j, the part of a pair's weight that is not pushed apart. Means over runs."],
        made={"corpus": "synthetic-long", "runs": sum(map(len, made.values()))},
    )


def main(words: list[str] | None = None) -> int:
    """Writes the table; returns 2 after a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m paper.word_shares", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="folder of the runs")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder for numbers")
    options = parser.parse_args(words)
    results = options.results / "density_effect"
    try:
        made = table(read_rows(results)[0], options.out / "density_effect")
    except (RuntimeError, ValueError, OSError) as error:
        print(f"python -m paper.word_shares: {error}", file=sys.stderr)
        return 2
    write_text(results / "word_shares.md", made.markdown())
    print(made.markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
