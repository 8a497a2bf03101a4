"""Checks every request: it must name this server, come from its pages, carry the token, and not be too large or slow.

Every page that is open in the browser can reach a server on the loopback address. So a request must name the host that
the server was started for (otherwise a foreign domain could point here), and must not come from a page of another site.
The body of every request has a limit of size and of time.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from signcl.data.whole_numbers import whole_number
from signcl.pages.access import Access
from signcl.pages.uploads import Limits

__all__ = ["Guard", "drain"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
NOTHING = (
    b"default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
    b"frame-ancestors 'none'"
)
"""The policy of every answer that sets none itself: no script runs."""
UPLOADS = ("/api/translate", "/api/keep")
TEXTS = {"/api/subtitles": 8_000_000}
"""Most bytes of the texts in a request, for routes with long texts."""
FORM = 20_000  # most bytes of the form around a file, and of any other request
DRAIN = 5.0  # seconds to keep reading a refused upload: a browser that is cut off shows no answer
WELCOME = (
    b"<!doctype html><html lang=en><meta charset=utf-8><title>signcl</title>"
    b'<meta http-equiv=refresh content="0; url=/"><p><a href="/">Go on</a>'
)


class _Refused(Exception):
    """The body became too large or came too slowly while it was read."""


class Guard:
    """ASGI middleware; see the head of this file."""

    def __init__(self, app: Any, *, access: Access, limits: Limits) -> None:
        """Args: the application, the access rules, and the limits of a request."""
        self.app, self.access, self.limits = app, access, limits

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self.access.refusal(scope["method"], headers)
        if refusal is not None:
            await _refuse(send, *refusal)
        elif self.access.enters(scope["method"], scope.get("query_string", b"")):
            await self._welcome(send)
        elif not self.access.may_enter(headers):
            line = (
                "a token is needed: open the address that `signcl serve` printed, or send Authorization: Bearer TOKEN"
            )
            await _refuse(send, 401, line, [(b"www-authenticate", b"Bearer")])
        else:
            await self._passed(scope, headers, receive, send)

    async def _welcome(self, send: Send) -> None:
        """Set the cookie, with a page: after a redirect, the browser would still count the visit as cross-site."""
        access = self.access
        cookie = f"{access.cookie}={access.token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000"
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"set-cookie", cookie.encode()), *HEADERS]
        headers.append((b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": WELCOME})

    async def _passed(self, scope: Message, headers: dict[str, str], receive: Receive, send: Send) -> None:
        limits = self.limits
        uploads = scope["path"] in UPLOADS
        most = FORM + (limits.size if uploads else TEXTS.get(scope["path"], 0))
        too_large = (413, f"the request is too large; at most {most / 1e6:g} MB are accepted")
        if uploads:
            too_large = (413, f"the file is too large; at most {limits.megabytes:g} MB are accepted (--max-upload)")
        too_slow = (408, f"the request came too slowly; it must arrive within {limits.upload_seconds:g} s")
        said = headers.get("content-length", "")
        if said.isdecimal() and ((size := whole_number(said)) is None or size > most):
            if headers.get("expect") is None:
                await drain(receive)
            await _refuse(send, *too_large)
            return
        taken, until, whole = 0, time.monotonic() + limits.upload_seconds, False
        refusal: tuple[int, str] | None = None
        started = answered = False

        async def counted() -> Message:
            nonlocal taken, whole, refusal
            if whole:
                return await receive()
            try:
                left = until - time.monotonic()
                message = await asyncio.wait_for(receive(), max(0.0, min(left, limits.silence_seconds)))
            except TimeoutError:
                refusal = too_slow
                raise _Refused from None
            whole = message["type"] != "http.request" or not message.get("more_body", False)
            taken += len(message.get("body", b""))
            if taken > most:
                refusal = too_large
                raise _Refused
            return message

        async def headed(message: Message) -> None:
            nonlocal started, answered
            if refusal is not None and not started:  # the framework turns `_Refused` into its own answer
                if not answered:
                    answered = True
                    await _refuse(send, *refusal)
                return
            if message["type"] == "http.response.start":
                started = True
                own = {name for name, _ in message["headers"]}
                ours = (*HEADERS, (b"content-security-policy", NOTHING))
                message["headers"] = [*message["headers"], *(pair for pair in ours if pair[0] not in own)]
            await send(message)

        try:
            await self.app(scope, counted, headed)
        except _Refused:
            await headed({"type": "http.response.start"})


async def drain(receive: Receive) -> None:
    """Read and discard what a refused client still sends, for a limited time."""
    try:
        async with asyncio.timeout(DRAIN):
            while True:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def _refuse(send: Send, status: int, reason: str, more: list[tuple[bytes, bytes]] | None = None) -> None:
    body = json.dumps({"error": reason}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *HEADERS]
    headers += [(b"content-security-policy", NOTHING), (b"connection", b"close"), *(more or [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
