"""`serve`: the pages of a run and of an annotation, for a browser on this machine."""

from __future__ import annotations

import errno
import functools
import importlib.util
import socket
from pathlib import Path
from typing import Any

from signcl.data.progress import say
from signcl.inference.translation import load_model
from signcl.pages.task import Task, make_task
from signcl.pages.uploads import Limits
from signcl.training.recipe import recipe_samples
from signcl.training.runs import read_recipe

__all__ = ["serve"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")


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
    max_upload: float = 64.0,
    device: str = "auto",
    pose_python: str | None = None,
) -> None:
    """Serve the pages until Ctrl-C.

    Args:
        run: a run folder: translate, report, explorer.
        annotate: choose frames: a table of spans, or True for the spans that the corpus knows.
        corpus, root, split: of the spans; default those of the run.
        choices: where chosen frames go, see `make_task`.
        host: loopback unless told otherwise. There is no password: whoever reaches the address may use it.
        port: where; 0 takes any free one.
        max_upload: megabytes of a clip.
        device: auto | cpu | cuda, for translating.
        pose_python: of a run of key points: the Python that has the extractor of its training, for videos.

    Raises:
        ValueError: nothing to serve, the extra is missing, or what `make_task` finds wrong.
        OSError: the port is taken, or the run folder is none.
    """
    _need_extra()
    if run is None and annotate is False:
        raise ValueError("serve needs a RUN, or --annotate SPANS.tsv with --corpus and --root, or both")
    if not 0 <= port <= 65535 or not max_upload > 0:
        raise ValueError(f"serve needs a port of 0 to 65535 and a positive upload limit, got {port} and {max_upload}")
    door = _listen(host, port)  # before anything slow, so that a taken port is said at once
    try:
        from signcl.pages.app import make_app

        site = _site(run, corpus, root, split, device, pose_python)
        address = f"http://{f'[{host}]' if ':' in host else host}:{door.getsockname()[1]}"
        site.limits = Limits(megabytes=max_upload)
        site.hosts = frozenset({"localhost", "127.0.0.1", "[::1]"}) if host in LOOPBACK else None
        if annotate is not False:
            site.task = _task(site, annotate, corpus, root, split, choices, address)
        if host not in LOOPBACK:
            say(f"{host} is not the loopback address: everybody who reaches {address} may use these pages")
        print(f"{address}{'/annotate' if run is None else ''}", flush=True)
        say("Ctrl-C stops the server")
        import uvicorn

        uvicorn.Server(uvicorn.Config(make_app(site), log_level="warning", timeout_graceful_shutdown=3)).run([door])
    finally:
        door.close()


def _need_extra() -> None:
    missing = [name for name in ("fastapi", "uvicorn", "python_multipart") if importlib.util.find_spec(name) is None]
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
) -> Any:
    """The run, its model if it has one, and its clips."""
    from signcl.pages.app import Site

    if run is None:
        return Site(split=split)
    folder = Path(run)
    if not (folder / "recipe.yaml").is_file():
        raise FileNotFoundError(f"{folder} is not a run folder made by `signcl fit`: it has no recipe.yaml")
    recipe = read_recipe(folder)

    @functools.cache
    def clips() -> dict[str, Any]:
        return {sample.name: sample for sample in recipe_samples(recipe, split, root)}

    site = Site(run=folder, samples=clips, split=split)
    if recipe.system.answers != "sentences":
        site.why_no_model = f"{folder.name} is a {recipe.stage} run; a finetune run is needed"
        return site
    say(f"loading {folder}")
    site.model = load_model(folder, device=device, pose_python=pose_python)
    if site.model.poses is not None:
        try:
            site.model.poses.check()
        except (ValueError, OSError) as error:
            say(f"videos cannot be translated here, features can: {error}")
    return site


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
