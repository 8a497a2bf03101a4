"""Receives a form with a clip and writes the clip to a file piece by piece, so that only one piece is in memory.

Besides the clip, a form may have a few short text fields.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from anyio import to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from signcl.pages.markup import visible
from signcl.pages.uploads import Refused

__all__ = ["ClientLeft", "ClipForm", "receive_clip"]

FIELD = b"clip"
TEXTS = {b"start", b"stop", b"text", b"signer", b"consent", b"extractor"}
"""Text fields that are read; all others are ignored."""
LONGEST = 4000  # bytes of a text field
SECONDS = re.compile(r"[0-9]{1,7}(\.[0-9]{1,9})?")
NAME = 120  # characters kept of a clip's name


class ClientLeft(Exception):
    """The client has disconnected."""


@dataclass(frozen=True)
class ClipForm:
    """The other content of the form."""

    name: str
    """The file name that the client sent, without folders."""
    texts: dict[str, str] = field(default_factory=dict)
    """The fields of `TEXTS` that the form has."""

    def part(self) -> tuple[float, float | None] | None:
        """The part of the clip from `start` to `stop`, in seconds; None is the whole clip.

        Raises:
            Refused: the fields are not valid times.
        """
        start, stop = (self._seconds(name) for name in ("start", "stop"))
        if start is None and stop is None:
            return None
        if stop is not None and stop <= (start or 0.0):
            raise Refused(422, f"start must be before stop, got {start or 0.0:g} and {stop:g} seconds")
        return start or 0.0, stop

    def _seconds(self, name: str) -> float | None:
        said = self.texts.get(name, "").strip()
        if not said:
            return None
        if SECONDS.fullmatch(said) is None:
            raise Refused(422, f"{name}: seconds such as 1.25 are needed, got {said[:40]!r}")
        return float(said)


async def receive_clip(
    content_type: str, receive: Callable[[], Awaitable[MutableMapping[str, Any]]], path: Path
) -> ClipForm:
    """Write the file in the form field `clip` to a path; unknown fields are ignored.

    Args:
        content_type: of the request, with the boundary.
        receive: returns the next piece of the request (ASGI). The guard enforces limits of size and time.
        path: file to write the clip to.

    Returns:
        The clip's name and the texts.

    Raises:
        ClientLeft: the client disconnected before the form was complete.
        Refused: the request is not a form, the clip is missing or empty, a text is too long or not UTF-8, or the disk
            is full.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Refused(422, "clip: a file is needed, in the field `clip` of a form (multipart/form-data)")
    with path.open("wb") as file:
        try:
            form = _Form(options[b"boundary"], file)
            more = True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientLeft
                more = message.get("more_body", False)
                await to_thread.run_sync(form.write, message.get("body", b""), abandon_on_cancel=True)
        except FormParserError as error:
            raise Refused(422, f"clip: the form cannot be read ({error})") from None
        except OSError as error:
            raise Refused(507, f"the clip cannot be kept: {os.strerror(error.errno or 0)}") from None
        size = file.tell()
    if form.name is None:
        raise Refused(422, "clip: a file is needed, in the field `clip` of the form")
    if not form.whole:
        raise Refused(422, f"{form.name}: the form was cut off; send it again")
    if not size:
        raise Refused(422, f"{form.name}: the file is empty")
    return ClipForm(form.name, {name.decode(): _text(name.decode(), value) for name, value in form.texts.items()})


def _text(name: str, value: bytearray) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(422, f"{name}: needs text in UTF-8") from None


class _Form:
    """Collects the parts of the form from the parser."""

    def __init__(self, boundary: bytes, file: BinaryIO) -> None:
        self.name: str | None = None
        self.texts: dict[bytes, bytearray] = {}
        self.whole = False
        self._at: bytes | None = None
        """The text field that is being read."""
        self._file, self._header, self._value, self._kept = file, b"", b"", False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def write(self, piece: bytes) -> None:
        self._parser.write(piece)

    def _part(self) -> None:
        self._header, self._value, self._kept, self._at = b"", b"", False, None

    def _header_name(self, data: bytes, start: int, stop: int) -> None:
        self._header += data[start:stop]

    def _header_value(self, data: bytes, start: int, stop: int) -> None:
        self._value += data[start:stop]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            field = options.get(b"name", b"")
            if field in TEXTS and b"filename" not in options and field not in self.texts:  # the first of a name counts
                self._at, self.texts[field] = field, bytearray()
            if field == FIELD and b"filename" in options and self.name is None:
                self._kept = True
                said = options[b"filename"].decode("utf-8", "replace").replace("\\", "/")
                self.name = visible(said.rpartition("/")[2][:NAME]) or "clip"
        self._header, self._value = b"", b""

    def _data(self, data: bytes, start: int, stop: int) -> None:
        if self._kept:
            self._file.write(data[start:stop])
        if self._at is not None:
            self.texts[self._at] += data[start:stop]
            if len(self.texts[self._at]) > LONGEST:
                raise Refused(422, f"{self._at.decode()}: at most {LONGEST} bytes of text are accepted")

    def _end(self) -> None:
        self.whole = True
