"""Reads text files as one string: UTF-8 or UTF-16, any line ends, plain or gzip; anything else is an error.

Tables and subtitles both use it, so they support the same encodings and report the same errors.
"""

from __future__ import annotations

import codecs
import gzip
import re
import zlib
from pathlib import Path

from signcl.data.files import read_bytes

__all__ = ["read_plain"]

MARKS = (  # the longer mark first, because UTF-32 begins like UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def read_plain(path: Path) -> str:
    r"""Reads a text file, with `\n` as line end.

    A byte order mark selects UTF-8 or UTF-16 (a spreadsheet's "Unicode text") and is removed. Windows line ends become
    `\n`, and so does a bare `\r` (old Macs) if the file has no other line ends. Otherwise a bare `\r` is kept, so the
    caller can report its line.

    Raises:
        ValueError: not UTF-8 or UTF-16 (with the line), a NUL byte (with the line), or damaged gzip data.
    """
    content = read_bytes(path)
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: cannot be unpacked ({error}); copy or download it again") from None
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}:{line}: must be UTF-8 text ({error.reason} at byte {error.start}); re-encode it"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(
            f"{path}:{line}: contains a NUL byte, so it is not UTF-8 text or damaged; save it again as UTF-8"
        )
    text = re.sub(r"\r+\n", "\n", text)  # "\r\r\n" comes from converting line ends twice on Windows
    if "\n" not in text.rstrip("\n"):
        text = text.replace("\r", "\n")
    return text
