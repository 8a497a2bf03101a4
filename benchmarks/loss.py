"""Time and memory of signcl_loss, forward and backward, compared with a loop over anchors as in the released code.

    python benchmarks/loss.py                 # time at three sizes, and the peak of tensor memory
    python benchmarks/loss.py --repeats 100   # more repeats, less noise
    python benchmarks/loss.py --threads 1
    python benchmarks/loss.py --launches      # kernel launches instead, the same on any device and at any size

All candidates of a size alternate, so that other load on the machine affects them equally; the fastest and the median
run of each are printed with their ratio to the loop's. On a busy machine the loop suffers most (thousands of small
parallel regions), so the ratio of the fastest runs is the conservative one. Our results: benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from signcl.losses import signcl_loss

# Views, allocations and conversions of Python numbers launch no kernel.
NO_LAUNCH = [
    "view", "expand", "expand_as", "reshape", "_reshape_alias", "_unsafe_view", "view_as", "flatten", "unfold", "alias",
    "detach", "as_strided", "slice", "select", "split", "unbind", "chunk", "transpose", "mT", "permute", "unsqueeze",
    "squeeze", "diagonal", "contiguous", "empty", "empty_like", "empty_strided", "resize_", "resolve_conj",
    "resolve_neg", "lift_fresh", "to", "_to_copy", "result_type", "item", "_local_scalar_dense",
]  # fmt: skip
SIZES = [(4, 128, 512), (8, 128, 512), (4, 300, 512)]
GAP = 40  # frames; twice the mean margin of PHOENIX-2014T's training clips, 19.8


def released_loop(features: Tensor, gap: int, distance_margin: float = 32.0, count: int = 4) -> Tensor:
    """The computation of the released code, anchor by anchor: Python lists, `random.sample`, three gathers each."""
    clips, frames, _ = features.shape
    total: Tensor | int = 0
    for i in range(1, frames - 2):
        anchor = features[:, i].unsqueeze(1)
        near = [j for j in range(max(0, i - 1), min(frames, i + 2)) if j != i]
        far = [j for j in range(2, frames - 2) if abs(i - j) > gap]
        positives = features[:, random.sample(near, min(2, len(near)))]
        negatives = features[:, random.sample(far, min(count, len(far)))]
        pulled = (anchor - positives).abs().sum(dim=-1)
        pushed = (anchor - negatives).abs().sum(dim=-1)
        total = total + F.softplus(pulled - distance_margin).mean() + F.softplus(distance_margin - pushed).mean()
    assert isinstance(total, Tensor)
    return total / (clips * (frames - 4))


def plain_cdist(features: Tensor, gap: int, distance_margin: float = 64.0) -> Tensor:
    """The paper variant over all legal pairs in its simplest form (no padding; only for this benchmark)."""
    clips, frames, _ = features.shape
    time_ = torch.arange(frames)
    far = (time_[:, None] - time_).abs() > gap
    hinge = (distance_margin - torch.cdist(features, features)).clamp(min=0) * far
    pushed = hinge.sum(dim=2) / far.sum(dim=1).clamp(min=1)
    steps = torch.linalg.vector_norm(features[:, 1:] - features[:, :-1], dim=-1)
    each = torch.full((frames,), 0.5)
    each[0] = each[-1] = 1.0
    return (pushed.sum() + (steps * (each[1:] + each[:-1])).sum()) / (clips * frames)


def candidates(clips: int, frames: int) -> dict[str, Callable[[Tensor], Tensor]]:
    lengths = torch.full((clips,), frames)
    margins = torch.full((clips,), GAP / 2)
    return {
        "loop, released, 4 negatives": lambda x: released_loop(x, GAP),
        "torch.cdist, paper, all pairs": lambda x: plain_cdist(x, GAP),
        "signcl_loss, paper, all pairs": lambda x: signcl_loss(x, lengths, margins),
        "signcl_loss, paper, relative": lambda x: signcl_loss(x, lengths, margins, distance_margin_mode="relative"),
        "signcl_loss, paper, same_sign": lambda x: signcl_loss(x, lengths, margins, same_sign=0.75),
        "signcl_loss, paper, 4 negatives": lambda x: signcl_loss(x, lengths, margins, negatives=4),
        "signcl_loss, released, 4 negatives": lambda x: signcl_loss(x, lengths, GAP, variant="released", negatives=4),
    }


def step(loss: Callable[[Tensor], Tensor], features: Tensor) -> None:
    features.grad = None
    loss(features).backward()


def race(runs: dict[str, Callable[[Tensor], Tensor]], features: Tensor, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of forward + backward. Candidates alternate; the loop (30 to 100 x slower) runs every fifth turn."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name in runs:
        step(runs[name], features)
    for turn in range(repeats):
        for name, loss in runs.items():
            if name.startswith("loop") and turn % 5:
                continue
            for _ in range(1 if name.startswith("loop") else 3):
                start = time.perf_counter()
                step(loss, features)
                times[name].append(1000 * (time.perf_counter() - start))
    return times


def peak_memory(loss: Callable[[Tensor], Tensor], features: Tensor) -> float:
    """Peak memory of the tensors during forward + backward, without the features, in MiB."""
    step(loss, features)
    features.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        loss(features).backward()
    assert profiler.profiler is not None
    assert profiler.profiler.kineto_results is not None
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak / 2**20


def launches(loss: Callable[[Tensor], Tensor], features: Tensor) -> int:
    """Count the kernels of forward + backward: torch operators that call no other counted operator, except `NO_LAUNCH`.

    CPU and GPU share these operators, so the CPU's count is also the GPU's, except for operators that one of them runs
    as several kernels (a reduction in two passes, a batched product clip by clip).
    """

    def count(event: Any) -> int:
        inner = sum(count(child) for child in event.cpu_children)
        name = event.name.removeprefix("aten::")
        return inner if name == event.name or name in NO_LAUNCH else max(1, inner)

    step(loss, features)
    features.grad = None
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        loss(features).backward()
    return sum(count(event) for event in profiler.events() if event.cpu_parent is None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=50, help="rounds per size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--launches", action="store_true", help="count kernel launches instead of measuring time")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    random.seed(0)
    rows = []
    for size in SIZES:
        features = torch.randn(*size, generator=torch.Generator().manual_seed(0)).requires_grad_()
        runs = candidates(*size[:2])
        if arguments.launches:
            rows += [
                {"size": list(size), "candidate": n, "launches": launches(run, features)} for n, run in runs.items()
            ]
            continue
        times = race(runs, features, arguments.repeats)
        loop = times["loop, released, 4 negatives"]
        for name, milliseconds in times.items():
            fastest, median = min(milliseconds), statistics.median(milliseconds)
            rows.append(
                {
                    "size": list(size),
                    "candidate": name,
                    "fastest_ms": fastest,
                    "median_ms": median,
                    "ratio_fastest": min(loop) / fastest,
                    "ratio_median": statistics.median(loop) / median,
                    "peak_mib": peak_memory(runs[name], features),
                }
            )
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    if arguments.launches:
        print("| [B, T, D] | what | launches |\n|---|---|---:|")
        for row in rows:
            print(f"| {row['size']} | {row['candidate']} | {row['launches']} |")
        return
    print("| [B, T, D] | what | fastest ms | median ms | x loop, fastest | x loop, median | peak MiB |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for row in rows:
        print(
            f"| {row['size']} | {row['candidate']} | {row['fastest_ms']:.2f} | {row['median_ms']:.2f} "
            f"| {row['ratio_fastest']:.0f} | {row['ratio_median']:.0f} | {row['peak_mib']:.1f} |"
        )


if __name__ == "__main__":
    main()
