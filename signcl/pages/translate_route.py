"""POST /api/translate: receive a clip, queue it, and answer with its translation; deleted when the client disconnects.
POST /api/keep: store a clip with its sentence for training, if the server has a folder for that and the signer agrees.

Nothing here blocks: a thread writes each piece of an upload, and a waiting request holds no thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Annotated, Any

from anyio import to_thread
from fastapi import FastAPI, HTTPException, Query, Request
from starlette.responses import Response

from signcl.pages.clip_form import ClientLeft, ClipForm, receive_clip
from signcl.pages.guard import drain
from signcl.pages.job_queue import Full, Job, JobQueue
from signcl.pages.kept_clips import FolderFull, Keeper
from signcl.pages.uploads import Refused

__all__ = ["add_translation"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLIP = {
    "clip": {
        "type": "string",
        "format": "binary",
        "description": "a video; or features or key points (.npy, .npz, .pose) if the model reads them",
    },
    "extractor": {
        "type": "string",
        "description": "for key points: how they were made, the text of the pose.json that `signcl pose` writes; "
        "another extractor than in training is refused",
    },
    "start": {"type": "string", "description": "for a video: start of the part to read, in seconds"},
    "stop": {"type": "string", "description": "for a video: end of the part to read, in seconds"},
}


def _form(required: list[str], fields: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI description of a form with an upload."""
    schema = {"type": "object", "required": required, "properties": fields}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


FORM = _form(["clip"], CLIP)
KEPT_FORM = _form(
    ["clip", "text", "consent"],
    CLIP
    | {
        "text": {"type": "string", "description": "what is signed"},
        "signer": {"type": "string", "description": "name or number of the signer"},
        "consent": {"type": "string", "enum": ["yes"], "description": "the signer has agreed"},
    },
)
READS = 30.0  # seconds that a client may take to read a line of its answer


def add_translation(
    app: FastAPI, queue: JobQueue | None, why_not: Callable[[], str], keeper: Keeper | None = None
) -> None:
    """Add the routes. Without a queue or a keeper, they answer why nothing is translated or kept."""
    desk = _Desk(queue) if queue is not None else None

    @app.post("/api/translate", response_model=None, openapi_extra=FORM)
    async def translate_clip(
        request: Request,
        progress: Annotated[bool, Query(description="answer with one JSON line for each stage")] = False,
    ) -> Response:
        """Translate one clip. Errors are {"error": "..."}; docs/pages.md lists their statuses."""
        if desk is None:
            raise HTTPException(409, f"this server does not translate: {why_not()}")
        return _Translation(desk, request.headers, progress)

    @app.post("/api/keep", response_model=None, openapi_extra=KEPT_FORM)
    async def keep_clip(request: Request) -> Response:
        """Store a video and its sentence for training. The form must contain the signer's consent: `consent=yes`."""
        if desk is None or keeper is None:
            raise HTTPException(409, "this server keeps no clips: start it with --keep-in FOLDER")
        return _Keeping(desk, request.headers, keeper)


class _Desk:
    """Limits how many clips arrive at the same time."""

    def __init__(self, queue: JobQueue) -> None:
        self.queue, self.arriving = queue, 0

    def check(self) -> None:
        """Raise `Full` if a clip that arrives now would be refused later."""
        self.queue.check()
        if self.arriving >= self.queue.limits.receiving:
            raise Full(self.arriving, max(1, math.ceil(self.queue.seconds)))

    @contextlib.contextmanager
    def arrival(self) -> Iterator[None]:
        """Counts a clip while it arrives."""
        self.arriving += 1
        try:
            yield
        finally:
            self.arriving -= 1

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """A temporary folder for one clip."""
        folder = Path(tempfile.mkdtemp(dir=self.queue.place))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Translation(Response):
    """A response that reads its own request, so that it notices when the client disconnects."""

    def __init__(self, desk: _Desk, headers: Any, progress: bool) -> None:
        self.desk, self.headers_in, self.progress, self.background = desk, headers, progress, None
        self.status_code = 200

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            try:
                self.desk.check()
            except Full:
                if self.headers_in.get("expect") is None:  # such a client has sent nothing yet
                    await drain(receive)
                raise
            with self.desk.folder() as folder:
                path = folder / "clip"
                with self.desk.arrival():
                    form = await receive_clip(self.headers_in.get("content-type", ""), receive, path)
                await self._answer(path, form, receive, send)
        except ClientLeft:
            return
        except Full as full:
            raise HTTPException(429, str(full), {"retry-after": str(full.seconds)}) from None
        except Refused as refused:
            raise HTTPException(refused.status, str(refused)) from None

    async def _answer(self, path: Path, form: ClipForm, receive: Receive, send: Send) -> None:
        async with self._stages(Job(path, form.name, _unheard), form, receive) as stages:
            if self.progress:
                await _start(send, 200, "application/x-ndjson")
            async for stage in stages:
                last = stage["stage"] in ("done", "failed")
                if self.progress:
                    await _line(send, stage, more=not last)
                elif last:
                    await _whole(send, stage)

    @contextlib.asynccontextmanager
    async def _stages(self, job: Job, form: ClipForm, receive: Receive) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Queue a clip and yield its stages up to the last; it leaves the queue when its client disconnects."""
        job.part, job.extractor = form.part(), form.texts.get("extractor") or None
        loop, events = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any]]()

        def tell(stage: dict[str, Any]) -> None:
            with contextlib.suppress(RuntimeError):  # the server has ended
                loop.call_soon_threadsafe(events.put_nowait, stage)

        async def told() -> AsyncIterator[dict[str, Any]]:
            while True:
                stage = await _next(events, left)
                last = stage["stage"] in ("done", "failed")
                yield stage
                if last:
                    return

        job.tell = tell
        self.desk.queue.add(job)
        left = asyncio.ensure_future(_left(receive))
        try:
            yield told()
        finally:
            left.cancel()
            self.desk.queue.forget(job)


class _Keeping(_Translation):
    """The same for a clip to keep: the worker writes a clean video of the chosen part, and the keeper stores it."""

    def __init__(self, desk: _Desk, headers: Any, keeper: Keeper) -> None:
        super().__init__(desk, headers, progress=False)
        self.keeper = keeper

    async def _answer(self, path: Path, form: ClipForm, receive: Receive, send: Send) -> None:
        try:
            wish = self.keeper.check(form.texts)
            await to_thread.run_sync(self.keeper.check_room)
        except FolderFull as full:
            raise Refused(507, str(full)) from None
        except ValueError as error:
            raise Refused(422, str(error)) from None
        job = Job(path, form.name, _unheard)
        job.keep = path.with_name("kept.mp4")
        async with self._stages(job, form, receive) as stages:
            async for stage in stages:
                if stage["stage"] == "failed":
                    await _whole(send, stage)
                elif stage["stage"] == "done":
                    try:
                        name = await to_thread.run_sync(self.keeper.add, job.keep, wish)
                    except FolderFull as full:
                        raise Refused(507, str(full)) from None
                    except (ValueError, OSError) as error:
                        raise Refused(507, f"not kept: {error}") from None
                    await _whole(send, {**stage, "name": name})


def _unheard(stage: dict[str, Any]) -> None:
    """Default for the stages of a job that nobody listens to."""


async def _left(receive: Receive) -> None:
    """Wait until the client disconnects."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _next(events: asyncio.Queue[dict[str, Any]], left: asyncio.Future[None]) -> dict[str, Any]:
    """The next stage of a job.

    Raises:
        ClientLeft: the client has disconnected.
    """
    stage = asyncio.ensure_future(events.get())
    both: list[asyncio.Future[Any]] = [stage, left]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    if stage.done():
        return stage.result()
    stage.cancel()
    raise ClientLeft


async def _start(send: Send, status: int, kind: str) -> None:
    headers = [(b"content-type", kind.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _line(send: Send, stage: dict[str, Any], *, more: bool) -> None:
    body = json.dumps(stage, ensure_ascii=False).encode() + b"\n"
    try:
        await asyncio.wait_for(send({"type": "http.response.body", "body": body, "more_body": more}), READS)
    except TimeoutError:
        raise ClientLeft from None


async def _whole(send: Send, stage: dict[str, Any]) -> None:
    """Send the last stage as the answer."""
    if stage.pop("stage") == "failed":
        raise HTTPException(stage["status"], stage["error"])
    await _start(send, 200, "application/json")
    await _line(send, stage, more=False)
