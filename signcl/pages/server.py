"""`serve`: the pages of a run and of an annotation, for a browser on this machine."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib.util
import logging
import os
import re
import secrets
import socket
from pathlib import Path
from typing import Any

from signcl.data.interrupts import sigterm_stops
from signcl.data.progress import say
from signcl.pages.access import Access, is_loopback
from signcl.pages.job_queue import JobQueue
from signcl.pages.kept_clips import Keeper
from signcl.pages.subtitle_editor import Subtitles
from signcl.pages.task import Task, make_task
from signcl.pages.uploads import Limits
from signcl.training.recipe import recipe_samples
from signcl.training.runs import read_recipe

__all__ = ["serve"]

TOKEN = 32  # random bytes
HEAD_SECONDS = 30.0  # for the head of the first request of a connection


def serve(
    run: Path | str | None = None,
    *,
    annotate: Path | str | bool = False,
    corpus: str | None = None,
    root: Path | str | None = None,
    split: str = "test",
    choices: Path | str | None = None,
    host: str = "127.0.0.1",
    port: int = 8765,
    token: Path | str | None = None,
    limits: Limits | None = None,
    device: str = "auto",
    pose_python: str | None = None,
    keep_in: Path | str | None = None,
    language: str | None = None,
    subtitles: Path | str | None = None,
    film: Path | str | None = None,
) -> None:
    """Serve the pages until Ctrl-C or SIGTERM, which end it at once.

    Args:
        run: a run folder: translate, report, explorer.
        annotate: choose frames: a table of spans, or True for the spans that the corpus knows.
        corpus, root, split: of the spans; default those of the run.
        choices: where chosen frames go, see `make_task`.
        host: loopback unless told otherwise. Beyond the loopback address everybody needs the token.
        port: where; 0 takes any free one.
        token: a file with the token, made where there is none, so that it stays when the server starts again; None
            draws one for this time where one is needed.
        limits: of what people send.
        device: auto | cpu | cuda, for translating.
        pose_python: of a run of key points: the Python that has the extractor of its training, for videos.
        keep_in: a folder corpus that takes clips whose signers agree to it; None keeps nothing that is sent.
        language: of the pages, en or de; None is that of each reader's browser.
        subtitles: a file of subtitles to edit: .srt, .vtt, .eaf, or a table of `signcl subtitle`.
        film: its video; None takes the one beside it under the same name.

    Raises:
        ValueError: nothing to serve, a missing extra, a run that cannot be loaded, or what `make_task` finds wrong.
        OSError: the port is taken, or the run folder is none.
    """
    _need_extra()
    if film is not None and subtitles is None:
        raise ValueError(f"--film {film}: is the video of subtitles; give them with --subtitles FILE")
    if run is None and annotate is False and subtitles is None:
        raise ValueError(
            "serve needs a RUN, --annotate SPANS.tsv with --corpus and --root, or --subtitles FILE, or several of them"
        )
    if not 0 <= port <= 65535:
        raise ValueError(f"serve needs a port of 0 to 65535, got {port}")
    with sigterm_stops(), contextlib.ExitStack() as ending:
        door = _listen(host, port)  # before anything slow, so that a taken port is said at once
        ending.callback(door.close)
        from signcl.pages.app import make_app

        number = door.getsockname()[1]
        loopback = is_loopback(host)
        secret = _token(token) if token is not None else None if loopback else secrets.token_urlsafe(TOKEN)
        site = _site(run, corpus, root, split, device, pose_python, limits or Limits())
        if site.queue is not None:
            ending.callback(site.queue.close)
        site.access = Access(loopback=loopback, token=secret, port=number)
        site.language = language
        if subtitles is not None:
            site.subtitles = Subtitles(Path(subtitles), None if film is None else Path(film))
            if site.subtitles.film is None:
                say(f"there is no video beside {subtitles}: the page has the time line only; give one with --film")
        if keep_in is not None:
            site.keeper = _keeper(site, Path(keep_in))
        address = f"http://{_outside(host)}:{number}"
        if annotate is not False:
            site.task = _task(site, annotate, corpus, root, split, choices, address)
        page = "" if run is not None else "/annotate" if annotate is not False else "/subtitles"
        print(f"{address}{page}" if secret is None else f"{address}/?token={secret}", flush=True)
        if secret is not None:
            say(
                "only the address with the token lets people in: it leaves a cookie in their browser; programs send "
                "`Authorization: Bearer TOKEN`. It travels in plain text: use an SSH tunnel where others can listen"
            )
        say("Ctrl-C stops the server")
        _until_stopped(make_app(site), door)


def _until_stopped(app: Any, door: socket.socket) -> None:
    """Serve until a signal, then end at once: nobody is waited for."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: Any) -> None:
            self.force_exit = True  # wait for nobody
            logging.getLogger("uvicorn.error").disabled = True  # that clients are cut off is what was asked for
            super().handle_exit(sig, frame)

    Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, http=_protocol())).run([door])


def _protocol() -> Any:
    """HTTP whose connections are closed where a request does not begin in time; uvicorn waits for ever."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Patient(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(HEAD_SECONDS, self._close_where_silent)

        def _close_where_silent(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return Patient


def _token(path: Path | str) -> str:
    """The token in a file; a new one where there is no file."""
    path = Path(path)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(TOKEN) + "\n")
    except FileExistsError:
        pass
    found = path.read_text(encoding="utf-8", errors="replace").strip()
    if not re.fullmatch(r"[A-Za-z0-9._~-]{16,500}", found):
        raise ValueError(
            f"--token {path}: needs one line of 16 to 500 letters, digits and . _ ~ -; remove it for a new one"
        )
    return found


def _outside(host: str) -> str:
    """The host as others write it: an address of this machine where it listens on all of them."""
    if host in ("", "0.0.0.0", "::"):
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it asks which of our addresses leads outside
            return str(probe.getsockname()[0])
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _need_extra() -> None:
    missing = [
        name for name in ("fastapi", "uvicorn", "python_multipart", "psutil") if importlib.util.find_spec(name) is None
    ]
    if missing:
        raise ValueError(f"serve needs the extra `serve` ({', '.join(missing)} missing): pip install 'signcl[serve]'")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        door = socket.socket(family, socket.SOCK_STREAM)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, port))
        door.listen(64)
        return door
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} of {host} is taken, perhaps by another `signcl serve`; give another with --port"
        elif isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            reason = f"--host {host}: this machine has no such address"
        else:
            reason = f"cannot listen on port {port} of {host}: {error.strerror}; give another with --port"
        raise OSError(error.errno, reason) from None


def _site(
    run: Path | str | None,
    corpus: str | None,
    root: Path | str | None,
    split: str,
    device: str,
    pose_python: str | None,
    limits: Limits,
) -> Any:
    """The run, its translations if it has some, and its clips."""
    from signcl.pages.app import Site

    if run is None:
        return Site(split=split)
    folder = Path(run)
    recipe = read_recipe(folder)

    @functools.cache
    def clips() -> dict[str, Any]:
        return {sample.name: sample for sample in recipe_samples(recipe, split, root)}

    site = Site(run=folder, samples=clips, split=split)
    if recipe.system.answers != "sentences":
        site.why_not = f"{folder.name} is a {recipe.stage} run; a finetune run is needed"
        return site
    say(f"loading {folder}")
    site.queue = JobQueue(folder, limits=limits, device=device, pose_python=pose_python)
    return site


def _keeper(site: Any, folder: Path) -> Keeper:
    if site.queue is None:
        raise ValueError(f"--keep-in {folder}: needs a RUN that translates, {site.why_not}")
    most = site.limits.kept_megabytes
    keeper = Keeper(folder, most * 1e6)
    say(
        f"clips are kept in {folder} where their signers agree ({keeper.used() / 1e6:.0f} of at most {most:g} MB are "
        "used); train on them with corpus: {name: folder}"
    )
    return keeper


def _task(
    site: Any,
    annotate: Path | str | bool,
    corpus: str | None,
    root: Path | str | None,
    split: str,
    choices: Path | str | None,
    address: str,
) -> Task:
    if site.run is not None and root is None:
        recipe = read_recipe(site.run)
        corpus, root = corpus or recipe.corpus.name, recipe.corpus.root
    if root is None:
        raise ValueError("--annotate needs the clips: give --corpus folder --root DIR --split test, or a RUN")
    task = make_task(
        None if annotate is True else Path(str(annotate)),
        corpus=corpus or "folder",
        root=root,
        split=split,
        choices=choices,
    )
    other = task.hold(address)
    say(f"{len(task.spans)} spans; choices go to {task.path}, which holds {len(task.decisions())} decisions")
    if other is not None:
        say(
            f"another server writes to {task.path} too ({other}): both may run, every choice is kept, and each page "
            "sees the other's choices"
        )
    return task
