"""Parses an ELAN file (.eaf) into tiers of annotations with times in milliseconds, including implicit times.

ELAN stores few times explicitly. A time slot may have none (annotations between two known times share the time evenly).
An annotation that refers to another has its parent's time (Symbolic_Association) or divides it with its siblings
(Symbolic_Subdivision). A value may be an entry of a controlled vocabulary. Frames are handled in `elan`.

pympi also reads ELAN, but it keeps only one of two tiers with the same name, does not compute times of subdivisions,
ignores vocabulary entries, and expands entities. We therefore read with lxml, with entities off, and use pympi only for
writing.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from signcl.data.annotation.timed_text import TimedText
from signcl.data.files import read_bytes

__all__ = ["Document", "Media", "read_document"]

LARGEST = 256 * 2**20  # bytes; ELAN files with hours of dense annotation have a few million
DEEPEST = 64  # maximum nesting of tiers
ENTITIES = (
    "declares a document type (<!DOCTYPE) or uses an entity, which ELAN never does; it is not read, since entities can "
    "be of any size or refer to other files; save it again in ELAN"
)


@dataclass(frozen=True)
class Media:
    """A linked media file, as named in the document."""

    url: str
    """Its location when the document was written: file:///… or a path."""
    relative_url: str
    """Its location relative to the document's folder; "" if not given."""
    mime_type: str
    origin: int
    """Media time at which the annotation time is 0, milliseconds."""

    @property
    def name(self) -> str:
        """The file name without folders, URL-decoded."""
        return unquote(re.split(r"[/\\]", self.relative_url or self.url)[-1])


@dataclass(frozen=True)
class _Annotation:
    id: str
    tier: str
    value: str
    slots: tuple[str, str] | None
    """Start and stop slot of a time-aligned annotation."""
    parent: str = ""
    """The annotation that it refers to."""
    previous: str = ""
    """The previous sibling."""

    @property
    def place(self) -> str:
        return f"annotation {self.id} of tier {self.tier!r}"


@dataclass(frozen=True)
class _Type:
    constraint: str
    vocabulary: str


@dataclass
class Document:
    """The content of one file."""

    file: Path
    media: list[Media] = field(default_factory=list)
    tiers: dict[str, list[_Annotation]] = field(default_factory=dict)
    """Name -> annotations, both in the order of the file."""
    changed: int = 0
    """Number of annotations whose text differs from their vocabulary entry; the entry is used, as in ELAN."""
    _types: dict[str, _Type] = field(default_factory=dict)
    _type_of_tier: dict[str, str] = field(default_factory=dict)
    _slots: dict[str, str | None] = field(default_factory=dict)
    _by_id: dict[str, _Annotation] = field(default_factory=dict)
    _neighbours: dict[str, tuple[dict[str, _Annotation], dict[str, _Annotation]]] = field(default_factory=dict)
    _shared: dict[tuple[str, str], Fraction] = field(default_factory=dict)
    _siblings: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)

    def timed(self, tier: str) -> Iterator[TimedText]:
        """Yields the annotations of a tier, each with its time.

        Raises:
            ValueError: a time that is missing, invalid or cannot be computed; a dangling or circular reference.
        """
        for annotation in self.tiers[tier]:
            start, stop = self._times(annotation, 0)
            yield TimedText(annotation.value, start, stop, annotation.place)

    def _times(self, annotation: _Annotation, depth: int) -> tuple[Fraction, Fraction]:
        if annotation.slots is not None:
            return self._slot_time(annotation, annotation.slots[0]), self._slot_time(annotation, annotation.slots[1])
        parent = self._by_id.get(annotation.parent)
        if parent is None:
            raise self._wrong(annotation, f"refers to the annotation {annotation.parent!r}, which does not exist")
        if depth > DEEPEST:
            raise self._wrong(annotation, "refers to itself through its parents")
        start, stop = self._times(parent, depth + 1)
        siblings = self._in_order(annotation)
        share = (stop - start) / len(siblings)
        place = siblings[annotation.id]
        return start + share * place, start + share * (place + 1)

    def _in_order(self, annotation: _Annotation) -> dict[str, int]:
        """The annotations of its tier that divide the same parent, each with its index, first to last."""
        tier = annotation.tier
        if tier not in self._siblings:
            groups: dict[str, list[_Annotation]] = defaultdict(list)
            for other in self.tiers[tier]:
                groups[other.parent].append(other)
            self._siblings[tier] = {
                parent: {one.id: place for place, one in enumerate(self._chained(group))}
                for parent, group in groups.items()
                if parent
            }
        return self._siblings[tier][annotation.parent]

    def _chained(self, group: list[_Annotation]) -> list[_Annotation]:
        if len(group) == 1:
            return group
        kind = self._types.get(self._type_of_tier.get(group[0].tier, ""), _Type("", "")).constraint
        if kind == "Symbolic_Association":
            raise self._wrong(
                group[1],
                f"is a second child of {group[1].parent}, but the type of its tier allows only one per parent",
            )
        after: dict[str, _Annotation] = {}
        for one in group:
            if one.previous in after:
                what = f"follows {one.previous}" if one.previous else "is the first child of its parent"
                raise self._wrong(one, f"{what}, like {after[one.previous].id}; their order is unknown")
            after[one.previous] = one
        ordered: list[_Annotation] = []
        while (following := after.get(ordered[-1].id if ordered else "")) is not None and len(ordered) < len(group):
            ordered.append(following)
        if len(ordered) < len(group):
            lost = next(one for one in group if one not in ordered)
            raise self._wrong(lost, f"follows {lost.previous}, which is not a sibling of it; their order is unknown")
        return ordered

    def _slot_time(self, annotation: _Annotation, slot: str) -> Fraction:
        """The time of a slot; slots without a time are spaced evenly between the aligned ones around them."""
        value = self._aligned(annotation, slot)
        if value is not None:
            return Fraction(value)
        # First follow the annotations of the tier that share slots, as ELAN displays them. Slots of other tiers that
        # happen to be between them in the list are unrelated.
        if annotation.tier not in self._neighbours:
            starting: dict[str, _Annotation] = {}
            ending: dict[str, _Annotation] = {}
            for other in self.tiers[annotation.tier]:
                if other.slots is not None:
                    starting.setdefault(other.slots[0], other)
                    ending.setdefault(other.slots[1], other)
            self._neighbours[annotation.tier] = starting, ending
        if (annotation.tier, slot) not in self._shared:
            starting, ending = self._neighbours[annotation.tier]
            chain = [*reversed(self._walk(slot, ending, 0)), slot, *self._walk(slot, starting, 1)]
            filled = chain  # compute all slots of the chain at once, so a long chain is followed only once
            if self._aligned(annotation, chain[0]) is None or self._aligned(annotation, chain[-1]) is None:
                order = list(self._slots)
                place = order.index(slot)
                chain = [*reversed(self._until_aligned(order[place::-1])), *self._until_aligned(order[place:])[1:]]
                filled = [slot]  # the other slots of the list may belong to other chains
            before, after = self._aligned(annotation, chain[0]), self._aligned(annotation, chain[-1])
            if before is None or after is None:
                raise self._wrong(
                    annotation, f"has the time slot {slot} without a time, and not both sides have a slot with a time"
                )
            places = {one: place for place, one in enumerate(chain)}
            for one in filled:
                share = Fraction(places[one], len(chain) - 1)
                self._shared[annotation.tier, one] = before + (after - before) * share
        return self._shared[annotation.tier, slot]

    def _walk(self, slot: str, neighbours: dict[str, _Annotation], side: int) -> list[str]:
        """The slots along a chain of annotations, up to the first with a time or the end of the chain."""
        slots: dict[str, None] = {slot: None}
        while (neighbour := neighbours.get(slot)) is not None and neighbour.slots is not None:
            slot = neighbour.slots[side]
            if slot in slots:
                break
            slots[slot] = None
            if self._slots.get(slot) is not None:
                break
        return list(slots)[1:]

    def _until_aligned(self, slots: list[str]) -> list[str]:
        stop = next((place for place, slot in enumerate(slots) if self._slots[slot] is not None), len(slots) - 1)
        return slots[: stop + 1]

    def _aligned(self, annotation: _Annotation, slot: str) -> int | None:
        """The explicit time of a slot, or None."""
        if slot not in self._slots:
            raise self._wrong(annotation, f"has the time slot {slot!r}, which does not exist")
        value = self._slots[slot]
        if value is None:
            return None
        if not re.fullmatch(r"\s*[+-]?[0-9]{1,15}\s*", value):
            raise self._wrong(annotation, f"needs whole milliseconds as the time of slot {slot}, got {value[:30]!r}")
        if int(value) < 0:
            raise self._wrong(
                annotation, f"has the time slot {slot} at {int(value)} ms, before the start; correct its times"
            )
        return int(value)

    def _wrong(self, annotation: _Annotation, what: str) -> ValueError:
        value = " ".join(annotation.value.split())
        shown = value if len(value) <= 40 else f"{value[:40]}…"
        return ValueError(f"{self.file}: {annotation.place}, {shown!r}, {what}; correct it in ELAN")


def read_document(file: Path) -> Document:
    """Parses one file. Entities and document types are errors; no other file is opened.

    Raises:
        ValueError: with the file: too large, invalid XML (with line and column), a root that is not ELAN's, a time unit
            other than milliseconds, two tiers, slots or annotations with the same name.
    """
    root = _root(file)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise ValueError(f"{file}: is not an ELAN file: needs the root <ANNOTATION_DOCUMENT>, got <{root.tag}>")
    document = Document(file)
    header = root.find("HEADER")
    if header is not None:
        units = header.get("TIME_UNITS", "milliseconds")
        if units != "milliseconds":
            raise ValueError(f"{file}: needs TIME_UNITS milliseconds, got {units!r}; save it again in ELAN")
        document.media = [_media(file, element) for element in header.iterfind("MEDIA_DESCRIPTOR")]
        if not document.media and header.get("MEDIA_FILE"):  # as ELAN linked before 2.0
            document.media = [Media(header.get("MEDIA_FILE"), "", "", 0)]
    for element in root.iterfind("LINGUISTIC_TYPE"):
        document._types[element.get("LINGUISTIC_TYPE_ID", "")] = _Type(
            element.get("CONSTRAINTS", "").replace(" ", "_"), element.get("CONTROLLED_VOCABULARY_REF", "")
        )
    for element in root.iterfind("TIME_ORDER/TIME_SLOT"):
        name = _needed(file, element, "TIME_SLOT_ID")
        if name in document._slots:
            raise ValueError(
                f"{file}:{element.sourceline}: the time slot {name} occurs twice; save the file again in ELAN"
            )
        document._slots[name] = element.get("TIME_VALUE")
    vocabularies, elsewhere = _vocabularies(root)
    lines: dict[str, int] = {}
    for tier in root.iterfind("TIER"):
        name = _needed(file, tier, "TIER_ID")
        if name in lines:
            raise ValueError(
                f"{file}: has two tiers {name!r}, in lines {lines[name]} and {tier.sourceline}; rename one of them"
            )
        lines[name] = tier.sourceline
        kind = document._type_of_tier[name] = tier.get("LINGUISTIC_TYPE_REF", "")
        vocabulary = document._types.get(kind, _Type("", "")).vocabulary
        annotations = document.tiers[name] = []
        for element in tier.iterfind("ANNOTATION/*"):
            annotation = _annotation(file, element, name)
            if annotation is None:
                continue
            entry = element.get("CVE_REF")
            if entry is not None:
                values = _entry(vocabularies, vocabulary, entry)
                if not values and not annotation.value.strip():
                    where = (
                        f"the external vocabulary {vocabulary}"
                        if vocabulary in elsewhere
                        else "no vocabulary of the file"
                    )
                    raise document._wrong(annotation, f"is the entry {entry!r} of {where} and has no text")
                annotation = _with_entry(document, annotation, values, tier.get("LANG_REF"))
            if annotation.id in document._by_id:
                raise ValueError(
                    f"{file}:{element.sourceline}: {annotation.place} has an ANNOTATION_ID that occurs twice; save the "
                    "file again in ELAN"
                )
            document._by_id[annotation.id] = annotation
            annotations.append(annotation)
    return document


def _root(file: Path) -> Any:
    try:
        from lxml import etree
    except ImportError:
        raise ValueError("ELAN files need the packages lxml and pympi-ling: pip install 'signcl[elan]'") from None
    size = file.stat().st_size
    if size > LARGEST:
        raise ValueError(f"{file}: has {size / 2**20:.0f} MB, but at most {LARGEST // 2**20} MB are read; split it")
    if not size:
        raise ValueError(f"{file}: is not an ELAN file, it is empty")
    content = read_bytes(file)
    # Entities are not expanded, no other file is opened, and libxml2's limits on depth and size stay on.
    parser = etree.XMLParser(
        resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        # Parse the bytes, because lxml may treat a file name as a URL.
        tree = etree.ElementTree(etree.fromstring(content, parser))
    except etree.XMLSyntaxError as error:
        line, column = error.position
        reason = " ".join(str(error.msg or error).split())[:120]
        if "entity" in reason.lower():
            raise ValueError(f"{file}: {ENTITIES}") from None
        at = "" if "line" in reason else f", line {line}, column {column}"
        raise ValueError(f"{file}: is not an ELAN file ({reason}{at})") from None
    if tree.docinfo.doctype or tree.docinfo.internalDTD is not None:
        raise ValueError(f"{file}: {ENTITIES}")
    return tree.getroot()


def _needed(file: Path, element: Any, attribute: str) -> str:
    value = element.get(attribute)
    if not value:
        raise ValueError(
            f"{file}:{element.sourceline}: <{element.tag}> has no {attribute}; save the file again in ELAN"
        )
    return str(value)


def _media(file: Path, element: Any) -> Media:
    origin = element.get("TIME_ORIGIN") or "0"
    url = element.get("MEDIA_URL") or ""
    if not re.fullmatch(r"\s*[+-]?[0-9]{1,12}\s*", origin):
        raise ValueError(
            f"{file}:{element.sourceline}: needs whole milliseconds as TIME_ORIGIN of the linked file {url}, "
            f"got {origin!r}"
        )
    return Media(url, element.get("RELATIVE_MEDIA_URL") or "", element.get("MIME_TYPE") or "", int(origin))


def _annotation(file: Path, element: Any, tier: str) -> _Annotation | None:
    child = element.find("ANNOTATION_VALUE")
    value = "" if child is None else "".join(child.itertext())
    if element.tag == "ALIGNABLE_ANNOTATION":
        slots = (_needed(file, element, "TIME_SLOT_REF1"), _needed(file, element, "TIME_SLOT_REF2"))
        return _Annotation(_needed(file, element, "ANNOTATION_ID"), tier, value, slots)
    if element.tag == "REF_ANNOTATION":
        parent, previous = _needed(file, element, "ANNOTATION_REF"), element.get("PREVIOUS_ANNOTATION") or ""
        return _Annotation(_needed(file, element, "ANNOTATION_ID"), tier, value, None, parent, previous)
    raise ValueError(
        f"{file}:{element.sourceline}: tier {tier!r} contains a <{element.tag}>, which is not an ELAN annotation"
    )


def _vocabularies(root: Any) -> tuple[dict[str, dict[str, dict[str, str]]], set[str]]:
    """Vocabulary -> entry -> language -> value, and the vocabularies that are in another file."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    elsewhere = set()
    for vocabulary in root.iterfind("CONTROLLED_VOCABULARY"):
        name = vocabulary.get("CV_ID", "")
        if vocabulary.get("EXT_REF"):
            elsewhere.add(name)
        entries = found.setdefault(name, {})
        for entry in vocabulary.iterfind("CV_ENTRY_ML"):
            values = {value.get("LANG_REF", ""): "".join(value.itertext()) for value in entry.iterfind("CVE_VALUE")}
            entries[entry.get("CVE_ID", "")] = values
        for entry in vocabulary.iterfind("CV_ENTRY"):  # the format before ELAN 4.7, with one value per entry
            if entry.get("CVE_ID"):
                entries[entry.get("CVE_ID")] = {"": "".join(entry.itertext())}
    return found, elsewhere


def _entry(vocabularies: dict[str, dict[str, dict[str, str]]], vocabulary: str, entry: str) -> dict[str, str]:
    """Language -> value; empty if the file does not have the entry. Ids are unique only within a vocabulary."""
    if vocabulary in vocabularies:
        return vocabularies[vocabulary].get(entry, {})
    holders = [entries[entry] for entries in vocabularies.values() if entry in entries]
    return holders[0] if len(holders) == 1 else {}


def _with_entry(
    document: Document, annotation: _Annotation, values: dict[str, str], language: str | None
) -> _Annotation:
    """The annotation with the value of its entry: in the tier's language, else in that of its text, else the first."""
    own = annotation.value.strip()
    offered = {name: value for name, value in values.items() if value.strip()}
    if not offered:
        return annotation
    if language in offered:
        value = offered[language]
    elif own in {value.strip() for value in offered.values()}:
        return annotation
    else:
        value = next(iter(offered.values()))
    document.changed += bool(own) and own != value.strip()
    return _Annotation(annotation.id, annotation.tier, value, annotation.slots, annotation.parent, annotation.previous)
