"""What is searched is opened beside the encoding of a text: seen by nobody, but sooner."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch._util.parallel import map_ahead
from clipsearch.encoders import Encoder
from clipsearch.errors import EmptyQuery, LibraryError, QueryError, UnreadableImage
from clipsearch.images import apart
from clipsearch.images.encoded import EncodedImage
from clipsearch.library import Library
from clipsearch.library.session import Session


@pytest.fixture
def folder(tmp_path: Path, toy_encoder: Encoder, make_images: Callable[..., list[Path]]) -> Path:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        made.index([str(make_images(30)[0].parent)])
    return tmp_path / "library"


def test_a_first_text_opens_in_another_thread_and_finds_the_same(
    folder: Path, toy_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[bool] = []
    inside = Session.searcher

    def noted(self: Session) -> Any:
        opened.append(threading.current_thread() is threading.main_thread())
        return inside(self)

    monkeypatch.setattr(Session, "searcher", noted)
    with Library.open(folder, encoder=toy_encoder) as library:
        first = library.search("tree", k=5)
        assert opened[0] is False
        opened.clear()
        assert library.search("tree", k=5) == first
        assert all(opened)
    monkeypatch.setattr("clipsearch.library.query_heads.open_all", lambda session: None)
    with Library.open(folder, encoder=toy_encoder) as library:
        assert library.search("tree", k=5) == first


def test_what_cannot_be_opened_is_told_where_it_is_asked_for(
    folder: Path, toy_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Session) -> Any:
        raise LibraryError(self.path, "no entry")

    monkeypatch.setattr(Session, "searcher", refused)
    with (
        Library.open(folder, encoder=toy_encoder) as library,
        pytest.raises(LibraryError, match="no entry"),
    ):
        library.search("tree")


def test_a_text_that_cannot_be_encoded_leaves_no_thread_behind(
    folder: Path, toy_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(texts: list[str]) -> Any:
        raise ValueError("not this one")

    monkeypatch.setattr(toy_encoder, "encode_texts", failing)
    before = threading.active_count()
    with (
        Library.open(folder, encoder=toy_encoder) as library,
        pytest.raises(ValueError, match="not this one"),
    ):
        library.search("tree")
    assert threading.active_count() == before


# --- what is no query ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", [3, 2.5, None, b"tree", {"tree": 1}, object(), [3], ["tree", None]]
)
def test_what_is_no_query_is_refused_with_what_is_taken(
    folder: Path, toy_encoder: Encoder, query: Any
) -> None:
    with Library.open(folder, encoder=toy_encoder) as library:
        with pytest.raises(QueryError, match=r"a text, a Term|a term is a text") as error:
            library.search(query)
        assert not isinstance(error.value, EmptyQuery)


@pytest.mark.parametrize("query", ["", [], ()])
def test_nothing_is_an_empty_query(folder: Path, toy_encoder: Encoder, query: Any) -> None:
    with Library.open(folder, encoder=toy_encoder) as library, pytest.raises(EmptyQuery):
        library.search(query)


@pytest.mark.parametrize(
    "vector",
    [
        np.ones(3),
        np.ones((2, 32)),
        np.ones(()),
        np.zeros(32),
        np.full(32, np.nan),
        np.array(["a"]),
        np.full(32, 1 + 1j),
    ],
)
def test_a_vector_of_another_shape_is_no_empty_query(
    folder: Path, toy_encoder: Encoder, vector: np.ndarray
) -> None:
    with Library.open(folder, encoder=toy_encoder) as library:
        with pytest.raises(QueryError, match="a query vector") as error:
            library.search(vector)
        assert not isinstance(error.value, EmptyQuery)


@pytest.mark.parametrize("k", [-1, 0, "5", True, 1.5])
def test_a_number_of_hits_that_makes_no_sense_is_refused_everywhere(
    folder: Path, toy_encoder: Encoder, k: Any
) -> None:
    with Library.open(folder, encoder=toy_encoder) as library:
        path = library.embeddings().records[0].path
        calls = (
            lambda: library.search("tree", k=k),
            lambda: library.similar(path, k=k),
            lambda: library.matrix(None, "a tree", query="tree", k=k),
            lambda: library.classify(["cat", "dog"], top=k),
            lambda: library.suggest(k, labels=["cat", "dog"]),
            lambda: library.index(path, batch_size=k),
        )
        for call in calls:
            with pytest.raises(QueryError, match="is a whole number of at least 1"):
                call()


@pytest.mark.parametrize("seed", [-1, "0", 0.5, True, None])
def test_a_seed_is_a_whole_number(folder: Path, toy_encoder: Encoder, seed: Any) -> None:
    with Library.open(folder, encoder=toy_encoder) as library:
        path = library.embeddings().records[0].path
        calls = (
            lambda: library.topics(seed=seed),
            lambda: library.events(seed=seed),
            lambda: library.suggest(labels=["cat", "dog"], seed=seed),
            lambda: library.learn({path: "cat"}, seed=seed),
            lambda: library.evaluate("truth.csv", seed=seed),
        )
        for call in calls:
            with pytest.raises(QueryError, match="seed is a whole number of at least 0"):
                call()


@pytest.mark.parametrize("number", [float("nan"), "3", -1, True])
def test_distances_and_scores_are_numbers(folder: Path, toy_encoder: Encoder, number: Any) -> None:
    with Library.open(folder, encoder=toy_encoder) as library:
        for name in ("gap_hours", "kilometres"):
            with pytest.raises(QueryError, match=f"{name} is a number of 0 or more"):
                library.events(**{name: number})
        with pytest.raises(QueryError, match="min_score is a number from -1 to 1"):
            library.dupes(min_score=2 if number == -1 else number)


@pytest.mark.parametrize("labels", [3, None, b"cat", [3], ["cat", None]])
def test_labels_are_texts(folder: Path, toy_encoder: Encoder, labels: Any) -> None:
    with (
        Library.open(folder, encoder=toy_encoder) as library,
        pytest.raises(QueryError, match="label"),
    ):
        library.classify(labels)


@pytest.mark.slow
def test_an_image_of_another_folder_that_hangs_is_given_up(
    folder: Path,
    tmp_path: Path,
    toy_encoder: Encoder,
    make_images: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outside = make_images(1)[0].rename(tmp_path / "outside.png")
    release = threading.Event()

    def hang(self: EncodedImage) -> Any:
        release.wait(60)

    monkeypatch.setattr(apart, "_all_apart", [])
    monkeypatch.setattr(EncodedImage, "decode", hang)
    monkeypatch.setitem(map_ahead.__kwdefaults__ or {}, "patience", 0.2)
    with Library.open(folder, encoder=toy_encoder) as library:
        for ask in (library.similar, lambda path: library.search(images=[path])):
            apart._all_apart.clear()
            with pytest.raises(UnreadableImage, match="decoding it takes longer") as raised:
                ask(outside)
            assert raised.value.path == str(outside)
    release.set()
