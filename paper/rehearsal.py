"""Rehearses the paper's trainings at full size on fake data: `python -m paper.rehearsal [--device cuda]`.

Each stage trains for some steps, is killed once and resumed, and is evaluated. The table shows clips per second, peak
memory, GPU utilisation, and the hours that the full published training would take on this machine. Scores are
meaningless because the data contain no signing. Repeat the command after an interruption.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paper.made_up import FULL, SMALL, SPLITS, write_release, write_weights
from signcl.cli.number_options import real, whole
from signcl.cli.tables import table
from signcl.data.files import write_json
from signcl.evaluation.scoring import evaluate
from signcl.inference.extraction import extract
from signcl.training import fit
from signcl.training.recipe import load_recipe, recipe_path

__all__ = ["STAGES", "Rehearsed", "main", "rehearse"]

STAGES = ("vlp-signcl", "gfslt-vlp-signcl", "smkd", "joint-slt", "pgp", "sign2gpt")
"""Recipes of PHOENIX-2014T in the order of their dependencies."""
NEEDS = {"gfslt-vlp-signcl": "vlp-signcl", "joint-slt": "smkd", "sign2gpt": "pgp"}
TINY = [
    "model.width=32", "model.conv_width=32", "model.heads=2", "model.ffn=32", "model.encoder_layers=1",
    "model.decoder_layers=1", "model.text_layers=1", "model.text_heads=2", "model.text_ffn=32",
    "model.max_positions=160", "input.size=40", "input.crop=32", "decode.max_new_tokens=8", "decode.beams=2",
    "decode.dev_beams=1",
]  # fmt: skip
"""Recipe overrides with `--small`, for keys that the system has."""


@dataclass(frozen=True)
class Rehearsed:
    """Measurements of a finished stage."""

    stage: str
    steps: int
    clips_per_second: float
    """Training speed, with loading, but without set-up and scoring as far as the run's clock excludes them."""
    peak_gib: float
    """Peak device memory, or on a CPU the largest resident size of a process so far."""
    busy_percent: float | None
    """Mean GPU utilisation as reported by its driver; None on a CPU."""
    published_hours: float
    """Time for the recipe's epochs over 7096 clips at this speed, on one device."""
    resumed: bool
    """Whether it was killed once and resumed."""
    evaluated_clips: int


def main(words: Sequence[str] | None = None) -> int:
    """Runs the rehearsal; returns 1 if a stage failed, 2 for wrong options."""
    parser = argparse.ArgumentParser(prog="python -m paper.rehearsal", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--minutes", type=real(low=0.01, high=1e5), default=6.0, help="start no stage after that")
    parser.add_argument("--share", type=real(above=0, high=1), help="of the release; default 0.01, small: minimum")
    parser.add_argument("--steps", type=whole(low=4, high=10**6), help="per stage; default 40, small: 6")
    parser.add_argument("--small", action="store_true", help="tiny frames and networks, for a CPU")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--out", type=Path, default=Path("runs/rehearsal"))
    options = parser.parse_args(words)
    done = rehearse(
        options.out,
        device=options.device,
        small=options.small,
        share=options.share,
        steps=options.steps,
        stages=options.stages,
        minutes=options.minutes,
    )
    print(told(done))
    return 0 if len(done) == len(options.stages) else 1


def rehearse(
    out: Path,
    *,
    device: str = "cpu",
    small: bool = False,
    share: float | None = None,
    steps: int | None = None,
    stages: Sequence[str] = STAGES,
    minutes: float = 6.0,
) -> list[Rehearsed]:
    """Runs every stage in turn; results are kept in `out/rehearsal.json`, and finished stages are skipped."""
    shapes, steps = SMALL if small else FULL, steps or (6 if small else 40)
    share = share if share is not None else 1e-9 if small else 0.01
    ends, kept = time.monotonic() + 60 * minutes, out / "rehearsal.json"
    finished = [Rehearsed(**row) for row in json.loads(kept.read_text())] if kept.is_file() else []
    root, weights = out / "PHOENIX-2014-T", out / "pretrained"
    write_release(root, share, shapes, threads=os.cpu_count() or 1)
    write_weights(weights, root, shapes, of=stages)
    for stage in stages:
        if any(row.stage == stage for row in finished):
            continue
        if time.monotonic() > ends:
            _say(f"{stage}: not started, --minutes {minutes:g} are over; repeat the command to continue")
            break
        try:
            finished.append(_stage(stage, out, device, small, steps))
        except (RuntimeError, ValueError, OSError) as error:
            _say(f"{stage}: failed: {error}")
            break
        write_json(kept, [asdict(row) for row in finished])
    return [row for row in finished if row.stage in stages]


def told(rows: Sequence[Rehearsed]) -> str:
    """The results as a table."""
    cells = [
        [
            row.stage,
            str(row.steps),
            f"{row.clips_per_second:.2f}",
            f"{row.peak_gib:.2f}",
            "–" if row.busy_percent is None else f"{row.busy_percent:.0f}",
            f"{row.published_hours:.1f}",
            "yes" if row.resumed else "no",
            str(row.evaluated_clips),
        ]
        for row in rows
    ]
    head = ["stage", "steps", "clips/s", "peak GiB", "GPU busy %", "published training, h", "killed, resumed", "scored"]
    return table(cells, head)


def _stage(stage: str, out: Path, device: str, small: bool, steps: int) -> Rehearsed:
    run = out / "runs" / stage
    if stage == "joint-slt":
        for split in ("train", "dev", "test"):
            extract(out / "runs" / "smkd", out / "features" / split, split=split, tap="steps", device=device)
    path, changes = recipe_path(f"phoenix14t/{stage}.yaml"), _changes(stage, out, device, small, steps)
    with _Watch(device) as watch:
        killed = _killed_in_the_middle(["fit", str(path), *changes], run)
        trained = load_recipe(path, changes)
        fit(trained)
    card = json.loads((run / "card.json").read_text(encoding="utf-8"))
    scored = evaluate(run, "test", device=device, bootstrap=0)
    rate = card["steps"] * trained.train.batch_size * trained.train.accumulate / max(card["seconds"], 1e-9)
    return Rehearsed(
        stage=stage,
        steps=card["steps"],
        clips_per_second=rate,
        peak_gib=watch.peak_gib,
        busy_percent=watch.busy,
        published_hours=load_recipe(path).train.epochs * SPLITS["train"] / rate / 3600,
        resumed=killed,
        evaluated_clips=int(scored["made"]["clips"]),
    )


def _changes(stage: str, out: Path, device: str, small: bool, steps: int) -> list[str]:
    """Recipe overrides of a stage: fake data and weights, one device, few steps."""
    weights = out / "pretrained"
    recipe = load_recipe(recipe_path(f"phoenix14t/{stage}.yaml"))
    own = {field: getattr(recipe.model, field) for field in recipe.model.__dataclass_fields__}
    workers = min(14, max(0, (os.cpu_count() or 1) - 2))
    changes = [
        f"out={out / 'runs' / stage}", f"corpus.root={out / 'PHOENIX-2014-T'}", f"train.max_steps={steps}",
        f"train.epochs={steps}", f"train.device={device}", "train.devices=1", "train.strategy=auto",
        f"train.save_every={max(1, steps // 3)}", f"train.evaluate_every={steps}", f"train.workers={workers}",
        f"train.precision={'bf16-mixed' if device == 'cuda' else '32-true'}",
    ]  # fmt: skip
    if own.get("visual") == "resnet18" and not recipe.model.init_from:
        changes.append(f"model.visual_weights=pretrained:{weights / 'resnet18.pth'}")
    if own.get("visual") == "dinov2":
        changes.append(f"model.visual_weights=pretrained:{weights / 'dinov2-small'}")
    if own.get("language_model"):
        changes.append(f"model.language_model=pretrained:{weights / 'MBart_trimmed'}")
    if "MBart" in recipe.text.tokenizer:
        changes.append(f"text.tokenizer=pretrained:{weights / 'MBart_trimmed'}")
    if stage == "pgp":
        changes += ["model.lemmatiser=rules:de", "model.vectors="]
    if stage == "sign2gpt":
        xglm = weights / "xglm-1.7B"
        changes += [f"model.lm.name=pretrained:{xglm}", f"text.tokenizer=pretrained:{xglm}"]
    if stage == "joint-slt":
        changes.append(f"corpus.features={out / 'features' / '{split}'}")
    if stage in NEEDS and stage != "joint-slt":
        changes.append(f"model.init_from={out / 'runs' / NEEDS[stage]}")
    if small:
        sections = {"model": own, "input": vars(recipe.input), "decode": vars(recipe.decode)}
        changes += [c for c in TINY if c.split("=")[0].split(".")[1] in sections[c.split(".")[0]]]
        changes += ["train.batch_size=2", "train.warmup_steps=0", "train.workers=0"]
    return [f"--{change}" for change in changes]


def _killed_in_the_middle(words: list[str], run: Path) -> bool:
    """Starts a training and kills it after it has saved a state; False if it finished before that."""
    if (run / "state" / "last.pt").is_file():
        return True  # an earlier rehearsal was stopped here
    process = subprocess.Popen(_command(words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_environment())
    try:
        while process.poll() is None:
            if (run / "state" / "last.pt").is_file():
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.05)
    finally:
        if process.poll() is None:
            process.kill()
    if process.returncode:
        raise RuntimeError(_last_line(process.stderr.read().decode() if process.stderr else ""))
    return False


def _command(words: list[str]) -> list[str]:
    return [sys.executable, "-m", "signcl", *words]


def _environment() -> dict[str, str]:
    """Environment in which a child process finds the same package, also in a source tree."""
    here = str(Path(__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))}


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


class _Watch:
    """Measures peak memory and utilisation while a stage trains: of the GPU, or else of the child processes."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device.startswith("cuda")
        self.used: list[float] = []
        self.memory: list[float] = [0.0]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.5):
            if self.on_gpu:
                query = [
                    "nvidia-smi",
                    "--query-gpu=utilization.gpu,memory.used",
                    "--format=csv,noheader,nounits",
                    "-i",
                    "0",
                ]
                said = subprocess.run(query, capture_output=True, text=True).stdout
                if hit := re.match(r"\s*(\d+), (\d+)", said):
                    self.used.append(float(hit[1]))
                    self.memory.append(float(hit[2]) / 1024)

    @property
    def busy(self) -> float | None:
        """Mean utilisation, percent."""
        return sum(self.used) / len(self.used) if self.used else None

    @property
    def peak_gib(self) -> float:
        """Peak memory in GiB."""
        if self.on_gpu:
            return max(self.memory)
        import resource

        most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return most / 2**20


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
