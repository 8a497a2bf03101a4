"""Access control: checks the host that a request names, the site that it comes from, and its token.

Pure functions of headers. Browsers send the origin of a request in `Origin` and `Sec-Fetch-Site`; programs send
neither.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

__all__ = ["Access", "is_loopback", "machine", "same_place"]

HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::([0-9]{1,5}))?", re.IGNORECASE)
PORTS = {"http": 80, "https": 443}


def machine(host: str) -> tuple[str, int | None] | None:
    """Parse a Host header to name and port, in lower case and without a trailing dot; None if it is not valid."""
    found = HOST.fullmatch(host.strip())
    if found is None:
        return None
    return found[1].strip("[]").lower().rstrip("."), None if found[2] is None else int(found[2])


def is_loopback(name: str) -> bool:
    """Whether a host name or address always means this machine."""
    name = name.lower().strip("[]").rstrip(".")
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def same_place(origin: str, host: str) -> bool:
    """Whether an Origin is the server in the Host header; all loopback names count as one machine."""
    scheme, _, rest = origin.partition("://")
    asked, came = machine(host), machine(rest)
    if scheme not in PORTS or asked is None or came is None:
        return False
    ports = [PORTS[scheme] if port is None else port for port in (asked[1], came[1])]
    names_agree = asked[0] == came[0] or (is_loopback(asked[0]) and is_loopback(came[0]))
    return names_agree and ports[0] == ports[1]


@dataclass(frozen=True)
class Access:
    """Access rules of one server."""

    loopback: bool = True
    """The server listens only on the loopback address, so a request must name that address."""
    token: str | None = None
    """Required from everybody: as a cookie from browsers, as `Authorization: Bearer` from programs. None: no token."""
    port: int = 0
    """Part of the cookie's name, since browsers share cookies between the ports of a machine."""

    @property
    def cookie(self) -> str:
        return f"signcl-{self.port}"

    def refusal(self, method: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and message if a request comes from another site, else None. The token is checked separately."""
        host = headers.get("host", "")
        named = machine(host)
        if named is None or (self.loopback and not is_loopback(named[0])):
            return 421, f"this server answers to localhost, 127.0.0.1 and [::1], not to {host[:80]!r}"
        origin = headers.get("origin")
        if origin is not None:
            ours = same_place(origin, host)
        else:
            ours = headers.get("sec-fetch-site", "none").lower() in ("same-origin", "none")
        link = (method, headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("GET", "navigate", "document")
        if not ours and not link:  # any site may link here; it cannot read or use the page that the link opens
            return 403, "requests from other sites are refused"
        return None

    def may_enter(self, headers: Mapping[str, str]) -> bool:
        """Whether the request carries the token, or none is needed."""
        if self.token is None:
            return True
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(value.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return cookie is not None and self._is_token(cookie.value)

    def enters(self, method: str, query: bytes) -> bool:
        """Whether this is the address that contains the token, opened in a browser."""
        if self.token is None or method != "GET":
            return False
        return any(self._is_token(value) for value in parse_qs(query.decode("latin-1")).get("token", []))

    def _is_token(self, value: str) -> bool:
        return secrets.compare_digest(value.encode("utf-8", "replace"), (self.token or "").encode())
