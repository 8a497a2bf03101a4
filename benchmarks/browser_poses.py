"""Compares the key points found in a browser with those of `signcl pose`, on one clip.

    python benchmarks/browser_poses.py CLIP [--frames N] [--out POINTS.npz]

The clip is written as an mp4 (h264). Chromium reads it with the translate page's script, and MediaPipe's Python through
`signcl`. For comparison, MediaPipe's Python also reads the clip before compression. Both must be installed:
`signcl pose --install` and `signcl pose --install-browser`. Gaps are not filled.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from playwright.sync_api import sync_playwright

from signcl.data.pose_estimation import find_browser_holistic, start_holistic
from signcl.data.pose_estimation.pose_of_clip import PARTS
from signcl.data.video import read_frames, write_video
from signcl.pages.app import Site, make_app
from signcl.pages.browser_poses import what_the_page_needs

RATE = 25.0
BODY = (11, 12, 13, 14, 15, 16, 23, 24)  # body points used by models; the first two are the shoulders
SOFTWARE = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
FIND = """async ([about, clip]) => {
  const file = new Blob([Uint8Array.from(atob(clip), (c) => c.charCodeAt(0))], { type: "video/mp4" });
  const player = document.createElement("video");
  player.muted = true;
  globalThis.times = [performance.now()];
  const told = ({ frame }) => { times.push(performance.now()); console.log(frame); };
  const source = URL.createObjectURL(file);
  const signal = new AbortController().signal;
  const found = await keyPointFinder(about).find({ player, source, part: null, most: 100000, told, signal });
  const bytes = new Uint8Array(found.points.buffer);
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return [found.count, btoa(text), times];
}"""


def in_browser(clip: Path, chromium: str) -> tuple[np.ndarray, list[float]]:
    """Key points of a clip [T, 543, 4] and seconds per frame; the first time includes loading the models."""
    server = uvicorn.Server(uvicorn.Config(make_app(Site()), port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", *SOFTWARE]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page()
        page.set_default_timeout(0)
        page.goto(f"{address}/translate")
        content = base64.b64encode(clip.read_bytes()).decode()
        count, points, times = page.evaluate(FIND, [what_the_page_needs(RATE), content])
        browser.close()
    server.should_exit = True
    found = np.frombuffer(base64.b64decode(points), np.float32).reshape(count, -1, 4)
    return found, (np.diff(times) / 1000).tolist()


def in_python(frames: Any) -> np.ndarray:
    """Key points of frames, as found by `signcl pose --fill 0`. [T, 543, 4]"""
    with start_holistic() as process:
        return process.points(frames)


def table(what: str, one: np.ndarray, other: np.ndarray) -> None:
    """Prints the distance between two sets of points in pixels and relative to the distance between the shoulders."""
    left, right = other[:, BODY[0], :2], other[:, BODY[1], :2]
    shoulders = float(np.linalg.norm(left - right, axis=1).mean())
    print(f"\n{what}; shoulders are {shoulders:.1f} pixels apart")
    print("| part | frames found, one / other / both | median, pixels | 95 % below | median, share of the shoulders |")
    print("|---|---|---:|---:|---:|")
    for part, (first, last) in PARTS.items():
        points = list(BODY) if part == "body" else list(range(first, last))
        here, there = ((a[:, first:last, 3] > 0).any(axis=1) for a in (one, other))
        both = here & there
        apart = np.linalg.norm(one[both][:, points, :2] - other[both][:, points, :2], axis=2)
        middle, most = np.median(apart), np.percentile(apart, 95)
        counts = f"{here.sum()} / {there.sum()} / {both.sum()}"
        print(f"| {part.replace('_', ' ')} | {counts} | {middle:.2f} | {most:.2f} | {middle / shoulders:.1%} |")


def main() -> None:
    """Runs the comparison described at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if find_browser_holistic() is None:
        raise SystemExit("the files for browsers are not installed: signcl pose --install-browser")
    frames = read_frames(options.clip)[: options.frames]
    with tempfile.TemporaryDirectory() as place:
        clip = Path(place) / "clip.mp4"
        write_video(clip, frames, RATE)
        compressed = read_frames(clip)
        before, after = in_python(frames), in_python(compressed)
        browser, seconds = in_browser(clip, options.chromium)
    size = f"{frames.shape[2]} x {frames.shape[1]}"
    print(f"{options.clip.name}: {len(frames)} frames of {size}, {len(browser)} of them in the browser")
    print(f"seconds: {seconds[0]:.1f} to the first frame, then {np.median(seconds[1:]):.2f} a frame (median)")
    count = min(len(browser), len(after))
    table("browser against MediaPipe's Python, the same mp4", browser[:count], after[:count])
    table("MediaPipe's Python, the mp4 against the clip before it was compressed", after, before)
    if options.out is not None:
        np.savez(options.out, browser=browser, after=after, before=before)


if __name__ == "__main__":
    main()
