"""Everything that only a GPU can show, in one command: tests, the loss, density, a training step, a rehearsal.

    python benchmarks/gpu.py               # at most 8 minutes; record the table in benchmarks/RESULTS.md
    python benchmarks/gpu.py --quick       # at most 3 minutes: fewer repeats, no rehearsal
    python benchmarks/gpu.py --device cpu --quick --tiny     # a dry run of this script; its numbers mean nothing

Prints one table with the GPU, versions and peak memory. If a part fails, its row reports it, the others continue, and
the exit code is 1. A part is not started if too little time is left for it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from paper.rehearsal import rehearse
from signcl.cli.tables import table
from signcl.data.batch import Batch, pack_positions
from signcl.density import sign_density_ratio
from signcl.losses import signcl_loss
from signcl.systems import Sizes, system_class
from signcl.systems.terms import TermContext, compute_terms, terms_of, weighted_sum
from signcl.training.recipe import load_recipe, recipe_path
from signcl.training.repeated_layers import compile_layers

LOSSES = [(4, 128, 512), (4, 300, 512), (16, 300, 512)]
ROWS = 200_000
STEP = {"clips": 4, "frames": 120, "size": 224}
"""The size of the performance goals: 4 clips of 120 frames of 224 pixels."""

TINY = ["model.width=32", "model.conv_width=32", "model.ffn=32", "model.heads=2", "model.visual=small_cnn"]
TINY += ["model.encoder_layers=1", "model.decoder_layers=1"]
TINY_TEXT = ["model.text_layers=1", "model.text_heads=2", "model.text_ffn=32"]
"""Recipe values of a dry run; the last ones are for VLP's text encoder."""


@dataclass
class Row:
    """A row of the table."""

    part: str
    what: str
    found: str
    peak_gib: float | None = None
    seconds: float = 0.0


@dataclass
class Bench:
    """Settings and results that all parts share."""

    device: str
    quick: bool
    tiny: bool
    ends: float
    rows: list[Row] = field(default_factory=list)
    failed: bool = False

    @property
    def repeats(self) -> int:
        """Number of timed repetitions."""
        return 2 if self.tiny else 10 if self.quick else 30

    def left(self) -> float:
        """Seconds until the end."""
        return self.ends - time.monotonic()

    def milliseconds(self, run: Callable[[], object]) -> float:
        """Median milliseconds of the repetitions, after three warm-up runs."""
        for _ in range(1 if self.tiny else 3):
            run()
        found = []
        for _ in range(self.repeats):
            self.wait()
            started = time.perf_counter()
            run()
            self.wait()
            found.append(1000 * (time.perf_counter() - started))
        return statistics.median(found)

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()

    @contextlib.contextmanager
    def part(self, part: str, needs: float) -> Iterator[None]:
        """Run one part: it is skipped if there is too little time, and a failure becomes a row."""
        if self.left() < needs:
            self.rows.append(Row(part, "not started", f"{self.left():.0f} s left, needs {needs:.0f}"))
            return
        started, before = time.monotonic(), len(self.rows)
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        try:
            yield
        except Exception as error:
            self.failed = True
            self.rows.append(Row(part, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:90]}"))
        for row in self.rows[before:]:
            row.seconds = time.monotonic() - started
            if self.device.startswith("cuda") and row.peak_gib is None:
                row.peak_gib = torch.cuda.max_memory_allocated() / 2**30


def main(words: list[str] | None = None) -> int:
    """Run the parts; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="at most 3 minutes")
    parser.add_argument("--tiny", action="store_true", help="small sizes for a dry run")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    options = parser.parse_args(words)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.exit(2, "benchmarks/gpu.py: no CUDA device here; --device cpu --quick --tiny is a dry run\n")
    bench = Bench(options.device, options.quick, options.tiny, time.monotonic() + (170 if options.quick else 470))
    with bench.part("tests", 60):
        gpu_tests(bench)
    with bench.part("loss", 5):
        losses(bench)
    with bench.part("density", 10):
        density(bench)
    with bench.part("step", 30):
        steps(bench)
    if not options.quick:
        with bench.part("rehearsal", 90):
            rehearsal(bench)
    if options.json:
        print(json.dumps([vars(row) for row in bench.rows], indent=2))
    else:
        print(heading(options.device))
        print(told(bench.rows))
    return int(bench.failed)


def gpu_tests(bench: Bench) -> None:
    """Run `pytest -m gpu` if there is a GPU."""
    if not bench.device.startswith("cuda"):
        bench.rows.append(Row("tests", "pytest -m gpu", "needs a GPU"))
        return
    limit = min(240.0, bench.left() - 60)
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-x", "--no-header", "-p", "no:cacheprovider"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=limit, cwd=Path(__file__).parents[1])
    last = next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "")
    bench.rows.append(Row("tests", "pytest -m gpu", last.strip("= ")))
    bench.failed |= done.returncode not in (0, 5)


def losses(bench: Bench) -> None:
    """Time SignCL forward and backward, and the batched product that is its lower bound."""
    for clips, frames, width in [(2, 32, 16)] if bench.tiny else LOSSES:
        features = torch.randn(clips, frames, width, device=bench.device, requires_grad=True)
        lengths = torch.full((clips,), frames, device=bench.device)

        def run(features: Tensor = features, lengths: Tensor = lengths) -> None:
            signcl_loss(features, lengths, 10).backward()

        took = bench.milliseconds(run)

        def floor(rows: Tensor = features) -> None:
            rows.detach() @ rows.detach().transpose(1, 2)

        bare = bench.milliseconds(floor)
        found = f"{took:.3f} ms, x x^T alone {bare:.3f} ms"
        bench.rows.append(Row("loss", f"signcl_loss, forward + backward, [{clips}, {frames}, {width}]", found))


def density(bench: Bench) -> None:
    """Time the Sign Density Ratio, and the bare product in the same blocks."""
    rows, width, block = (400, 16, 128) if bench.tiny else (ROWS if not bench.quick else 50_000, 512, 4096)
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(rows, generator=generator) ** 2.5 * 1085).long()
    features = torch.randn(rows, width, generator=generator).to(bench.device)

    def product() -> None:
        for i in range(0, rows, block):
            for j in range(0, rows, block):
                torch.mm(features[i : i + block], features[j : j + block].T)

    started = time.perf_counter()
    found = sign_density_ratio(features, labels.to(bench.device))
    bench.wait()
    took = time.perf_counter() - started
    product()
    bench.wait()
    started = time.perf_counter()
    product()
    bench.wait()
    bare = time.perf_counter() - started
    said = f"{took:.2f} s, {took / max(bare, 1e-9):.2f} x the bare product; mean {float(found.mean):.4f}"
    bench.rows.append(Row("density", f"sign_density_ratio, {rows:,} x {width}", said))


def steps(bench: Bench) -> None:
    """Time a training step of GFSLT and VLP with SignCL, eager and compiled, in float32 and bfloat16."""
    for stage in ("gfslt-vlp-signcl", "vlp-signcl"):
        for precision in ("fp32",) if bench.tiny else ("fp32", "bf16"):
            for compiled in (False, True):
                if compiled and (bench.tiny or bench.left() < 60):
                    continue
                one_step(bench, stage, precision, compiled)


def one_step(bench: Bench, stage: str, precision: str, compiled: bool) -> None:
    """Milliseconds of forward, backward and optimizer, with the recipe's sizes and random weights."""
    changes = ["model.init_from=", "model.visual_weights=", "model.language_model="]
    if bench.tiny:
        changes += TINY + (TINY_TEXT if stage == "vlp-signcl" else [])
    recipe = load_recipe(recipe_path(f"phoenix14t/{stage}.yaml"), [f"--{change}" for change in changes])
    torch.manual_seed(0)
    system = system_class(recipe.model.name)
    words = Words()
    model = system(recipe.model, Sizes(tokenizer=words, terms=tuple(recipe.loss.weights))).to(bench.device)
    if compiled:
        compile_layers(model, None, bench.device.split(":")[0])  # as `train.compile: true` does
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, nesterov=True)
    batch, terms = made_up_batch(bench, words), terms_of(system, recipe.loss.weights)
    context = TermContext(recipe.loss, words.pad_id)
    half = torch.autocast(bench.device.split(":")[0], torch.bfloat16, enabled=precision == "bf16")

    def run() -> None:
        with half:
            values = compute_terms(model(batch), batch, terms, context)
        weighted_sum(values, recipe.loss.weights).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    if bench.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    took = bench.milliseconds(run)
    size = f"{len(batch)} x {batch.max_length} x {batch.inputs.shape[1]} px"
    what = f"{stage}, {size}, {precision}{', compiled' * compiled}"
    peak = torch.cuda.max_memory_allocated() / 2**30 if bench.device.startswith("cuda") else None
    bench.rows.append(Row("step", what, f"{took:.1f} ms", peak))


@dataclass(frozen=True)
class Words:
    """A tokenizer with the size of the trimmed vocabulary."""

    vocab_size: int = 2454
    pad_id: int = 1
    start_id: int = 2430
    end_id: int = 2


def made_up_batch(bench: Bench, words: Words) -> Batch:
    """Clips of noise with sentences of 21 tokens."""
    clips, frames, size = (2, 17, 32) if bench.tiny else (STEP["clips"], STEP["frames"], STEP["size"])
    tokens = torch.randint(4, 2400, (clips, 21))
    tokens[:, -2], tokens[:, -1] = words.end_id, words.start_id
    lengths = torch.full((clips,), 21)
    made = Batch(
        names=[str(i) for i in range(clips)],
        texts=[""] * clips,
        inputs=torch.randint(0, 256, (clips * frames, size, size, 3), dtype=torch.uint8),
        positions=pack_positions([frames] * clips),
        lengths=torch.full((clips,), frames),
        max_length=frames,
        num_words=torch.full((clips,), 14.0),
        tokens=tokens,
        token_lengths=lengths,
        masked_tokens=tokens,
        masked_token_lengths=lengths,
        sentence_ids=torch.arange(clips),
    )
    return made.to(bench.device)


def rehearsal(bench: Bench) -> None:
    """Run `python -m paper.rehearsal` for the remaining time."""
    with tempfile.TemporaryDirectory() as folder:
        stages = ("vlp-signcl", "gfslt-vlp-signcl", "smkd", "joint-slt", "pgp")
        done = rehearse(
            Path(folder), device=bench.device, small=bench.tiny, stages=stages, minutes=max(0.1, bench.left() / 60 - 1)
        )
    for row in done:
        busy = "" if row.busy_percent is None else f", GPU busy {row.busy_percent:.0f} %"
        found = f"{row.clips_per_second:.1f} clips/s{busy}, full training {row.published_hours:.0f} h"
        bench.rows.append(Row("rehearsal", row.stage, found, row.peak_gib))


def heading(device: str) -> str:
    """GPU and versions."""
    card = torch.cuda.get_device_name() if device.startswith("cuda") else f"no GPU ({platform.machine()})"
    return f"{card}; torch {torch.__version__}, Python {platform.python_version()}; device {device}"


def told(rows: list[Row]) -> str:
    """The table."""
    cells = [
        [row.part, row.what, row.found, "–" if row.peak_gib is None else f"{row.peak_gib:.2f}", f"{row.seconds:.0f}"]
        for row in rows
    ]
    return table(cells, ["part", "what", "found", "peak GiB", "part s"])


if __name__ == "__main__":
    sys.exit(main())
