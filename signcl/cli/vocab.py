"""The verbs of `signcl vocab`: `check`, `trim`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from signcl.cli.common import add_json, add_verb, show
from signcl.data.annotation.plain_text import read_plain

__all__ = ["add"]

SPLITS = ("train", "dev", "test")


def add(verbs: Any, words: list[str]) -> None:
    """Add the verbs of this file."""
    vocab = verbs.add_parser("vocab", help="check whether a tokenizer covers a corpus, or trim a language model to it")
    group = vocab.add_subparsers(title="commands", metavar="COMMAND", required=True)
    command = add_verb(
        group, "check", _check, "encode and decode every sentence with a tokenizer; exit code 1 if one changes"
    )
    command.add_argument(
        "--tokenizer", required=True, help="pretrained:FOLDER or pretrained:HUB_ID of an mBART, or a run folder"
    )
    _corpus(command)
    command.add_argument("--splits", nargs="+", choices=SPLITS, default=list(SPLITS), help="splits to check")
    command = add_verb(
        group, "trim", _trim, "trim an mBART to the pieces that a corpus needs; exit code 1 if a sentence changes"
    )
    command.add_argument("--language-model", required=True, help="pretrained:FOLDER or pretrained:HUB_ID of an mBART")
    _corpus(command)
    command.add_argument("-o", "--out", required=True, metavar="FOLDER", help="folder of the trimmed model")
    command.add_argument(
        "--splits", nargs="+", choices=SPLITS, default=["train"], help="splits whose pieces are kept; all are checked"
    )
    command.add_argument(
        "--keep",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="more words or sentences to keep, or a file with one per line",
    )
    command.add_argument(
        "--own-forms",
        action="store_true",
        help="write characters in the corpus's Unicode forms: \uff0c where mBART has ,",
    )
    command.add_argument("--language", default="", help="language code, e.g. de_DE, for transformers' tokenizer")


def _corpus(command: Any) -> None:
    command.add_argument(
        "--corpus", default="folder", help="kind of the corpus: folder, phoenix14t, csl_daily, how2sign, ..."
    )
    command.add_argument("--root", required=True, help="the corpus folder; its clips are not opened")
    add_json(command)


def _check(options: argparse.Namespace) -> int:
    from signcl.data.text import build_tokenizer, load_tokenizer
    from signcl.data.text.checking import check_table, check_vocabulary, failed

    kind = options.tokenizer
    if kind.startswith("pretrained:"):
        tokenizer = build_tokenizer(kind, [])
    elif Path(kind).is_dir():
        tokenizer = load_tokenizer(kind)
    else:
        raise ValueError(f"--tokenizer: needs pretrained:FOLDER, pretrained:HUB_ID or a run folder, got {kind!r}")
    checks = check_vocabulary(tokenizer, _samples(options, options.splits))
    show(options, [check.as_dict() for check in checks], lambda _: check_table(checks))
    return 1 if failed(checks) else 0


def _trim(options: argparse.Namespace) -> int:
    from signcl.data.text.checking import check_table, failed
    from signcl.training.trimming import trim_language_model, trim_table

    keep = [
        line
        for text in options.keep
        for line in (read_plain(Path(text)).splitlines() if Path(text).is_file() else [text])
    ]
    trimmed = trim_language_model(
        options.language_model,
        _samples(options, options.splits),
        Path(options.out),
        needed=options.splits,
        keep=keep,
        forms=options.own_forms,
        language=options.language,
        made_from={"corpus": options.corpus, "root": options.root},
    )
    show(options, trimmed.as_dict(), lambda _: f"{trim_table(trimmed)}\n{check_table(trimmed.checks)}\n{options.out}")
    return 1 if failed(trimmed.checks) else 0


def _samples(options: argparse.Namespace, needed: list[str]) -> dict[str, Any]:
    """Read the sentences of every split; only a needed split must exist."""
    from signcl.data.corpora import load_samples

    found = {}
    for split in SPLITS if options.run is _trim else needed:
        try:
            found[split] = load_samples(options.corpus, options.root, split)
        except (ValueError, OSError) as error:
            if split in needed:
                raise
            print(f"split {split} is not checked: {error}", file=sys.stderr)
    return found
