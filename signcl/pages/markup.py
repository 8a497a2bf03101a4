"""Safe HTML: `Html` is finished, and every other text is escaped when it is inserted.

A page is built from `html("<b>{}</b>", name)`. Values that are inserted, joined or added are escaped unless they are
`Html`, and `document` escapes any other body: a forgotten escape shows tags to the reader, but never runs them. Should
one slip through anyway, the page's own policy lets the browser run no script but ours.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

__all__ = [
    "Cell",
    "Html",
    "attributes",
    "code",
    "data",
    "decimals",
    "document",
    "duration",
    "embedded",
    "html",
    "inline_script",
    "joined",
    "key",
    "page_file",
    "page_policy",
    "table",
    "text",
    "visible",
]

HERE = Path(__file__).parent
OPENS = {**dict.fromkeys("\u202a\u202b\u202d\u202e", "\u202c"), **dict.fromkeys("\u2066\u2067\u2068", "\u2069")}
"""Characters that change the writing direction, and the character that ends each."""
PICTURES = {number: 0x2400 + number for number in range(32) if chr(number) not in "\t\n\r"} | {127: 0x2421}
PICTURES |= dict.fromkeys(range(128, 160), 0xFFFD)


def visible(value: str) -> str:
    """Return a text in which every character is visible and which does not affect the text after it.

    Control characters become their pictures (from U+2400), lone surrogates become U+FFFD, and a change of the writing
    direction that the text leaves open is closed at its end, so that a name cannot reorder what follows.
    """
    if value.isascii() and value.isprintable():
        return value
    open_ends: list[str] = []
    for character in value:
        if character in OPENS:
            open_ends.append(OPENS[character])
        elif open_ends and character == open_ends[-1]:
            open_ends.pop()
    shown = value.translate(PICTURES).encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return shown + "".join(reversed(open_ends))


class Html(Markup):
    """Finished HTML; text that is inserted, joined or added is made visible and escaped."""

    __slots__ = ()

    @classmethod
    def escape(cls, s: Any, /) -> Html:
        """A value as HTML: HTML stays as it is, other values are escaped as text."""
        return cls(super().escape(s if hasattr(s, "__html__") else visible(str(s))))


Cell = Html
"""Finished HTML of one table cell."""


def html(template: str, *values: object, **named: object) -> Html:
    """Insert values into a template, like `str.format`: `html("<b>{:.1f}</b> {x}", 2, x=name)`.

    The template must be a literal in the source, never made from data; its attributes must be in double quotes.
    """
    return Html(Html(template).format(*values, **named))


def joined(parts: Iterable[object], between: str = "") -> Html:
    """Join pieces; each piece and the text between them is escaped unless it is HTML."""
    return Html(Html.escape(between).join(parts))  # type: ignore[arg-type]


def text(value: object) -> Html:
    """Any value as text that is safe inside an element or a quoted attribute."""
    return Html.escape(str(value))


@functools.cache
def page_file(name: str) -> str:
    """Read one of our style, script or page files."""
    folder = HERE if (HERE / name).is_file() else HERE / "static"
    return (folder / name).read_text(encoding="utf-8")


def inline_script(name: str) -> Html:
    """One of our scripts as an inline element."""
    return html("<script>{}</script>", Html(f"\n{page_file(name)}"))


def page_policy(*scripts: str, served: bool = False) -> str:
    """A Content-Security-Policy: the page runs only these scripts, loads nothing from other hosts, and sends nothing.

    Args:
        scripts: names of our scripts that are inline in the page.
        served: the page comes from our server and may load scripts and styles from there.
    """
    digests = [hashlib.sha256(f"\n{page_file(name)}".encode()).digest() for name in scripts]
    allowed = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests] + ["'self'"] * served
    own = " 'self'" * served
    return (
        f"default-src 'none'; connect-src 'self'; img-src{own} data: blob:; media-src{own} blob:; font-src data:; "
        f"style-src{own} 'unsafe-inline'; script-src {' '.join(allowed) or chr(39) + 'none' + chr(39)}; "
        "form-action 'none'; base-uri 'none'" + ("; frame-ancestors 'none'" if served else "")
    )


def document(
    title: str,
    kind: str,
    body: Html,
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    language: str = "en",
    **root: str,
) -> str:
    """A complete page that needs no other file: the shared head and style, a body, and its scripts.

    Args:
        title: plain text.
        kind: what the page is, e.g. "signcl report"; shown after the title in the browser's tab.
        body: between <body> and </body>.
        scripts: names of the only scripts that the page runs, some of ours.
        styles: names of more of our styles.
        language: of the page's text.
        root: attributes of the <html> element.
    """
    page = html(
        """<!doctype html>
<html lang="{language}"{root}>
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title} · {kind}</title>
<style>
{style}</style>
</head>
<body>
{body}
{scripts}
</body>
</html>
""",
        language=language,
        root=attributes(**root),
        policy=page_policy(*scripts),
        title=title,
        kind=kind,
        style=Html("".join(page_file(name) for name in ("style.css", *styles))),
        body=body,
        scripts=joined(map(inline_script, scripts)),
    )
    return str(page)  # plain text: what others insert into it is not escaped


def code(value: object) -> Html:
    """A command, key or file name."""
    return html("<code>{}</code>", value)


def decimals(value: float | None, places: int = 2, sign: bool = False) -> str:
    """A number with fixed decimals and a typographic minus sign; a dash for None and non-finite values."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:{'+' if sign else ''},.{places}f}".replace("-", "−").replace(",", "\u202f")


def duration(seconds: float) -> str:
    """Seconds in readable form: 48 s, 6 min 12 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def attributes(**values: object) -> Html:
    """Attributes of an element: `class_` means class, `data_x` means data-x; None leaves an attribute out."""
    return joined(
        html(' {}="{}"', name.rstrip("_").replace("_", "-"), value)
        for name, value in values.items()
        if value is not None
    )


def table(
    header: Sequence[object], rows: Sequence[Sequence[object]], *, caption: str, kind: str = "", name: str = ""
) -> Html:
    """A table whose first column names its rows; on narrow screens it scrolls separately.

    Args:
        header: cells of the header row, text or HTML.
        rows: cells of each row, text or HTML; the first is the row's name.
        caption: plain text for screen readers.
        kind: CSS classes.
        name: heading of the first column, when `header` leaves it out.
    """
    head = joined(html('<th scope="col">{}</th>', cell) for cell in ([name] if name else []) + list(header))
    body = joined(
        html('<tr><th scope="row">{}</th>{}</tr>', row[0], joined(html("<td>{}</td>", cell) for cell in row[1:]))
        for row in rows
    )
    return html(
        '<div class="scroll" tabindex="0" role="region"{}><table{}><caption>{}</caption>'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>",
        attributes(aria_label=caption),
        attributes(class_=kind or None),
        caption,
        head,
        body,
    )


def key(number: int, label: str) -> Html:
    """The name of a run with its colour."""
    return html('<span class="key r{}"><i></i>{}</span>', number, label)


def data(name: str, value: Any) -> Html:
    """Data for the page's script as JSON, with texts made `visible`; no content can end the element."""
    packed = json.dumps(_all_visible(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    packed = packed.replace("<", "\\u003c")
    return html('<script type="application/json" id="{}-data">{}</script>', name, Html(packed))


def _all_visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {_all_visible(name): _all_visible(part) for name, part in value.items()}
    return [_all_visible(part) for part in value] if isinstance(value, list | tuple) else value


def embedded(content: bytes, kind: str) -> str:
    """A picture as the value of `src`. `kind` is jpeg or png."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
