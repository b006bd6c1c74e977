"""A session of another model shares the library, and does not close it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyEncoder

from clipsearch.errors import QueryError, UnknownModel
from clipsearch.library import Library
from clipsearch.types import Progress, ignore_progress

Make = Callable[..., list[Path]]


@pytest.fixture
def library(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Library]:
    """A library of two models, `toy` and `mini`."""
    encoders = {"toy": ToyEncoder("toy"), "mini": ToyEncoder("mini", seed=5)}
    monkeypatch.setattr("clipsearch.library.session.load_encoder", encoders.__getitem__)
    folder = make_images(6)[0].parent
    with Library.create(tmp_path / "library", encoder=encoders["toy"]) as made:
        made.index(folder)
        made.index(folder, model="mini")
        yield made


def test_a_view_searches_with_its_model_and_leaves_the_library_as_it_was(library: Library) -> None:
    before = [hit.score for hit in library.search("x")]
    view = library.for_model("mini")
    assert type(view) is Library and view.models()[0].name == "mini"
    assert [hit.score for hit in view.search("x")] != before
    assert library.models()[0].name == "toy"
    assert [hit.score for hit in library.search("x")] == before


def test_closing_a_view_leaves_the_library_open(library: Library) -> None:
    with library.for_model("mini") as view:
        view.search("x")
    assert len(library.search("x")) == 6


def test_a_view_shares_what_is_in_memory(library: Library) -> None:
    view = library.for_model("mini")
    view.search("x")
    again = library.for_model("mini")
    assert again._session.caches is library._session.caches
    assert again._session.background() is view._session.background()
    assert again._session.searcher() is view._session.searcher()


def test_a_view_of_a_model_without_vectors_says_which_there_are(library: Library) -> None:
    with pytest.raises(UnknownModel, match="toy, mini"):
        library.for_model("ViT-B-32/openai")


def test_the_device_reaches_the_encoder_as_an_argument(
    library: Library, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_images: Make
) -> None:
    asked: list[tuple[str, str]] = []

    def load(name: str, *, device: str = "auto", **_: object) -> ToyEncoder:
        asked.append((name, device))
        return ToyEncoder(name)

    monkeypatch.setattr("clipsearch.library.session.load_encoder", load)
    with Library.open(library.path, device="cuda:1") as other:
        other.search("x")
    with Library.create(tmp_path / "new", model="mini", device="cpu") as new:
        new.index(make_images(2, folder="few"))
    assert asked == [("toy", "cuda:1"), ("mini", "cpu")]


@pytest.mark.parametrize("where", [3, ["width > 2"], b"width > 2"])
def test_a_filter_is_a_text(library: Library, where: object) -> None:
    with pytest.raises(QueryError, match="where is a filter as text"):
        library.search("x", where=where)  # type: ignore[arg-type]


def test_an_empty_folder_name_is_not_the_current_folder(library: Library) -> None:
    with pytest.raises(QueryError, match="under: give the path"):
        library.search("x", under="")


def test_the_background_is_announced_once_for_each_model(
    tmp_path: Path, toy_encoder: ToyEncoder
) -> None:
    steps: list[Progress] = []
    with Library.create(tmp_path / "new", encoder=toy_encoder) as library:
        session = library._session
        session.on_progress = steps.append
        vectors = session.background().vectors
        session.background()
        for_model = session.for_model("toy")
        assert for_model.on_progress == session.on_progress
    assert steps[0] == Progress("captions", 0, len(vectors))
    assert steps[-1] == Progress("captions", len(vectors), len(vectors))
    assert [step.done for step in steps] == sorted({step.done for step in steps})
    with Library.open(tmp_path / "new", encoder=toy_encoder) as again:
        again._session.on_progress = steps.append
        count = len(steps)
        np.testing.assert_array_equal(again._session.background().vectors, vectors)
        assert len(steps) == count


def test_an_operation_is_told_of_first_steps_unless_nobody_listens_to_it(library: Library) -> None:
    session, heard = library._session, list[Progress]()
    before = session.on_progress
    with session.telling(heard.append):
        session.on_progress(Progress("captions", 0, 1))
    assert heard == [Progress("captions", 0, 1)] and session.on_progress is before
    with session.telling(ignore_progress):
        assert session.on_progress is before
