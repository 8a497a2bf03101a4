"""A small grammar: draws sentences of one or more clauses, both as signs and as English text.

Sign order: TIME PLACE OBJECT (ADJECTIVE) (NUMBER) SUBJECT (ADJECTIVE) VERB NOT/WH. English order: subject, verb,
object, place, with articles, prepositions, agreement, tense and do-support, which the signs do not show.

- Plural without a number: the noun is repeated, moving sideways.
- Yes/no question: raised brows only. Negation: NOT and a headshake.
- Glosses mark neither plural nor question, like most real glosses.
- Clauses are joined by a conjunction sign or by a pause, written as a full stop. Next to a question it is a pause.
"""

from __future__ import annotations

from dataclasses import dataclass

from signcl.data.corpora.synthetic.lexicon import Sign, zipf_weights
from signcl.data.corpora.synthetic.settings import Dice, SyntheticSettings
from signcl.data.corpora.synthetic.words import Entry, Form

__all__ = ["Face", "Grammar", "Sentence", "Token"]

BE = {"i": ("am", "was"), "you": ("are", "were"), "we": ("are", "were"), "they": ("are", "were")}
PAUSED = 0.3  # probability that two statements are joined by a pause instead of a conjunction
Kind = str  # kind of a clause: transitive, intransitive, property, place, what, who, where


@dataclass(frozen=True, slots=True)
class Token:
    """One sign of a sentence."""

    sign: int
    """Index into the lexicon."""
    plural: bool = False
    """Whether the sign is repeated, moving sideways."""


@dataclass(frozen=True, slots=True)
class Face:
    """What the face and the head do during one clause."""

    first: int
    """Index of the first token of the clause."""
    last: int
    """Index of the last token."""
    brows: str
    """neutral; raised, in yes/no questions; lowered, in wh-questions."""
    shake: int | None
    """Index of the token at which the headshake of a negated clause starts; it lasts to `last`."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as signs and as English text."""

    tokens: tuple[Token, ...]
    text: str
    canonical: str
    """The text without free choices: the same for all sentences with the same meaning."""
    clauses: tuple[Face, ...]
    """Face and head of each clause."""
    pauses: frozenset[int] = frozenset()
    """Indices of the tokens before which the signer pauses."""


@dataclass(frozen=True, slots=True)
class _Noun:
    """A noun phrase or a pronoun."""

    entry: Entry
    adjective: Entry | None
    number: Entry | None
    plural: bool

    @property
    def is_pronoun(self) -> bool:
        return self.entry.word_class == "pronoun"

    @property
    def takes_plural_verb(self) -> bool:
        return self.plural or (self.is_pronoun and self.entry.forms[0].base != "she")


class Grammar:
    """Draws random sentences from the signs of a lexicon."""

    def __init__(self, lexicon: list[Sign], settings: SyntheticSettings) -> None:
        self.number_of = {sign.gloss: number for number, sign in enumerate(lexicon)}
        self.variation, self.clauses = settings.variation, settings.clauses
        self.entries: dict[str, list[Entry]] = {}
        for sign in lexicon:
            self.entries.setdefault(sign.entry.word_class, []).append(sign.entry)
        self.weights = {name: zipf_weights(len(some), settings.zipf) for name, some in self.entries.items()}

    def draw(self, dice: Dice) -> Sentence:
        """Draws one sentence."""
        sentence = self._draw_clause(dice)
        more = int(self.clauses) - 1
        # No draw for whole numbers, so that corpora with clauses=1 stay the same as before the setting existed.
        if self.clauses > int(self.clauses):
            more += dice.chance(self.clauses - int(self.clauses))
        for _ in range(more):
            sentence = self._joined(dice, sentence, self._draw_clause(dice))
        return sentence

    def _joined(self, dice: Dice, one: Sentence, other: Sentence) -> Sentence:
        asks = one.clauses[-1].brows != "neutral"
        paused = dice.chance(PAUSED) or asks or other.clauses[0].brows != "neutral"
        conjunction = None if paused else self._entry(dice, "conjunction")
        between = () if conjunction is None else (Token(self.number_of[conjunction.gloss]),)
        word = "" if conjunction is None else f" {conjunction.forms[0].base}"
        start = len(one.tokens) + len(between)
        moved = [
            Face(face.first + start, face.last + start, face.brows, None if face.shake is None else face.shake + start)
            for face in other.clauses
        ]

        def text(before: str, after: str) -> str:
            return f"{before if conjunction is None else before.removesuffix(' .')}{word} {after}"

        return Sentence(
            tokens=(*one.tokens, *between, *other.tokens),
            text=text(one.text, other.text),
            canonical=text(one.canonical, other.canonical),
            clauses=(*one.clauses, *moved),
            pauses=one.pauses | ({start} if paused else frozenset()),
        )

    def _draw_clause(self, dice: Dice) -> Sentence:
        questions = [entry.forms[0].base for entry in self.entries["question"]]
        kinds = ["transitive", "intransitive", "property", "place", *questions]
        kind = dice.weighted(kinds, [50, 16, 12, 10] + [12 // len(questions)] * len(questions))
        subject = self._noun(dice, ("pronoun", "person") if kind != "property" else ("person", "thing"))
        thing = self._noun(dice, ("thing",)) if kind in ("transitive", "who") else None
        verb = None
        if kind in ("transitive", "what", "who"):
            verb = self._entry(dice, "transitive")
        elif kind in ("intransitive", "where"):
            verb = self._entry(dice, "intransitive")
        quality = self._entry(dice, "adjective") if kind == "property" else None
        if kind == "property" and subject.adjective is not None:
            subject = _Noun(subject.entry, None, subject.number, subject.plural)
        time = self._entry(dice, "time") if dice.chance(0.4) else None
        has_place = kind == "place" or (kind in ("transitive", "intransitive") and dice.chance(0.2))
        place = self._entry(dice, "place") if has_place else None
        statement = kind not in questions
        negated = statement and dice.chance(0.15)
        asked = statement and not negated and dice.chance(0.12)
        clause = _Clause(kind, subject, thing, verb, quality, time, place, negated, asked)
        tokens, first_of_verb = self._signs(clause)
        return Sentence(
            tokens=tokens,
            text=_english(clause, dice, self.variation),
            canonical=_english(clause, dice, 0.0),
            clauses=(
                Face(
                    first=0,
                    last=len(tokens) - 1,
                    brows="raised" if asked else "neutral" if statement else "lowered",
                    shake=first_of_verb if negated else None,
                ),
            ),
        )

    def _entry(self, dice: Dice, word_class: str) -> Entry:
        return dice.weighted(self.entries[word_class], self.weights[word_class])

    def _noun(self, dice: Dice, word_classes: tuple[str, ...]) -> _Noun:
        entry = self._entry(dice, dice.pick(word_classes))
        if entry.word_class == "pronoun":
            return _Noun(entry, None, None, False)
        adjective = self._entry(dice, "adjective") if dice.chance(0.2) else None
        number = self._entry(dice, "number") if dice.chance(0.12) else None
        return _Noun(entry, adjective, number, number is not None or dice.chance(0.15))

    def _signs(self, clause: _Clause) -> tuple[tuple[Token, ...], int]:
        """The tokens in sign order, and the index of the first token of the predicate."""
        order: list[tuple[Entry, bool]] = []
        if clause.time:
            order.append((clause.time, False))
        if clause.place:
            order.append((clause.place, False))
        for noun in (clause.thing, clause.subject if clause.kind != "who" else None):
            if noun:
                order.append((noun.entry, noun.plural and noun.number is None))
                order += [(extra, False) for extra in (noun.adjective, noun.number) if extra]
        start = len(order)
        order += [(extra, False) for extra in (clause.verb, clause.quality) if extra]
        if clause.negated:
            order.append((self.entries["negation"][0], False))
        if clause.kind in ("what", "who", "where"):
            order.append((next(e for e in self.entries["question"] if e.forms[0].base == clause.kind), False))
        start = min(start, len(order) - 1)
        return tuple(Token(self.number_of[entry.gloss], plural) for entry, plural in order), start


@dataclass(frozen=True, slots=True)
class _Clause:
    """The content of a clause, before words or signs are put in order."""

    kind: Kind
    subject: _Noun
    thing: _Noun | None
    verb: Entry | None
    quality: Entry | None
    time: Entry | None
    place: Entry | None
    negated: bool
    asked: bool

    @property
    def tense(self) -> str:
        return self.time.tense if self.time else "present"


def _english(clause: _Clause, dice: Dice, variation: float) -> str:
    def choose(entry: Entry) -> Form:
        return entry.forms[1] if len(entry.forms) > 1 and dice.chance(variation) else entry.forms[0]

    def noun(phrase: _Noun, definite: bool) -> str:
        form = choose(phrase.entry)
        if phrase.is_pronoun:
            return form.base
        adjective = choose(phrase.adjective).base if phrase.adjective else ""
        head = form.other if phrase.plural else form.base
        body = f"{adjective} {head}".strip()
        if phrase.number:
            return f"{choose(phrase.number).base} {body}"
        if definite:
            return f"the {body}"
        if phrase.plural:
            return body
        return f"an {body}" if body[0] in "aeiou" else f"a {body}"

    time = clause.time.forms[0].base if clause.time else ""
    time_last = bool(time) and dice.chance(variation)
    place = clause.place.forms[0].base if clause.place else ""
    subject = noun(clause.subject, definite=True) if clause.kind != "who" else "who"
    thing = noun(clause.thing, definite=False) if clause.thing else ""
    plural = clause.kind != "who" and clause.subject.takes_plural_verb
    inverted = clause.asked or clause.kind in ("what", "where")
    if clause.verb:
        first, rest = _verb(choose(clause.verb), clause.tense, plural, clause.negated, inverted)
    else:
        pronoun = clause.subject.entry.forms[0].base if clause.subject.is_pronoun else ""
        first, rest = _be(pronoun, clause.tense, plural, clause.negated)
    quality = choose(clause.quality).base if clause.quality else ""
    opening = clause.kind if clause.kind in ("what", "where") else ""
    middle = [first, subject, rest] if inverted else [subject, first, rest]
    if clause.kind in ("what", "where", "who") or clause.asked:
        time_last = bool(time)  # a question starts with its question word or verb
    parts = ["" if time_last else time, opening, *middle, thing, quality, place, time if time_last else ""]
    mark = "?" if clause.asked or clause.kind in ("what", "where", "who") else "."
    return " ".join(part for part in (*parts, mark) if part)


def _verb(form: Form, tense: str, plural: bool, negated: bool, inverted: bool) -> tuple[str, str]:
    """The finite verb and the words after it: ("does", "not buy"), ("bought", "")."""
    if tense == "future":
        return "will", "not " + form.base if negated else form.base
    if negated or inverted:
        helper = "did" if tense == "past" else "do" if plural else "does"
        return helper, "not " + form.base if negated else form.base
    return (form.other if tense == "past" else form.base if plural else form.third), ""


def _be(pronoun: str, tense: str, plural: bool, negated: bool) -> tuple[str, str]:
    not_ = "not" if negated else ""
    if tense == "future":
        return "will", f"{not_} be".strip()
    present, past = BE.get(pronoun, ("are", "were") if plural else ("is", "was"))
    return (past if tense == "past" else present), not_
