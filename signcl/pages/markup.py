"""Small pieces of HTML and number formats that every section uses. Whatever comes from a corpus passes `text`."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "Cell",
    "attributes",
    "code",
    "data",
    "decimals",
    "document",
    "duration",
    "embedded",
    "gap",
    "key",
    "table",
    "text",
]

Cell = str
"""Finished HTML of one table cell."""


def document(title: str, kind: str, body: str) -> str:
    """A whole page that needs no other file: the head that all of ours share, their style, and a body.

    Args:
        title: plain text.
        kind: what the page is, e.g. "signcl report"; stands behind the title in the browser's tab.
        body: finished HTML between <body> and </body>.
    """
    style = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{text(title)} · {kind}</title>
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def text(value: object) -> str:
    """Anything as text that is safe inside an element or a quoted attribute."""
    return html.escape(str(value), quote=True)


def code(value: object) -> str:
    """A command, key or file name."""
    return f"<code>{text(value)}</code>"


def decimals(value: float | None, places: int = 2, sign: bool = False) -> str:
    """A number with fixed decimals and a true minus; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:{'+' if sign else ''},.{places}f}".replace("-", "−").replace(",", "\u202f")


def duration(seconds: float) -> str:
    """Seconds as people say them: 48 s, 6 min 12 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def attributes(**values: object) -> str:
    """Attributes of an element: `class_` stands for class, `data_x` for data-x; None leaves one out."""
    return "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(value)}"' for name, value in values.items() if value is not None
    )


def table(
    header: Sequence[Cell], rows: Sequence[Sequence[Cell]], *, caption: str, kind: str = "", name: str = ""
) -> str:
    """A table whose first column names its rows; it scrolls by itself where the screen is narrow.

    Args:
        header: cells of the head, finished HTML.
        rows: cells of each row, finished HTML; the first is the row's name.
        caption: plain text for those who do not see the page.
        kind: further CSS classes.
        name: heading of the first column, when `header` leaves it out.
    """
    head = "".join(f'<th scope="col">{cell}</th>' for cell in ([text(name)] if name else []) + list(header))
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region"{attributes(aria_label=caption)}>'
        f"<table{attributes(class_=kind or None)}><caption>{text(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def gap(what: str, makes: str) -> str:
    """Stands where a piece is missing: what, and the command that makes it."""
    return f'<p class="gap">{text(what)} {code(makes)} makes it.</p>'


def key(number: int, label: str) -> str:
    """The name of a run with its colour."""
    return f'<span class="key r{number}"><i></i>{text(label)}</span>'


def data(name: str, value: Any) -> str:
    """Numbers for the page's script; nothing in them can end the element."""
    packed = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f'<script type="application/json" id="{name}-data">{packed.replace("<", chr(92) + "u003c")}</script>'


def embedded(content: bytes, kind: str) -> str:
    """A picture as the value of `src`. `kind` is jpeg or png."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
