"""Access control: requests from this machine, or with the token; never from another web site.

A server on 127.0.0.1 can be reached by every web page that its user opens in a browser. Two checks
keep these out: a browser says which site a request comes from (`Sec-Fetch-Site`, `Origin`), and the
host that it connects to (`Host`) must be this one, or else a name of the attacker's that resolves
to this machine would make the page look like the same site ("DNS rebinding").
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

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names of this machine that no other machine can use."""
_MAX_REQUEST_BYTES = 64 << 20  # a few photographs
_OPEN_PATHS = frozenset({"/healthz"})  # monitoring has no token
SECURITY_HEADERS = (
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
"""On every response. The policy lets the page load what comes from this server, and nothing else."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a request is refused."""

    status: int
    error: str
    message: str


@dataclass(frozen=True, slots=True)
class Guard:
    """An ASGI application that passes requests on to another one, or refuses them.

    Parameters
    ----------
    app
        The application to protect.
    token
        What requests have to carry. None: everybody who reaches the server may ask; it must then
        listen on this machine alone.
    hosts
        The names of the server, where there is no token.
    cookie
        Name of the cookie that holds the token for a web browser.
    """

    app: _App
    token: str | None = None
    hosts: frozenset[str] = LOOPBACK_HOSTS
    cookie: str = "clipsearch"

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send
    ) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there is no websocket here
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        send_secured = _add_headers(send)
        if signed := self._sign_in_cookie(scope):
            await _send_response(
                send_secured, 303, b"", [(b"location", b"/"), (b"set-cookie", signed)]
            )
        elif refusal := self._refusal(scope, headers):
            body = json.dumps({"error": refusal.error, "message": refusal.message}).encode()
            await _send_response(
                send_secured, refusal.status, body, [(b"content-type", b"application/json")]
            )
        else:
            await self.app(scope, _limit_body(receive), send_secured)

    def _refusal(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> _Refusal | None:
        if scope["path"] in _OPEN_PATHS:
            return None
        host = headers.get("host", "")
        if self.token is None and _host_name(host) not in self.hosts:
            return _Refusal(
                403,
                "UnknownHost",
                f"this server does not have the name {_host_name(host)!r}: use 127.0.0.1, or start "
                "it with a token.",
            )
        if not _is_own_request(scope, headers, host):
            return _Refusal(403, "CrossSite", "requests of other web sites are not answered.")
        if self.token is not None and not self._has_token(headers):
            return _Refusal(
                401,
                "TokenNeeded",
                "this server wants its token: open the address that `clipsearch serve` showed, or "
                "send it as `Authorization: Bearer TOKEN`.",
            )
        if int(headers.get("content-length") or 0) > _MAX_REQUEST_BYTES:
            return _Refusal(
                413, "ImageTooLarge", f"a request has at most {_MAX_REQUEST_BYTES:,} bytes."
            )
        return None

    def _has_token(self, headers: Mapping[str, str]) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        sent = [given.strip()] if scheme.lower() == "bearer" else []
        return any(
            map(self._is_token, [*sent, *_cookie_values(headers.get("cookie", ""), self.cookie)])
        )

    def _sign_in_cookie(self, scope: Mapping[str, Any]) -> bytes | None:
        """Return the cookie to set for a browser that opens `/?token=...`, the address shown."""
        if self.token is None or scope["path"] != "/" or scope["method"] != "GET":
            return None
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        if not any(map(self._is_token, given)):
            return None
        return f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict".encode()

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), (self.token or "").encode())


def _host_name(host: str) -> str:
    """Return the host of a `Host` header without its port: `[::1]:8417` -> `::1`."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_own_request(scope: Mapping[str, Any], headers: Mapping[str, str], host: str) -> bool:
    """Tell whether a request comes from no web page, or from one of this server.

    A link on another site that leads to the page itself is harmless, and allowed.
    """
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        return False
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    opens = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
    return opens and scope["path"] == "/"


def _cookie_values(header: str, name: str) -> Iterable[str]:
    jar = SimpleCookie()
    try:
        jar.load(header)
    except CookieError:
        return []
    return [jar[name].value] if name in jar else []


def _limit_body(receive: _Receive) -> _Receive:
    """Let a body grow to _MAX_REQUEST_BYTES bytes, whatever its header says. Raises ImageTooLarge."""
    size = 0

    async def receive_within_limit() -> _Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > _MAX_REQUEST_BYTES:
            raise ImageTooLarge("the request", f"more than {_MAX_REQUEST_BYTES:,} bytes")
        return message

    return receive_within_limit


def _add_headers(send: _Send) -> _Send:
    async def send_with_headers(message: _Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
        await send(message)

    return send_with_headers


async def _send_response(
    send: _Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})
