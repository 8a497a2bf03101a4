"""`signcl score HYP [HYP ...] REF`: score sentences of any system."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_language, add_verb, show
from signcl.cli.number_options import real, whole

__all__ = ["add"]

# keys of signcl.metrics.presets.PRESETS and of signcl.metrics.written_forms.STEPS, which are slow to import
PRESETS = ("phoenix14t", "csl-daily", "how2sign", "wmt-slt")
SUBTITLES = (".srt", ".vtt", ".eaf")  # of signcl.evaluation.subtitle_scores, also slow to import
STEPS = ("nfc", "width", "lower", "no_stop", "no_spaces")


def add(verbs: Any, words: list[str]) -> None:
    """Add the verb of this file."""
    command = add_verb(
        verbs,
        "score",
        _score,
        "score files of sentences: BLEU, chrF, ROUGE-L, WER, intervals, and why published numbers differ",
    )
    command.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="HYP [HYP ...] REF, the references last: plain lines, id|text, TSV, CSV, JSON(L), predictions.SPLIT.tsv. "
        "For two subtitle files (.srt, .vtt, .eaf), their timing is scored too",
    )
    command.add_argument("--preset", choices=PRESETS, help="scoring convention of a corpus (docs/scoring.md)")
    command.add_argument(
        "--tokenize",
        choices=("auto", "none", "13a", "intl", "zh", "char"),
        help="tokenizer of BLEU; default: the preset's, otherwise auto, which goes by the script of the references",
    )
    command.add_argument(
        "--normalize", nargs="+", choices=STEPS, metavar="STEP", help=f"normalize both sides first: {', '.join(STEPS)}"
    )
    command.add_argument(
        "--smoothing", choices=("exp", "none", "floor", "add-k"), default="exp", help="smoothing of BLEU"
    )
    command.add_argument("--glosses", action="store_true", help="score glosses by word error rate (WER)")
    command.add_argument(
        "--train",
        metavar="TXT",
        help="training sentences, to count references that occur there and hypotheses copied from there",
    )
    command.add_argument(
        "--other-ref", metavar="FILE", help="also score against these references, and list what differs"
    )
    text = "references without a hypothesis: refuse, score as empty, or drop for every system"
    command.add_argument("--missing", choices=("refuse", "empty", "drop"), default="refuse", help=text)
    command.add_argument("--text-column", metavar="NAME", help="column of the hypotheses, if its name is unusual")
    command.add_argument(
        "--reference-column", metavar="NAME", help="column of the references and of --train, if its name is unusual"
    )
    command.add_argument("--id-column", metavar="NAME", help="column of the ids, if its name is unusual")
    command.add_argument(
        "--bootstrap",
        type=whole(low=0, high=10**7),
        default=1000,
        help="number of resamples for the intervals; 0: no intervals",
    )
    command.add_argument("--seed", type=whole(low=0, high=2**32 - 1), default=0, help="seed of the resamples")
    command.add_argument("--bertscore", metavar="FOLDER", help="also BERTScore, with the model in this folder")
    command.add_argument(
        "--bertscore-layer", type=whole(low=1, high=1000), metavar="N", help="layer of that model; default: the last"
    )
    command.add_argument("--bleurt", metavar="FOLDER", help="also BLEURT, with the model in this folder")
    text = "for subtitles: how many seconds a boundary may be off"
    command.add_argument("--tolerance", type=real(low=0, high=3600), default=0.2, metavar="SECONDS", help=text)
    command.add_argument("--html", metavar="FILE", help="also write one self-contained HTML page")
    add_language(command)
    add_json(command)


def _score_subtitles(options: argparse.Namespace) -> None:
    from signcl.cli.score_text import subtitles_text
    from signcl.evaluation.subtitle_scores import score_subtitles

    found = score_subtitles(
        *options.files,
        tolerance=options.tolerance,
        tokenize=options.tokenize or "auto",
        samples=options.bootstrap,
        seed=options.seed,
    )
    show(options, found, subtitles_text)


def _score(options: argparse.Namespace) -> None:
    from signcl.cli.score_text import score_text
    from signcl.evaluation.text_scores import score_files

    *hypotheses, reference = options.files
    if not hypotheses:
        raise ValueError(f"score needs hypotheses and references: signcl score HYP REF; got only {reference}")
    if options.bertscore_layer is not None and options.bertscore is None:
        raise ValueError("--bertscore-layer chooses a layer of --bertscore FOLDER; give the folder too")
    if all(Path(file).suffix.lower() in SUBTITLES for file in options.files):
        if len(hypotheses) != 1:
            raise ValueError(f"score compares one file of subtitles with another, got {len(options.files)} files")
        _score_subtitles(options)
        return
    found = score_files(
        hypotheses,
        reference,
        train=options.train,
        other_reference=options.other_ref,
        preset=options.preset,
        tokenize=options.tokenize,
        steps=options.normalize,
        glosses=options.glosses,
        smoothing=options.smoothing,
        samples=options.bootstrap,
        seed=options.seed,
        missing=options.missing,
        text_column=options.text_column,
        id_column=options.id_column,
        reference_column=options.reference_column,
        bertscore_model=options.bertscore,
        bertscore_layer=options.bertscore_layer,
        bleurt_model=options.bleurt,
    )
    if options.html:
        from signcl.pages.score_page import write_score_page

        write_score_page(found, Path(options.html), options.language)
    show(options, found, score_text)
