"""MediaPipe Holistic for the browser: fetched once as an npm package, and what its key points may be mixed with.

The package holds its models, so that a page finds key points with files of its own server alone. It is not part of
this package: `signcl pose --install-browser` puts it into the user's cache folder, after its checksum was compared.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from signcl.data.files import write_bytes, write_text
from signcl.data.folder_lock import only_writer
from signcl.data.pose_estimation.pose_environment import READY, lines_if_failed
from signcl.data.pose_estimation.pose_estimator import Extractor
from signcl.data.pose_estimation.pose_worker import Holistic
from signcl.data.progress import say
from signcl.data.user_cache import cache_folder

__all__ = [
    "BROWSER_EXTRACTOR",
    "INSTALL_BROWSER",
    "PACKAGE",
    "browser_differs",
    "browser_folder",
    "find_browser_holistic",
    "install_browser_holistic",
]

VERSION = "0.5.1675471629"  # the last one; of February 2023
PACKAGE = f"@mediapipe/holistic@{VERSION}"
INTEGRITY = "qY+cxtDeSOvVtevrLgnodiwXYaAtPi7dHZtNv/bUCGEjFicAOYtMmrZSqMmbPkTB2+4jLnPF1vgshkAqQRSYAw=="
"""SHA-512 of the package in base64, as the registry publishes it."""
FILES = (
    "holistic.js",
    "holistic.binarypb",
    "holistic_solution_packed_assets.data",
    "holistic_solution_packed_assets_loader.js",
    "holistic_solution_simd_wasm_bin.js",
    "holistic_solution_simd_wasm_bin.wasm",
    "holistic_solution_wasm_bin.js",  # of browsers without SIMD
    "holistic_solution_wasm_bin.wasm",
    "pose_landmark_full.tflite",
)
"""What is kept of the package; the models of the other complexities (30 MB) are not."""
INSTALL_BROWSER = "signcl pose --install-browser"

BROWSER_EXTRACTOR = Extractor("mediapipe-holistic-web", VERSION, {**Holistic.SETTINGS, "inference": "cpu"})
"""What a page's key points are made with. The settings are those of `signcl pose`. `inference`: on the processor, as
`signcl pose` does, so that the points do not depend on the graphics card of a device. Gaps are not filled in the page:
the server fills them as it does for a video."""
NEAR = {("mediapipe-holistic", "0.10.21")}
"""Extractors whose key points were compared with those of the browser (docs/poses.md)."""


def browser_differs(trained: Extractor) -> str:
    """Why key points of the browser cannot stand in for those of an extractor; nothing where they can.

    Compared are the estimator with its version (one of those that were measured against the browser's) and each of its
    settings. How gaps are filled is not: the server does that after the estimating, whoever estimates.
    """
    if (trained.estimator, trained.version) not in NEAR:
        near = " or ".join(" ".join(one) for one in sorted(NEAR))
        return f"{trained}, where the browser goes with {near} only"
    own = Extractor(trained.estimator, trained.version, dict(Holistic.SETTINGS), trained.fill)
    return own.differs(trained)


def browser_folder() -> Path:
    """Where the files are kept, whether they are there or not."""
    return cache_folder() / f"mediapipe-holistic-web-{VERSION}"


def find_browser_holistic(folder: Path | None = None) -> Path | None:
    """The folder of the files; None where they are not installed, or not whole."""
    folder = folder or browser_folder()
    whole = (folder / READY).is_file() and all((folder / name).is_file() for name in FILES)
    return folder if whole else None


def install_browser_holistic(
    package: Path | str | None = None, folder: Path | None = None, *, run: Callable[[list[str]], str] | None = None
) -> Path:
    """Fetch the files where they are not there yet; their folder.

    Args:
        package: the package as a file (.tgz), for machines without npm or network; None has npm fetch it.
        folder: where the files go; None takes `browser_folder`.
        run: runs a command and gives what went wrong, "" for nothing.

    Raises:
        ValueError: npm is not there or fails, or the package is not the one that was tried.
        OSError: the package cannot be read, or the folder not be written.
    """
    folder = folder or browser_folder()
    if found := find_browser_holistic(folder):
        return found
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(folder.parent, "installs files for the browser in"), tempfile.TemporaryDirectory() as place:
        if found := find_browser_holistic(folder):  # another process has made it meanwhile
            return found
        archive = Path(package) if package is not None else _fetch(Path(place), run or _run)
        _check(archive)
        say(f"putting the files of {PACKAGE} into {folder}: about 37 MB, once; deleting the folder removes them")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with tarfile.open(archive) as members:
            for name in FILES:
                content = members.extractfile(f"package/{name}")
                assert content is not None  # the checksum was that of a package that has them
                write_bytes(folder / name, content.read())
        write_text(folder / READY, f"{PACKAGE}\n")
    return folder


def _fetch(place: Path, run: Callable[[list[str]], str]) -> Path:
    """The package, by npm, which runs nothing of it."""
    elsewhere = f"`npm pack {PACKAGE}` elsewhere, and give its file here: {INSTALL_BROWSER} FILE.tgz"
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(f"{INSTALL_BROWSER} needs npm, which comes with Node.js; install it, or run {elsewhere}")
    say(f"fetching {PACKAGE} with npm: 53 MB, once")
    why = run([npm, "pack", PACKAGE, "--ignore-scripts", "--loglevel=error", "--pack-destination", str(place)])
    found = sorted(place.glob("*.tgz"))
    if why or not found:
        raise ValueError(f"npm cannot fetch {PACKAGE} ({why or 'no file came'}); try again, or run {elsewhere}")
    return found[0]


def _check(archive: Path) -> None:
    """Refuse any other package than the one that was tried."""
    with archive.open("rb") as file:
        digest = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if digest != INTEGRITY:
        raise ValueError(
            f"{archive.name}: is not {PACKAGE}: its SHA-512 is {digest[:12]}..., {INTEGRITY[:12]}... is needed; fetch "
            f"it again with npm pack {PACKAGE}"
        )


def _run(command: list[str]) -> str:
    """Run a command quietly; if it fails, return the first line that it printed (npm's cause), otherwise nothing."""
    return next(iter(lines_if_failed(command)), "")[:300]
