"""What every request must pass: it comes from this page, to this server, and is not too large.

A server on the loopback address is reached by every page that is open in the browser. So a request must name the host
that the server was started for (else a foreign domain could be pointed here), and one that changes something must come
from our own pages.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["Guard", "TooLarge"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; font-src data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
FORM = 20_000  # bytes that the form around a file may take


class TooLarge(Exception):
    """The body grew beyond the limit while it was read."""


class Guard:
    """ASGI middleware; see the head of this file."""

    def __init__(self, app: Any, *, hosts: frozenset[str] | None, limit: int) -> None:
        """Args: the application, names of this server (None takes any), the most bytes of an upload."""
        self.app, self.hosts, self.limit = app, hosts, limit + FORM

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self.hosts is not None and _name(host) not in self.hosts:
            await _refuse(send, 421, f"this server answers to {', '.join(sorted(self.hosts))}, not to {host[:80]!r}")
            return
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None and origin.partition("://")[2] != host:
            await _refuse(send, 403, "requests from other sites are refused")
            return
        said = headers.get("content-length", "")
        if said.isdecimal() and int(said) > self.limit:
            await _drain(receive, self.limit)  # a browser that is cut off in the middle shows no answer
            await _refuse(send, 413, self._too_large())
            return
        taken, refused = 0, False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.limit:
                raise TooLarge
            return message

        async def headed(message: Message) -> None:
            nonlocal refused
            if taken > self.limit:  # the framework makes an answer of its own out of `TooLarge`
                if not refused:
                    refused = True
                    await _refuse(send, 413, self._too_large())
                return
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS]
            await send(message)

        try:
            await self.app(scope, counted, headed)
        except TooLarge:
            await headed({"type": "http.response.start"})

    def _too_large(self) -> str:
        return f"the file is too large; at most {(self.limit - FORM) / 1e6:g} MB are taken (signcl serve --max-upload)"


def _name(host: str) -> str:
    """A Host header without its port."""
    return host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host


async def _drain(receive: Receive, most: int) -> None:
    taken = 0
    while taken <= most:
        message = await receive()
        taken += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body})
