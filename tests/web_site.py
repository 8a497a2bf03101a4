"""Shared by the tests of the pages: a tiny corpus with a run, and a real server process."""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fresh_process
import pytest

from signcl.cli import main

RECIPES = Path(__file__).parents[1] / "recipes"
TINY = (
    "--model.visual_dim=16",
    "--model.conv_width=32",
    "--model.width=32",
    "--model.encoder_layers=1",
    "--model.decoder_layers=1",
    "--model.heads=2",
    "--model.ffn=32",
    "--train.device=cpu",
    "--train.evaluate_every=9",
    "--train.epochs=1",
    "--model.init_from=",
)


def make_site(place: Path) -> None:
    """Makes a small corpus and a finetuned run on it. If several processes call this, one makes them."""
    fresh_process.ready()
    place.mkdir(exist_ok=True)
    corpus, run, recipe = place / "corpus", place / "run", RECIPES / "synthetic/finetune-signcl.yaml"
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (run / "card.json").is_file():
            assert main(["corpus", "make", str(corpus), "--clips=40", "--size=48", "--signs=16"]) == 0
            assert main(["fit", str(recipe), f"--corpus.root={corpus}", f"--out={run}", *TINY]) == 0


class Server:
    """`signcl serve` in its own process. The constructor waits until it answers; `said` has the lines of its stderr."""

    def __init__(self, *words: object, port: int = 0, own_workers: bool = False) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="server"))
        command = ["serve", *map(str, words), f"--port={port}", "--device=cpu"]
        environment = {"OMP_NUM_THREADS": "1"}
        self.process = fresh_process.start(command, Path.cwd(), self.place, environment, own_workers)
        until = time.monotonic() + 120
        while not (answered := self._read("stdout")).endswith("\n") and time.monotonic() < until:
            assert self.process.is_alive(), self._read("stderr")
            time.sleep(0.02)
        self.address = answered.partition("\n")[0]
        assert self.address.startswith("http://"), self._read("stderr")
        self.address = self.address.removesuffix("/annotate").removesuffix("/subtitles")
        self.port = int(self.address.partition("/?")[0].rpartition(":")[2])

    def _read(self, name: str) -> str:
        file = self.place / name
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    @property
    def said(self) -> list[str]:
        """Lines on stderr so far."""
        return self._read("stderr").splitlines(keepends=True)

    def says(self, *parts: str, seconds: float = 30) -> bool:
        """Waits for a line with all these parts on stderr; returns whether it came in time."""
        until = time.monotonic() + seconds
        while not any(all(part in line for part in parts) for line in self.said):
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return True

    def kill(self) -> None:
        """Kills it immediately, like a power cut."""
        self.process.kill()
        self.process.join()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@contextmanager
def open_browser(*options: str) -> Iterator[Any]:
    """Chromium with these command-line options. The test is skipped if there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
    with playwright.sync_playwright() as p:
        safe = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = p.chromium.launch(executable_path=find_chromium(), args=[*safe, *options])
        yield browser
        browser.close()


def find_chromium() -> str:
    """The path of an installed Chromium. A headless shell comes first: it takes a third of the time."""
    names = ("chromium-headless-shell", "chrome-headless-shell", "chromium", "chromium-browser")
    names += ("google-chrome", "google-chrome-stable")
    found = next((found for name in names if (found := shutil.which(name))), None)
    return found or pytest.skip("no chromium or google-chrome on this machine")
