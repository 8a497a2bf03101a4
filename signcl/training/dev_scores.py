"""Scores of the dev split while training: losses, BLEU and its kin, WER, accuracy, from the shares of all ranks."""

from __future__ import annotations

from collections.abc import Sequence

from signcl.data.batch import Sample
from signcl.training.recipe import Recipe
from signcl.training.stages import Scored, summarise

__all__ = ["dev_scores"]


def dev_scores(parts: list[Scored], samples: Sequence[Sample], recipe: Recipe) -> dict[str, float]:
    """One set of scores over all ranks, each clip once.

    Args:
        parts: what each rank has scored.
        samples: the dev split, for the references.
    """
    merged = summarise(parts)
    hypotheses = {name: sentence for part in parts for name, sentence in part.hypotheses.items()}
    if hypotheses:
        from signcl.metrics import bleu, exact_match, rouge_l

        kept = [s for s in samples if s.name in hypotheses]
        found, texts = [hypotheses[s.name] for s in kept], [s.text for s in kept]
        measured = bleu(found, texts, tokenize=recipe.bleu_tokenize)
        merged |= {f"bleu{n}": getattr(measured, f"bleu{n}") for n in (1, 2, 3, 4)}
        merged |= {"rouge_l": rouge_l(found, texts), "exact_match": exact_match(found, texts)}
    recognised = {name: glosses for part in parts for name, glosses in part.recognised.items()}
    if recognised:
        from signcl.metrics import score_glosses

        clips = [s for s in samples if s.name in recognised]
        found, true = [recognised[s.name] for s in clips], [" ".join(s.gloss) for s in clips]
        rate = score_glosses(found, true, phoenix=recipe.corpus.name == "phoenix14t")["wer"]
        merged["wer" if recipe.stage == "recognise" else "gloss_wer"] = rate
    ranked = {name: glosses for part in parts for name, glosses in part.ranked.items()}
    if ranked:
        from signcl.metrics import score_classes

        clips = [s for s in samples if s.name in ranked]
        accuracy = score_classes([ranked[s.name] for s in clips], [s.gloss[0] for s in clips])
        merged |= {name: value for name, value in accuracy.items() if isinstance(value, float)}
    return merged
