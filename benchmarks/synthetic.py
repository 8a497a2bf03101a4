"""How fast the synthetic corpus is drawn and encoded on one core. Leaves no files.

    python benchmarks/synthetic.py [--sizes 48 64 128 224] [--clips 40]

Prints frames per second of CPU time (the speed of one free core) and of wall time, for drawing alone and for drawing,
encoding and writing together.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from signcl.data.corpora.synthetic import SyntheticSettings, plan_corpus
from signcl.data.corpora.synthetic.scene import draw_clip
from signcl.data.video import write_video


def measure(size: int, clips: int) -> tuple[int, dict[str, tuple[float, float]]]:
    """Number of frames drawn, and frames per second (of CPU time, of wall time) for each kind of work."""
    plan = plan_corpus(SyntheticSettings(size=size, clips=max(40, 2 * clips)))
    chosen = plan.clips["train"][:clips]
    draw_clip(plan, chosen[0])  # excludes imports and first allocations
    frames = sum(clip.num_frames for clip in chosen)
    speeds = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("drawing", "drawing, encoding and writing"):
            wall, core = time.perf_counter(), time.process_time()
            for clip in chosen:
                picture = draw_clip(plan, clip)
                if kind != "drawing":
                    write_video(Path(folder) / "clip.mp4", picture, crf=plan.settings.crf, preset="veryfast")
            speeds[kind] = (frames / (time.process_time() - core), frames / (time.perf_counter() - wall))
    return frames, speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[48, 64, 128, 224])
    parser.add_argument("--clips", type=int, default=40)
    arguments = parser.parse_args()
    print(f"{'size':>5} {'frames':>7}  {'work':<30} {'frames/s of one core':>21} {'frames/s of wall time':>22}")
    for size in arguments.sizes:
        frames, speeds = measure(size, arguments.clips)
        for kind, (core, wall) in speeds.items():
            print(f"{size:>5} {frames:>7}  {kind:<30} {core:>21.0f} {wall:>22.0f}")


if __name__ == "__main__":
    main()
