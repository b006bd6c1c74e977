"""The tools for assistants: the answers of the library, and refusals that say what to do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ToyEncoder
from mcp import Client

from clipsearch.library import Library
from clipsearch.serve.mcp import make_mcp_server
from clipsearch.serve.service import Service

Make = Callable[..., list[Path]]
Call = tuple[str, dict[str, Any]]


@pytest.fixture
def library(tmp_path: Path, toy_encoder: ToyEncoder, make_images: Make) -> Iterator[Library]:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        made.index([make_images(8)[0].parent])
        yield made


def call(library: Library, *calls: Call) -> list[Any]:
    """Call tools in turn, as an assistant would."""

    async def run() -> list[Any]:
        async with Client(make_mcp_server(Service(library))) as client:
            return [await client.call_tool(name, arguments) for name, arguments in calls]

    return asyncio.run(run())


def test_tools_answer_what_the_library_does(library: Library) -> None:
    first = library.search("x", k=1)[0].path
    search, similar, classified, status = call(
        library,
        ("search_images", {"text": "a red square", "exclude": ["rain"], "k": 3}),
        ("similar_images", {"path": first, "k": 2}),
        ("classify_images", {"labels": ["cat", "dog"], "mode": "closed", "k": 3}),
        ("library_status", {}),
    )
    expected = library.search("a red square", exclude=["rain"], k=3)
    assert search.structured_content["results"] == [hit.to_dict() for hit in expected]
    assert json.loads(search.content[0].text) == search.structured_content
    neighbours = library.similar(first, k=2)
    assert similar.structured_content["results"] == [hit.to_dict() for hit in neighbours]
    all_labels = [one.label for one in library.classify(["cat", "dog"], mode="closed")]
    counts = {label: all_labels.count(label) for label in set(all_labels)}
    assert classified.structured_content["counts"] == counts
    assert [one["label"] for one in classified.structured_content["results"]] == all_labels[:3]
    assert status.structured_content["files"] == 8


def test_what_cannot_be_answered_says_what_to_do(library: Library) -> None:
    answers = call(
        library,
        ("search_images", {"text": ["x"], "where": "widht > 3"}),
        ("similar_images", {"path": "/etc/passwd"}),
        ("search_images", {"text": ["x"], "image": ["/etc/passwd"]}),
        ("search_images", {"text": ["x"], "k": 100_000}),
    )
    assert all(answer.is_error for answer in answers)
    told = [answer.content[0].text for answer in answers]
    for text, words in zip(
        told,
        ("Did you mean `width`", "no image /etc/passwd", "no image /etc/passwd", "1000"),
        strict=True,
    ):
        assert words in text


def test_tools_say_what_they_take(library: Library) -> None:
    async def listed() -> Any:
        async with Client(make_mcp_server(Service(library))) as client:
            return (await client.list_tools()).tools

    tools = {tool.name: tool for tool in asyncio.run(listed())}
    names = {"search_images", "similar_images", "classify_images", "library_status"}
    assert set(tools) == names
    assert all(tool.description and tool.annotations.read_only_hint for tool in tools.values())
    assert tools["search_images"].input_schema["required"] == ["text"]
