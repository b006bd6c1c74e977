"""Fetch images by their addresses: bounded in size, time and redirections, and from public hosts only."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Any
from urllib.parse import urljoin, urlsplit

_SECONDS, _SECONDS_IN_ALL = 20.0, 120.0
"""How long a host may be silent, and an image take."""
_REDIRECTIONS = 5
_CHUNK = 1 << 16
_AGENT = "clipsearch"
_CONNECTIONS: dict[str, type[HTTPConnection]] = {"http": HTTPConnection, "https": HTTPSConnection}
NOT_FETCHED = "its row holds an address alone: --fetch fetches it"
_NAT64 = ip_network("64:ff9b::/96")


def fetch_public(address: str, most: int) -> bytes:
    """Fetch a file over HTTP.

    Parameters
    ----------
    address
        http:// or https://
    most
        The most bytes that it may have.

    Returns
    -------
    Its bytes.

    Raises
    ------
    OSError
        It cannot be fetched, is too large or too slow, or its host is not public: an address that leads
        into the own network, also after a redirection, is refused.
    """
    deadline = time.monotonic() + _SECONDS_IN_ALL
    for _ in range(_REDIRECTIONS + 1):
        response, connection = _request(address)
        try:
            if response.status in (301, 302, 303, 307, 308):
                address = urljoin(address, response.headers.get("Location", ""))
                continue
            if response.status in (401, 403, 404, 410):
                raise FileNotFoundError(f"its host answers {response.status} {response.reason}")
            if response.status != 200:
                raise OSError(f"its host answers {response.status} {response.reason}")
            return b"".join(_read(response, most, deadline))
        except HTTPException as error:
            raise OSError(f"its host breaks off: {type(error).__name__}") from error
        finally:
            connection.close()
    raise OSError(f"it is redirected more than {_REDIRECTIONS} times")


def is_public(host: str) -> bool:
    """Tell whether an IP address is one of the public network."""
    address = ip_address(host.partition("%")[0])
    if address in _NAT64:  # it leads to an address of IPv4
        address = IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.is_global


def _request(address: str) -> tuple[HTTPResponse, HTTPConnection]:
    try:
        parts = urlsplit(address)
        kind, host, port = _CONNECTIONS.get(parts.scheme), parts.hostname, parts.port
    except ValueError as error:
        raise OSError(f"its address cannot be read: {error}") from error
    if kind is None or not host:
        raise OSError("it has no address that begins with http:// or https://")
    try:
        # With its port: the end of an IPv6 address would be taken for one.
        connection = kind(host, port or kind.default_port, timeout=_SECONDS)
    except HTTPException as error:
        raise OSError("its address cannot be read") from error
    connection._create_connection = _connect  # type: ignore[attr-defined]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("GET", target, headers={"User-Agent": _AGENT, "Accept": "image/*"})
        return connection.getresponse(), connection
    except (HTTPException, ValueError) as error:
        connection.close()
        raise OSError(f"its host does not answer: {type(error).__name__}") from error
    except OSError:
        connection.close()
        raise


def _connect(place: tuple[str, int], timeout: float, source: Any = None) -> socket.socket:
    """Connect to the first public address of a host: the one that was looked at, not another later."""
    found = socket.getaddrinfo(*place, type=socket.SOCK_STREAM)
    public = [one for one in found if is_public(str(one[4][0]))]
    if not public:
        raise PermissionError(f"its host {place[0]} is not in the public network")
    for number, (family, kind, protocol, _, where) in enumerate(public, 1):
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(timeout)
        try:
            connection.connect(where)
        except OSError:
            connection.close()
            if number == len(public):
                raise
        else:
            return connection
    raise AssertionError("the last one connects or raises")


def _read(response: HTTPResponse, most: int, deadline: float) -> Iterator[bytes]:
    size = 0
    while chunk := response.read(_CHUNK):
        size += len(chunk)
        if size > most:
            raise OSError(f"it has more than {most:,} bytes")
        if time.monotonic() > deadline:
            raise OSError(f"it takes more than {_SECONDS_IN_ALL:.0f} seconds")
        yield chunk
