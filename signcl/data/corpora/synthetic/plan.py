"""Plans every clip (sentence, signer, frames of each sign) before any frame is drawn.

A plan contains only integers and words, so the tables written from it are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from signcl.data.corpora.synthetic.grammar import Grammar, Sentence
from signcl.data.corpora.synthetic.lexicon import Sign, build_lexicon
from signcl.data.corpora.synthetic.settings import Dice, SyntheticSettings
from signcl.data.corpora.synthetic.signers import Signer, build_signers

__all__ = ["ClipPlan", "CorpusPlan", "plan_corpus", "table"]

COLUMNS = ("name", "path", "text", "signer", "gloss", "num_frames", "spans")
CLIPS_PER_FOLDER = 1000
PATIENCE = 2000  # rejected sentences before the settings are reported as impossible


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """Plan of one clip."""

    name: str
    split: str
    path: str
    """Relative to the corpus folder."""
    signer: int
    """Index into the signers."""
    sentence: Sentence
    spans: tuple[tuple[int, int], ...]
    """First frame and one past the last frame of each sign; frames between spans belong to no sign."""
    num_frames: int


@dataclass(frozen=True, slots=True)
class CorpusPlan:
    """Plan of a corpus."""

    settings: SyntheticSettings
    lexicon: list[Sign]
    signers: list[Signer]
    clips: dict[str, list[ClipPlan]]
    """Clips by split."""


def plan_corpus(settings: SyntheticSettings) -> CorpusPlan:
    """Draws the lexicon, the signers and all sentences.

    The meaning of a dev or test sentence occurs in no other split, not even in different words. Dev and test use only
    signs that occur in train.

    Raises:
        ValueError: the lexicon is too small for this many different sentences.
    """
    lexicon = build_lexicon(settings)
    signers = build_signers(settings)
    grammar = Grammar(lexicon, settings)
    seen_meanings: set[str] = set()
    seen_texts: set[str] = set()
    trained: set[int] = set()
    clips: dict[str, list[ClipPlan]] = {}
    for split, count in settings.counts.items():
        dice = Dice(settings.seed, "sentences", split)
        clips[split] = []
        for number in range(count):
            sentence = grammar.draw(dice)
            if split == "train":
                trained.update(token.sign for token in sentence.tokens)
            else:
                for _ in range(PATIENCE):
                    known = sentence.canonical in seen_meanings or sentence.text in seen_texts
                    if not known and all(token.sign in trained for token in sentence.tokens):
                        break
                    sentence = grammar.draw(dice)
                else:
                    raise ValueError(
                        f"synthetic corpus: found no unseen sentence for {split} clip {number + 1} of {count}: "
                        f"{settings.clips} clips are too many for a lexicon of {settings.signs} signs with "
                        f"zipf={settings.zipf}; raise signs or lower clips or zipf"
                    )
            seen_meanings.add(sentence.canonical)
            seen_texts.add(sentence.text)
            clips[split].append(_plan_clip(settings, lexicon, signers, split, number, sentence))
    return CorpusPlan(settings, lexicon, signers, clips)


def table(plan: CorpusPlan, split: str) -> bytes:
    """The content of a split's TSV file."""
    lines = ["\t".join(COLUMNS)]
    for clip in plan.clips[split]:
        glosses = [plan.lexicon[token.sign].gloss for token in clip.sentence.tokens]
        spans = [f"{gloss}:{start}-{stop}" for gloss, (start, stop) in zip(glosses, clip.spans, strict=True)]
        signer = plan.signers[clip.signer].name
        cells = (clip.name, clip.path, clip.sentence.text, signer, " ".join(glosses), str(clip.num_frames))
        lines.append("\t".join((*cells, " ".join(spans))))
    return ("\n".join(lines) + "\n").encode()


def _plan_clip(
    settings: SyntheticSettings,
    lexicon: list[Sign],
    signers: list[Signer],
    split: str,
    number: int,
    sentence: Sentence,
) -> ClipPlan:
    dice = Dice(settings.seed, "clip", split, number)
    unseen = split == "test" and settings.unseen_signers > 0 and _is_unseen(number, settings)
    if unseen:
        signer = settings.signers + dice.below(settings.unseen_signers)
    else:
        signer = dice.below(settings.signers)
    speed = signers[signer].speed
    frame = dice.below(2) + 2 + _paced(settings.transition_frames, speed)  # at rest, then raising the hands
    spans = []
    for position, token in enumerate(sentence.tokens):
        sign = lexicon[token.sign]
        if position:
            apart = lexicon[sentence.tokens[position - 1].sign].location != sign.location
            frame += max(2, _paced(settings.transition_frames + dice.below(3) - 1 + (1 if apart else -1), speed))
            frame += _paced(settings.sign_frames // 2, speed) if position in sentence.pauses else 0
        usual = settings.sign_frames + sign.extra_frames + dice.below(4) + dice.below(4) - 3
        usual += settings.sign_frames // 5 * (sign.repeats - 1) + settings.sign_frames // 3 * token.plural
        length = max(4, _paced(usual, speed))
        spans.append((frame, frame + length))
        frame += length
    frame += _paced(settings.transition_frames, speed) + 1 + dice.below(3)
    name = f"{split}-{number:06d}"
    path = f"clips/{split}/{number // CLIPS_PER_FOLDER:03d}/{name}.mp4"
    return ClipPlan(name, split, path, signer, sentence, tuple(spans), frame)


def _is_unseen(number: int, settings: SyntheticSettings) -> bool:
    """Whether an unseen signer signs test clip `number`. Such clips are spread evenly; their rounded share is exact."""
    wanted = round(settings.counts["test"] * settings.unseen_share)
    count = settings.counts["test"]
    return (number + 1) * wanted // count > number * wanted // count


def _paced(frames: int, speed: int) -> int:
    """Number of frames at a signer's speed (in percent), rounded half up with integer arithmetic."""
    return (200 * frames + speed) // (2 * speed)
