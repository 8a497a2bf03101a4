"""One annotation file a clip: which files of a folder are read, what their clips are called, where a clip is written.

Names of clips come from other people's tables, and become paths. They are checked as text before anything is written,
so that no name leaves the output folder, hides, or lands on another clip's file. ELAN files and subtitles share this.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

from signcl.data.progress import say

__all__ = ["check_cell", "clip_files", "clip_paths"]

DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])( *\..*)?", re.IGNORECASE)  # Windows opens no file here
LONGEST = 200  # bytes of one part of a path; file systems hold 255, and an ending and a temporary name come on top


def check_cell(cell: str, what: str) -> None:
    """Whether a name or gloss can be written to every format and read again.

    Raises:
        ValueError: it is empty, has outer spaces, or holds a tab, a line break, a control character or half a character
            (a lone surrogate).
    """
    if not cell or cell != cell.strip() or len(cell.splitlines()) > 1 or "\t" in cell:
        raise ValueError(f"{what}: names and glosses are needed without tabs, line breaks and outer spaces: {cell!r}")
    bad = next((c for c in cell if unicodedata.category(c) in ("Cc", "Cs") or c in "\ufeff\ufffe\uffff"), None)
    if bad is not None:
        raise ValueError(f"{what}: names and glosses are needed without control characters, {cell!r} holds {bad!r}")


def clip_files(path: Path, suffixes: Collection[str], what: str) -> dict[str, Path]:
    """The annotation files to read, by the names of their clips.

    Args:
        path: a file, whose clip is named by its stem, or a folder, whose clips are named by their paths in it.
        suffixes: endings in small letters; capitals in a file's name do not matter.
        what: what they are, for the error: "an ELAN file (.eaf)".

    Returns:
        Clip name -> file, in the order of their paths. Hidden files and folders (a Mac's `._clip.eaf`) are left out and
        counted on stderr.

    Raises:
        ValueError: no such file; a hidden one; two files of one clip; a file name that can be no clip's name.
    """
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"{path}: {what} or a folder of them is needed, there is none")
        if path.name.startswith("._"):
            raise ValueError(f"{path}: is a Mac's companion file without annotations; give {path.name[2:]}")
        check_cell(path.stem, f"{path}: the clip is named by its file")
        return {path.stem: path}
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    shown = [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not shown:
        raise ValueError(f"{path}: {what} or a folder of them is needed, there is none")
    if hidden := len(files) - len(shown):
        say(f"{path}: {hidden} hidden file{'s are' if hidden > 1 else ' is'} skipped (a name with a dot in front)")
    found: dict[str, Path] = {}
    for file in shown:
        name = file.relative_to(path).with_suffix("").as_posix()
        check_cell(name, f"{file}: the clip is named by its file")
        if name in found:
            raise ValueError(
                f"{file}: is a second file of the clip {name}, beside {found[name].name}; keep one of them"
            )
        found[name] = file
    return found


def clip_paths(folder: Path, names: Iterable[str], suffix: str) -> dict[str, Path]:
    """Where each clip's file goes: `folder/NAME.suffix`, where a name with slashes makes folders.

    Raises:
        ValueError: a name that leaves the folder, is hidden, too long or a device of Windows, or would share its file
            with another (names that differ in capitals or in how an accent is stored are one file on many disks).
    """
    paths: dict[str, Path] = {}
    taken: dict[str, str] = {}
    folders: dict[str, str] = {}
    base = folder.resolve()
    for name in names:
        if wrong := _wrong_name(name):
            raise ValueError(f"{folder}: cannot hold a file for the clip {name!r}: {wrong}; rename the clip")
        path = folder / f"{name}{suffix}"
        if not path.parent.resolve().is_relative_to(base):
            raise ValueError(f"{path}: a link leads out of {folder}; write to another folder")
        key = _same_file(f"{name}{suffix}")
        if key in taken:
            raise ValueError(
                f"{folder}: the clips {taken[key]!r} and {name!r} would share a file on many disks, which do not tell "
                "them apart; rename one"
            )
        taken[key] = name
        for parent in Path(key).parents:
            folders.setdefault(str(parent), name)
        paths[name] = path
    for key, name in taken.items():
        if key in folders:
            raise ValueError(
                f"{folder}: the file of the clip {name!r} is the folder of the clip {folders[key]!r}; rename one"
            )
    return paths


def _wrong_name(name: str) -> str:
    """What keeps a clip's name from being a path inside a folder, or ""."""
    try:
        check_cell(name, "its name")
    except ValueError as error:
        return str(error)
    if "\\" in name:
        return "a backslash separates folders on Windows"
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "the path is absolute"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return f"the path has the part {part!r}"
        if part.startswith("."):
            return f"{part!r} is hidden, and hidden files are not read"
        if part != part.strip() or part.endswith("."):
            return f"{part!r} begins or ends with a space or ends with a dot, which Windows takes off"
        if DEVICES.fullmatch(part):
            return f"{part!r} is a device of Windows"
        if len(part.encode()) > LONGEST:
            return f"a part of {len(part.encode())} bytes is too long, at most {LONGEST} fit"
    return ""


def _same_file(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
