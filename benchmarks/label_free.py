"""Does density without glosses agree with the Sign Density Ratio? Rank correlation over many sets of real features.

    python benchmarks/label_free.py imu DATA/imu-number-signs
    python benchmarks/label_free.py phoenix DATA            # 15 sentences of skeletons, HMM states as signs
    python benchmarks/label_free.py synthetic data/synthetic          # pixels, 12 x 12, reduced by PCA to 64

The feature sets are the corpus's features under changes that do not affect its glosses, in three families: `noise`
(noise of five sizes, an offset per clip of four sizes: a worse encoder), `shape` (principal components, whitening,
random layers with ReLU, smoothing in time: another encoder) and `oracle` (the frames of each sign moved towards the
mean of its gloss by five shares: a better encoder, which uses the glosses). Each set gets its SDR on the annotated
spans (centre frame) and every estimate of `label_free_density`. Prints Spearman's rho over the feature sets with a
bootstrap interval. Our results: docs/density.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from signcl.data.annotation import phoenix_states
from signcl.data.batch import Span
from signcl.data.corpora import imu_numbers, load_samples
from signcl.density import label_free_density, pool_spans, sign_density_ratio

Clips = list[tuple[np.ndarray, tuple[Span, ...]]]
ESTIMATES = ("segment_ratio", "neighbour_ratio", "cluster_excess", "cluster_ratio", "step_ratio")


def imu(root: Path) -> Clips:
    return [(np.asarray(s.features), s.spans) for s in imu_numbers.samples(root, "test")]


def phoenix(root: Path) -> Clips:
    states = root / "phoenix14t-alignments"
    spans = {
        s.name: s.spans for split in ("train", "dev", "test") for s in phoenix_states.samples(states, split, merge=True)
    }
    return [(rows, spans[name]) for name, rows in skeletons(root / "phoenix14t-skels15").items()]


def skeletons(folder: Path) -> dict[str, np.ndarray]:
    """Joints of each sentence, without the frame counter. [T, 150]"""
    found = {}
    for split in ("train", "dev", "test"):
        names = (folder / f"{split}.files").read_text().split()
        for name, line in zip(names, (folder / f"{split}.skels").read_text().splitlines()):
            found[name.split("/")[-1]] = np.array(line.split(), dtype=np.float32).reshape(-1, 151)[:, :150]
    return found


def synthetic(root: Path) -> Clips:
    import cv2

    from signcl.data.video import read_frames

    clips = []
    for sample in load_samples("synthetic", root, "test")[:60]:
        frames = read_frames(sample.clip)
        small = [cv2.resize(frame, (12, 12), interpolation=cv2.INTER_AREA).ravel() for frame in frames]
        clips.append((np.array(small, dtype=np.float32), sample.spans))
    mean, axes = principal([x for x, _ in clips], 64)
    return [((x - mean) @ axes, spans) for x, spans in clips]


def principal(rows: list[np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
    every = np.concatenate(rows).astype(np.float64)
    mean = every.mean(axis=0)
    _, axes = np.linalg.eigh((every - mean).T @ (every - mean))
    return mean.astype(np.float32), axes[:, ::-1][:, :size].astype(np.float32)


def feature_sets(clips: Clips, seed: int) -> list[tuple[str, list[np.ndarray]]]:
    """Feature sets as (family, features of each clip)."""
    random = np.random.default_rng(seed)
    base = [np.asarray(x, dtype=np.float32) for x, _ in clips]
    every = np.concatenate(base)
    size, scale = every.shape[1], float(every.std(axis=0).mean())
    sets: list[tuple[str, list[np.ndarray]]] = [("shape", base)]

    def add(family: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
        sets.append((family, [change(x).astype(np.float32) for x in base]))

    for level in (0.25, 0.5, 1, 2, 4):
        add("noise", lambda x, v=level: x + v * scale * random.normal(size=x.shape))
    for level in (0.5, 1, 2, 4):
        add("noise", lambda x, v=level: x + v * scale * random.normal(size=(1, size)))
    mean, axes = principal(base, size)
    spread = ((every - mean) @ axes).std(axis=0) + 1e-6
    for kept in (2, 4, 8, 16):
        add("shape", lambda x, k=kept: (x - mean) @ axes[:, :k])
    add("shape", lambda x: ((x - mean) @ axes / spread)[:, : min(size, 24)])
    add("shape", lambda x: (x - mean) @ axes[:, 4:])
    for width in (16, 64, 256):
        layer = random.normal(size=(size, width)) / size**0.5
        add("shape", lambda x, w=layer: np.maximum((x - mean) / scale @ w, 0))
    for frames in (3, 9, 19):
        kernel = np.ones(frames) / frames
        add(
            "shape",
            lambda x, k=kernel: np.stack([np.convolve(np.pad(c, len(k) // 2, "edge"), k, "valid") for c in x.T], 1),
        )
    glosses = {str(s.token) for _, spans in clips for s in spans}
    signs: dict[str, list[np.ndarray]] = {gloss: [] for gloss in glosses}
    for x, (_, spans) in zip(base, clips):
        for s in spans:
            signs[str(s.token)].append(x[s.start : s.stop])
    means = {gloss: np.concatenate(own).mean(axis=0) for gloss, own in signs.items()}
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        drawn = [x.copy() for x in base]
        for x, (_, spans) in zip(drawn, clips):
            for s in spans:
                x[s.start : s.stop] = (1 - share) * x[s.start : s.stop] + share * means[str(s.token)]
        sets.append(("oracle", drawn))
    return sets


def sdr(features: list[np.ndarray], clips: Clips) -> float:
    rows = torch.cat([pool_spans(torch.from_numpy(x), spans) for x, (_, spans) in zip(features, clips)])
    tokens = [str(s.token) for _, spans in clips for s in spans]
    return sign_density_ratio(rows, np.unique(tokens, return_inverse=True)[1]).mean


def rho(x: np.ndarray, y: np.ndarray, samples: int = 2000) -> str:
    from scipy.stats import spearmanr

    random = np.random.default_rng(0)
    drawn = []
    for _ in range(samples):
        part = random.integers(len(x), size=len(x))
        if len(set(x[part])) > 2 and len(set(y[part])) > 2:
            drawn.append(spearmanr(x[part], y[part])[0])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{spearmanr(x, y)[0]:+.2f} [{low:+.2f}, {high:+.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", choices=("imu", "phoenix", "synthetic"))
    parser.add_argument("root", type=Path)
    parser.add_argument("--frames-per-sign", type=float, help="default: frames per sign of the corpus")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    clips = {"imu": imu, "phoenix": phoenix, "synthetic": synthetic}[options.corpus](options.root)
    clips = [(x, spans) for x, spans in clips if spans]
    per_sign = options.frames_per_sign or sum(len(x) for x, _ in clips) / sum(len(s) for _, s in clips)
    found, families = [], []
    for family, features in feature_sets(clips, options.seed):
        estimate = label_free_density(features, frames_per_sign=per_sign, seed=options.seed)
        found.append([sdr(features, clips), *(getattr(estimate, name) for name in ESTIMATES)])
        families.append(family)
    table, kinds = np.array(found), np.array(families)
    sdrs = 100 * table[:, 0]
    print(f"{options.corpus}: {len(clips)} clips, {len(table)} feature sets, {per_sign:.1f} frames per segment")
    print(f"SDR {sdrs[0]:.1f} % as given, {sdrs.min():.1f} to {sdrs.max():.1f} % over the sets")
    for column, name in enumerate(ESTIMATES, start=1):
        parts = [
            f"{kind} {rho(table[kinds == kind, 0], table[kinds == kind, column])}"
            for kind in ("noise", "shape", "oracle")
        ]
        print(f"  {name:16s} all {rho(table[:, 0], table[:, column])}   " + "   ".join(parts))


if __name__ == "__main__":
    main()
