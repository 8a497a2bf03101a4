"""Key points found in the browser: what the translate page is told of them, and the files that it needs for that.

The page runs MediaPipe Holistic in a worker, draws what it finds, and sends a .pose file in place of the video. The
worker has a policy of its own, which alone allows WebAssembly: that of the page stays as strict as those of the others.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse

from signcl.data.pose_estimation import (
    BROWSER_EXTRACTOR,
    INSTALL_BROWSER,
    PoseKind,
    browser_differs,
    find_browser_holistic,
    pose_bytes,
)
from signcl.data.pose_estimation.browser_holistic import FILES
from signcl.data.pose_estimation.pose_of_clip import BODY_LIMBS, PARTS
from signcl.data.pose_estimation.pose_pictures import COLOURS
from signcl.data.pose_layouts import FACE_CONTOURS, HAND_EDGES
from signcl.inference.translation import rate_of_training
from signcl.training.run_folder import read_card
from signcl.training.runs import read_recipe

__all__ = ["add_browser_poses", "key_points_here", "what_the_page_needs"]

ADDRESS = "/key-points"
WORKER = Path(__file__).parent / "static" / "holistic-worker.js"
WORKER_POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"
"""The worker loads and compiles files of this server, and reaches no other."""
KINDS = {".js": "text/javascript", ".wasm": "application/wasm"}
BODY_OF_POSE = 10  # bytes of a .pose file behind its head: rate, number of frames, number of people
KNEES = 25  # points of the body from here on lie below the hips, mostly out of the picture


def key_points_here(run: Path) -> dict[str, Any] | None:
    """What the translate page needs to find the key points of a run itself; None where the run reads none.

    Returns:
        `install`, the command, where its files are not there; or `why_not`, why this run cannot; or all of it.
    """
    try:
        card, recipe = read_card(run), read_recipe(run)
        kind = PoseKind.read(card.get("poses"), str(run / "card.json"))
    except (OSError, ValueError):  # a folder that is no longer there; its worker has it in memory
        return None
    if kind is None:
        return None
    rate = rate_of_training(recipe.input, kind, card)
    why_not = _why_not(kind, rate)
    if why_not:
        return {"why_not": why_not}
    if find_browser_holistic() is None:
        return {"install": INSTALL_BROWSER}
    assert rate is not None
    try:
        return what_the_page_needs(rate)
    except ValueError as error:
        return {"why_not": str(error)}


def what_the_page_needs(rate: float) -> dict[str, Any]:
    """Addresses, settings, the head of a .pose file, and how a skeleton is drawn: what `key-points.js` is made with.

    Args:
        rate: frames a second of the training.

    Raises:
        ValueError: pose-format is not installed.
    """
    head = pose_bytes(np.zeros((0, PARTS["right_hand"][1], 4), np.float32), 0, 0, 1.0)[:-BODY_OF_POSE]
    return {
        "worker": f"{ADDRESS}/worker.js",
        "files": f"{ADDRESS}/{BROWSER_EXTRACTOR.version}/",
        "settings": BROWSER_EXTRACTOR.settings,
        "extractor": json.dumps(BROWSER_EXTRACTOR.described()),
        "fps": rate,
        "head": base64.b64encode(head).decode(),
        "parts": list(PARTS.values()),
        "drawing": _drawing(),
    }


def _why_not(kind: PoseKind, rate: float | None) -> str:
    """Why key points of the browser do not go with a run; nothing where they do."""
    if kind.extractor is None:
        return "the run does not know what its key points were extracted with"
    other = browser_differs(kind.extractor)
    if other:
        return f"the run was trained on key points of another extractor: {other}"
    if not kind.layout.startswith("mediapipe"):
        return f"the run was trained on {kind.layout} key points"
    return "" if rate else "the run does not know the rate of its training clips"


def _drawing() -> list[dict[str, Any]]:
    """How a skeleton is drawn: of each part its colour, its lines and its dots, by number of the point."""
    lines = {
        "body": [limb for limb in BODY_LIMBS if min(limb) >= 11 and max(limb) < KNEES],
        "left_hand": HAND_EDGES,
        "right_hand": HAND_EDGES,
    }
    dots: dict[str, Any] = {"body": range(11, KNEES), "face": FACE_CONTOURS}
    return [
        {
            "colour": f"rgb{COLOURS[part]}",
            "lines": [(first + a, first + b) for a, b in lines.get(part, ())],
            "dots": [first + number for number in dots.get(part, range(last - first))],
        }
        for part, (first, last) in PARTS.items()
    ]


def add_browser_poses(app: FastAPI) -> None:
    """Add the routes of the worker and of the files that it loads."""

    @app.get(f"{ADDRESS}/worker.js", include_in_schema=False)
    async def worker() -> FileResponse:
        headers = {"content-security-policy": WORKER_POLICY}
        return FileResponse(WORKER, media_type=KINDS[".js"], headers=headers)

    @app.get(f"{ADDRESS}/{BROWSER_EXTRACTOR.version}/{{name}}", include_in_schema=False)
    async def file(name: str) -> FileResponse:
        folder = find_browser_holistic()
        if folder is None or name not in FILES:
            raise HTTPException(404, f"there is no {name} here; {INSTALL_BROWSER} installs the files for browsers")
        kind = KINDS.get(Path(name).suffix, "application/octet-stream")
        headers = {"cache-control": "private, max-age=31536000, immutable"}  # the address has the version
        return FileResponse(folder / name, media_type=kind, headers=headers)
