"""The only process that opens uploads: it holds the model, decodes and translates clips, and reports each stage.

It is a separate process, so that pages never wait for it, and so that it can be killed if a clip takes too long or too
much memory. `job_queue` starts, watches and replaces it. Messages are JSON, never pickles: an attacker who takes over a
decoder must not be able to create objects in the server.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from signcl.data.json_files import parse_json
from signcl.data.progress import say
from signcl.data.registry import load_plugins
from signcl.data.video import write_video
from signcl.inference.translation import Model, load_model, translate, trust_of, why_no_confidence
from signcl.pages.signs import clip_strip
from signcl.pages.uploads import Limits, Refused, read_part_of_upload, read_upload

__all__ = ["Work", "work"]

ALTERNATIVES = 3  # other candidate sentences in the answer
POLITE = 2  # niceness of the worker, so that pages and uploads come first


@dataclass(frozen=True)
class Work:
    """Arguments of a worker."""

    run: Path
    device: str
    plugins: Sequence[str]
    place: Path
    """Folder of the uploads; removed by the worker if the server is killed."""
    pose_python: str | None = None
    """For a key-point run: the Python that has the extractor used in training, for videos."""


def work(pipe: Connection, task: Work) -> None:
    """Load the model, then translate one clip after another until the pipe closes.

    Messages out: {"stage": "ready"} or {"stage": "unfit", "error"} once, then the stages of each clip, the last one
    `done` or `failed`. Messages in: {"path", "name", "limits", "part", "keep", "extractor"}, see `job_queue.Job`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the server handles it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_the_server, args=(task.place,), daemon=True).start()
    try:
        load_plugins(task.plugins)
        model = load_model(task.run, device=task.device, pose_python=task.pose_python)
    except (ValueError, OSError) as error:
        _tell(pipe, {"stage": "unfit", "error": str(error)})
        return
    if model.poses is not None:
        try:
            model.poses.check()
        except (ValueError, OSError) as error:
            say(f"videos cannot be translated here, key points can: {error}")
    with contextlib.suppress(EOFError, OSError):
        with contextlib.suppress(AttributeError):  # Windows has none
            os.nice(POLITE)
        _tell(pipe, {"stage": "ready"})
        while True:
            job = parse_json(pipe.recv_bytes())
            for stage in _stages(model, job, Limits(**job["limits"])):
                _tell(pipe, stage)
    shutil.rmtree(task.place, ignore_errors=True)  # the pipe closes only when the server has died


def _end_with_the_server(place: Path) -> None:
    """Clean up and exit if the server is killed, since it cannot clean up itself."""
    server = multiprocessing.parent_process()
    if server is not None:
        server.join()
        shutil.rmtree(place, ignore_errors=True)
        os._exit(1)


def _tell(pipe: Connection, stage: dict[str, Any]) -> None:
    pipe.send_bytes(json.dumps(stage, ensure_ascii=False).encode())


def _stages(model: Model, job: dict[str, Any], limits: Limits) -> Iterator[dict[str, Any]]:
    """Process one clip and yield its stages; the last is `done` or `failed`. No clip may stop the worker."""
    path, name = Path(job["path"]), job["name"]
    part = None if job["part"] is None else tuple(job["part"])
    try:
        yield {"stage": "reading"}
        if job["keep"] is not None:
            frames, fps = read_part_of_upload(path, limits, part)
            write_video(Path(job["keep"]), frames, fps)
            yield {"stage": "done", "clip": name, "frames": len(frames), "fps": round(fps, 3)}
            return
        notes: list[str] = []
        raw = read_upload(path, model.run, limits, notes.append, model.poses, part, job["extractor"])
        yield {"stage": "translating", "frames": len(raw), "strip": clip_strip(raw)}
        found = translate(model, raw, alternatives=ALTERNATIVES)
        why_not = why_no_confidence(model).replace(str(model.run.folder), model.run.folder.name)
        yield {
            "stage": "done",
            "clip": name,
            "text": found.text,
            "alternatives": [{"text": text, "probability": _short(p)} for text, p in found.alternatives],
            "frames": found.num_frames,
            "seconds": round(found.seconds, 3),
            **trust_of(found),
            "run": model.run.folder.name,
            **({"notes": notes} if notes else {}),
            **({"why_no_confidence": why_not} if found.confidence is None else {}),
        }
    except Refused as error:
        yield {"stage": "failed", "error": f"{name}: {error}", "status": error.status}
    except MemoryError:
        yield {"stage": "failed", "error": f"{name}: not enough memory for this clip; make it smaller", "status": 413}
    except (ValueError, OSError) as error:
        yield {"stage": "failed", "error": f"{name}: {error}", "status": 422}
    except Exception as error:  # our bug, or a library's on a broken file: logged here, short answer to the client
        say(f"an unexpected error while translating an upload; please report it\n{traceback.format_exc()}")
        yield {"stage": "failed", "error": f"{name}: cannot be translated ({type(error).__name__})", "status": 422}


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
