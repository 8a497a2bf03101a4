"""Prepares the data of a run: samples, tokenizer, feature size, datasets, lengths."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from signcl.data.batch import Sample
from signcl.data.corpora import load_samples
from signcl.data.loading import ClipDataset, feature_dim, source_sizes, training_rate
from signcl.data.pose_estimation import PoseKind, kind_of
from signcl.data.progress import say
from signcl.data.text import GlossVocabulary, Tokenizer, build_tokenizer, is_segmented, is_spaced, script_names
from signcl.systems.targets import Targets, build_targets
from signcl.training.recipe import Recipe, recipe_samples

__all__ = ["Material", "build_glosses", "prepare"]


@dataclass
class Material:
    """The data that the training loop needs."""

    train: ClipDataset
    dev: ClipDataset
    train_lengths: list[int]
    dev_lengths: list[int]
    tokenizer: Tokenizer
    feature_dim: int | None
    """Size of pre-extracted features; None for pixels."""
    fps: float | None = None
    """Frames per second of the training clips as read; None if unknown or mixed."""
    poses: PoseKind | None = None
    """Kind of key points, if they are the features."""
    targets: Targets | None = None
    glosses: GlossVocabulary | None = None
    """Gloss classes, if a term of the recipe needs them."""


def prepare(recipe: Recipe) -> Material:
    """Read the corpus of a recipe and build its tokenizer from the training sentences.

    Raises:
        ValueError, OSError: no such corpus, an empty split, unreadable annotation.
    """
    text = recipe.text
    train, dev = recipe_samples(recipe, "train"), recipe_samples(recipe, "dev")
    _check_text(train, dev, recipe)
    _check_languages(train, recipe)
    tokenizer = build_tokenizer(
        text.tokenizer,
        [s.text or " ".join(s.gloss) for s in train],  # glosses stand in for missing text, for a recogniser
        vocab_size=text.vocab_size,
        lowercase=text.lowercase,
        language=text.language,
        min_count=text.min_count,
    )
    sentences = [s.text for s in train]
    for note in (_unspaced_words(text.tokenizer, sentences), _two_spellings([*sentences, *(s.text for s in dev)])):
        if note:
            say(note)
    glosses = None
    if wanted := [name for name, term in recipe.terms.items() if "glosses" in term.needs]:
        for name in wanted:
            if "one_gloss" in recipe.terms[name].needs:
                _check_single(train, dev, name)
        glosses = build_glosses(train, dev, recipe.corpus.name, wanted[0])
    cache = recipe.input.cache_gb if recipe.train.workers == 0 else 0.0  # each worker would have its own cache
    dim = feature_dim(train, recipe.input)
    _check_streams(recipe.model.streams.sizes, source_sizes(train, recipe.input))
    targets = build_targets(
        recipe.terms,
        recipe.model,
        train,
        lambda split: [s.text for s in load_samples(*_whole_split(recipe, split), **recipe.corpus.options)],
        Path(recipe.out),
        recipe.loss.sections,
    )
    if targets is not None:
        targets.foresee(dev)
    made: dict[str, Any] = {"dim": dim, "glosses": glosses, "targets": targets}
    train_clips = ClipDataset(train, tokenizer, recipe.reading, training=True, cache_gb=cache * 0.8, **made)
    dev_clips = ClipDataset(dev, tokenizer, recipe.reading, training=False, cache_gb=cache * 0.2, **made)
    return Material(
        train=train_clips,
        dev=dev_clips,
        train_lengths=train_clips.lengths,
        fps=training_rate(train, recipe.input) if dim is None else None,
        poses=kind_of([*train, *dev], dim),
        dev_lengths=dev_clips.lengths,
        tokenizer=tokenizer,
        feature_dim=dim,
        glosses=glosses,
        targets=targets,
    )


def _check_streams(sizes: Sequence[int], sources: Sequence[int]) -> None:
    """ValueError if model.streams.sizes names as many sources as corpus.features, but cuts their rows elsewhere."""
    if len(sizes) == len(sources) > 0 and list(sizes) != list(sources) and sum(sizes) == sum(sources):
        raise ValueError(
            f"model.streams.sizes: needs the sizes of corpus.features in their order, {list(sources)}, got "
            f"{list(sizes)}"
        )


def _whole_split(recipe: Recipe, split: str) -> tuple[str, Path, str]:
    """Identifies the full split of a corpus, regardless of the share that the recipe uses."""
    return recipe.corpus.name, Path(recipe.corpus.root), split


def _check_text(train: Sequence[Sample], dev: Sequence[Sample], recipe: Recipe) -> None:
    """Raise ValueError for clips without a sentence if the system needs sentences; warns if SignCL counts glosses."""
    for split, samples in (("training", train), ("dev", dev)):
        silent = [s.name for s in samples if not s.text]
        if silent and recipe.system.answers not in ("glosses", "classes"):
            raise ValueError(
                f"model.name={recipe.model.name} learns from sentences, but {len(silent)} of the {len(samples)} "
                f"{split} clips of corpus {recipe.corpus.name} have glosses only, no text, first "
                f"{', '.join(silent[:3])}; add the text, or train a system that recognises, such as "
                f"model.name=recogniser"
            )
    per_gloss = recipe.loss.signcl.words_per_gloss
    if "signcl" in recipe.loss.weights and per_gloss != 1 and any(not s.text for s in train):
        say(
            f"the corpus has no text, so SignCL's margins count glosses instead of words; "
            f"loss.signcl.words_per_gloss={per_gloss:g} makes them {per_gloss:g} glosses long, set it to 1"
        )


def _check_languages(train: Sequence[Sample], recipe: Recipe) -> None:
    """Raise ValueError if languages are to be weighted but the corpus does not give them."""
    if recipe.train.language_temperature is None:
        return
    found = sorted({sample.language for sample in train})
    if len(found) < 2 or "" in found:
        what = f"only {found[0]}" if found and found[0] else f"clips without one, first {_first_without(train)}"
        raise ValueError(
            f"train.language_temperature weighs the languages of a corpus, and corpus {recipe.corpus.name} has {what}; "
            f"give each row of its tables a language (docs/adding-a-corpus.md), or leave the key out"
        )


def _first_without(samples: Sequence[Sample]) -> str:
    return next(sample.name for sample in samples if not sample.language)


def _check_single(train: Sequence[Sample], dev: Sequence[Sample], term: str) -> None:
    """Raise ValueError for clips with several signs if a term needs exactly one."""
    for split, samples in (("training", train), ("dev", dev)):
        several = [s for s in samples if len(s.gloss) > 1]
        if several:
            raise ValueError(
                f"loss.weights.{term} needs one gloss a clip, but {len(several)} of the {len(samples)} {split} "
                f"clips have more, first {several[0].name}: {' '.join(several[0].gloss)}; corpus.isolated=true cuts "
                f"the signs out of clips whose spans are known"
            )


def build_glosses(
    train: Sequence[Sample], dev: Sequence[Sample], corpus: str, term: str = "recognition"
) -> GlossVocabulary:
    """Build the gloss vocabulary from the training annotation; reports dev glosses that are not in it.

    Raises:
        ValueError: clips without glosses; gives their number and names.
    """
    for split, samples in (("training", train), ("dev", dev)):
        bare = [s.name for s in samples if not s.gloss]
        if bare:
            raise ValueError(
                f"loss.weights.{term} needs the glosses of every clip, but {len(bare)} of the {len(samples)} "
                f"{split} clips of corpus {corpus} have none, first {', '.join(bare[:3])}; leave the weight out "
                f"(model.name=slt is then NSLT) or use a corpus with glosses"
            )
    glosses = GlossVocabulary.train(s.gloss for s in train)
    classes = [c for s in dev for c in glosses.encode(s.gloss)]
    if unknown := classes.count(1):
        say(f"{unknown} of {len(classes)} glosses of the dev split are not in training: class 1, <unk>, an error each")
    return glosses


def _unspaced_words(tokenizer: str, texts: list[str]) -> str:
    """A warning if splitting at spaces gives entire sentences; empty if not."""
    if tokenizer != "word" or is_spaced(texts):
        return ""
    whole = [text for text in texts if not is_segmented(text)]
    if 2 * len(whole) < len(texts):
        return ""
    return (
        f"text.tokenizer=word splits at spaces, but {len(whole)} of {len(texts)} training "
        f"sentences have no spaces ({', '.join(script_names(whole))}), so entire sentences become words; use "
        f"text.tokenizer=character or sentencepiece"
    )


def _two_spellings(texts: list[str]) -> str:
    """A warning if some sentences are in Unicode NFD and others in NFC; empty if not."""
    decomposed = sum(not unicodedata.is_normalized("NFC", text) for text in texts)
    composed = sum(
        unicodedata.is_normalized("NFC", text) and not unicodedata.is_normalized("NFD", text) for text in texts
    )
    if not (decomposed and composed):
        return ""
    return (
        f"{decomposed} sentences of train and dev are not in Unicode's NFC and {composed} are: a word such as `für` is "
        f"then two different words; convert the tables to NFC"
    )
