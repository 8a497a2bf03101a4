"""Reads untrusted YAML without surprises, and rejects input that would cost much time or memory.

PyYAML implements YAML 1.1: `010` is 8, `1:30` is 90, `no` is false, and the last of two equal keys wins. Here, only
decimal numbers, `true`, `false` and `null` are not text, and duplicate keys are errors.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

__all__ = ["MAX_BYTES", "parse_yaml"]

MAX_BYTES = 1_000_000
"""Maximum size of a file or value; a recipe has about 5,000 bytes."""
MAX_DEPTH = 20
MAX_NODES = 100_000
Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(text: str) -> Any:
    """Parses a YAML text.

    Raises:
        ValueError: invalid YAML; a duplicate key; an anchor, alias, tag or second document; too deep or too large.
    """
    if len(text) > MAX_BYTES:
        raise ValueError(f"at most {MAX_BYTES:,} characters are read, got {len(text):,}")
    try:
        _check_shape(text)
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError(f"at most {MAX_DEPTH} levels are read") from None


def _check_shape(text: str) -> None:
    """Rejects YAML that is too expensive, from the stream of events, before anything is built."""
    depth = nodes = documents = 0
    event: Any
    for event in yaml.parse(text, Loader=Parser):
        line = f"line {event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(
                f"{line}: anchors (&) and aliases (*) are not supported; write out the value, or quote the text"
            )
        if getattr(event, "tag", None) not in (None, "!"):
            raise ValueError(f"{line}: tags (!) are not supported; quote the text if it begins with one")
        nodes += isinstance(event, yaml.NodeEvent)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > MAX_DEPTH:
            raise ValueError(f"{line}: at most {MAX_DEPTH} levels are read")
        if nodes > MAX_NODES:
            raise ValueError(f"{line}: at most {MAX_NODES:,} values are read")
        if documents > 1:
            raise ValueError(f"{line}: needs a single document, but a second one begins here")


class _Loader(Parser):  # type: ignore[misc]
    """Safe YAML whose plain scalars are decimal numbers, true, false, null or text; duplicate keys are errors."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # drop those of YAML 1.1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """A mapping without duplicate keys."""
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise ValueError(f"line {line}: a key must be a word, got a {key.id}")
            if key.value in seen:
                raise ValueError(
                    f"line {line}: the key {key.value[:60]!r} occurs twice (first in line {seen[key.value]}); "
                    "remove one"
                )
            seen[key.value] = line
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}

    def construct_number(self, node: Any) -> int | float:
        """A decimal number of at most 100 characters."""
        text = node.value
        if len(text) > 100:
            raise ValueError(f"line {node.start_mark.line + 1}: a number of {len(text):,} digits is too long")
        if node.tag.endswith("int"):
            return int(text)
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _mapping(loader: _Loader, node: Any) -> dict[Any, Any]:
    return loader.construct_mapping(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
for kind in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{kind}", _Loader.construct_number)
for kind, pattern, first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?((0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", "-+0123456789."),
    ("float", r"[-+]?(0|[1-9][0-9]*)[eE][-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), list(first))
