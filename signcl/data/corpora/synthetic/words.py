"""The word list of the synthetic corpus: the English words of each sign, with the forms that the grammar needs.

The format of an entry is `word:irregular|synonym:irregular`. The irregular form is the plural of a noun or the past
tense of a verb; regular forms follow English spelling rules. The gloss is the first alternative in capitals. Times are
marked with their tense (- past, + future, otherwise present). Places are phrases, and their last word is the gloss.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLASSES", "Entry", "Form", "choose_entries"]

WORDS = {
    "pronoun": "i, you, she, they, we",
    "negation": "not",
    "question": "what, where, who",
    "number": "two, three, many, four, five, several, six, ten",
    "time": "-yesterday, today, +tomorrow, -last week, now, +next year, -last night, always, +soon, -long ago, "
    "often, +next month",
    "place": "in the garden, at the station, at school, in the city, in the kitchen, at the market, "
    "in the forest, on the island, at the office, in the village, at the hospital, on the bridge, "
    "in the library, at the airport, in the park, on the mountain, at the hotel, in the desert, "
    "at the theatre, in the harbour",
    "person": "woman:women|lady, man:men|gentleman:gentlemen, child:children|kid, teacher, friend|pal, doctor, "
    "brother, girl, neighbour, boy, sister, student|pupil, farmer, mother|mum, nurse, father|dad, baker, "
    "uncle, aunt, guest|visitor, driver, painter, singer, soldier, judge, lawyer|attorney, actor, king, "
    "queen, thief:thieves, waiter, poet, pilot, hunter, tailor, sailor, clown, miner, monk, "
    "scientist|researcher",
    "thing": "book, house|home, car|automobile, apple, letter, dog, bicycle|bike, picture|image, key, cat, coat, "
    "table, flower, umbrella, knife:knives, ball, chair, bag, lamp, horse, box, cup, clock, bed, shirt, "
    "boat|ship, egg, hat, computer, window, orange, door, shoe, tree, ring, camera, bottle, map, drum, "
    "guitar, fish:fish, bird, coin, toy, basket, candle, blanket, mirror, pencil, cake|pie, goose:geese, "
    "ladder, hammer, needle, rope, bell, leaf:leaves, carpet|rug, stone|rock, feather, glove, kite, "
    "scarf:scarves, pillow, wheel, tent, sword, statue, crown",
    "adjective": "old, big|large, red, small|little, new, beautiful|pretty, expensive|costly, green, young, blue, "
    "strange|odd, heavy, clean, cheap, dirty, black, quiet|calm, white, happy|glad, yellow, sad|unhappy, "
    "strong, empty, soft, famous, brown, cold, warm, round, narrow, wooden, ugly, brave, angry",
    "transitive": "buy:bought|purchase, see:saw, like, find:found|discover, want, sell:sold, lose:lost, bring:brought, "
    "need|require, paint, carry|transport, break:broke|smash, hide:hid|conceal, wash, choose:chose, "
    "clean up:cleaned up, draw:drew, steal:stole, fix|repair, collect|gather, show:showed, hold:held, "
    "love|adore, throw:threw|toss, borrow, destroy, photograph, keep:kept, measure, admire, push, "
    "pull|drag, forget:forgot, remember, burn, hate|detest",
    "intransitive": "sleep:slept|doze, work|labour, dance, laugh, wait, sing:sang, run:ran, cry|weep:wept, travel, "
    "rest, walk, swim:swam, jump|leap, fall:fell, shout|yell, smile, fight:fought, study, argue",
}  # fmt: skip
CONJUNCTIONS = "and, but, then, because, or"  # an additional class if sentences have several clauses
CLASSES = tuple(WORDS)
# Number of signs per class in a lexicon of 48, and the minimum that the grammar needs.
SHARES = {"pronoun": 3, "negation": 1, "question": 2, "number": 3, "time": 4, "place": 4, "person": 7, "thing": 9}
SHARES |= {"adjective": 6, "transitive": 6, "intransitive": 3, "conjunction": 2}
FEWEST = {"pronoun": 1, "negation": 1, "question": 1, "number": 1, "time": 2, "place": 1, "person": 2, "thing": 2}
FEWEST |= {"adjective": 2, "transitive": 2, "intransitive": 1, "conjunction": 1}


@dataclass(frozen=True, slots=True)
class Form:
    """One English word for a sign."""

    base: str
    """Singular, infinitive, or the phrase."""
    other: str = ""
    """Plural of a noun, past tense of a verb."""
    third: str = ""
    """Third person singular of a verb."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The English meaning of one sign."""

    gloss: str
    word_class: str
    forms: tuple[Form, ...]
    """The usual word, then its synonym if it has one."""
    tense: str = "present"
    """For a time: past, present or future."""


def choose_entries(count: int, *, conjunctions: bool = False) -> list[Entry]:
    """Chooses the `count` entries of a lexicon, sorted by class and then by frequency.

    Raises:
        ValueError: `count` is too small for the grammar, or larger than the word list.
    """
    words = WORDS | ({"conjunction": CONJUNCTIONS} if conjunctions else {})
    available = {name: some.split(", ") for name, some in words.items()}
    total = sum(map(len, available.values()))
    sizes = {name: FEWEST[name] for name in words}
    if not sum(sizes.values()) <= count <= total:
        raise ValueError(f"synthetic corpus: signs must be in {sum(sizes.values())}..{total}, got {count}")
    order = list(words)
    while sum(sizes.values()) < count:
        # The class that is furthest below its share gets the next sign. Integers give the same result everywhere.
        open_classes = [name for name in order if sizes[name] < len(available[name])]
        shortest = min(open_classes, key=lambda name: (sizes[name] * 1000 // SHARES[name], order.index(name)))
        sizes[shortest] += 1
    return [_entry(text, name) for name in order for text in available[name][: sizes[name]]]


def _entry(text: str, word_class: str) -> Entry:
    tense = {"-": "past", "+": "future"}.get(text[0], "present")
    words = text.lstrip("+-").split("|")
    forms = tuple(_form(*word.partition(":")[::2], word_class) for word in words)
    first = forms[0].base
    gloss = first.split()[-1] if word_class == "place" else first.replace(" ", "-")
    return Entry(gloss.upper(), word_class, forms, tense if word_class == "time" else "present")


def _form(base: str, irregular: str, word_class: str) -> Form:
    if word_class in ("person", "thing"):
        return Form(base, irregular or _with_s(base))
    if word_class in ("transitive", "intransitive"):
        stem, _, particle = base.partition(" ")
        third = f"{_with_s(stem)} {particle}".strip()
        return Form(base, irregular or _past(base), third)
    return Form(base)


def _with_s(word: str) -> str:
    """`dog` to `dogs`, `box` to `boxes`, `carry` to `carries`, `toy` to `toys`."""
    if word.endswith(("s", "x", "ch", "sh", "z")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeou":
        return word[:-1] + "ies"
    return word + "s"


def _past(word: str) -> str:
    """`like` to `liked`, `carry` to `carried`, `travel` to `travelled`."""
    if word.endswith("e"):
        return word + "d"
    if word.endswith("y") and word[-2] not in "aeou":
        return word[:-1] + "ied"
    if word.endswith(("vel", "drag")):
        return word + word[-1] + "ed"
    return word + "ed"
