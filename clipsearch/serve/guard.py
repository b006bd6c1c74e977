"""Who may ask a server: the machine itself, or whoever has the token; never another web page.

A server on 127.0.0.1 can be reached by every web page that its user opens in a browser. Two checks
keep these out: a browser says which site a request comes from (`Sec-Fetch-Site`, `Origin`), and the
host that it believes to talk to (`Host`) must be this one, or else a name of the attacker's that
leads here would make the page look like the same site ("DNS rebinding").
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from clipsearch.errors import ImageTooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
LARGEST = 64 << 20
"""Bytes of one request: a few photographs."""
OPEN_PATHS = frozenset({"/healthz"})
"""Asked by whoever watches over servers, who has no token."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        (
            b"default-src 'none'; img-src 'self' blob: data:; script-src 'self'; style-src 'self'; "
            b"connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        ),
    ),
)
"""On every answer. The policy lets the page load what comes from here, and nothing else."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered."""

    status: int
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class Guard:
    """Stands before an application (ASGI) and lets through what may be asked."""

    app: App
    token: str | None = None
    """None: whoever reaches the server may ask; it must listen on this machine alone then."""
    hosts: frozenset[str] = LOOPBACK
    """The names that the server goes by, where there is no token."""
    cookie: str = "clipsearch"
    """The name of the cookie that holds the token for a web browser."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer, or refuse to."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there is no websocket here
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        careful = _with_headers(send)
        if signed := self._signing_in(scope):
            await _answer(careful, 303, b"", [(b"location", b"/"), (b"set-cookie", signed)])
        elif refusal := self._refusal(scope, headers):
            body = json.dumps({"error": refusal.error, "message": refusal.message}).encode()
            await _answer(careful, refusal.status, body, [(b"content-type", b"application/json")])
        else:
            await self.app(scope, _limited(receive), careful)

    def _refusal(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> Refusal | None:
        if scope["path"] in OPEN_PATHS:
            return None
        host = headers.get("host", "")
        if self.token is None and _name(host) not in self.hosts:
            return Refusal(
                403,
                "UnknownHost",
                f"this server does not go by the name {_name(host)!r}: ask for 127.0.0.1, or start "
                "it with a token.",
            )
        if not _from_here(scope, headers, host):
            return Refusal(403, "CrossSite", "requests of other web sites are not answered.")
        if self.token is not None and not self._may(headers):
            return Refusal(
                401,
                "TokenNeeded",
                "this server wants its token: open the address that `clipsearch serve` showed, or "
                "send it as `Authorization: Bearer TOKEN`.",
            )
        if int(headers.get("content-length") or 0) > LARGEST:
            return Refusal(413, "ImageTooLarge", f"a request has at most {LARGEST:,} bytes.")
        return None

    def _may(self, headers: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        sent = [given.strip()] if scheme.lower() == "bearer" else []
        return any(map(self._is_token, [*sent, *_cookies(headers.get("cookie", ""), self.cookie)]))

    def _signing_in(self, scope: Mapping[str, Any]) -> bytes | None:
        """Return the cookie for who opens `/?token=...`, the address that the server showed."""
        if self.token is None or scope["path"] != "/" or scope["method"] != "GET":
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if not any(map(self._is_token, given)):
            return None
        return f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict".encode()

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), (self.token or "").encode())


def _name(host: str) -> str:
    """Return the host of a `Host` header without its port: `[::1]:8417` -> `::1`."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _from_here(scope: Mapping[str, Any], headers: Mapping[str, str], host: str) -> bool:
    """Tell whether a request comes from no web page, or from one of this server's own.

    A link of another site that leads to the page itself is harmless, and allowed.
    """
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        return False
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    opens = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
    return opens and scope["path"] == "/"


def _cookies(header: str, name: str) -> Iterable[str]:
    jar = SimpleCookie()
    try:
        jar.load(header)
    except CookieError:
        return []
    return [jar[name].value] if name in jar else []


def _limited(receive: Receive) -> Receive:
    """Let a body grow to LARGEST bytes, whatever its header said. Raises ImageTooLarge."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > LARGEST:
            raise ImageTooLarge("the request", f"more than {LARGEST:,} bytes")
        return message

    return limited


def _with_headers(send: Send) -> Send:
    async def careful(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return careful


async def _answer(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
