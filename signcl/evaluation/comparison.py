"""Compares two runs, or files of sentences, on the same references.

`paired_predictions` aligns their answers; `compare` gives their scores with the interval of the difference. For a
comparison sentence by sentence see `signcl.evaluation.probes.changes`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from signcl.data.progress import say
from signcl.density.verdicts import compared_line, measured_alike
from signcl.evaluation.health import equal_outputs
from signcl.evaluation.scoring import read_predictions
from signcl.evaluation.sentence_files import Sentences, align, read_sentences
from signcl.metrics import clean_phoenix_2014_trans, normalize, paired_bootstrap
from signcl.metrics.written_forms import Tokenize, tokenize_as
from signcl.training.result_files import read_density
from signcl.training.runs import read_recipe

__all__ = ["compare", "density_line", "paired_predictions", "read_answers"]


def density_line(run_a: str | Path, run_b: str | Path, split: str = "test") -> str | None:
    """A warning if SDR and retrieval of two runs disagree, provided that both were measured the same way; else None."""
    found = []
    for run in (run_a, run_b):
        density = read_density(Path(run), split)
        if density is None:
            return None
        found.append(density)
    return compared_line(*found) if measured_alike(*found) else None


def paired_predictions(
    run_a: str | Path, run_b: str | Path, split: str = "test", reference: str | Path | None = None
) -> tuple[list[str], list[str], list[str], list[str]]:
    """Names, references, answers of A and answers of B, for the sentences that both runs have translated.

    Args:
        run_a: a run folder, or a file of sentences (`read_sentences`).
        run_b: as `run_a`.
        split: split of the run folders.
        reference: a file of references; None: those of a run folder, or of a file with such a column.

    Raises:
        ValueError, OSError: no predictions, none in common, or files without references.
    """
    for run in (run_a, run_b):
        if (Path(run) / "recipe.yaml").is_file() and read_recipe(run).system.answers == "nothing":
            raise ValueError(
                f"{run} is a pretrain run, which has no answers to compare; `signcl report` shows several runs"
            )
    if Path(run_a).is_file() or Path(run_b).is_file() or reference is not None:
        return _paired_files(run_a, run_b, split, reference)
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


def _paired_files(
    run_a: str | Path, run_b: str | Path, split: str, reference: str | Path | None
) -> tuple[list[str], list[str], list[str], list[str]]:
    """`paired_predictions` if one or both are files of sentences."""
    glosses = _answers(run_a, run_b) != "sentences"
    sides = [read_answers(run, split, glosses=glosses) for run in (run_a, run_b)]
    if reference is not None:
        true = read_sentences(reference, "gloss reference" if glosses else "reference")
    else:
        # prefer a run's references over the column of a file
        ranked = sorted(sides, key=lambda side: not Path(side.path).name.startswith("predictions."))
        having = next((side for side in ranked if side.own_references is not None), None)
        if having is None or having.own_references is None:
            raise ValueError(
                f"neither {run_a} nor {run_b} holds references; give them with --ref REF, or score both with "
                f"`signcl score {run_a} {run_b} REF`"
            )
        true = Sentences(having.path, "its references", having.own_references, having.names)
    names, (theirs, ours), references, notes = align(sides, true)
    for note in notes:
        say(note)
    return names or [str(i + 1) for i in range(len(references))], references, theirs, ours


def read_answers(run: str | Path, split: str, *, glosses: bool = False) -> Sentences:
    """The answers of a run folder on a split, or the sentences of a file, with their references."""
    if not Path(run).is_dir():
        return read_sentences(run, "gloss hypothesis" if glosses else "hypothesis")
    path = Path(run) / f"predictions.{split}.tsv"
    names, references, hypotheses = read_predictions(path)
    return Sentences(path, "a run's predictions", hypotheses, names, references)


def _answers(*runs: str | Path) -> str:
    """The kind of answers of the first run folder; sentences if there is none."""
    return next((read_recipe(run).system.answers for run in runs if Path(run).is_dir()), "sentences")


def compare(
    run_a: str | Path,
    run_b: str | Path,
    split: str = "test",
    *,
    samples: int = 1000,
    reference: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Paired bootstrap of B against A on the sentences that both have translated.

    Args:
        run_a, run_b, split, reference: as in `paired_predictions`; either run may be a file of sentences.
        samples: number of resamples.

    Returns:
        Both scores, the difference B - A, its 95 % interval and p-value, for BLEU-4, BLEU-1, ROUGE-L and chrF; for
        recognisers for the WER (fewest edits), for classifiers for the share of exact matches (top-1).
    """
    _, references, theirs, ours = paired_predictions(run_a, run_b, split, reference)
    references, theirs, ours = normalize(references), normalize(theirs), normalize(ours)
    rows = []
    recipe = next((read_recipe(run) for run in (run_a, run_b) if Path(run).is_dir()), None)
    answers = "sentences" if recipe is None else recipe.system.answers
    tokenize: Tokenize = "none"  # glosses are separated by spaces in every script
    if answers == "sentences":
        tokenize = tokenize_as("auto" if recipe is None else recipe.bleu_tokenize, references)
    metrics = {"glosses": ["wer"], "classes": ["exact_match"]}.get(answers, ["bleu4", "bleu1", "rouge_l", "chrf"])
    if answers != "sentences" and recipe is not None and recipe.corpus.name == "phoenix14t":
        references, theirs, ours = (
            [clean_phoenix_2014_trans(line) for line in side] for side in (references, theirs, ours)
        )
    same = equal_outputs(theirs, ours)
    for metric in metrics:
        c = paired_bootstrap(metric, ours, theirs, references, samples=samples, tokenize=tokenize)  # first minus second
        rows.append({**vars(c), "metric": metric, "a": c.b, "b": c.a, "outputs_identical": same})
    return rows
