"""Time and memory of the Sign Density Ratio, compared with the bare product X.X^T and scikit-learn; a million rows.

    python benchmarks/density.py                    # N = 12,000 and 20,000 x 512: ratios to X.X^T, error in float32
    python benchmarks/density.py --device cuda --rows 200000     # on a GPU; its peak memory too
    python benchmarks/density.py --sklearn          # the same, and sklearn.pairwise_distances + group sums
    python benchmarks/density.py --per-pair         # time per pair from N = 16,384 to 204,800 (a sample of the pairs)
    python benchmarks/density.py --million          # memory and time per pair at 1,000,000 x 512 float16, memory-mapped

All candidates of a size run alternately, `--repeats` times, and the fastest run of each counts, so that other load on
the machine affects all of them equally. Our results: benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch

from signcl.density import gloss_distances, sign_density_ratio


def made_up(rows: int, glosses: int, size: int = 512, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random features around one centre per gloss, with gloss frequencies that fall as in a corpus."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(rows, generator=generator) ** 2.5 * glosses).long()
    features = torch.randn(rows, size, generator=generator)
    for part in range(0, rows, 10_000):
        features[part : part + 10_000] += torch.randn(glosses, size, generator=generator.manual_seed(1))[
            labels[part : part + 10_000]
        ]
    return features, labels


def race(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the fastest of `repeats` runs of each candidate; the candidates alternate."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}


def ratios(rows: int, glosses: int, repeats: int, with_sklearn: bool, device: str = "cpu") -> None:
    features, labels = made_up(rows, glosses)
    features, labels = features.to(device), labels.to(device)
    block = 1024 if device == "cpu" else 8192

    def blocked() -> None:
        for i in range(0, rows, block):
            for j in range(0, rows, block):
                torch.mm(features[i : i + block], features[j : j + block].T)
        if device == "cuda":
            torch.cuda.synchronize()

    candidates: dict[str, Callable[[], object]] = {"X.X^T in blocks": blocked}
    if device == "cpu":
        product = torch.empty(rows, rows)
        candidates["X.X^T in one call, memory ready"] = lambda: torch.mm(features, features.T, out=product)
    candidates |= {
        "sign_density_ratio": lambda: sign_density_ratio(features, labels),
        "gloss_distances (K x K)": lambda: gloss_distances(features, labels),
    }
    if with_sklearn:
        candidates["sklearn pairwise_distances + group sums"] = lambda: by_sklearn(features.numpy(), labels.numpy())
    seconds = race(candidates, repeats)
    bare = min(value for name, value in seconds.items() if name.startswith("X.X^T"))
    for name, value in seconds.items():
        print(f"N = {rows:6d}  K = {glosses:4d}  {name:40s} {value:8.3f} s  {value / bare:5.2f} x product", flush=True)
    if device == "cuda":
        print(f"N = {rows:6d}  peak memory of the GPU {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB", flush=True)
    if rows <= 12_000:
        single, double = sign_density_ratio(features, labels), sign_density_ratio(features.double(), labels)
        error = ((single.sdr - double.sdr) / double.sdr).abs().max()
        print(f"N = {rows:6d}  largest relative error of a gloss's ratio in float32: {float(error):.1e}", flush=True)


def by_sklearn(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The direct way: the full distance matrix, then sums by gloss."""
    from sklearn.metrics import pairwise_distances

    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    pairs = pairwise_distances(features[order])
    return np.add.reduceat(np.add.reduceat(pairs, starts, axis=1), starts, axis=0)


class _Enough(Exception):
    """Raised by the progress callback to stop after a sample of the pairs."""


def per_pair(features: torch.Tensor | np.ndarray, labels: torch.Tensor, panels: int) -> tuple[float, float, int]:
    """Time per pair over the first `panels` pairs of panels (8,192 x 8,192 rows each).

    Returns:
        Wall-clock seconds and CPU seconds per pair, and the number of all pairs of panels.
    """
    marks: list[tuple[float, float]] = []

    def progress(done: int, total: int) -> None:
        marks.append((time.perf_counter(), time.process_time()))
        if done > panels or done == total:
            raise _Enough(total)

    total = 0
    try:
        sign_density_ratio(features, labels, progress=progress)
    except _Enough as stop:
        total = stop.args[0]
    # The first pair of panels is left out: it is half a pair (above the diagonal) and includes the set-up.
    wall, cpu = ((marks[-1][i] - marks[0][i]) / (len(marks) - 1) / 8192**2 for i in (0, 1))
    return wall, cpu, total


def show_pairs(rows: int, found: list[tuple[float, float, int]]) -> None:
    wall, cpu = (min(seconds[i] for seconds in found) for i in (0, 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"N = {rows:8d}  {cpu * 1e9:6.2f} ns of processor per pair, {wall * 1e9:6.2f} ns of wall clock  (fastest of "
        f"{len(found)}; {found[0][2]} pairs of panels, whole job about {wall * rows**2 / 2:,.0f} s)  "
        f"peak memory {peak:.2f} GiB",
        flush=True,
    )


def _store(path: str, rows: int, size: int) -> None:
    features = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, size))
    for start in range(0, rows, 50_000):
        features[start : start + 50_000] = made_up(50_000, 1085, size, seed=start + 2)[0].half().numpy()
    features.flush()


def million(rows: int = 1_000_000, size: int = 512) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "rows.npy")
        maker = multiprocessing.get_context("spawn").Process(target=_store, args=(path, rows, size))
        maker.start()  # in a separate process, so that the peak below is that of the measurement
        maker.join()
        labels = torch.cat([made_up(50_000, 1085, 1, seed=start + 2)[1] for start in range(0, rows, 50_000)])
        print(f"before: peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB", flush=True)
        show_pairs(rows, [per_pair(np.load(path, mmap_mode="r"), labels, panels=12)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[12_000, 20_000])
    parser.add_argument("--glosses", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sklearn", action="store_true")
    parser.add_argument("--per-pair", action="store_true")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for the ratios")
    parser.add_argument("--million", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.million:
        million()
    elif arguments.per_pair:
        # Full panels, so that each pair of panels holds 8192 x 8192 pairs of rows. The sizes alternate, so that other
        # load on the machine affects all equally.
        sizes = [panels * 8192 for panels in (2, 3, 6, 12, 25)]
        features, labels = made_up(sizes[-1], arguments.glosses)
        found: dict[int, list[tuple[float, float, int]]] = {size: [] for size in sizes}
        for _ in range(arguments.repeats):
            for size in sizes:
                found[size].append(per_pair(features[:size], labels[:size], panels=2))
        for size in sizes:
            show_pairs(size, found[size])
    else:
        for rows in arguments.rows:
            ratios(rows, arguments.glosses, arguments.repeats, arguments.sklearn, arguments.device)


if __name__ == "__main__":
    main()
