"""The retrievers of examples/ work in LangChain and LlamaIndex, with filters and k."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.schema import ImageNode

import clipsearch
from clipsearch import Facts, Hit, ImageRecord, Library, QueryError

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLES = Path(clipsearch.__file__).with_name("samples")
QUERY = "an orange boy riding a blue horse"


def example(name: str) -> Any:
    """Import a file of examples/."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("examples")
    for number in range(40):
        shutil.copy(SAMPLES / f"scene-{number:03}.webp", folder)
    with Library.create(folder / "library", model="mini") as made:
        made.index([folder])
        yield made


@pytest.fixture(scope="module")
def langchain() -> Any:
    return example("langchain_retriever")


@pytest.fixture(scope="module")
def llama_index() -> Any:
    return example("llama_index_retriever")


def test_documents_are_the_hits_of_the_library_with_their_facts(
    library: Library, langchain: Any
) -> None:
    hits = library.search(QUERY, k=3)
    found = langchain.ImageRetriever(library=library, k=3).invoke(QUERY)
    assert [one.metadata["path"] for one in found] == [hit.path for hit in hits]
    assert [one.page_content for one in found] == [Path(hit.path).stem for hit in hits]
    first = found[0].metadata
    assert (first["score"], first["relevance"]) == (hits[0].score, hits[0].relevance)
    assert (first["width"], first["format"]) == (192, "WEBP")


def test_nodes_are_the_hits_of_the_library_scored_by_relevance(
    library: Library, llama_index: Any
) -> None:
    hits = library.search(QUERY, k=3)
    found = llama_index.ImageRetriever(library, k=3).retrieve(QUERY)
    assert [one.score for one in found] == [hit.relevance for hit in hits]
    assert all(isinstance(one.node, ImageNode) for one in found)
    assert [one.node.image_path for one in found] == [hit.path for hit in hits]
    assert found[0].metadata["score"] == hits[0].score


@pytest.mark.slow
def test_filters_and_relevance_reach_the_library(
    library: Library, langchain: Any, llama_index: Any
) -> None:
    where = "name = 'scene-007.webp'"
    (one,) = langchain.ImageRetriever(library=library, where=where).invoke(QUERY)
    (other,) = llama_index.ImageRetriever(library, where=where).retrieve(QUERY)
    assert Path(one.metadata["path"]).name == Path(other.node.image_path).name == "scene-007.webp"
    expected = [hit.path for hit in library.search(QUERY, k=40, relevant=True)]
    assert 0 < len(expected) < 40
    found = langchain.ImageRetriever(library=library, k=40, relevant=True).invoke(QUERY)
    assert [document.id for document in found] == expected
    nodes = llama_index.ImageRetriever(library, k=40, relevant=True).retrieve(QUERY)
    assert [node.node_id for node in nodes] == expected
    for retriever in (
        langchain.ImageRetriever(library=library, under="nowhere"),
        llama_index.ImageRetriever(library, under="nowhere"),
    ):
        with pytest.raises(QueryError, match="no image of the library lies below"):
            retriever.invoke(QUERY) if hasattr(retriever, "invoke") else retriever.retrieve(QUERY)


@pytest.mark.slow
def test_several_texts_are_searched_at_once(library: Library, langchain: Any) -> None:
    retriever = langchain.ImageRetriever(library=library, k=2)
    texts = [QUERY, "a cat", "a dog"]
    expected = [[hit.path for hit in library.search(text, k=2)] for text in texts]
    batch = retriever.batch(texts)
    later = asyncio.run(retriever.abatch(texts))
    assert [[one.id for one in found] for found in batch] == expected
    assert [[one.id for one in found] for found in later] == expected


@pytest.mark.parametrize(
    ("title", "description", "text"),
    [("A horse", "blue", "A horse"), (None, "A blue horse", "A blue horse"), (None, None, "h")],
)
def test_the_text_is_the_title_else_the_caption_else_the_name(
    langchain: Any, llama_index: Any, title: str | None, description: str | None, text: str
) -> None:
    facts = Facts(4, 3, "JPEG", title=title, description=description)
    hit = Hit("/p/h.jpg", 0.25, ImageRecord("/p/h.jpg", 1, "ab", 9, facts))
    assert langchain.as_document(hit).page_content == text
    node = llama_index.as_node(hit)
    assert (node.node.text, node.score) == (text, 0.25)
    assert langchain.as_document(Hit("/p/h.jpg", 0.25)).page_content == "h"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["langchain_retriever", "llama_index_retriever"])
def test_an_example_runs_as_a_command(library: Library, name: str) -> None:
    run = [sys.executable, str(EXAMPLES / f"{name}.py"), str(library.path), *QUERY.split()]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    shown = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()]
    assert shown == [hit.path for hit in library.search(QUERY, k=4)]
