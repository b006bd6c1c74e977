"""A library of small images behind a server, as the tests of serving want it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi.testclient import TestClient

from clipsearch.serve.guard import Guard
from clipsearch.serve.http import listen, make_application, make_http_server
from clipsearch.serve.service import Service

HERE = "http://127.0.0.1"


def client(service: Service, *, base: str = HERE, token: str | None = None) -> TestClient:
    """Return a client of the whole application, guard included, without a network."""
    guarded = Guard(make_application(service), token=token)
    return TestClient(guarded, base_url=base, raise_server_exceptions=False, follow_redirects=False)


@contextmanager
def running(service: Service, *, token: str | None = None) -> Iterator[str]:
    """Serve on a free port in a thread, and yield the address."""
    with listen("127.0.0.1", 0) as listening:
        made = make_http_server(service, listening, token=token)
        thread = threading.Thread(target=made.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            deadline = time.monotonic() + 60
            while not made.started and time.monotonic() < deadline:
                time.sleep(0.02)
            assert made.started
            yield f"{HERE}:{listening.getsockname()[1]}"
        finally:
            made.should_exit = True
            thread.join(30)
