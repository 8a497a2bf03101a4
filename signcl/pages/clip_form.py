"""A form with a clip, written to a file as it comes in: no more of it is in memory than one piece."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, BinaryIO

from anyio import to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from signcl.pages.markup import visible
from signcl.pages.uploads import Refused

__all__ = ["ClientLeft", "receive_clip"]

FIELD = b"clip"
NAME = 120  # characters of a clip's name that are kept


class ClientLeft(Exception):
    """Nobody waits for an answer any more."""


async def receive_clip(
    content_type: str, receive: Callable[[], Awaitable[MutableMapping[str, Any]]], path: Path
) -> str:
    """Write the file in the form field `clip` to a path; the rest of the form is passed over.

    Args:
        content_type: of the request, with the boundary.
        receive: the next piece of the request (ASGI). Limits of size and time are the guard's.
        path: where the clip goes.

    Returns:
        The clip's name as its sender calls it, without folders.

    Raises:
        ClientLeft: before the form was whole.
        Refused: it is no form, has no clip, or an empty one; or the disk is full.
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
    return form.name


class _Form:
    """What the parser finds, part by part."""

    def __init__(self, boundary: bytes, file: BinaryIO) -> None:
        self.name: str | None = None
        self.whole = False
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
        self._header, self._value, self._kept = b"", b"", False

    def _header_name(self, data: bytes, start: int, stop: int) -> None:
        self._header += data[start:stop]

    def _header_value(self, data: bytes, start: int, stop: int) -> None:
        self._value += data[start:stop]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition" and self.name is None:
            _, options = parse_options_header(self._value)
            if options.get(b"name") == FIELD and b"filename" in options:
                self._kept = True
                said = options[b"filename"].decode("utf-8", "replace").replace("\\", "/")
                self.name = visible(said.rpartition("/")[2][:NAME]) or "clip"
        self._header, self._value = b"", b""

    def _data(self, data: bytes, start: int, stop: int) -> None:
        if self._kept:
            self._file.write(data[start:stop])

    def _end(self) -> None:
        self.whole = True
