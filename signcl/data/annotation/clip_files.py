"""One annotation file per clip: finds the files of a folder, names their clips, and chooses output paths.

Clip names come from untrusted tables and become paths. They are checked before anything is written, so that no name
leaves the output folder, is hidden, or collides with the file of another clip. Used for ELAN files and subtitles.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

from signcl.data.progress import say

__all__ = ["check_cell", "clip_files", "clip_paths"]

DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])( *\..*)?", re.IGNORECASE)  # reserved on Windows
LONGEST = 200  # bytes per part of a path; file systems allow 255, including the suffix and a temporary name


def check_cell(cell: str, what: str) -> None:
    """Checks that a name or gloss can be written to every format and read again.

    Raises:
        ValueError: it is empty, has outer spaces, or contains a tab, a line break, a control character or a lone
            surrogate.
    """
    if not cell or cell != cell.strip() or len(cell.splitlines()) > 1 or "\t" in cell:
        raise ValueError(f"{what}: names and glosses must not have tabs, line breaks or outer spaces: {cell!r}")
    bad = next((c for c in cell if unicodedata.category(c) in ("Cc", "Cs") or c in "\ufeff\ufffe\uffff"), None)
    if bad is not None:
        raise ValueError(f"{what}: names and glosses must not have control characters, but {cell!r} has {bad!r}")


def clip_files(path: Path, suffixes: Collection[str], what: str) -> dict[str, Path]:
    """Finds the annotation files to read, by clip name.

    Args:
        path: a file, whose stem is the clip name, or a folder, in which the clip names are relative paths.
        suffixes: suffixes in lower case; the case of file names does not matter.
        what: description for error messages: "an ELAN file (.eaf)".

    Returns:
        Clip name -> file, sorted by path. Hidden files and folders (such as `._clip.eaf` from macOS) are left out and
        counted on stderr.

    Raises:
        ValueError: no such file; a hidden file; two files for one clip; a file name that is not a valid clip name.
    """
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"{path}: needs {what} or a folder of them, but found none")
        if path.name.startswith("._"):
            raise ValueError(f"{path}: is a macOS metadata file without annotations; give {path.name[2:]}")
        check_cell(path.stem, f"{path}: the clip is named by its file")
        return {path.stem: path}
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    shown = [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not shown:
        raise ValueError(f"{path}: needs {what} or a folder of them, but found none")
    if hidden := len(files) - len(shown):
        say(f"{path}: {hidden} hidden file{'s are' if hidden > 1 else ' is'} skipped (the name begins with a dot)")
    found: dict[str, Path] = {}
    for file in shown:
        name = file.relative_to(path).with_suffix("").as_posix()
        check_cell(name, f"{file}: the clip is named by its file")
        if name in found:
            raise ValueError(
                f"{file}: is a second file for the clip {name}, besides {found[name].name}; keep one of them"
            )
        found[name] = file
    return found


def clip_paths(folder: Path, names: Iterable[str], suffix: str) -> dict[str, Path]:
    """Output path of each clip: `folder/NAME.suffix`; slashes in names create folders.

    Raises:
        ValueError: a name that leaves the folder, is hidden, too long or reserved on Windows, or would share its file
            with another (names that differ in case or in the encoding of accents are the same file on many disks).
    """
    paths: dict[str, Path] = {}
    taken: dict[str, str] = {}
    folders: dict[str, str] = {}
    base = folder.resolve()
    for name in names:
        if wrong := _wrong_name(name):
            raise ValueError(f"{folder}: cannot write a file for the clip {name!r}: {wrong}; rename the clip")
        path = folder / f"{name}{suffix}"
        if not path.parent.resolve().is_relative_to(base):
            raise ValueError(f"{path}: a link leads out of {folder}; write to another folder")
        key = _same_file(f"{name}{suffix}")
        if key in taken:
            raise ValueError(
                f"{folder}: the clips {taken[key]!r} and {name!r} would be the same file on many disks; rename one"
            )
        taken[key] = name
        for parent in Path(key).parents:
            folders.setdefault(str(parent), name)
        paths[name] = path
    for key, name in taken.items():
        if key in folders:
            raise ValueError(
                f"{folder}: the file of the clip {name!r} is also the folder of the clip {folders[key]!r}; rename one"
            )
    return paths


def _wrong_name(name: str) -> str:
    """Why a clip name cannot be a path inside a folder, or ""."""
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
            return f"{part!r} begins or ends with a space or ends with a dot, which Windows removes"
        if DEVICES.fullmatch(part):
            return f"{part!r} is a device name on Windows"
        if len(part.encode()) > LONGEST:
            return f"a part of {len(part.encode())} bytes is too long, the limit is {LONGEST}"
    return ""


def _same_file(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
