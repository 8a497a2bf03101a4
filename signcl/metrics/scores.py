"""Scores of translations and recognised glosses: BLEU-1..4, chrF, ROUGE-L, WER with its split, exact match.

Corpus-level scores of plain strings, 0-100. Everything that affects a score (tokenization, smoothing, costs, units) is
an argument and part of its signature. docs/metrics.md lists the conventions of the field. BLEU and chrF are computed by
sacreBLEU.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np

from signcl.data.text import characters
from signcl.metrics.written_forms import Tokenize, Unit, same_text, tokenize_as, unit_for

__all__ = ["Bleu", "Wer", "bleu", "chrf", "clean_phoenix_2014_trans", "exact_match", "rouge_l", "wer"]

Smoothing = Literal["exp", "none", "floor", "add-k"]
Costs = Literal["plain", "sclite"]


@dataclass(frozen=True)
class Bleu:
    """Corpus BLEU of order 1 to 4; higher is better."""

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    signature: str
    """sacreBLEU's signature: references, case, tokenizer, smoothing, version."""
    matches: tuple[int, int, int, int]
    """Matching n-grams of order 1 to 4. If one is 0, the scores of this and higher orders come from smoothing only."""


@dataclass(frozen=True)
class Wer:
    """Word error rate in percent of the reference tokens; lower is better. It can exceed 100."""

    wer: float
    substitutions: float
    deletions: float
    insertions: float
    reference_tokens: int
    signature: str


def bleu(
    hypotheses: Sequence[str],
    references: Sequence[str],
    tokenize: Tokenize = "auto",
    *,
    smoothing: Smoothing = "exp",
    smoothing_value: float | None = None,
) -> Bleu:
    """Corpus BLEU-1..4 by sacreBLEU. 0-100, higher is better.

    BLEU-n is the score with n-grams up to n, including the brevity penalty (not the n-gram precision).

    Args:
        hypotheses: one sentence per clip.
        references: the raw references, one per hypothesis.
        tokenize: "none" splits at spaces (PHOENIX), "13a" is sacreBLEU's default, "zh" and "char" are for Chinese.
            "auto" chooses among these by the script of the references (`tokenization_for`); the signature names the
            choice.
        smoothing: matters only if some order has no matches, as with toy corpora or in early epochs. "exp" is
            sacreBLEU's default; "none" then gives 0, as in neccam/slt.
        smoothing_value: parameter of "floor" (default 0.1) and "add-k" (default 1).

    Raises:
        ValueError: empty lists or lists of different lengths, an unknown tokenizer or smoothing.

    Source: Papineni et al. 2002; Post 2018.
    """
    check(hypotheses, references)
    metric = sacrebleu_metric(tokenize_as(tokenize, references), smoothing, smoothing_value)
    result = metric.corpus_score(list(hypotheses), [list(references)])
    scores = [
        metric.compute_bleu(
            result.counts[:order],
            result.totals[:order],
            result.sys_len,
            result.ref_len,
            smooth_method=smoothing,
            smooth_value=smoothing_value,
            max_ngram_order=order,
        ).score
        for order in (1, 2, 3, 4)
    ]
    one, two, three, four = scores
    return Bleu(one, two, three, four, str(metric.get_signature()), tuple(result.counts))


def chrf(hypotheses: Sequence[str], references: Sequence[str], *, word_order: int = 0) -> float:
    """Corpus chrF2 by sacreBLEU: character 1- to 6-grams, beta 2, spaces ignored. 0-100, higher is better.

    Args:
        hypotheses: one sentence per clip.
        references: one per hypothesis.
        word_order: 2 adds word 1- and 2-grams, which gives chrF++.

    Raises:
        ValueError: empty lists or lists of different lengths.

    Source: Popovic 2015.
    """
    check(hypotheses, references)
    from sacrebleu.metrics.chrf import CHRF

    return float(CHRF(word_order=word_order).corpus_score(list(hypotheses), [list(references)]).score)


def rouge_l(
    hypotheses: Sequence[str], references: Sequence[str], beta: float = 1.2, *, unit: Unit | Literal["auto"] = "auto"
) -> float:
    """ROUGE-L as computed by the MSCOCO tools, averaged over sentences. 0-100, higher is better.

    F = (1 + beta^2) P R / (R + beta^2 P), with P and R the length of the longest common subsequence divided by the
    tokens of hypothesis and reference; 0 without common tokens. Words are split at spaces, without other changes.

    Args:
        hypotheses: one sentence per clip.
        references: one per hypothesis.
        beta: weight of recall; 1.2 in MSCOCO and in sign language translation.
        unit: "character" for Chinese and other scripts without spaces between words, ignoring spaces; "auto" uses
            characters if the references are in such a script.

    Raises:
        ValueError: empty lists or lists of different lengths, an unknown unit.

    Source: Lin 2004; not the F1 of the `rouge` and `rouge_score` packages.
    """
    check(hypotheses, references)
    unit = unit_for(tokenize_as("auto", references)) if unit == "auto" else unit
    return float(rouge_rows(hypotheses, references, beta, unit).mean()) * 100


def wer(hypotheses: Sequence[str], references: Sequence[str], costs: Costs = "plain", *, unit: Unit = "word") -> Wer:
    """Word error rate with its split, pooled over all sentences. Lower is better.

    - `costs="plain"`: fewest edits; among equal alignments, the one with most matches, so the split is unique.
    - `costs="sclite"`: lowest cost with deletion 3, insertion 3, substitution 4, as in sclite and neccam/slt; among
      equal alignments, the one with fewest edits.

    On the logged PHOENIX-2014T outputs, both give the logged split.

    Args:
        hypotheses: glosses or words of each sentence.
        references: one per hypothesis.
        costs: costs that the alignment minimises; the rate always counts every edit as one.
        unit: "character" counts characters with their combining marks (CER) and ignores spaces.

    Raises:
        ValueError: empty lists or lists of different lengths, references without tokens, an unknown option.
    """
    check(hypotheses, references)
    substitutions, deletions, insertions, total = edit_rows(hypotheses, references, costs, unit).sum(axis=0).tolist()
    if not total:
        raise ValueError("wer needs at least one reference token, but all references are empty.")
    share = 100 / total
    signature = f"wer|costs:{costs}|unit:{unit}|case:mixed"
    rate = (substitutions + deletions + insertions) * share
    return Wer(rate, substitutions * share, deletions * share, insertions * share, total, signature)


def exact_match(
    hypotheses: Sequence[str], references: Sequence[str], *, unit: Unit | Literal["auto"] = "auto"
) -> float:
    """Percentage of sentences that equal their reference; runs of spaces count as one. Higher is better.

    Args:
        hypotheses: one sentence per clip.
        references: one per hypothesis.
        unit: "character" ignores spaces, as for Chinese, where some corpora put one after every character; "auto" does
            so if the references are in a script without spaces between words.

    Raises:
        ValueError: empty lists or lists of different lengths, an unknown unit.
    """
    check(hypotheses, references)
    unit = unit_for(tokenize_as("auto", references)) if unit == "auto" else unit
    return float(exact_rows(hypotheses, references, unit).mean()) * 100


def clean_phoenix_2014_trans(glosses: str) -> str:
    """Cleans a PHOENIX-2014T gloss line before WER; applied to both hypothesis and reference.

    - Drops markers (__ON__, __OFF__, __LEFTHAND__, ...), the prefixes loc- and cl-, the endings -PLUSPLUS and RAUM.
    - Writes WIE AUSSEHEN as one gloss.
    - Joins spelled letters, A B C -> A+B+C (NN counts as a letter, SCH only as the first letter).
    - Removes repeated neighbours.

    Args:
        glosses: the glosses of one sentence, separated by spaces.

    Returns:
        The cleaned line.

    Source: the rules of the corpus's evaluation script as applied by neccam/slt; the code is ours. PHOENIX-2014 (not T)
    has different rules.
    """
    line = re.sub(r"__LEFTHAND__|__EPENTHESIS__|__EMOTION__", "", glosses)
    words = []
    for word in line.split():
        if re.fullmatch(r"__[^_]*__", word):
            continue
        word = re.sub(r"\b(?:loc|cl)-", "", word)
        word = re.sub(r"-PLUSPLUS\b", "", word)
        word = re.sub(r"\b([A-Z]+)RAUM\b", r"\1", word)
        words.append(word)
    words = " ".join(words).replace("WIE AUSSEHEN", "WIE-AUSSEHEN").split()
    joined: list[str] = []
    for word in words:
        last = joined[-1].rsplit("+", 1)[-1] if joined else ""
        letter, after_letter = len(word) == 1 and "A" <= word <= "Z", len(last) == 1 and "A" <= last <= "Z"
        if (letter and (after_letter or last in ("SCH", "NN"))) or (word == "NN" and after_letter):
            joined[-1] += "+" + word
        else:
            joined.append(word)
    return " ".join(word for word, _ in groupby(joined))


def check(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Validates hypotheses and references."""
    if isinstance(hypotheses, str) or isinstance(references, str):
        raise ValueError("scores need lists of sentences, got one string; put it into a list.")
    if len(hypotheses) != len(references):
        raise ValueError(
            f"scores need one reference per hypothesis, got {len(hypotheses)} hypotheses, {len(references)} references."
        )
    if not references:
        raise ValueError("scores need at least one sentence, got none.")
    for name, lines in (("hypothesis", hypotheses), ("reference", references)):
        for number, line in enumerate(lines):
            if not isinstance(line, str):
                raise ValueError(f"scores need strings, got {type(line).__name__} as {name} {number} (counted from 0).")


def sacrebleu_metric(tokenize: str, smoothing: str, smoothing_value: float | None = None, order: int = 4) -> Any:
    """sacreBLEU's BLEU object; validates the options."""
    if tokenize not in ("none", "13a", "intl", "zh", "char") or smoothing not in ("exp", "none", "floor", "add-k"):
        raise ValueError(
            "bleu needs tokenize = auto, none, 13a, intl, zh or char and smoothing = exp, none, floor or add-k, "
            f"got tokenize={tokenize!r}, smoothing={smoothing!r}."
        )
    from sacrebleu.metrics.bleu import BLEU

    # force: our sentences are tokenized on purpose; without it, every call prints a warning.
    metric = BLEU(
        tokenize=tokenize, smooth_method=smoothing, smooth_value=smoothing_value, max_ngram_order=order, force=True
    )
    metric.tokenizer = _shared(tokenize, metric.tokenizer)
    return metric


_TOKENIZERS: dict[str, Any] = {}


def _shared(tokenize: str, own: Any) -> Any:
    """Returns one shared tokenizer per kind: it caches sentences, and the same references are scored many times."""
    return _TOKENIZERS.setdefault(tokenize, own)


def chrf_signature(word_order: int = 0) -> str:
    """sacreBLEU's signature of chrF, or of chrF++ with a word order of 2."""
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF(word_order=word_order)
    metric.corpus_score(["a"], [["a"]])  # the number of references is known only after scoring
    return str(metric.get_signature())


def tokens(line: str, unit: Unit) -> list[str]:
    """The tokens that ROUGE-L and WER count: words split at spaces, or characters as a reader sees them.

    A character is a letter with its combining marks (a Unicode grapheme cluster), in NFC or NFD.
    """
    if unit not in ("word", "character"):
        raise ValueError(f"needs unit='word' or 'character', got {unit!r}.")
    return line.split() if unit == "word" else characters(line)


# Per-sentence rows: all that a corpus score needs of one sentence, so that a resampled score is a sum of rows.


def rouge_rows(hypotheses: Sequence[str], references: Sequence[str], beta: float, unit: Unit) -> np.ndarray:
    """ROUGE-L F of each sentence, 0-1. [sentences]"""
    from rapidfuzz.distance import LCSseq

    scores = np.zeros(len(references))
    for row, (hypothesis, reference) in enumerate(zip(hypotheses, references)):
        ours, theirs = tokens(hypothesis, unit), tokens(reference, unit)
        common = LCSseq.similarity(ours, theirs)
        if common:
            precision, recall = common / len(ours), common / len(theirs)
            scores[row] = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    return scores


def edit_rows(hypotheses: Sequence[str], references: Sequence[str], costs: Costs, unit: Unit) -> np.ndarray:
    """Substitutions, deletions, insertions and reference tokens of each sentence. [sentences, 4] int"""
    from rapidfuzz.distance import Levenshtein

    if costs not in ("plain", "sclite"):
        raise ValueError(f"wer needs costs='plain' or 'sclite', got {costs!r}.")
    one, other, tie = (1, 1, 1) if costs == "plain" else (3, 4, -1)
    rows = np.zeros((len(references), 4), dtype=np.int64)
    for row, (hypothesis, reference) in enumerate(zip(hypotheses, references)):
        ours, theirs = tokens(hypothesis, unit), tokens(reference, unit)
        # One distance minimises the cost and, among equal costs, `tie` x substitutions (in units of 1/base).
        base = len(ours) + len(theirs) + 1
        found = Levenshtein.distance(theirs, ours, weights=(one * base, one * base, other * base + tie))
        cost = found // base if tie > 0 else -(-found // base)
        substitutions = tie * (found - cost * base)
        gaps = (cost - other * substitutions) // one  # deletions + insertions; their difference is `longer`
        longer = len(theirs) - len(ours)
        rows[row] = substitutions, (gaps + longer) // 2, (gaps - longer) // 2, len(theirs)
    return rows


def exact_rows(hypotheses: Sequence[str], references: Sequence[str], unit: Unit) -> np.ndarray:
    """Whether each sentence equals its reference in the form of `same_text`. [sentences] bool"""
    if unit not in ("word", "character"):
        raise ValueError(f"needs unit='word' or 'character', got {unit!r}.")
    return np.array([same_text(ours, unit) == same_text(theirs, unit) for ours, theirs in zip(hypotheses, references)])
