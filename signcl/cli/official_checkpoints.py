"""The verb that converts an official checkpoint to a run: `import`."""

from __future__ import annotations

import argparse
from typing import Any

from signcl.cli.common import add_json, add_verb, show

__all__ = ["add"]

FILES = {
    "words": "vocabulary (slt, gaslt: of sentences, txt.vocab; pgp: of pseudo-glosses, processed_words.phx_pkl)",
    "glosses": "gloss vocabulary (slt: gls.vocab, vac: gloss_dict.npy, i3d: the class list)",
    "config": "configuration (slt, gaslt: config.yaml; uni_sign: config.json of another mT5 than the published)",
    "pieces": "SentencePiece model (gaslt)",
}
"""Files that belong to a checkpoint; needed if its folder does not hold them under their usual names."""


def add(verbs: Any, words: list[str]) -> None:
    """Add the verb."""
    command = add_verb(
        verbs,
        "import",
        _import,
        "convert an official checkpoint of a published system to a run folder, for use with every command",
    )
    command.add_argument(
        "kind",
        metavar="KIND",
        help="gfslt, vlp, slt, gaslt, vac, i3d, uni_sign, sign2gpt or pgp; checked against the file",
    )
    command.add_argument("file", metavar="FILE", help="the checkpoint; it is read as data, and no code in it is run")
    command.add_argument("-o", "--out", default="", help="the run folder; default: runs/imported/KIND-FILE")
    command.add_argument(
        "--recipe",
        metavar="FILE.yaml",
        help="recipe with values that the checkpoint does not contain: corpus, text, ...",
    )
    for what, text in FILES.items():
        command.add_argument(f"--{what}", metavar="FILE", help=text)
    add_json(command)
    command.usage = "signcl import KIND FILE [-o RUN] [--recipe FILE.yaml] [--key.sub=value ...]"
    command.epilog = (
        "Any recipe key is an option: --corpus.name=phoenix14t --corpus.root=data/phoenix14t "
        "--text.tokenizer=pretrained:MBart_trimmed"
    )
    command.set_defaults(takes_overrides=True)


def _import(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from signcl.training.importing import import_checkpoint

    beside = {what: getattr(options, what) for what in FILES if getattr(options, what)}
    found = import_checkpoint(
        options.kind, options.file, options.out, recipe=options.recipe, overrides=options.overrides, beside=beside
    )
    show(options, asdict(found) if options.json else found, str)
