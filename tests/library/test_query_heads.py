"""What is searched is opened beside the encoding of a text: seen by nobody, but sooner."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipsearch.encoders import Encoder
from clipsearch.errors import LibraryError
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
