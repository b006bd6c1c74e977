"""Images are fetched from public hosts only, within limits of size, time and redirections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from clipsearch.distributed import fetch


class _Host(BaseHTTPRequestHandler):
    """Answers with a thousand letters, an error, or somewhere else to look."""

    def do_GET(self) -> None:
        status, target = 200, ""
        if self.path.startswith("/to/"):
            status, target = 302, self.path.removeprefix("/to")
        elif self.path == "/loop":
            status, target = 301, "/loop"
        elif self.path != "/ok":
            status = 500 if self.path == "/broken" else 404
        self.send_response(status)
        if target:
            self.send_header("Location", target)
        self.end_headers()
        self.wfile.write(b"x" * 1_000)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[Callable[[str], str]]:
    """Return the address of a path of a host on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Host)
    Thread(target=server.serve_forever, daemon=True).start()
    yield lambda path: f"http://127.0.0.1:{server.server_port}{path}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/a.png",
        "http://localhost:1/a.png",
        "http://[::1]:1/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/a.png",
        "http://[::1]/a.png",
        "http://[::ffff:127.0.0.1]/a.png",
        "http://[64:ff9b::a00:1]/a.png",
    ],
)
def test_addresses_of_the_own_network_are_refused(address: str) -> None:
    with pytest.raises(PermissionError, match="not in the public network"):
        fetch.fetch_public(address, 1_000)


@pytest.mark.parametrize(
    "address",
    ["file:///etc/passwd", "ftp://a/b", "http://", "http://[x", "", "http://a b/x", "http://\0/"],
)
def test_what_is_no_web_address_is_refused(address: str) -> None:
    said = r"its address cannot be read|begins with http|does not answer"
    with pytest.raises(OSError, match=said):
        fetch.fetch_public(address, 1_000)


def test_fetching_follows_redirections_within_limits(
    answering: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "is_public", lambda host: True)
    assert fetch.fetch_public(answering("/ok"), 1_000) == b"x" * 1_000
    assert fetch.fetch_public(answering("/to/ok"), 1_000) == b"x" * 1_000
    with pytest.raises(OSError, match="more than 999 bytes"):
        fetch.fetch_public(answering("/ok"), 999)
    with pytest.raises(OSError, match="redirected more than 5 times"):
        fetch.fetch_public(answering("/loop"), 1_000)
    with pytest.raises(FileNotFoundError, match="404"):
        fetch.fetch_public(answering("/nothing"), 1_000)
    with pytest.raises(OSError, match="500"):
        fetch.fetch_public(answering("/broken"), 1_000)


def test_a_redirection_into_the_own_network_is_refused(
    answering: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def first_only(host: str) -> bool:
        asked.append(host)
        return len(asked) == 1

    monkeypatch.setattr(fetch, "is_public", first_only)
    with pytest.raises(PermissionError, match="not in the public network"):
        fetch.fetch_public(answering("/to/ok"), 1_000)
