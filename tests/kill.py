"""A campaign of kills: `python -m tests.kill --runs 50 [--seed S] [--verb NAME]`.

Each run starts a verb in a separate process, kills its process group with SIGKILL at a random point (some runs twice),
and runs it again. The point is either a fraction of the usual CPU time, which does not depend on the load of the
machine, or just before one of the verb's changes to the file system. The results are compared with an undisturbed run,
file by file, ignoring time fields. A run counts as lost if afterwards

- an earlier result is neither the old nor the new one, or cannot be loaded,
- the second start fails, or a file is missing or differs (weights and optimizer moments are compared bit by bit),
- temporary files or processes are left over.

The exit code is 1 if any run was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __package__:  # pytest adds this folder to the path, `python -m tests.kill` does not
    sys.path.insert(0, str(Path(__file__).parent))

import fresh_process
import httpx
import torch
from systems import SMALL, having

from signcl.cli import main as signcl
from signcl.data.annotation.choices import read_decisions
from signcl.testing import write_tiny_corpus
from signcl.training.recipe import recipe_from_dict, save_recipe
from signcl.training.runs import load_run

CLOCK = {"seconds", "command", "time", "machine"}
"""Fields with a time or a duration."""
UNLIKE = ("events.out.tfevents.",)
"""Prefixes of files with the time in their names."""
BETWEEN = ("last.pt", "metrics.jsonl", "card.json", "manifest.json", "model.safetensors", "recipe.yaml")
"""Files that training updates several times: they may be in an intermediate state, but must be readable."""
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate")
"""Audit events that change the file system, in addition to `open` for writing."""
LONGEST = 300  # seconds that a verb may take


@dataclass(frozen=True)
class Case:
    """A verb with the smallest possible inputs."""

    words: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """Names of the required inputs."""
    ranks: int = 1
    earlier: Callable[[Path], None] = lambda place: None
    """Makes an earlier result, which a kill must not damage."""


@dataclass
class Tally:
    """Results of the runs of a verb."""

    kills: int = 0
    resumed: int = 0
    lost: list[str] = field(default_factory=list)


def _fit(name: str, system: str, weights: dict[str, float], **model: Any) -> Callable[[Path], None]:
    """Writes a recipe whose run is in `runs/NAME`."""
    stage = {"vlp": "pretrain", "gfslt": "finetune"}[system]

    def write(place: Path) -> None:
        sizes = {**having(system, SMALL), **model}
        save_recipe(recipe_from_dict({
            "stage": stage, "out": f"runs/{name}", "corpus": {"name": "folder", "root": "features"},
            "model": {"name": system, "visual": "feature_mlp", "visual_dim": 16, **sizes},
            "loss": {"weights": weights, "signcl": {"distance_margin": 4.0, "frame_margin_floor": 2}},
            "train": {"epochs": 2, "batch_size": 2, "device": "cpu", "evaluate_every": 1, "save_every": 1,
                      "schedule": "constant"},
            "decode": {"beams": 1, "max_new_tokens": 4},
        }), place / f"{name}.yaml")  # fmt: skip

    return write


PRETRAIN = _fit("pretrain", "vlp", {"clip": 1.0, "masked_text": 1.0, "signcl": 0.1})
FINETUNE = _fit("finetune", "gfslt", {"translation": 1.0, "signcl": 0.1}, init_from="runs/pretrain")


def _older_pages(place: Path) -> None:
    for name in ("page.html", "report.html"):
        (place / name).write_text("an older page")


def _scored(place: Path) -> None:
    """Scores of another split, and older pages."""
    _older_pages(place)
    shutil.copy(place / "runs/finetune/scores.before.json", place / "runs/finetune/scores.json")


CASES = {
    "fit, pretrain": Case(("fit", "pretrain.yaml"), ("features", "pretrain.yaml")),
    "fit, finetune": Case(("fit", "finetune.yaml"), ("features", "finetune.yaml", "runs/pretrain")),
    "fit, longer": Case(
        ("fit", "finetune.yaml", "--train.epochs=3"), ("features", "finetune.yaml", "runs/pretrain", "runs/finetune")
    ),
    "fit, two ranks": Case(
        ("fit", "pretrain.yaml", "--train.devices=2", "--train.strategy=ddp"), ("features", "pretrain.yaml"), ranks=2
    ),
    "extract": Case(
        ("extract", "runs/finetune", "-o", "store", "--split=train", "--shard-samples=1", "--batch-size=2",
         "--device=cpu"),
        ("features", "runs/finetune"),
    ),
    "corpus make": Case(("corpus", "make", "made", "--clips=40", "--size=48", "--signs=16")),
    "corpus pack": Case(
        ("corpus", "pack", "pixels", "-o", "pack", "--form=jpeg", "--size=24", "--shard-clips=2"), ("pixels",)
    ),
    "evaluate": Case(
        ("evaluate", "runs/finetune", "--split=test", "--device=cpu", "--bootstrap=20"),
        ("features", "runs/finetune"),
        earlier=_scored,
    ),
    "score": Case(
        ("score", "hyp.txt", "ref.txt", "--html=page.html", "--bootstrap=50"),
        ("hyp.txt", "ref.txt"),
        earlier=_older_pages,
    ),
    "report": Case(("report", "runs/finetune", "-o", "report.html"), ("features", "runs/finetune"), earlier=_scored),
}  # fmt: skip


def write_inputs(place: Path, *, runs: bool = True) -> None:
    """Writes the inputs of the verbs; `runs=False` skips the training of runs."""
    write_tiny_corpus(place / "features")
    write_tiny_corpus(place / "pixels", pixels=True)
    references = [line.split("\t")[2] for line in (place / "features/train.tsv").read_text().splitlines()[1:]]
    (place / "ref.txt").write_text("\n".join(references) + "\n")
    (place / "hyp.txt").write_text("\n".join(references[::-1]) + "\n")
    PRETRAIN(place)
    FINETUNE(place)
    if not runs:
        return
    quiet = io.StringIO()
    with contextlib.chdir(place), contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        for words in (["fit", "pretrain.yaml"], ["fit", "finetune.yaml"], ["evaluate", "runs/finetune",
                          "--split=dev", "--device=cpu", "--bootstrap=20"]):  # fmt: skip
            assert signcl(words) == 0
    run = place / "runs/finetune"
    shutil.copy(run / "scores.json", run / "scores.before.json")


# -- what a folder holds -----------------------------------------------------------------------------------------------


def snapshot(place: Path) -> dict[str, str]:
    """A digest of every file, without times."""
    return {
        str(path.relative_to(place)): _digest(path)
        for path in sorted(place.rglob("*"))
        if path.is_file() and not path.name.startswith(UNLIKE)
    }


def _digest(path: Path) -> str:
    content: Any = path.read_bytes()
    if path.name == ".lock":
        content = b""  # it has the id of the process
    elif path.suffix == ".json":
        content = repr(_timeless(json.loads(content))).encode()
    elif path.suffix == ".pt":
        content = repr(_timeless(torch.load(path, weights_only=True))).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _timeless(value: Any) -> Any:
    """Nested data without clock fields, with tensors as digests of their bits."""
    if isinstance(value, dict):
        return {key: _timeless(part) for key, part in value.items() if key not in CLOCK}
    if isinstance(value, list | tuple):
        return [_timeless(part) for part in value]
    if isinstance(value, torch.Tensor):
        bits = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return value.dtype, tuple(value.shape), hashlib.sha256(bits).hexdigest()
    return value


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """One phrase for each file that is missing, unexpected or different."""
    said = [f"{name} is missing" for name in expected if name not in found]
    said += [f"{name} is left over" for name in found if name not in expected]
    return said + [f"{name} differs" for name in found if name in expected and found[name] != expected[name]]


# -- processes that are killed -----------------------------------------------------------------------------------------


def _victim(words: tuple[str, ...], cwd: str, place: str, environment: dict[str, str], changes: Any, last: int) -> None:
    """Runs the verb in its own process group, which is killed before its file system change number `last`."""
    os.setsid()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes or not _within(arguments[0], cwd):
                return
        elif event not in CHANGES or not _within(arguments[0], cwd):
            return
        changes.value += 1
        if changes.value == last:
            os.killpg(0, signal.SIGKILL)

    sys.addaudithook(hook)
    fresh_process._run([*words], cwd, place, environment)


def _within(path: Any, folder: str) -> bool:
    return isinstance(path, str | os.PathLike) and os.path.abspath(os.fspath(path)).startswith(folder)


class Victim:
    """A running verb, with one process per rank."""

    def __init__(self, case: Case, place: Path, last_change: int = 0) -> None:
        self.place, self.said = place, Path(tempfile.mkdtemp(prefix="said-", dir=place.parent))
        counters = [fresh_process.PROCESSES.Value("L", 0, lock=False) for _ in range(case.ranks)]
        self.changes = counters[0]  # only the first rank writes files
        port = fresh_process.free_port() if case.ranks > 1 else 0
        self.processes = []
        for rank in range(case.ranks):
            environment = {"OMP_NUM_THREADS": "1"}
            environment |= fresh_process.place_of_rank(rank, case.ranks, port) if case.ranks > 1 else {}
            arguments = (case.words, str(place), str(self.said / str(rank)), environment, counters[rank], last_change)
            (self.said / str(rank)).mkdir()
            process = fresh_process.PROCESSES.Process(target=_victim, args=arguments)
            process.start()
            self.processes.append(process)
        self.pids = [process.pid for process in self.processes]

    def wait(self, processor_seconds: float = float("inf")) -> float:
        """Waits until it ends or has used this much CPU time; returns the CPU time used."""
        until, used = time.monotonic() + LONGEST, 0.0
        while all(process.is_alive() for process in self.processes) and time.monotonic() < until:
            with contextlib.suppress(OSError):
                used = time.clock_gettime((~self.pids[0] << 3) | 2)  # Linux: the clock of another process
            if used >= processor_seconds:
                break
            time.sleep(0.002)
        return used

    def kill(self) -> bool:
        """Kills the remaining processes and their children; returns whether there were any."""
        self.kill_groups()
        for process in self.processes:
            process.join()
        return any(process.exitcode == -signal.SIGKILL for process in self.processes)

    def kill_groups(self) -> None:
        """Sends the signals without waiting."""
        for pid in self.pids:
            for end in (os.killpg, os.kill):  # the process group may not exist yet
                with contextlib.suppress(ProcessLookupError):
                    end(pid, signal.SIGKILL)

    def end(self) -> str:
        """Waits for its end; returns "" on success, otherwise its last line."""
        for process in self.processes:
            process.join(LONGEST)
        codes = [process.exitcode for process in self.processes]
        self.kill()
        if not any(codes):
            return ""
        lines = (self.said / "0/stderr").read_text().strip().splitlines() or ["nothing"]
        return f"exit codes {codes}, it says: {lines[-1]}"

    def leaves_processes(self) -> bool:
        """Whether any process of its groups is still alive after a few seconds."""
        until = time.monotonic() + 5
        while time.monotonic() < until:
            if not any(_group_lives(pid) for pid in self.pids):
                return False
            time.sleep(0.05)
        return True


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


@dataclass(frozen=True)
class Usual:
    """An undisturbed run of a verb."""

    after: dict[str, str]
    changes: int
    processor_seconds: float


class Campaign:
    """Compares killed runs with undisturbed ones."""

    def __init__(self, place: Path, *, runs: bool = True) -> None:
        self.place, self.inputs = place, place / "inputs"
        self.usual: dict[str, Usual] = {}
        self.number = 0
        self.inputs.mkdir()
        write_inputs(self.inputs, runs=runs)

    def start_from(self, case: Case) -> Path:
        """Makes a new folder with the inputs of the verb."""
        self.number += 1
        place = self.place / f"run{self.number}" / "here"  # paths in files are relative, so they do not differ
        place.mkdir(parents=True)
        for name in case.needs:
            source, target = self.inputs / name, place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        case.earlier(place)
        return place

    def undisturbed(self, name: str) -> Usual:
        """Runs a verb without a kill, for comparison."""
        if name not in self.usual:
            place = self.start_from(CASES[name])
            victim = Victim(CASES[name], place)
            used = victim.wait()
            if wrong := victim.end():
                raise RuntimeError(f"{name}, undisturbed: {wrong}")
            self.usual[name] = Usual(snapshot(place), victim.changes.value, used)
            shutil.rmtree(place.parent)
        return self.usual[name]

    def run(self, name: str, draw: random.Random, tally: Tally) -> None:
        """Kills a verb once or twice, runs it again and compares."""
        case, usual = CASES[name], self.undisturbed(name)
        place = self.start_from(case)
        before, wrong, points = snapshot(place), [], []
        for _ in range(draw.choice((1, 1, 2))):
            by_change = draw.random() < 0.5
            last = draw.randint(1, max(1, usual.changes)) if by_change else 0
            share = draw.random()
            victim = Victim(case, place, last)
            victim.wait(float("inf") if by_change else share * usual.processor_seconds)
            points.append(f"before change {last}" if by_change else f"at {share:.0%} of its time")
            if not victim.kill():
                continue  # it had finished before the kill
            tally.kills += 1
            wrong += [f"a process lives on, {victim.pids}"] * victim.leaves_processes()
            wrong += list(damage(place, before, usual.after))
        victim = Victim(case, place)
        refused = victim.end()
        wrong += [refused] if refused else differences(snapshot(place), usual.after)
        if wrong:
            tally.lost.append(f"LOST, killed {' and '.join(points)}: {'; '.join(wrong)}")
        else:
            tally.resumed += 1
        shutil.rmtree(place.parent)


def damage(place: Path, before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    """Yields earlier results that are neither old nor new right after a kill, and runs that cannot be loaded."""
    for name, old in before.items():
        path = place / name
        if not path.is_file():
            if name in after:
                yield f"{name} is gone"
            continue
        try:
            now = _digest(path)
        except Exception as error:
            yield f"{name} cannot be read after the kill ({type(error).__name__})"
            continue
        if path.name not in BETWEEN and now not in (old, after.get(name)):
            yield f"{name} is neither old nor new after the kill"
    for weights in place.glob("runs/*/model.safetensors"):
        try:
            if (weights.parent / "card.json").is_file():
                load_run(weights.parent)
        except Exception as error:
            yield f"{weights.parent.name} cannot be loaded after the kill: {error}"


# -- choosing frames ---------------------------------------------------------------------------------------------------


def annotate(campaign: Campaign, draw: random.Random, tally: Tally) -> None:
    """Kills a server while frames are being chosen: every confirmed choice must be stored exactly once."""
    place = campaign.start_from(Case((), ("pixels",)))
    words = ("serve", "--annotate", "--corpus=folder", "--root=pixels", "--split=train", "--choices=choices.jsonl",
             "--port=0", "--device=cpu")  # fmt: skip
    table = [line.split("\t")[4].split() for line in (place / "pixels/train.tsv").read_text().splitlines()[1:]]
    number = min(12, sum(map(len, table)))
    todo, wrong, confirmed = list(range(number)), [], set()
    killed_at = draw.uniform(0, number)
    for round_ in ("killed", "resumed"):
        server = Victim(Case(words), place)
        address = _address(server)
        with contextlib.suppress(httpx.HTTPError), httpx.Client(base_url=address, timeout=60) as client:
            spans = client.get("/api/annotate/task").json()["spans"]
            for at in list(todo):
                body = {
                    "place": at,
                    "annotator": "ada",
                    "action": "choose",
                    "frame": spans[at][2],
                    "id": f"ada-{at}",
                }
                if round_ == "killed" and at == int(killed_at):  # during a request
                    threading.Timer(0.02 * (killed_at % 1), server.kill_groups).start()
                answer = client.post("/api/annotate/decision", json=body)
                if answer.status_code != 200:
                    wrong.append(f"choice {at} is answered {answer.status_code}: {answer.text[:100]}")
                confirmed.add(at)
                todo.remove(at)
        server.kill()
        tally.kills += round_ == "killed"
        ids = [decision.id for decision in read_decisions(place / "choices.jsonl")]
        wrong += [f"confirmed choice {at} is lost" for at in confirmed if f"ada-{at}" not in ids]
    lines = (place / "choices.jsonl").read_text().splitlines()
    kept = [decision.id for decision in read_decisions(place / "choices.jsonl")]
    if kept != [f"ada-{at}" for at in range(number)]:
        wrong.append(f"choices {kept}")
    if len(lines) > number + 1:  # one choice may have been sent twice
        wrong.append(f"{len(lines)} lines for {number} choices")
    # The lock file remains, like `.lock` in a run folder: deleting it could break the lock of the next server.
    extra = {path.name for path in place.iterdir()} - {"pixels", "choices.jsonl", ".choices.jsonl.server"}
    wrong += [f"{name} is left over" for name in sorted(extra)]
    if wrong:
        tally.lost.append(f"LOST, killed at choice {killed_at:.2f}: {'; '.join(wrong)}")
    else:
        tally.resumed += 1
    shutil.rmtree(place.parent)


def _address(server: Victim) -> str:
    until = time.monotonic() + LONGEST
    file = server.said / "0/stdout"
    while not (file.is_file() and file.read_text().endswith("\n")):
        if time.monotonic() > until or not server.processes[0].is_alive():
            raise RuntimeError(f"no server: {(server.said / '0/stderr').read_text()}")
        time.sleep(0.02)
    return file.read_text().partition("\n")[0].removesuffix("/annotate")


# -- the command -------------------------------------------------------------------------------------------------------


def campaign(names: list[str], runs: int, seed: int, place: Path) -> dict[str, Tally]:
    """Runs this many cases, cycling through the verbs."""
    trained = any(need.startswith("runs/") for name in names if name in CASES for need in CASES[name].needs)
    made = Campaign(place, runs=trained)
    tallies = {name: Tally() for name in names}
    for number in range(runs):
        name = names[number % len(names)]
        draw, tally = random.Random(f"{seed} {number}"), tallies[name]
        before = len(tally.lost)
        try:
            if name == "annotate":
                annotate(made, draw, tally)
            else:
                made.run(name, draw, tally)
        except Exception as error:  # the verb fails even without a kill
            tally.lost.append(f"LOST: {type(error).__name__}: {error}")
        outcome = "; ".join(tally.lost[before:]) or f"{tally.kills} kills, {tally.resumed} resumed"
        print(f"{number + 1}/{runs} {name}: {outcome}", file=sys.stderr, flush=True)
    return tallies


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verb", action="append", choices=[*CASES, "annotate"], help="only this; may be repeated")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="kill-") as place:
        tallies = campaign(options.verb or [*CASES, "annotate"], options.runs, options.seed, Path(place))
    print(f"{'verb':16}{'kills':>6}{'resumed':>9}{'lost':>6}")
    total = Tally(sum(t.kills for t in tallies.values()), sum(t.resumed for t in tallies.values()))
    total.lost = [line for tally in tallies.values() for line in tally.lost]
    for name, tally in (*tallies.items(), ("all", total)):
        print(f"{name:16}{tally.kills:6}{tally.resumed:9}{len(tally.lost):6}")
    return 1 if total.lost else 0


if __name__ == "__main__":
    sys.exit(main())
