"""The environment for MediaPipe: a separate virtual environment, created once in the user's cache folder.

MediaPipe 0.10.21 is the last release whose wheel includes the Holistic models, so nothing else is downloaded. It
requires numpy 1 and protobuf 4, and signcl requires newer versions, so they cannot share an environment. The versions
below were tested together. Dependencies of MediaPipe that Holistic does not need (jax, sounddevice, sentencepiece: 250
MB) are left out. `mediapipe-numpy2`, by another author, is the same wheel byte for byte with different requirements, so
the original is used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from signcl.data.files import write_text
from signcl.data.folder_lock import only_writer
from signcl.data.progress import say
from signcl.data.user_cache import cache_folder

__all__ = ["INSTALL", "PACKAGES", "environment_folder", "find_python", "make_environment"]

PACKAGES = (
    "mediapipe==0.10.21",
    "numpy==1.26.4",
    "absl-py==2.1.0",
    "attrs==25.1.0",
    "contourpy==1.3.1",
    "cycler==0.12.1",
    "flatbuffers==25.2.10",
    "fonttools==4.56.0",
    "kiwisolver==1.4.8",
    "matplotlib==3.9.4",  # imported by MediaPipe's drawing module even if nothing is drawn
    "opencv-python-headless==4.11.0.86",  # instead of opencv-contrib-python, which needs display libraries
    "packaging==24.2",
    "pillow==11.1.0",
    "protobuf==4.25.6",
    "pyparsing==3.2.1",
    "python-dateutil==2.9.0.post0",
    "six==1.17.0",
)
INSTALL = "signcl pose --install"
PYTHONS = ("3.12", "3.11", "3.10")  # MediaPipe 0.10.21 has wheels for these
READY = "ready.txt"


def environment_folder() -> Path:
    """The folder for the environment, which may not exist yet. Its name depends on the list of packages."""
    digest = hashlib.sha256("\n".join(PACKAGES).encode()).hexdigest()[:8]
    return cache_folder() / f"mediapipe-0.10.21-{digest}"


def find_python(given: str | Path | None = None) -> Path:
    """The Python interpreter that has MediaPipe.

    Args:
        given: interpreter or folder of an existing environment; None for the one of `make_environment`.

    Raises:
        FileNotFoundError: there is none; the message has the command that installs it.
    """
    if given is not None:
        python = Path(given)
        if python.is_dir():  # the folder of a virtual environment
            python = _python_in(python)
        if not python.is_file():
            raise FileNotFoundError(f"--pose-python {given}: no such file; the Python of an environment is needed")
        return python
    folder = environment_folder()
    if not (folder / READY).is_file():
        raise FileNotFoundError(
            f"key points of a video need MediaPipe, which is not installed (a separate environment, about 400 MB); "
            f"install it with: {INSTALL}"
        )
    return _python_in(folder)


def make_environment(
    folder: Path | None = None,
    *,
    packages: Sequence[str] = PACKAGES,
    run: Callable[[list[str]], str] | None = None,
) -> Path:
    """Creates the environment if necessary and returns its Python. An incomplete environment is created again.

    Args:
        folder: where to create it; None for `environment_folder()`.
        packages: packages to install, as arguments of pip.
        run: runs a command and returns its error message, or "" on success.

    Raises:
        ValueError: MediaPipe has no wheels for any Python found, or the packages cannot be installed.
    """
    folder, run = folder or environment_folder(), run or _run
    if (folder / READY).is_file():
        return _python_in(folder)
    python = _suitable_python()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(folder.parent, "makes an environment in"):
        if (folder / READY).is_file():  # another process has created it in the meantime
            return _python_in(folder)
        say(f"making an environment for MediaPipe in {folder}: about 400 MB, once; deleting the folder removes it")
        shutil.rmtree(folder, ignore_errors=True)
        why = run([python, "-m", "venv", str(folder)])
        if why:
            raise ValueError(
                f"{folder}: cannot create an environment with {python} ({why}); on Debian and Ubuntu install "
                f"python3-venv, or give the Python of an existing environment with --pose-python"
            )
        install = ["-m", "pip", "install", "--no-input", "--quiet", "--disable-pip-version-check", "--no-deps"]
        why = run([str(_python_in(folder)), *install, "--only-binary", ":all:", *packages])
        if why:
            shutil.rmtree(folder, ignore_errors=True)
            raise ValueError(
                f"MediaPipe cannot be installed ({why}); without network access, create an environment on another "
                f"machine with pip install --no-deps {' '.join(packages[:2])} ... (docs/poses.md has the list) and "
                f"give its Python with --pose-python"
            )
        write_text(folder / READY, "\n".join(packages) + "\n")
    return _python_in(folder)


def _python_in(folder: Path) -> Path:
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def _suitable_python() -> str:
    """This Python, or another one on this machine, for which MediaPipe has wheels."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here in PYTHONS:
        return sys.executable
    for version in PYTHONS:
        found = shutil.which(f"python{version}")
        if found:
            return found
    raise ValueError(
        f"MediaPipe 0.10.21 has wheels for Python {PYTHONS[-1]} to {PYTHONS[0]}, and this is {here}; install one of "
        f"those too, or give the Python of an existing environment with --pose-python"
    )


def _run(command: list[str]) -> str:
    """Runs a command quietly. Returns the last error that it printed if it fails, otherwise ""."""
    lines = lines_if_failed(command)
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    return (errors or lines or [""])[-1][:300]


def lines_if_failed(command: list[str]) -> list[str]:
    """Runs a command quietly, without PYTHONPATH. Returns the lines that it printed if it fails, otherwise []."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=kept, check=False)
    except OSError as error:
        return [str(error)]
    if done.returncode == 0:
        return []
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return lines or [f"exit code {done.returncode}"]
