"""Frames per second and core of the loader, by storage format, before and after decoding into the batch.

    python benchmarks/loader.py [--clips 12] [--frames 117] [--workers 0] [--rounds 3]

Synthetic clips like PHOENIX's: 210 x 260 pixels, smooth moving pictures with a little noise, resized to 256, cropped to
224. "before" is the loader of 0.1, which stacks frames, thins them, crops to a new array and joins the batch. Rounds
alternate between the two, so that their ratio holds on a busy machine; frames per second of CPU time are printed too.
Packs are written by `signcl.data.packing`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from signcl.data.batch import Sample
from signcl.data.loading import ClipDataset, ClipLoader, load_raw, thin, window
from signcl.data.packing import PackSettings, pack_corpus
from signcl.data.sections import InputRecipe, Reading
from signcl.data.video import write_video

HEIGHT, WIDTH = 260, 210


def picture(clip: int, t: int) -> np.ndarray:
    """A frame of a synthetic clip. [H, W, 3] uint8"""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    wave = np.sin(x / 31 + 0.11 * t + clip) * np.cos(y / 47 - 0.07 * t)
    blob = np.exp(-((x - 105 - 60 * np.sin(0.2 * t)) ** 2 + (y - 130 - 60 * np.cos(0.17 * t)) ** 2) / 800)
    noise = np.random.default_rng((clip, t)).normal(0, 2.0, (HEIGHT, WIDTH))
    grey = 110 + 60 * wave + 70 * blob + noise
    return np.stack([grey, grey * 0.9 + 10, grey * 0.8 + 25], axis=-1).clip(0, 255).astype(np.uint8)


def write_corpora(root: Path, clips: int, frames: int) -> dict[str, list[Sample]]:
    """Write the same clips in every storage format."""
    found: dict[str, list[Sample]] = {"png": [], "jpeg": [], "mp4": []}
    for form in found:
        (root / form).mkdir()
    for clip in range(clips):
        pictures = [picture(clip, t) for t in range(frames)]
        name = f"clip{clip:03}"
        for form, suffix, options in (("png", "png", []), ("jpeg", "jpg", [cv2.IMWRITE_JPEG_QUALITY, 95])):
            folder = root / form / name
            folder.mkdir()
            for t, pixels in enumerate(pictures):
                cv2.imwrite(str(folder / f"images{t:04}.{suffix}"), pixels[..., ::-1], options)
        write_video(root / "mp4" / f"{name}.mp4", pictures, crf=20, preset="veryfast")
        for form, samples in found.items():
            path = root / form / (f"{name}.mp4" if form == "mp4" else name)
            samples.append(Sample(name, f"satz {clip}", clip=path, num_frames=frames))
    rows = [f"{s.name}\t{s.name}\t{s.text}\t{s.num_frames}" for s in found["png"]]
    (root / "png" / "train.tsv").write_text("\n".join(["name\tpath\ttext\tnum_frames", *rows]) + "\n")
    for form in ("uint8", "jpeg", "mp4"):
        settings = PackSettings(form=form, size=256)
        pack_corpus(root / "png", root / f"pack-{form}", "folder", settings, splits=("train",), progress=False)
        found[f"pack {form}"] = [
            Sample(s.name, s.text, clip=root / f"pack-{form}" / "train-00000.tar" / key, num_frames=frames)
            for s, key in zip(
                found["png"],
                [f"{i:08}.{ {'uint8': 'rgb', 'jpeg': 'jpg', 'mp4': 'mp4'}[form] }" for i in range(clips)],
            )
        ]
    return found


def before(data: ClipDataset, plan: list[list[int]]) -> int:
    """Read all clips as the loader of 0.1 did, and return the number of frames."""
    frames = 0
    for batch in plan:
        inputs = []
        for index in batch:
            random = np.random.default_rng((0, 0, index))
            raw = np.stack(list(load_raw(data.samples[index], data.input)))
            kept = raw[thin(len(raw), data.input, random)]
            top, left = window(*kept.shape[1:3], data.input, random)
            side = data.input.crop or 0
            inputs.append(np.ascontiguousarray(kept[:, top : top + side, left : left + side]))
        frames += len(torch.from_numpy(np.concatenate(inputs)))
    return frames


def after(data: ClipDataset, plan: list[list[int]], loader: ClipLoader) -> int:
    """Read all clips with the current loader, and return the number of frames."""
    return sum(len(loaded.batch.inputs) for loaded in loader.batches(data, plan) if loaded.batch is not None)


def rate(run: Callable[..., int], *arguments: Any) -> tuple[float, float]:
    """Frames per second of wall-clock time and of this process's CPU time."""
    clock, cpu = time.perf_counter(), time.process_time()
    frames = run(*arguments)
    return frames / (time.perf_counter() - clock), frames / max(1e-9, time.process_time() - cpu)


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--frames", type=int, default=117)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        corpora = write_corpora(Path(folder), options.clips, options.frames)
        plan = [list(range(i, min(i + options.batch, options.clips))) for i in range(0, options.clips, options.batch)]
        print("| stored as | before, frames/s | now, frames/s | ratio | per CPU second before | now | ratio |")
        print("|---|---|---|---|---|---|---|")
        for form, samples in corpora.items():
            reading = Reading(InputRecipe(size=256, crop=224))
            data = ClipDataset(samples, None, reading, training=True)
            with ClipLoader([data], workers=options.workers) as loader:
                after(data, plan, loader)  # warm files and workers
                rounds = [(rate(before, data, plan), rate(after, data, plan, loader)) for _ in range(options.rounds)]
            old, new, old_cpu, new_cpu = (statistics.median(r[k][j] for r in rounds) for j in (0, 1) for k in (0, 1))
            by_cpu = "" if options.workers else f" {old_cpu:.0f} | {new_cpu:.0f} | {new_cpu / old_cpu:.2f}"
            print(f"| {form} | {old:.0f} | {new:.0f} | {new / old:.2f} |{by_cpu} |", flush=True)


if __name__ == "__main__":
    main()
