"""Two runs on the same sentences: `paired_predictions` brings their answers together, `compare` puts their scores side
by side with the interval of the difference. Sentence by sentence: `signcl.evaluation.probes.changes`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from signcl.data.progress import say
from signcl.density.verdicts import compared_line, measured_alike
from signcl.evaluation.scoring import read_predictions
from signcl.metrics import clean_phoenix_2014_trans, paired_bootstrap
from signcl.training.runs import read_recipe

__all__ = ["compare", "density_line", "paired_predictions"]


def density_line(run_a: str | Path, run_b: str | Path, split: str = "test") -> str | None:
    """Where the densities of two runs were measured alike and SDR and retrieval disagree, the sentence that says so."""
    found = []
    for run in (run_a, run_b):
        path = Path(run) / f"density.{split}.json"
        if not path.is_file():
            return None
        found.append(json.loads(path.read_text(encoding="utf-8")))
    return compared_line(*found) if measured_alike(*found) else None


def paired_predictions(
    run_a: str | Path, run_b: str | Path, split: str = "test"
) -> tuple[list[str], list[str], list[str], list[str]]:
    """Names, references, answers of A and answers of B, of the sentences that both runs have translated.

    Raises:
        ValueError, OSError: no predictions, or none in common.
    """
    for run in (run_a, run_b):
        if (Path(run) / "recipe.yaml").is_file() and read_recipe(run).system.answers == "nothing":
            raise ValueError(
                f"{run} is a pretrain run, which answers nothing to compare; `signcl report` shows several"
            )
    a = read_predictions(Path(run_a) / f"predictions.{split}.tsv")
    b = read_predictions(Path(run_b) / f"predictions.{split}.tsv")
    found = {name: (reference, hypothesis) for name, reference, hypothesis in zip(*b)}
    both = [i for i, name in enumerate(a[0]) if name in found and found[name][0] == a[1][i]]
    if not both:
        raise ValueError(
            f"{run_a} and {run_b} have no sentence of split {split} in common; evaluate both on one corpus"
        )
    if len(both) < max(len(a[0]), len(b[0])):
        say(f"compared on the {len(both)} sentences that both runs translated ({len(a[0])} and {len(b[0])})")
    names = [a[0][i] for i in both]
    return names, [a[1][i] for i in both], [a[2][i] for i in both], [found[name][1] for name in names]


def compare(run_a: str | Path, run_b: str | Path, split: str = "test", *, samples: int = 1000) -> list[dict[str, Any]]:
    """Paired bootstrap of B against A over the sentences that both have translated.

    Returns:
        For BLEU-4, BLEU-1, ROUGE-L and chrF: both scores, the difference B - A, its 95 % interval and p-value; for
        recognisers the same of the WER (fewest edits), for classifiers of the share of exact matches (top-1).
    """
    _, references, theirs, ours = paired_predictions(run_a, run_b, split)
    rows = []
    recipe = read_recipe(run_a)
    tokenize = recipe.bleu_tokenize
    answers = recipe.system.answers
    metrics = {"glosses": ["wer"], "classes": ["exact_match"]}.get(answers, ["bleu4", "bleu1", "rouge_l", "chrf"])
    if answers != "sentences" and recipe.corpus.name == "phoenix14t":
        references, theirs, ours = (
            [clean_phoenix_2014_trans(line) for line in side] for side in (references, theirs, ours)
        )
    for metric in metrics:
        c = paired_bootstrap(metric, ours, theirs, references, samples=samples, tokenize=tokenize)  # first minus second
        rows.append({**vars(c), "metric": metric, "a": c.b, "b": c.a})
    return rows
