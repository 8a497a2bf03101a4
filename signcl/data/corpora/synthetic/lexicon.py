"""The lexicon: each sign is a bundle of phonological parameters. Twins (minimal pairs) differ in exactly one of them.

The parameters are the classical ones of sign phonology. Here their values are only names; `hands.py` and `body.py`
define what they look like.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from signcl.data.corpora.synthetic.settings import Dice, SyntheticSettings
from signcl.data.corpora.synthetic.words import Entry, choose_entries

__all__ = ["PARAMETERS", "VALUES", "Sign", "build_lexicon", "difference", "zipf_weights"]

VALUES = {
    "handshape": ["fist", "flat", "index", "vee", "three", "spread", "claw", "ring", "ell", "horns", "little", "thumb"],
    "location": ["forehead", "temple", "chin", "shoulder", "chest", "neutral", "side", "waist"],
    "movement": ["up", "down", "out", "in", "circle", "arc", "zigzag", "twist", "nod", "wiggle"],
    "orientation": ["out", "back", "edge", "in", "down", "point"],
    "hands": ["one", "both", "base"],
    "mouth": ["closed", "open", "round", "wide"],
}
PARAMETERS = tuple(VALUES)
# Most signs use one hand and a closed mouth, as in real lexicons.
WEIGHTS = {"hands": [6, 3, 2], "mouth": [4, 2, 2, 2]}


@dataclass(frozen=True)
class Sign:
    """One entry of the lexicon."""

    entry: Entry
    handshape: str
    location: str
    movement: str
    orientation: str
    hands: str
    """`one`; `both`, as mirror images; or `base`: the other hand lies flat below."""
    mouth: str
    repeats: int
    """How often the movement is made, 1 or 2; the same for twins."""
    extra_frames: int
    """Frames more or less than usual, -1..1; the same for twins."""
    twin: str = ""
    """Gloss of the twin in a minimal pair; empty without one."""
    contrast: str = ""
    """The parameter in which the twins differ."""

    @property
    def gloss(self) -> str:
        return self.entry.gloss

    @property
    def form(self) -> tuple[str, ...]:
        """The values of `PARAMETERS`."""
        return tuple(getattr(self, name) for name in PARAMETERS)


def difference(first: Sign, second: Sign) -> list[str]:
    """Names of the parameters in which two signs differ."""
    return [name for name in PARAMETERS if getattr(first, name) != getattr(second, name)]


def build_lexicon(settings: SyntheticSettings) -> list[Sign]:
    """Draws the signs of a corpus, in the order of the word list.

    The two signs of a minimal pair differ in one parameter; all other signs differ in at least two. If possible, twins
    have the same word class, so that the rest of the sentence does not reveal which one it is.

    Args:
        settings: uses `signs`, `density`, `repetition`, `seed`, and whether `clauses` is above 1.
    """
    dice = Dice(settings.seed, "lexicon")
    entries = choose_entries(settings.signs, conjunctions=settings.clauses > 1)
    partner = _pair_up(entries, round(settings.density * len(entries) / 2), dice)
    signs: dict[str, Sign] = {}
    contrasts = _balanced_contrasts(dice)
    for entry in entries:
        if entry.gloss in signs:
            continue
        taken = list(signs.values())
        contrast = next(contrasts) if entry.gloss in partner else ""
        while True:
            sign = _draw_sign(entry, settings, dice)
            if not _is_free(sign, taken):
                continue
            if not contrast:
                break
            twin = _draw_twin(sign, partner[entry.gloss], contrast, taken, dice)
            if twin is not None:
                signs[twin.gloss] = twin
                sign = replace(sign, twin=twin.gloss, contrast=twin.contrast)
                break
        signs[sign.gloss] = sign
    return [signs[entry.gloss] for entry in entries]


def zipf_weights(count: int, exponent: float) -> list[int]:
    """Integer weights proportional to rank ** -exponent; uses decimals because floats differ between machines."""
    power = Decimal(str(exponent))
    return [max(1, int(1_000_000 / Decimal(rank) ** power)) for rank in range(1, count + 1)]


def _pair_up(entries: list[Entry], pairs: int, dice: Dice) -> dict[str, Entry]:
    """Draws the twins, within a word class if possible: gloss of the first -> entry of the second."""
    within, single = [], []
    for word_class in dict.fromkeys(entry.word_class for entry in entries):
        members = dice.shuffled([entry for entry in entries if entry.word_class == word_class])
        within += list(zip(members[::2], members[1::2], strict=False))
        single += members[len(members) // 2 * 2 :]
    across = list(zip(single[::2], single[1::2], strict=False))
    order = {entry.gloss: number for number, entry in enumerate(entries)}
    result = {}
    for pair in (dice.shuffled(within) + across)[:pairs]:
        first, second = sorted(pair, key=lambda entry: order[entry.gloss])
        result[first.gloss] = second
    return result


def _draw_sign(entry: Entry, settings: SyntheticSettings, dice: Dice) -> Sign:
    while True:
        drawn = {name: dice.weighted(VALUES[name], WEIGHTS.get(name, [1] * len(VALUES[name]))) for name in PARAMETERS}
        repeats = 1 + dice.chance(settings.repetition)
        sign = Sign(entry=entry, repeats=repeats, extra_frames=dice.below(3) - 1, **drawn)
        if _is_signable(sign):
            return sign


def _draw_twin(sign: Sign, entry: Entry, contrast: str, taken: list[Sign], dice: Dice) -> Sign | None:
    """A sign that differs from `sign` only in `contrast` and from all others in at least two; None if impossible."""
    for value in dice.shuffled(VALUES[contrast]):
        changed: dict[str, Any] = {contrast: value}
        twin = replace(sign, entry=entry, twin=sign.gloss, contrast=contrast, **changed)
        if value != getattr(sign, contrast) and _is_signable(twin) and _is_free(twin, taken):
            return twin
    return None


def _is_free(sign: Sign, taken: list[Sign]) -> bool:
    return all(len(difference(sign, other)) >= 2 for other in taken)


def _is_signable(sign: Sign) -> bool:
    """False for signs that a person cannot make or a camera cannot see."""
    if sign.hands == "base" and sign.location not in ("chest", "neutral", "waist"):
        return False  # the base hand cannot lie below a hand at the face
    if sign.hands == "both" and sign.location == "shoulder":
        return False  # crossed arms hide each other's hands
    if sign.movement == "wiggle" and sign.handshape in ("fist", "thumb", "ring"):
        return False  # no free fingers to wiggle
    # Seen from the side, the fingers hide each other, and these shapes would look like others.
    hidden = sign.handshape in ("vee", "three", "spread", "ell", "little", "thumb")
    return not (hidden and sign.orientation in ("edge", "down"))


def _balanced_contrasts(dice: Dice) -> Iterator[str]:
    """Yields the parameters in random order; all of them occur before any is repeated."""
    while True:
        yield from dice.shuffled(PARAMETERS)
