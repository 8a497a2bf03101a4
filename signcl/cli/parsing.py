"""Reading the command line: no abbreviated flags, mistakes reported in one line, suggestions for typos."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from signcl.data.registry import did_you_mean

__all__ = ["Parser", "every_parser", "joined_overrides", "refuse_unless_overrides"]


OTHER_VERBS = {
    **dict.fromkeys(("train", "finetune", "pretrain", "run", "resume"), "fit"),
    **dict.fromkeys(("test", "validate", "val"), "evaluate"),
    **dict.fromkeys(("predict", "generate", "infer", "inference"), "translate"),
    **dict.fromkeys(("bleu", "sacrebleu"), "score"),
    **dict.fromkeys(("upload", "push_to_hub"), "push"),
    **dict.fromkeys(("download", "from_pretrained"), "pull"),
    **dict.fromkeys(("web", "app", "server"), "serve"),
    **dict.fromkeys(("data", "dataset"), "corpus"),
    **dict.fromkeys(("models", "list"), "systems"),
    "convert": "import",
    "sdr": "density",
}
"""Verbs by the names that they have in other toolkits, for suggestions."""


class Parser(argparse.ArgumentParser):
    """The parser of `signcl` and of each verb."""

    def __init__(self, **settings: Any) -> None:
        # an abbreviation can change its meaning when a flag is added: `--frames` meant `--frames-per-sign`
        super().__init__(**{"allow_abbrev": False, **settings})
        self.set_defaults(parser=self)
        self.runs: list[str] = []
        """Options that name runs, see `signcl.cli.common.add_run`."""

    def error(self, message: str) -> NoReturn:
        stop = "" if message.endswith("?") else ";"
        self.exit(2, f"signcl: {message}{stop} `{self.prog} --help` lists the options\n")

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """Stop with an error about words that this verb does not accept."""
        flags = [word for word in words if word.startswith("-")]
        if not flags:
            self.error(f"{self._verb()} does not take the argument {' '.join(words)}")
        named = flags[0].partition("=")[0]
        if named in self._option_string_actions:
            self.error(f"{named} is an option of {self._verb()}; give it after the command")
        self.error(f"{self._verb()} has no option {named}{suggested(named, self._option_string_actions)}")

    def _verb(self) -> str:
        return self.prog.partition(" ")[2] or self.prog

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Stop if a value is not one of the choices, with a suggestion; argparse alone would only list them."""
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        if isinstance(action, argparse._SubParsersAction):
            close = suggested(OTHER_VERBS.get(str(value).lower(), str(value)), known)
            self.error(f"no command {value!r}{close or '; the commands are ' + ', '.join(known)}")
        what = "/".join(action.option_strings) or action.metavar or action.dest
        self.error(f"{what} must be one of {', '.join(known)}, got {value!r}{suggested(str(value), known)}")


def every_parser(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """Return a parser and the parsers of all its commands, at any depth."""
    found = [parser]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found += every_parser(inner)
    return found


def suggested(word: str, known: Iterable[str]) -> str:
    """End of an error message that suggests a known word: one that starts with `word`, otherwise a similar one."""
    known = list(known)
    longer = [other for other in known if other.startswith(word) and len(word.lstrip("-")) > 2]
    if longer:
        return f"; did you mean {' or '.join(longer)}?"
    return did_you_mean(word, known)


def refuse_unless_overrides(parser: Parser, words: Sequence[str]) -> None:
    """Stop with an error if a word is no `--key=value`: it is a misspelled option, a key without a value or a stray."""
    flags = [flag for flag in parser._option_string_actions if flag.startswith("--")]
    for word in words:
        named, equals, value = word.partition("=")
        near = "" if "." in named else suggested(named, flags)
        if named in ("--config", "--recipe") and value:  # as Lightning and Joey NMT name it
            parser.error(f"{parser._verb()} takes the recipe without an option: `{parser.prog} {value}`")
        if equals and not near:
            continue
        if near or (word.startswith("-") and not word.startswith("--")):
            parser.refuse([named])
        if word.startswith("--"):
            parser.error(f"{named} needs a value: a recipe key is written {named}=VALUE")
        parser.error(f"{parser._verb()} does not take the argument {word}; a recipe key is written --key.sub=VALUE")


def joined_overrides(words: Sequence[str]) -> list[str]:
    """Turn `--train.lr 0.1` into `--train.lr=0.1`, so that recipe keys can be written like options."""
    joined: list[str] = []
    for word in words:
        open_key = bool(joined) and joined[-1].startswith("--") and "=" not in joined[-1]
        if open_key and not word.startswith("--"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined
