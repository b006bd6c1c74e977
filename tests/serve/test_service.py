"""The service: answers are the library's, for images that it knows, and for no other file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import ToyEncoder

from clipsearch.errors import QueryError, UnknownImage, UnreadableImage
from clipsearch.library import Library
from clipsearch.serve.schemas import (
    AnswerField,
    AnswersRequest,
    ClassifyRequest,
    SearchRequest,
    SimilarRequest,
)
from clipsearch.serve.service import Service

Make = Callable[..., list[Path]]


@pytest.fixture
def paths(make_images: Make) -> list[Path]:
    return make_images(12)


@pytest.fixture
def service(tmp_path: Path, toy_encoder: ToyEncoder, paths: list[Path]) -> Iterator[Service]:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as library:
        library.index([paths[0].parent])
        yield Service(library, {"pets": library.head(["cat", "dog"])})


def test_ten_images_are_answered_unless_the_request_says_how_many(service: Service) -> None:
    assert len(service.search(SearchRequest(text=["x"]))["results"]) == 10
    assert len(service.search(SearchRequest(text=["x"], k=11))["results"]) == 11
    answer = service.search(SearchRequest(text=["x"], relevant=True))
    assert len(answer["results"]) == answer["relevant"]


def test_a_search_is_that_of_the_library(service: Service, paths: list[Path]) -> None:
    request = SearchRequest(text=["horse"], image=[f"0.5:{paths[3]}"], exclude=["rain"], k=4)
    answer = service.search(request)
    from clipsearch.types import Term

    expected = service.library.search(
        ["horse"], images=[Term.image(str(paths[3]), 0.5)], exclude=["rain"], k=4
    )
    assert answer["results"] == [hit.to_dict() for hit in expected]
    assert (answer["searched"], answer["warnings"]) == (12, [])


def test_a_head_is_a_query_by_itself(service: Service) -> None:
    assert len(service.search(SearchRequest(head="pets", label="dog", k=3))["results"]) == 3
    with pytest.raises(QueryError, match="leave out"):
        service.search(SearchRequest(head="pets", text=["x"]))
    with pytest.raises(QueryError, match=r"no head 'birds' is served\. There are: pets"):
        service.search(SearchRequest(head="birds"))
    with pytest.raises(QueryError, match="start the server with --head"):
        Service(service.library).search(SearchRequest(head="birds"))


def test_neighbours_are_those_of_the_library(service: Service, paths: list[Path]) -> None:
    answer = service.similar(SimilarRequest(path=str(paths[2]), k=4))
    assert answer["results"] == [hit.to_dict() for hit in service.library.similar(paths[2], k=4)]


def test_a_classification_lists_the_first_and_counts_all(service: Service) -> None:
    answer = service.classify(ClassifyRequest(labels=["cat", "dog"], mode="closed", k=2))
    expected = service.library.classify(["cat", "dog"], mode="closed")
    assert answer["results"] == [one.to_dict() for one in expected[:2]]
    assert (answer["total"], sum(answer["counts"].values())) == (12, 12)


def test_one_image_is_classified_by_its_path(service: Service, paths: list[Path]) -> None:
    answer = service.classify(ClassifyRequest(head="pets", path=str(paths[6])))
    assert [one["path"] for one in answer["results"]] == [str(paths[6])]


def test_uploads_are_classified_alone(service: Service, paths: list[Path]) -> None:
    answer = service.classify(ClassifyRequest(head="pets"), uploads=[paths[1]])
    assert answer["total"] == 1
    for request in (
        ClassifyRequest(head="pets", path=str(paths[1])),
        ClassifyRequest(head="pets", where="width > 1"),
        ClassifyRequest(head="pets", under="/"),
    ):
        with pytest.raises(QueryError, match="not both"):
            service.classify(request, uploads=[paths[1]])


def test_labels_and_a_head_exclude_each_other(service: Service) -> None:
    for request in (ClassifyRequest(), ClassifyRequest(labels=["cat"], head="pets")):
        with pytest.raises(QueryError, match="the labels, or a head"):
            service.classify(request)


def test_only_images_of_the_library_are_opened(service: Service, paths: list[Path]) -> None:
    unknown = paths[0].with_name("unknown.png")
    unknown.write_bytes(paths[0].read_bytes())
    for path in (str(unknown), paths[0].name, "/etc/passwd", f"{paths[0]}\0", ""):
        for ask in (service.record, service.read_original, lambda p: service.thumbnail(p, 64)):
            with pytest.raises(UnknownImage):
                ask(path)
        with pytest.raises(UnknownImage):
            service.similar(SimilarRequest(path=path))
        with pytest.raises(UnknownImage):
            service.classify(ClassifyRequest(head="pets", path=path))
    with pytest.raises(UnknownImage):
        service.search(SearchRequest(image=[f"2:{unknown}"]))


def test_a_file_is_handed_out_as_it_was_indexed_or_not_at_all(
    service: Service, paths: list[Path]
) -> None:
    data, record = service.read_original(str(paths[0]))
    assert data == paths[0].read_bytes() and record.path == str(paths[0])
    paths[0].write_bytes(b"something else")
    with pytest.raises(UnreadableImage, match="has changed"):
        service.read_original(str(paths[0]))


def test_status_names_the_heads_that_are_served(service: Service) -> None:
    status = service.status()
    assert (status["files"], status["heads"]) == (12, {"pets": ["cat", "dog"]})


def test_threads_that_answer_at_once_lose_no_answer(service: Service, paths: list[Path]) -> None:
    writing = Service(service.library, calibrates=True)

    def save(path: Path) -> None:
        answer = AnswerField(path=str(path), label="cat", holds=True)
        writing.save_answers(AnswersRequest(answers=[answer]))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(save, paths))
    assert [one.path for one in service.library.answers()] == sorted(map(str, paths))
