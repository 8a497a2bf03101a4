"""Corpus statistics: lengths, words, glosses, margins, and how much of dev and test occurs in train."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from signcl.data.batch import Sample
from signcl.data.corpora import CORPORA, SPLITS, load_samples
from signcl.data.pair_labels import corpus_pairs
from signcl.data.progress import track
from signcl.data.segments import count_sample
from signcl.data.text import count_words, units

__all__ = ["CorpusStats", "SplitStats", "corpus_stats", "frame_counts", "split_stats"]

WORDS_PER_GLOSS = 2.3  # paper section 4.1
MARGIN_FLOOR = 10  # frames, Eq. 5
SHARES = (
    "unknown_share",
    "margin_at_floor",
    "without_negative",
    "sign_frames_share",
    "frames_without_negative",
    "signs_with_sign_negative",
    "transition_negatives",
    "rest_negatives",
    "same_gloss_negatives",
)
"""Fields that are printed as percentages."""


@dataclass(frozen=True)
class SplitStats:
    """Statistics of one split. Shares are in 0..1; a value is None if the corpus does not provide it."""

    sentences: int
    distinct_sentences: int
    seen_in_train: int
    """Sentences whose text also occurs in train (0 for train)."""
    signers: int | None
    languages: dict[str, int] | None
    """Number of sentences in each language, most frequent first, if the corpus gives languages; "" = no language."""
    unreadable: int
    """Clips whose frames could not be counted; left out of all statistics of frames."""
    frames_total: int
    frames_mean: float | None
    frames_median: float | None
    frames_min: int | None
    frames_max: int | None
    words_mean: float | None
    """Words per sentence, as counted for margins (`signcl.data.text.count_words`; from characters in scripts without
    spaces between words)."""
    words_median: float | None
    words_max: float | None
    vocabulary: int
    """Distinct words; characters in scripts without spaces between words (Chinese, Japanese, Thai ...). Punctuation is
    not counted."""
    singletons: int
    """Words that occur once in the split."""
    unknown_words: int
    """Distinct words that do not occur in train (0 for train)."""
    unknown_share: float
    """Share of running words that do not occur in train."""
    glosses_mean: float | None
    """Glosses per sentence."""
    gloss_vocabulary: int | None
    gloss_singletons: int | None
    words_per_gloss: float | None
    """2.3 in the paper's margin rule."""
    frames_per_gloss: float | None
    """All frames divided by all glosses, including transitions."""
    span_frames: float | None
    """Frames per sign, from the spans of the corpus."""
    margin_mean: float | None
    """Frame margin: max(10, frames / words * 2.3) of each clip. Negatives are more than twice that far away."""
    margin_median: float | None
    margin_max: float | None
    margin_at_floor: float | None
    """Share of clips whose margin is the floor of 10 frames."""
    without_negative: float | None
    """Share of clips so short that no frame has a legal negative: SignCL's push has no effect there."""
    sign_frames_share: float | None
    """Share of frames that belong to a sign, in clips with spans; the shares below are over these clips too."""
    frames_without_negative: float | None
    """Share of frames without a legal negative."""
    signs_with_sign_negative: float | None
    """Share of sign frames with a frame of a sign among their negatives. PHOENIX-2014T: 0.89."""
    transition_negatives: float | None
    """Share of negative pairs with a frame outside all signs: for these, the loss separates signs from transitions, not
    from each other."""
    rest_negatives: float | None
    """Share of negative pairs with a frame before the first or after the last sign. Forced alignments assign the
    transition between two signs to the signs, so there it equals the share above; PHOENIX-2014T has 0.08."""
    same_gloss_negatives: float | None
    """Share of negative pairs with the same gloss: for these, the loss pushes a sign away from itself."""


@dataclass(frozen=True)
class CorpusStats:
    """`SplitStats` of each split; `str()` gives a table with one column per split."""

    name: str
    root: str
    splits: dict[str, SplitStats]
    by_language: dict[str, SplitStats] = field(default_factory=dict)
    """`SplitStats` of each language of each split (`train de`), if the corpus has several languages."""

    def __str__(self) -> str:
        names = [field.name for field in fields(SplitStats)]
        columns = {**self.splits, **self.by_language}
        rows = [[_label(name), *(_cell(name, getattr(part, name)) for part in columns.values())] for name in names]
        rows = [row for row in rows if any(cell != "-" for cell in row[1:])]
        rows.insert(0, ["", *columns])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            ).rstrip()
            for row in rows
        ]
        return "\n".join([f"{self.name}: {self.root}", *lines])


def corpus_stats(
    root: Path | str,
    name: str = "folder",
    *,
    splits: Sequence[str] = SPLITS,
    options: Mapping[str, Any] | None = None,
    words_per_gloss: float = WORDS_PER_GLOSS,
    frame_margin_floor: float = MARGIN_FLOOR,
) -> CorpusStats:
    """Computes statistics of a corpus. Opens clips only if neither table nor feature store gives their lengths.

    Args:
        root: the corpus folder.
        name: a key of `CORPORA`.
        splits: splits to count; missing ones are left out.
        options: keyword arguments of that corpus's `samples`.
        words_per_gloss: for SignCL's frame margin, as `loss.signcl.words_per_gloss` of a recipe.
        frame_margin_floor: as `loss.signcl.frame_margin_floor` of a recipe.

    Raises:
        ValueError: an unknown corpus, no such folder, a broken row, or no splits.
    """
    CORPORA[name]  # raises an error for an unknown name before reading anything
    parts, missing = {}, []
    for split in splits:
        try:
            parts[split] = load_samples(name, root, split, **dict(options or {}))
        except ValueError as error:
            if name in ("folder", "synthetic") and Path(root).is_dir() and not (Path(root) / f"{split}.tsv").exists():
                missing.append(error)
                continue
            raise
    if not parts:
        raise missing[0]
    # Look up lengths once, not again for each language.
    parts = {
        split: [replace(sample, num_frames=length) for sample, length in zip(part, frame_counts(part), strict=True)]
        for split, part in parts.items()
    }
    train = parts.get("train", [])
    spoken = sorted({sample.language for part in parts.values() for sample in part})
    groups = {
        f"{split} {language or 'unnamed'}": (language, [sample for sample in part if sample.language == language])
        for split, part in parts.items()
        for language in spoken
        if len(spoken) > 1
    }
    return CorpusStats(
        name,
        str(root),
        {split: split_stats(part, train, words_per_gloss, frame_margin_floor) for split, part in parts.items()},
        {
            name: split_stats(part, _of_language(train, language, part), words_per_gloss, frame_margin_floor)
            for name, (language, part) in groups.items()
            if part
        },
    )


def _of_language(train: Sequence[Sample], language: str, part: Sequence[Sample]) -> Sequence[Sample]:
    """The training sentences of one language; returns `part` itself if they are equal, as `split_stats` expects."""
    own = [sample for sample in train if sample.language == language]
    return part if list(part) == own else own


def _words(samples: Sequence[Sample]) -> Counter[str]:
    """Counts of each word, in order of first occurrence; repeated sentences are split only once."""
    words: Counter[str] = Counter()
    for text, count in Counter(sample.text for sample in samples).items():
        for word in units(text):
            words[word] += count
    return words


def split_stats(
    samples: Sequence[Sample],
    train: Sequence[Sample],
    words_per_gloss: float = WORDS_PER_GLOSS,
    frame_margin_floor: float = MARGIN_FLOOR,
) -> SplitStats:
    """Computes statistics of one split; `train` has the training samples (pass the same list for train itself)."""
    frames = frame_counts(samples)
    counted = [(sample, length) for sample, length in zip(samples, frames, strict=True) if length]
    lengths = [length for _, length in counted]
    num_words = [count_words(sample.text) for sample in samples if sample.text]
    words = _words(samples)
    known = words.keys() if train is samples else {word for text in {s.text for s in train} for word in units(text)}
    train_texts = {sample.signed for sample in train} if train is not samples else set()
    unknown = {word: count for word, count in words.items() if train and word not in known}
    glossed = [(sample, length) for sample, length in zip(samples, frames, strict=True) if sample.gloss]
    glosses = Counter(gloss for sample, _ in glossed for gloss in sample.gloss)
    both = [(sample, length) for sample, length in glossed if sample.text]
    framed = [(sample, length) for sample, length in glossed if length]
    spans = [span.stop - span.start for sample in samples for span in sample.spans]
    signers = {sample.signer for sample in samples if sample.signer}
    spoken = any(sample.language for sample in samples)
    # A corpus with glosses only has no words, so there are no word counts or margins.
    said = [sample for sample in samples if sample.text]
    margins = [
        max(frame_margin_floor, length / max(1.0, count_words(s.text)) * words_per_gloss)
        for s, length in counted
        if s.text
    ]
    # The first frame has the farthest partner, at distance length - 1.
    worded = [(sample, length) for sample, length in counted if sample.text]
    stuck = [length - 1 <= 2 * margin for (_, length), margin in zip(worded, margins, strict=True)]
    pairs = corpus_pairs((sample, length, margin) for (sample, length), margin in zip(worded, margins, strict=True))
    return SplitStats(
        sentences=len(samples),
        distinct_sentences=len({sample.signed for sample in samples}),
        seen_in_train=sum(sample.signed in train_texts for sample in samples),
        languages=dict(Counter(sample.language for sample in samples).most_common()) if spoken else None,
        signers=len(signers) or None,
        unreadable=len(samples) - len(counted),
        frames_total=sum(lengths),
        frames_mean=fmean(lengths) if lengths else None,
        frames_median=float(median(lengths)) if lengths else None,
        frames_min=min(lengths, default=None),
        frames_max=max(lengths, default=None),
        words_mean=fmean(num_words) if said else None,
        words_median=float(median(num_words)) if said else None,
        words_max=max(num_words, default=None),
        vocabulary=len(words),
        singletons=sum(count == 1 for count in words.values()),
        unknown_words=len(unknown),
        unknown_share=sum(unknown.values()) / max(1, words.total()),
        glosses_mean=glosses.total() / len(glossed) if glossed else None,
        gloss_vocabulary=len(glosses) or None,
        gloss_singletons=sum(count == 1 for count in glosses.values()) if glosses else None,
        words_per_gloss=(
            sum(count_words(s.text) for s, _ in both) / sum(len(s.gloss) for s, _ in both) if both else None
        ),
        frames_per_gloss=(
            sum(length or 0 for _, length in framed) / sum(len(s.gloss) for s, _ in framed) if framed else None
        ),
        span_frames=fmean(spans) if spans else None,
        margin_mean=fmean(margins) if margins else None,
        margin_median=float(median(margins)) if margins else None,
        margin_max=max(margins, default=None),
        margin_at_floor=fmean(margin == frame_margin_floor for margin in margins) if margins else None,
        without_negative=fmean(stuck) if stuck else None,
        sign_frames_share=pairs.sign_share if pairs else None,
        frames_without_negative=pairs.stuck_share if pairs else None,
        signs_with_sign_negative=pairs.sign_to_sign_share if pairs else None,
        transition_negatives=pairs.transition_share if pairs else None,
        rest_negatives=pairs.rest_share if pairs else None,
        same_gloss_negatives=pairs.same_gloss_share if pairs else None,
    )


def frame_counts(samples: Sequence[Sample]) -> list[int | None]:
    """Number of frames of each clip; None if they cannot be counted."""
    counts: list[int | None] = []
    unknown = sum(sample.num_frames is None and not isinstance(sample.features, np.ndarray) for sample in samples)
    with track("count frames", total=unknown, show=unknown > 200) as bar:
        for sample in samples:
            length = sample.num_frames
            if length is None and isinstance(sample.features, np.ndarray):
                length = len(sample.features)
            elif length is None:
                bar.advance()
                try:
                    length = count_sample(sample)
                except (OSError, ValueError):
                    length = None
            counts.append(length)
    return counts


def _label(name: str) -> str:
    return name.replace("_", " ")


def _cell(name: str, value: float | dict[str, int] | None) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{language or 'unnamed'} {count:,}" for language, count in value.items())
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if name in SHARES:
        return f"{value:.1%}"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
