"""The server under mixed load: pages; good, broken, large and slow clips; and clients that disconnect midway.

    python benchmarks/server.py [--requests 1000] [--abandoned 100] [--connections 30]

Starts `signcl serve` on a tiny run that it trains first (or `--run RUN --clips FOLDER`) and sends the requests in a
seeded order. Prints the answers, the time of `GET /`, the memory of the server's processes, the number of files left
over, and the time to stop after SIGTERM while clips are being processed.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from signcl.cli import main as signcl
from signcl.data.video import write_video

RECIPE = Path(__file__).parents[1] / "recipes/synthetic/finetune-signcl.yaml"
TINY = ("visual_dim=16", "conv_width=32", "width=32", "encoder_layers=1", "decoder_layers=1", "heads=2", "ffn=32")
UPLOAD_MB = 8  # the server's limit here
EDGE = "limits"


@dataclass
class Request:
    kind: str
    path: str
    body: bytes = b""
    pause: float = 0.0
    """Seconds between the pieces of a slow body."""
    leaves: float | None = None
    """When the client disconnects. Below 1: at this share of its body; from 1 on: value - 1 seconds after the body."""


def form(content: bytes, name: str) -> bytes:
    head = f'--{EDGE}\r\nContent-Disposition: form-data; name="clip"; filename="{name}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{EDGE}--\r\n".encode()


async def send(port: int, request: Request, timeout: float = 300.0) -> tuple[int, float]:
    """Send a request; return its status (0: client left or connection closed) and seconds."""
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    status = 0
    try:
        async with asyncio.timeout(timeout):
            method = "POST" if request.body else "GET"
            head = f"{method} {request.path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n"
            if request.body:
                head += f"Content-Type: multipart/form-data; boundary={EDGE}\r\nContent-Length: {len(request.body)}\r\n"
            writer.write(head.encode() + b"\r\n")
            size = len(request.body)
            if request.leaves is not None and request.leaves < 1:
                size = int(size * request.leaves)
            step = max(1, -(-size // 12)) if request.pause else 1 << 18
            for start in range(0, size, step):
                writer.write(request.body[start : min(start + step, size)])
                await writer.drain()
                await asyncio.sleep(request.pause)
            if request.leaves is not None:
                await asyncio.sleep(max(0.0, request.leaves - 1))
                return 0, time.perf_counter() - started
            status = int((await reader.readline()).split()[1])
            while await reader.read(1 << 16):
                pass
    except (ConnectionError, IndexError):
        pass  # the server may close the connection before an upload that is too large is complete
    finally:
        writer.close()
    return status, time.perf_counter() - started


def requests(count: int, abandoned: int, clips: list[bytes], huge: bytes, seed: int) -> list[Request]:
    draw = random.Random(seed)
    found = []
    for number in range(count - abandoned):
        share, clip, path = number / (count - abandoned), draw.choice(clips), "/api/translate"
        if draw.random() < 0.5:
            path += "?progress=1"
        if share < 0.33:
            found.append(Request("GET /", "/"))
        elif share < 0.48:
            found.append(Request("other pages", draw.choice(["/report", "/explorer", "/api/site", "/static/base.css"])))
        elif share < 0.75:
            found.append(Request("good clips", path, form(clip, "good.mp4")))
        elif share < 0.87:
            cut = draw.choice([clip[: len(clip) // 2], clip[:900], draw.randbytes(5000), b"\x1a\x45\xdf\xa3" + clip])
            found.append(Request("broken clips", path, form(cut, "broken.mp4")))
        elif share < 0.91:
            found.append(Request("too large", path, form(bytes((UPLOAD_MB + 1) * 1_000_000), "large.mp4")))
        elif share < 0.92:
            found.append(Request("4096 x 4096", path, form(huge, "huge.mp4")))
        else:
            found.append(Request("slow bodies", path, form(clip, "slow.mp4"), pause=draw.uniform(0.05, 0.3)))
    for _ in range(abandoned):
        where = draw.choice([draw.random(), 1 + draw.random() / 2, 1 + 2 * draw.random()])
        path = "/api/translate" + draw.choice(["", "?progress=1"])
        found.append(Request("abandoned", path, form(draw.choice(clips), "left.mp4"), leaves=where))
    draw.shuffle(found)
    return found


def resident(server: psutil.Process) -> float:
    """Megabytes used by the server and its child processes."""
    total = 0
    for process in [server, *server.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total / 1e6


def percentiles(seconds: list[float]) -> str:
    return "p50 {:.0f} ms, p99 {:.0f} ms, max {:.0f} ms".format(*(1000 * np.percentile(seconds, [50, 99, 100])))


async def measure(server: psutil.Process, port: int, wanted: list[Request], connections: int, place: Path) -> None:
    calm = [(await send(port, Request("GET /", "/")))[1] for _ in range(100)]
    statuses: dict[str, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    home, memory, line = [], [], list(reversed(wanted))

    async def client() -> None:
        while line:
            request = line.pop()
            status, seconds = await send(port, request)
            statuses[request.kind][status] += 1
            if request.kind == "GET /":
                home.append(seconds)

    async def watch() -> None:
        while True:  # in a thread, so that it does not slow down the measured clients
            size = await asyncio.to_thread(resident, server)
            memory.append((sum(map(collections.Counter.total, statuses.values())), size))
            await asyncio.sleep(1)

    started = time.perf_counter()
    watching = asyncio.create_task(watch())
    await asyncio.gather(*(client() for _ in range(connections)))
    took = time.perf_counter() - started
    watching.cancel()
    await asyncio.sleep(3)
    print(f"{len(wanted)} requests at {connections} connections in {took:.0f} s; load {os.getloadavg()[0]:.1f}")
    print("\n| request | answers |\n|---|---|")
    for kind, found in sorted(statuses.items()):
        answers = ", ".join(f"{number} x {status or 'left'}" for status, number in sorted(found.items()))
        print(f"| {kind} | {answers} |")
    errors = sum(n for found in statuses.values() for status, n in found.items() if status >= 500)
    print(f"\n5xx: {errors}")
    print(f"GET / idle: {percentiles(calm)}; under load: {percentiles(home)}")
    part = len(wanted) / 5
    early = np.median([size for done, size in memory if part / 2 <= done <= part] or [memory[0][1]])
    late = np.median([size for done, size in memory if done >= len(wanted) - part / 2] or [memory[-1][1]])
    change, most = 100 * (late / early - 1), max(size for _, size in memory)
    print(f"memory of all processes: {early:.0f} MB in the second tenth of requests, {late:.0f} MB in the last "
          f"({change:+.1f} %), most {most:.0f} MB")  # fmt: skip
    print(f"files left: {sum(path.is_file() for path in place.rglob('*'))}")


async def end(process: subprocess.Popen[str], port: int, clips: list[bytes], place: Path) -> None:
    """Send SIGTERM while clips are in every stage, and print how long the server takes to stop."""
    body = form(clips[0], "last.mp4")
    busy = [Request("last", "/api/translate?progress=1", body, pause=pause) for pause in (0, 0, 0, 1, 1)]
    tasks = [asyncio.create_task(send(port, request)) for request in busy]
    await asyncio.sleep(0.3)
    started = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.wait)
    print(f"SIGTERM with {len(busy)} clips on their way: ended in {time.perf_counter() - started:.2f} s, exit code "
          f"{process.returncode}, files left: {sum(path.is_file() for path in place.rglob('*'))}")  # fmt: skip
    for task in tasks:
        task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--abandoned", type=int, default=100)
    parser.add_argument("--connections", type=int, default=30)
    parser.add_argument(
        "--waiting",
        type=int,
        default=40,
        help="most clips in the queue; with fewer than connections, some requests get 429",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--clips", type=Path, help="folder of .mp4 files that the run can translate")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run, found = options.run, options.clips
        if run is None:
            run, found = work / "run", work / "corpus"
            assert signcl(["corpus", "make", str(found), "--clips=40", "--size=48", "--signs=16"]) == 0
            changes = [f"--model.{change}" for change in (*TINY, "init_from=")] + [
                "--train.device=cpu",
                "--train.epochs=1",
            ]
            assert signcl(["fit", str(RECIPE), f"--corpus.root={found}", f"--out={run}", *changes]) == 0
        clips = [path.read_bytes() for path in sorted(found.rglob("*.mp4"))[:20]]
        write_video(work / "huge.mp4", np.zeros((20, 4096, 4096, 3), np.uint8))
        place = work / "temporary"
        place.mkdir()
        command = [sys.executable, "-m", "signcl", "serve", str(run), "--port=0", f"--max-upload={UPLOAD_MB}"]
        command += [f"--max-waiting={options.waiting}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(place)})
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rpartition(":")[2])
            wanted = requests(
                options.requests, options.abandoned, clips, (work / "huge.mp4").read_bytes(), options.seed
            )
            asyncio.run(measure(psutil.Process(process.pid), port, wanted, options.connections, place))
            asyncio.run(end(process, port, clips, place))
        finally:
            process.kill()


if __name__ == "__main__":
    main()
