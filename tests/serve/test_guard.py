"""Who may ask a server: no other web page, no host by another name, nobody without the token."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from clipsearch.serve.guard import SECURITY_HEADERS, Guard

TOKEN = "a-token-of-some-length"


async def _application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"answer"})


def ask(
    headers: dict[str, str], *, path: str = "/v1/status", token: str | None = None, **more: Any
) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of the answer to one request."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b""}

    bare, _, query = path.partition("?")
    encoded = [(k.lower().encode(), v.encode("latin-1")) for k, v in headers.items()]
    scope = {
        "type": "http", "method": "GET", "path": bare, "query_string": query.encode(),
        "headers": encoded, **more,
    }  # fmt: skip
    asyncio.run(Guard(_application, token=token)(scope, receive, send))
    found = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return sent[0]["status"], found


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8417", "localhost:8417", "LocalHost", "[::1]:8417", "127.0.0.1", "localhost."],
)
def test_this_machine_may_ask_by_its_names(host: str) -> None:
    assert ask({"host": host})[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8417",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8417",
        "127.0.0.1:8417@evil.example",
        "192.168.1.7:8417",
        "[::1",
        "",
    ],
)
def test_a_name_that_only_leads_here_may_not(host: str) -> None:
    assert ask({"host": host})[0] == 403
    assert ask({})[0] == 403


HERE = {"host": "127.0.0.1:8417"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:8417", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"origin": "http://localhost:8417"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://["}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
    ],
)
def test_other_web_pages_may_not_ask(headers: dict[str, str], status: int) -> None:
    assert ask({**HERE, **headers})[0] == status
    bearer = {"authorization": f"Bearer {TOKEN}"}
    assert ask({**HERE, **headers, **bearer}, token=TOKEN)[0] == status


def test_a_link_of_another_site_may_lead_to_the_page() -> None:
    link = {**HERE, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert ask(link, path="/")[0] == 200
    assert ask(link, path="/", method="POST")[0] == 403
    assert ask({**link, "sec-fetch-mode": "cors"}, path="/")[0] == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer  {TOKEN} "}, 200),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": "Bearer \xe4\xf6"}, 401),
        ({"cookie": f"a=b; clipsearch={TOKEN}"}, 200),
        ({"cookie": f"other={TOKEN}"}, 401),
        ({"cookie": "clipsearch="}, 401),
        ({"cookie": "\x01;;=,"}, 401),
    ],
)
def test_where_there_is_a_token_it_is_needed(headers: dict[str, str], status: int) -> None:
    for path in ("/", "/v1/status", "/v1/image?path=x", "/page.js"):
        host = {"host": "photos.example"}  # any name will do: a page by that name has no token
        assert ask({**host, **headers}, path=path, token=TOKEN)[0] == status


def test_whether_the_server_is_up_is_no_secret() -> None:
    assert ask({}, path="/healthz", token=TOKEN)[0] == 200
    assert ask({"host": "evil.example"}, path="/healthz")[0] == 200


def test_the_address_with_the_token_signs_a_browser_in() -> None:
    status, headers = ask(HERE, path=f"/?token={TOKEN}", token=TOKEN)
    assert (status, headers["location"]) == (303, "/")
    cookie, *how = headers["set-cookie"].split("; ")
    assert cookie == f"clipsearch={TOKEN}"
    assert {"HttpOnly", "SameSite=Strict"} <= set(how)
    assert ask({**HERE, "cookie": cookie}, token=TOKEN)[0] == 200
    assert ask(HERE, path="/?token=wrong", token=TOKEN)[0] == 401
    assert ask(HERE, path=f"/v1/status?token={TOKEN}", token=TOKEN)[0] == 401
    assert ask(HERE, path=f"/?token={TOKEN}")[0] == 200  # nothing to sign in to


def test_every_answer_and_every_refusal_keeps_others_out() -> None:
    for headers in (HERE, {}):
        _, found = ask(headers)
        assert {
            key.decode(): value.decode() for key, value in SECURITY_HEADERS
        }.items() <= found.items()
        assert "access-control-allow-origin" not in found


def test_a_websocket_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(Guard(_application)({"type": "websocket"}, None, send))  # type: ignore[arg-type]
    assert sent == [{"type": "websocket.close", "code": 1008}]
