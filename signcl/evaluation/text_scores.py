"""`score_files`: scores files of sentences against references, and explains why published scores may differ.

Files are read by `sentence_files`, scores are those of `signcl.metrics`. It computes scores under all conventions that
affect them (`convention_rows`) and describes the differences between the two sides (`findings`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import regex

from signcl.evaluation.learned_scores import bertscore, bleurt
from signcl.evaluation.sentence_files import Missing, Role, Sentences, align, read_sentences
from signcl.metrics import bleu, bootstrap_interval, clean_phoenix_2014_trans, exact_match, paired_bootstrap, rouge_l
from signcl.metrics.presets import PRESETS
from signcl.metrics.scores import Smoothing, check, tokens
from signcl.metrics.summary import score_all, score_glosses
from signcl.metrics.written_forms import (
    STEPS,
    STOPS,
    Tokenize,
    Unit,
    normalize,
    same_text,
    split_marks,
    tokenization_warning,
    tokenize_as,
    unit_for,
    unite_width,
    with_stop,
    without_spaces,
    without_stop,
)

__all__ = ["P_VALUE", "convention_rows", "findings", "score_files", "score_sentences", "training_overlap"]

P_VALUE = (
    "two-sided: twice the share of resamples in which the difference lies on the other side of 0, at least "
    "2 / (samples + 1); sacrebleu --paired-bs prints a nearly one-sided value, often half of it (docs/scoring.md)"
)
INTERVALS = ("bleu1", "bleu2", "bleu3", "bleu4", "chrf", "chrf++", "rouge_l", "wer", "exact_match")
PAIRED = ("bleu4", "bleu1", "chrf", "chrf++", "rouge_l", "wer", "exact_match")
FAR = 10.0
"""Percentage points by which two sides must differ for a difference in writing to be reported."""


def score_files(
    hypotheses: Sequence[str | Path],
    reference: str | Path,
    *,
    train: str | Path | None = None,
    other_reference: str | Path | None = None,
    preset: str | None = None,
    tokenize: Tokenize | None = None,
    steps: Sequence[str] | None = None,
    glosses: bool = False,
    smoothing: Smoothing = "exp",
    samples: int = 1000,
    seed: int = 0,
    missing: Missing = "refuse",
    text_column: str | None = None,
    id_column: str | None = None,
    reference_column: str | None = None,
    bertscore_model: str | Path | None = None,
    bertscore_layer: int | None = None,
    bleurt_model: str | Path | None = None,
) -> dict[str, Any]:
    """Score files of sentences against a file of references.

    Args:
        hypotheses: one file per system; see `read_sentences` for the formats.
        reference: the file of references.
        train: training sentences, for the overlap.
        other_reference: another file of references for the same sentences. Every system is scored on it too, and the
            differences between the two files are described.
        preset: one of `PRESETS`; `tokenize` and `steps` override it.
        tokenize: tokenization of BLEU; None: the preset's, or auto without a preset.
        steps: some of `signcl.metrics.written_forms.STEPS`, applied to both sides first; NFC is always applied.
        glosses: the files hold glosses, so compute WER, cleaned as for PHOENIX-2014T with that preset.
        smoothing: of BLEU.
        samples: resamples for intervals and comparisons; 0: neither.
        seed: seed of the resampling.
        missing: how to handle references without a hypothesis, see `align`.
        text_column: column of the hypotheses, if it has another name.
        id_column: column of ids in all files.
        reference_column: column of the references, if it has another name.
        bertscore_model, bleurt_model: local folders of such models.
        bertscore_layer: layer of the BERTScore model; None: the last.

    Returns:
        `systems`, `pairs`, `convention`, `references`, `notes`; see `score_sentences`.

    Raises:
        ValueError, OSError: files that cannot be read or aligned, an unknown choice.
    """
    paths = [Path(path) for path in hypotheses]
    if not paths:
        raise ValueError("score needs at least one file of hypotheses and one of references: signcl score HYP REF")
    twice = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice as a system; name every file once")
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"the presets are {', '.join(PRESETS)}; got {preset}")
    roles: tuple[Role, Role] = ("gloss hypothesis", "gloss reference") if glosses else ("hypothesis", "reference")
    systems = [read_sentences(path, roles[0], text_column=text_column, id_column=id_column) for path in paths]
    true = read_sentences(reference, roles[1], text_column=reference_column, id_column=id_column)
    names, said, references, notes = align(systems, true, missing=missing)
    if glosses and (other_reference is not None or train is not None):
        raise ValueError("--other-ref and --train are for sentences; leave them out with --glosses")
    labels = _labels(paths)
    known = None
    if train is not None:
        known = read_sentences(train, "training", text_column=reference_column, id_column=id_column).texts
    others = None
    if other_reference is not None:
        other = read_sentences(other_reference, roles[1], text_column=reference_column, id_column=id_column)
        if names is not None and other.names is not None:
            aligned = dict(zip(other.names, other.texts))
            lost = [name for name in names if name not in aligned]
            if lost:
                raise ValueError(
                    f"{other.path} lacks {len(lost)} of the {len(names)} ids of {reference}, first {lost[0]}"
                )
            others = [aligned[name] for name in names]
        elif len(other.texts) == len(true.texts) == len(references):
            others = other.texts
        else:
            raise ValueError(
                f"{other.path} has {len(other.texts)} sentences and {reference} {len(references)}; without ids in "
                f"both the "
                f"numbers must agree"
            )
    for one in (*systems, true):
        notes += [f"{one.path.name}: {note}" for note in one.notes]
    found = score_sentences(
        dict(zip(labels, said)),
        references,
        train=known,
        other_references=others,
        preset=preset,
        tokenize=tokenize,
        steps=steps,
        glosses=glosses,
        smoothing=smoothing,
        samples=samples,
        seed=seed,
        by_line=any(one.names is None for one in systems) or true.names is None,
        bertscore_model=bertscore_model,
        bertscore_layer=bertscore_layer,
        bleurt_model=bleurt_model,
    )
    for entry, one in zip(found["systems"], systems):
        entry["path"], entry["how"] = str(one.path), one.how
        entry["findings"] += _own_references(one, true, unit_for(found["convention"]["tokenize"]))
    found["references"] = {"path": str(true.path), "how": true.how, "sentences": len(references)}
    if other_reference is not None:
        found["other_references"]["path"] = str(other_reference)
    found["notes"] = notes
    return found


def _labels(paths: Sequence[Path]) -> list[str]:
    """The shortest unique endings of the paths."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        labels = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    return [str(path) for path in paths]


def score_sentences(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    *,
    train: Sequence[str] | None = None,
    other_references: Sequence[str] | None = None,
    preset: str | None = None,
    tokenize: Tokenize | None = None,
    steps: Sequence[str] | None = None,
    glosses: bool = False,
    smoothing: Smoothing = "exp",
    samples: int = 1000,
    seed: int = 0,
    by_line: bool = False,
    bertscore_model: str | Path | None = None,
    bertscore_layer: int | None = None,
    bleurt_model: str | Path | None = None,
) -> dict[str, Any]:
    """`score_files` for lists of sentences.

    Args:
        systems: name -> its sentences.
        references: one per sentence.
        by_line: the sides were aligned by line, so check for a shift by one line.
        train, other_references, preset, tokenize, steps, glosses, smoothing, samples, seed: as in `score_files`.
        bertscore_model, bertscore_layer, bleurt_model: as in `score_files`.

    Returns:
        `systems`: for each system its name, `scores` (as in `score_all`, with intervals), `conventions`, `findings` and
        `overlap`; `pairs`: paired bootstrap of each pair of systems, b minus a; `p_value`: its definition;
        `convention`: tokenizer, normalization, and the preset's description; `other_references` if given.
    """
    chosen = PRESETS[preset] if preset is not None else None
    done = ["nfc", *(steps if steps is not None else chosen.steps if chosen else ())]
    done = [step for step in STEPS if step in done] + [step for step in done if step not in STEPS]
    asked: Tokenize = tokenize or (chosen.tokenize if chosen else "auto")
    for said in systems.values():
        check(said, references)
    true = normalize(references, done)
    cut: Tokenize = "none" if glosses else tokenize_as(asked, true)
    unit = unit_for(cut)
    found: dict[str, Any] = {"systems": [], "pairs": [], "p_value": P_VALUE}
    for name, said in systems.items():
        ours = normalize(said, done)
        if glosses:
            phoenix = chosen is not None and chosen.phoenix_glosses
            scores = score_glosses(ours, true, phoenix=phoenix, samples=samples, seed=seed)
            found["systems"].append({"name": name, "scores": scores, "conventions": [], "findings": []})
            continue
        scores = score_all(ours, true, tokenize=cut, smoothing=smoothing, samples=0, steps=done)
        if samples:
            scores["intervals"] = {"level": 0.95, "samples": samples, "seed": seed}
            for metric in INTERVALS:
                one = bootstrap_interval(metric, ours, true, samples, seed, tokenize=cut, smoothing=smoothing)
                scores["intervals"][metric] = [one.low, one.high]
        if bertscore_model is not None:
            scores |= bertscore(ours, true, bertscore_model, layer=bertscore_layer)
        if bleurt_model is not None:
            scores |= bleurt(ours, true, bleurt_model)
        rows = convention_rows(ours, true, tokenize=cut, smoothing=smoothing)
        entry = {"name": name, "scores": scores, "conventions": rows}
        entry["findings"] = findings(said, references, rows, tokenize=cut, by_line=by_line)
        if train is not None:
            entry["overlap"] = training_overlap(ours, true, normalize(train, done), unit=unit)
        found["systems"].append(entry)
    if samples:
        clean: Callable[[str], str] = str
        if glosses and chosen is not None and chosen.phoenix_glosses:
            clean = clean_phoenix_2014_trans
        prepared = {name: [clean(line) for line in normalize(said, done)] for name, said in systems.items()}
        right = [clean(line) for line in true]
        for a, b in combinations(systems, 2):
            for metric in ("wer",) if glosses else PAIRED:
                c = paired_bootstrap(
                    metric, prepared[b], prepared[a], right, samples, seed, tokenize=cut, smoothing=smoothing
                )
                found["pairs"].append({**vars(c), "metric": metric, "of_a": a, "of_b": b, "a": c.b, "b": c.a})
    found["convention"] = {
        "preset": preset,
        "stated": chosen.stated if chosen else None,
        "tokenize": cut,
        "tokenize_asked": asked,
        "unit": unit,
        "normalization": done,
    }
    if other_references is not None and not glosses:
        scored = {entry["name"]: entry["scores"]["bleu4"] for entry in found["systems"]}
        found["other_references"] = _other_references(
            systems, scored, references, other_references, done, cut, smoothing
        )
    return found


# -- conventions -------------------------------------------------------------------------------------------------------


def convention_rows(
    hypotheses: Sequence[str], references: Sequence[str], *, tokenize: Tokenize, smoothing: Smoothing = "exp"
) -> list[dict[str, Any]]:
    """Scores of the same sentences under other conventions, each applied to both sides; the first row is as scored.

    Args:
        hypotheses: one sentence each.
        references: one per hypothesis.
        tokenize: tokenization of the scores, not `auto`.
        smoothing: of BLEU.

    Returns:
        Rows of convention, tokenize, bleu1, bleu4, rouge_l, exact_match, `difference` (BLEU-4 minus BLEU-4 as scored)
        and `changed`: numbers of hypotheses and references that the convention changes.
    """
    unspaced = unit_for(tokenize) == "character"
    spacing = ("no spaces between characters", without_spaces) if unspaced else ("punctuation apart", split_marks)

    def all_together(line: str) -> str:
        return spacing[1](without_stop(unite_width(line).lower()))

    changes: list[tuple[str, Callable[[str], str], Tokenize]] = [
        ("as scored", str, tokenize),
        ("no final stop", without_stop, tokenize),
        ("a final stop everywhere", with_stop, tokenize),
        ("lower case", str.lower, tokenize),
        ("one width of punctuation", unite_width, tokenize),
        (*spacing, tokenize),
        ("no stop, lower, one width, spacing", all_together, tokenize),
    ]
    others: tuple[Tokenize, ...] = ("none", "zh", "char") if unspaced else ("none", "13a", "intl")
    changes += [(f"tokenize {other}", str, other) for other in others if other != tokenize]
    rows: list[dict[str, Any]] = []
    for name, change, cut in changes:
        ours, theirs = [change(line) for line in hypotheses], [change(line) for line in references]
        if rows and cut == tokenize and ours == list(hypotheses) and theirs == list(references):
            rows.append({**rows[0], "convention": name})
            continue
        one, unit = bleu(ours, theirs, cut, smoothing=smoothing), unit_for(cut)
        rows.append({
            "convention": name,
            "tokenize": cut,
            "bleu1": one.bleu1,
            "bleu4": one.bleu4,
            "rouge_l": rouge_l(ours, theirs, unit=unit),
            "exact_match": exact_match(ours, theirs, unit=unit),
            "difference": one.bleu4 - (rows[0]["bleu4"] if rows else one.bleu4),
            "changed": [
                sum(new != old for new, old in zip(after, before))
                for after, before in ((ours, hypotheses), (theirs, references))
            ],
        })  # fmt: skip
    return rows


_SPECIAL = regex.compile(
    r"<(?:/?s|pad|unk|eos|bos|sep|cls|mask)>|\[(?:PAD|UNK|CLS|SEP|MASK)\]|@@(?=\s|$)|▁|(?:^|\s)##\w", regex.I
)
_APART = regex.compile(r"(?<=\S)\s+[.,!?;:]+(?=\s|$)")
_TOUCHES = regex.compile(r"[\p{L}\p{M}\p{N}][.,!?;:]+(?=\s|$)")


def findings(
    hypotheses: Sequence[str],
    references: Sequence[str],
    rows: Sequence[dict[str, Any]],
    *,
    tokenize: Tokenize,
    by_line: bool = False,
) -> list[str]:
    """Descriptions of differences between the two sides other than the translation, with their effect on BLEU-4.

    Args:
        hypotheses: as in the file.
        references: as in the file.
        rows: result of `convention_rows` for the same sentences.
        tokenize: tokenization of the scores.
        by_line: also check whether the lines are shifted by one.
    """
    by_name = {row["convention"]: row for row in rows}
    scored, unit = rows[0]["bleu4"], unit_for(tokenize)
    found: list[str] = []

    def effect(name: str) -> str:
        row = by_name[name]
        return f"BLEU-4 {scored:.2f}, with {name} on both sides {row['bleu4']:.2f} ({row['difference']:+.2f})"

    if warning := tokenization_warning(tokenize, references):
        fits = tokenize_as("auto", references)
        found.append(
            f"tokenizer: {warning}: BLEU-4 {scored:.2f}, with {fits} {bleu(hypotheses, references, fits).bleu4:.2f}"
        )
    if not _not_nfc(hypotheses) == _not_nfc(references) == 0:
        found.append(
            f"accents: {_not_nfc(hypotheses)} hypotheses and {_not_nfc(references)} references write letters and "
            f"accents separately (not NFC); both sides were converted to NFC"
        )
    if (widths := _widths(hypotheses, references)) is not None:
        found.append(f"width: {widths}; {effect('one width of punctuation')}")
    stops = [_share(lines, lambda line: line.rstrip().endswith(tuple(STOPS))) for lines in (hypotheses, references)]
    if abs(stops[0] - stops[1]) > FAR:
        found.append(
            f"final stop: {stops[0]:.1f} % of the hypotheses and {stops[1]:.1f} % of the references end in a full "
            f"stop; "
            f"{effect('no final stop')}"
        )
    cased = [_share(lines, lambda line: line != line.lower()) for lines in (hypotheses, references)]
    if abs(cased[0] - cased[1]) > 2 * FAR:
        found.append(
            f"case: {cased[0]:.1f} % of the hypotheses and {cased[1]:.1f} % of the references have capital letters; "
            f"{effect('lower case')}"
        )
    if unit == "character":
        spaced = [
            _share(lines, lambda line: len(line.split()) > len("".join(line.split())) / 2)
            for lines in (hypotheses, references)
        ]
        if abs(spaced[0] - spaced[1]) > FAR:
            found.append(
                f"spaces: {spaced[0]:.1f} % of the hypotheses and {spaced[1]:.1f} % of the references have spaces "
                f"between characters; characters are the tokens, so this changes nothing"
            )
    else:
        apart = [_spacing(lines) for lines in (hypotheses, references)]
        if None not in apart and abs(apart[0] - apart[1]) > FAR:  # type: ignore[operator]
            found.append(
                f"spacing: {apart[0]:.1f} % of punctuation marks are separated by a space in the hypotheses and "
                f"{apart[1]:.1f} % "
                f"in the references; {effect('punctuation apart')}"
            )
    marks = Counter(mark[0].strip() for line in hypotheses for mark in _SPECIAL.finditer(line))
    if marks:
        kinds = ", ".join(f"{mark!r} {count} times" for mark, count in marks.most_common(3))
        found.append(f"tokens of a model: the hypotheses hold {kinds}; decode them to plain text before scoring")
    if list(hypotheses) == list(references):
        found.append("the hypotheses equal the references line by line: is one file given twice?")
    empty = sum(not line.strip() for line in hypotheses)
    if empty:
        found.append(f"{empty} hypotheses are empty; they are scored as wrong")
    blank = sum(not line.strip() for line in references)
    if blank:
        found.append(f"{blank} references are empty; any answer to them counts as wrong")
    commonest, times = Counter(same_text(line, unit) for line in hypotheses).most_common(1)[0]
    if len(hypotheses) >= 20 and times > 0.1 * len(hypotheses):
        found.append(f"{times} of {len(hypotheses)} hypotheses are the same sentence: {commonest[:60]!r}")
    lengths = [sum(len(tokens(line, unit)) for line in lines) for lines in (hypotheses, references)]
    if lengths[1] and not 0.8 <= lengths[0] / lengths[1] <= 1.25:
        found.append(
            f"length: {lengths[0]} tokens against {lengths[1]} in the references ({100 * lengths[0] / lengths[1]:.0f} "
            f"%); "
            f"BLEU's brevity penalty and WER's insertions see this before any word"
        )
    found += _never_written(hypotheses, references, unit)
    if by_line and len(references) >= 20:
        aligned = rouge_l(hypotheses, references, unit=unit)
        for shift, said in ((1, "next"), (-1, "previous")):
            other = rouge_l(hypotheses, [*references[shift:], *references[:shift]], unit=unit)
            if other > 1.25 * aligned + 5:
                found.append(
                    f"order: ROUGE-L is {other:.2f} against the {said} line's references, {aligned:.2f} against their "
                    f"own: the lines of the two files seem to be shifted"
                )
    return found


def _share(lines: Sequence[str], holds: Callable[[str], bool]) -> float:
    """Percentage of lines for which `holds` is true."""
    return 100 * sum(map(holds, lines)) / len(lines)


def _not_nfc(lines: Sequence[str]) -> int:
    return sum(one != line for one, line in zip(normalize(lines), lines))


def _spacing(lines: Sequence[str]) -> float | None:
    """Percentage of punctuation marks separated from the previous word; None without any marks."""
    apart = sum(len(_APART.findall(line)) for line in lines)
    touching = sum(len(_TOUCHES.findall(line)) for line in lines)
    return 100 * apart / (apart + touching) if apart + touching else None


_TWINS = [(chr(code), chr(0xFF00 + code - 0x20)) for code in range(0x21, 0x7F)] + [("｡", "。"), ("､", "、")]


def _widths(hypotheses: Sequence[str], references: Sequence[str]) -> str | None:
    """Punctuation marks that the sides write in different widths, with counts; None if they agree."""
    ours, theirs = (Counter("".join(lines)) for lines in (hypotheses, references))
    told = []
    for half, full in _TWINS:
        both = [counts[half] + counts[full] for counts in (ours, theirs)]
        if min(both) and abs(ours[half] / both[0] - theirs[half] / both[1]) > FAR / 100:
            sides = []
            for counts, side in ((ours, "hypotheses"), (theirs, "references")):
                written = " and ".join(f"{counts[mark]} {mark!r}" for mark in (half, full) if counts[mark])
                sides.append(f"{side} write {written}")
            told.append(", ".join(sides))
    return "; ".join(told[:3]) if told else None


def _never_written(hypotheses: Sequence[str], references: Sequence[str], unit: Unit) -> list[str]:
    """Tokens of the references that occur in no hypothesis in any width."""
    hypotheses, references = ([unite_width(line) for line in lines] for lines in (hypotheses, references))
    written = {token for line in hypotheses for token in tokens(line, unit)}
    needed = Counter(token for line in references for token in tokens(line, unit))
    missing = Counter({token: count for token, count in needed.items() if token not in written})
    total = sum(needed.values())
    if not total or sum(missing.values()) <= 0.05 * total:
        return []
    shown = ", ".join(f"{token} ({count})" for token, count in missing.most_common(5))
    return [
        f"vocabulary: {100 * sum(missing.values()) / total:.2f} % of the {unit}s of the references ({len(missing)} "
        f"different ones) occur in no hypothesis, most often {shown}"
    ]


def _own_references(one: Sentences, true: Sentences, unit: Unit) -> list[str]:
    """Notes if the references in the predictions file differ from REF."""
    if one.own_references is None:
        return []
    theirs = one.own_references
    if one.names is not None and true.names is not None:
        by_name = dict(zip(true.names, true.texts))
        pairs = [(text, by_name[name]) for name, text in zip(one.names, theirs) if name in by_name]
    else:
        pairs = list(zip(theirs, true.texts))
    other = sum(same_text(a, unit) != same_text(b, unit) for a, b in pairs)
    if not other:
        return []
    return [
        f"references: {one.path.name} has its own references, which differ from REF in {other} of {len(pairs)} "
        f"sentences"
    ]


# -- overlap and other references --------------------------------------------------------------------------------------


def training_overlap(
    hypotheses: Sequence[str], references: Sequence[str], train: Sequence[str], *, unit: Unit
) -> dict[str, Any]:
    """How much of a test set occurs in training, and how many answers are copied from training.

    Sentences are equal if their `same_text` is, which ignores spaces between characters.

    Args:
        hypotheses: one sentence each.
        references: one per hypothesis.
        train: training sentences.
        unit: word, or characters for scripts without spaces between words.

    Returns:
        `references_seen` and `hypotheses_copied` in percent; `copied_and_wrong`: percentage of hypotheses that are a
        training sentence but not the reference; `training_sentences`: number of different ones.
    """
    if not train:
        raise ValueError("the overlap with training needs training sentences, got none")
    known = {same_text(line, unit) for line in train} - {""}
    ours, true = [same_text(line, unit) for line in hypotheses], [same_text(line, unit) for line in references]
    copied = [line in known for line in ours]
    return {
        "training_sentences": len(known),
        "references_seen": 100 * sum(line in known for line in true) / len(true),
        "hypotheses_copied": 100 * sum(copied) / len(ours),
        "copied_and_wrong": 100 * sum(c and a != b for c, a, b in zip(copied, ours, true)) / len(ours),
    }


def _other_references(
    systems: Mapping[str, Sequence[str]],
    scored: dict[str, float],
    references: Sequence[str],
    others: Sequence[str],
    steps: Sequence[str],
    tokenize: Tokenize,
    smoothing: Smoothing,
) -> dict[str, Any]:
    """Scores on a second file of references, and descriptions of its differences."""
    unit = unit_for(tokenize)
    true, other = normalize(references, steps), normalize(others, steps)
    scores = {}
    for name, said in systems.items():
        ours = normalize(said, steps)
        scores[name] = {
            "bleu4": bleu(ours, other, tokenize, smoothing=smoothing).bleu4,
            "bleu4_of_these": scored[name],
            "exact_match": exact_match(ours, other, unit=unit),
            "rouge_l": rouge_l(ours, other, unit=unit),
        }
    differ = sum(same_text(a, unit) != same_text(b, unit) for a, b in zip(true, other))
    found = [f"the two files of references differ in {differ} of {len(true)} sentences"]
    if (widths := _widths(other, true)) is not None:
        written = widths.replace("hypotheses write", "the other references write").replace(
            "references write", "references write"
        )
        found.append(f"width: {written}")
    stops = [_share(lines, lambda line: line.rstrip().endswith(tuple(STOPS))) for lines in (other, true)]
    if abs(stops[0] - stops[1]) > FAR:
        found.append(f"final stop: {stops[0]:.1f} % of the others and {stops[1]:.1f} % of the references end in one")
    united = [[unite_width(line) for line in lines] for lines in (true, other)]
    lost = sum((Counter(tokens(a, unit)) - Counter(tokens(b, unit))).total() for a, b in zip(*united))
    added = sum((Counter(tokens(b, unit)) - Counter(tokens(a, unit))).total() for a, b in zip(*united))
    total = max(1, sum(len(tokens(line, unit)) for line in united[0]))
    found.append(
        f"words lost: sentence by sentence, and with one width of punctuation, {lost} of the {total} {unit}s of the "
        f"references ({100 * lost / total:.2f} %) are not in the other ones, which have {added} that the references "
        f"lack, so that they are {100 * (lost - added) / total:.2f} % shorter"
    )
    if lost > 0.01 * total and lost > 4 * added:
        found.append(
            "the other references are the references with parts taken out, as decoding them from a vocabulary that "
            "cannot write everything does; what a system cannot write either is forgiven, so scores on them are too "
            "high"
        )
    for whole, part, which in (
        (united[0], united[1], "the other references"),
        (united[1], united[0], "the references"),
    ):
        held = {token for line in part for token in tokens(line, unit)}
        counts = Counter(token for line in whole for token in tokens(line, unit))
        gone = Counter({token: count for token, count in counts.items() if token not in held})
        share = 100 * sum(gone.values()) / max(1, sum(counts.values()))
        if share > 0.5:
            shown = ", ".join(f"{token} ({count})" for token, count in gone.most_common(5))
            found.append(
                f"vocabulary: {share:.2f} % of the {unit}s ({len(gone)} different ones) never occur in {which}, most "
                f"often {shown}"
            )
    return {"scores": scores, "findings": found, "different": differ}
