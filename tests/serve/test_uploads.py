"""Posted requests: JSON or a form, its files on disk as long as the request, named as the sender's."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from clipsearch.errors import ImageTooLarge, QueryError, UnknownImage, UnreadableImage
from clipsearch.serve.schemas import SearchRequest
from clipsearch.serve.uploads import PostedRequest, describe_body

BOUNDARY = "x-y-z"


def http_request(body: bytes, content_type: str) -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def form(*parts: tuple[str, str | None, bytes]) -> Request:
    body = b""
    for name, filename, value in parts:
        body += f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"'.encode()
        body += (f'; filename="{filename}"' if filename is not None else "").encode()
        body += b"\r\n\r\n" + value + b"\r\n"
    body += f"--{BOUNDARY}--\r\n".encode()
    return http_request(body, f"multipart/form-data; boundary={BOUNDARY}")


def read(request: Request, ask: Any = lambda posted: posted) -> Any:
    """Read a request and call `ask` while its files exist."""

    async def run() -> Any:
        async with PostedRequest.read(request, SearchRequest) as posted:
            return ask(posted)

    return asyncio.run(run())


def test_json_has_no_uploads() -> None:
    posted = read(http_request(json.dumps({"text": "a dog", "k": 3}).encode(), "application/json"))
    assert posted.request == SearchRequest(text=["a dog"], k=3)
    assert posted.uploads == []


def test_a_body_that_is_neither_json_nor_a_form_is_an_error() -> None:
    with pytest.raises(QueryError, match="neither a form nor JSON"):
        read(http_request(b"{", "text/plain"))


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("a.png", "a.png"),
        ("C:\\\\photos\\\\a.png", "a.png"),
        ("../../etc/passwd", "passwd"),
        ("..", "image"),
        ("x" * 300 + ".png", "x" * 96 + ".png"),
    ],
)
def test_files_are_written_under_the_last_part_of_their_names(sent: str, name: str) -> None:
    def look(posted: PostedRequest) -> list[Path]:
        assert [path.read_bytes() for path in posted.uploads] == [b"one", b"two"]
        assert posted.request == SearchRequest(text=["a dog"])
        return posted.uploads

    paths = read(
        form(("upload", sent, b"one"), ("upload", sent, b"two"), ("text", None, b"a dog")), look
    )
    assert [path.name for path in paths] == [name, name]
    assert paths[0] != paths[1] and not paths[0].exists(), "they are removed with the request"


def test_an_upload_that_is_no_file_is_an_error() -> None:
    with pytest.raises(QueryError, match="has to be a file"):
        read(form(("upload", None, b"a.png")))


@pytest.mark.parametrize("field", ["image", "text", "images"])
def test_a_file_in_another_field_is_an_error_that_names_the_right_one(field: str) -> None:
    with pytest.raises(QueryError) as error:
        read(form((field, "a.png", b"one")))
    said = f"'{field}' holds a file: send images as 'upload', `curl -F upload=@image.jpg`."
    assert str(error.value) == said


def test_answers_name_uploads_as_their_sender_does() -> None:
    def ask(request: SearchRequest, *, uploads: list[Path]) -> dict[str, Any]:
        [path] = uploads
        results = [{"path": str(path)}, {"path": "/photos/b.png"}]
        return {"results": results, "warnings": [f"{path}: too small"]}

    answer = read(form(("upload", "a.png", b"one")), lambda posted: posted.answer(ask))
    assert [one["path"] for one in answer["results"]] == ["a.png", "/photos/b.png"]
    assert answer["warnings"] == ["a.png: too small"]


@pytest.mark.parametrize("kind", [UnreadableImage, ImageTooLarge])
def test_errors_name_uploads_as_their_sender_does(kind: type[UnreadableImage]) -> None:
    def fail(request: SearchRequest, *, uploads: list[Path]) -> dict[str, Any]:
        raise kind(uploads[0], "it is bad")

    with pytest.raises(kind, match=r"^a\.png: it is bad$"):
        read(form(("upload", "a.png", b"one")), lambda posted: posted.answer(fail))


def test_errors_of_other_images_stay_as_they_are() -> None:
    def fail(request: SearchRequest, *, uploads: list[Path]) -> dict[str, Any]:
        raise UnreadableImage("/photos/b.png", "it is bad")

    def refuse(request: SearchRequest, *, uploads: list[Path]) -> dict[str, Any]:
        raise UnknownImage("/photos/b.png")

    for ask, kind in ((fail, UnreadableImage), (refuse, UnknownImage)):
        with pytest.raises(kind, match="/photos/b"):
            read(form(("upload", "a.png", b"one")), lambda posted, ask=ask: posted.answer(ask))


def test_openapi_describes_both_kinds_of_body() -> None:
    content = describe_body(SearchRequest)["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    assert "upload" in content["multipart/form-data"]["schema"]["properties"]
    assert "upload" not in content["application/json"]["schema"]["properties"]
