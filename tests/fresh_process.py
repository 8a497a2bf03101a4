"""Runs `signcl ...` in a process forked by a server that has already imported torch, which saves start-up time."""

import importlib.util
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import psutil

PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = [
    *("signcl.cli", "signcl.cli.score_text", "signcl.training.fitting", "signcl.training.loop"),
    *("signcl.evaluation.scoring", "signcl.inference.translation", "signcl.data.corpora.synthetic"),
    *("signcl.systems.gfslt", "signcl.systems.slt", "transformers.models.mbart.modeling_mbart"),
    *("signcl.pages.app", "signcl.pages.server", "signcl.pages.worker", "uvicorn.protocols.http.h11_impl"),
    *("lightning_fabric", "torch.distributed.fsdp", "torch.utils.tensorboard", "safetensors.torch"),
    *("av", "lxml.etree", "rapidfuzz.distance", "sacrebleu"),
]
"""Modules of the test processes, including heavy ones that are imported late. The fork server imports them once."""
PROCESSES.set_forkserver_preload(PRELOADED)


def ready() -> None:
    """Starts the fork server now, before a page server in the test process starts one with fewer modules."""
    forkserver.ensure_running()


def descendants() -> set[psutil.Process]:
    """All direct and indirect child processes of the fork server."""
    ready()
    return set(psutil.Process(forkserver._forkserver._forkserver_pid).children(recursive=True))


def start(words, cwd: Path, place: Path, environment: dict[str, str] | None = None, own_workers: bool = True):
    """Starts `python -m signcl WORDS` in a folder without waiting; stdout and stderr go to files in `place`.

    With `own_workers=False`, workers of the process come from the fork server of the tests. A real process would start
    its own server, which imports everything again.
    """
    place.mkdir(parents=True, exist_ok=True)
    arguments = ([*map(str, words)], str(cwd), str(place), environment or {}, own_workers)
    process = PROCESSES.Process(target=_run, args=arguments)
    process.start()
    return process


def run(words, cwd: Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Runs `python -m signcl WORDS` in a folder; returns its exit code, stdout and stderr."""
    with tempfile.TemporaryDirectory() as place:
        process = start(words, cwd, Path(place), environment)
        process.join(300)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"signcl {' '.join(map(str, words))} did not end")
        said = [Path(place, name).read_text(encoding="utf-8") for name in ("stdout", "stderr")]
    return subprocess.CompletedProcess(["signcl", *words], process.exitcode, *said)


def _run(words: list[str], cwd: str, place: str, environment: dict[str, str], own_workers: bool = True) -> None:
    from signcl.cli import main

    if not own_workers:
        forkserver._forkserver.ensure_running = resource_tracker.ensure_running
    for name, number in (("stdout", 1), ("stderr", 2)):
        file = os.open(os.path.join(place, name), os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
    sys.stdout.reconfigure(line_buffering=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test suite in the background ignores SIGINT
    # multiprocessing passes the parent's arguments and path to the child; replace them with those of a command
    sys.argv, sys.path[:] = ["signcl", *words], [entry for entry in sys.path if entry not in ("", os.getcwd())]
    sys.modules["__main__"].__spec__ = importlib.util.find_spec("signcl.__main__")  # for ranks that it starts
    os.environ.update(environment)
    os.chdir(cwd)
    code = 1
    try:
        code = main(words)
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def place_of_rank(rank: int, ranks: int, port: int) -> dict[str, str]:
    """The environment variables that torchrun sets for one of several processes on this machine."""
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    place |= {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "test"}
    return {name: str(value) for name, value in place.items()}


def free_port() -> int:
    """A free port."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def run_on_ranks(script: str, *words, ranks: int = 2) -> None:
    """Runs a script in several processes, like `torchrun script WORDS`."""
    port = free_port()
    processes = [PROCESSES.Process(target=_rank, args=(rank, ranks, port, script, words)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
        assert process.exitcode == 0


def start_script(script: str, *words):
    """Starts `python -c script WORDS` without waiting."""
    process = PROCESSES.Process(target=_script, args=(script, words))
    process.start()
    return process


def run_script(script: str, *words) -> int | None:
    """Runs `python -c script WORDS`; returns the exit code, which is negative after a signal."""
    process = start_script(script, *words)
    process.join(240)
    return process.exitcode


def _script(script: str, words: tuple) -> None:
    sys.argv = ["script", *map(str, words)]
    exec(compile(script, "script", "exec"), {"__name__": "__main__"})


def _rank(rank: int, ranks: int, port: int, script: str, words: tuple) -> None:
    os.environ.update(place_of_rank(rank, ranks, port))
    _script(script, words)
