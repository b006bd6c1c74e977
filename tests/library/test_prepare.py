"""The first query finds everything computed: `index` has done it, and never fails for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from conftest import ToyEncoder
from sklearn.datasets import load_sample_images

import clipsearch
from clipsearch.calibration.background import Background, background_captions
from clipsearch.errors import EncoderError
from clipsearch.library import Library
from clipsearch.types import Progress

Make = Callable[..., list[Path]]


@pytest.fixture
def library(tmp_path: Path, toy_encoder: ToyEncoder) -> Iterator[Library]:
    with Library.create(tmp_path / "library", encoder=toy_encoder) as made:
        yield made


def broken(*_: object) -> Background:
    raise RuntimeError("the text tower is gone")


def test_the_first_query_encodes_nothing_but_itself(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Progress] = []
    report = library.index(make_images(5)[0].parent, on_progress=steps.append)
    assert report.warnings == ()
    assert next(step.total for step in steps if step.phase == "captions") == len(
        background_captions()
    )
    assert [step.phase for step in steps].index("captions") > [s.phase for s in steps].index(
        "embed"
    )
    read: list[str] = []

    class Counting(ToyEncoder):
        def encode_texts(self, texts: object) -> np.ndarray:
            read.extend(texts)  # type: ignore[arg-type]
            return super().encode_texts(texts)  # type: ignore[arg-type]

    with Library.open(library.path, encoder=Counting()) as other:
        hits = other.search("a red house", k=3)
        assert hits[0].relevance is not None
        assert read == ["a red house"]


def test_images_are_indexed_where_it_fails_and_the_report_says_so(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Background, "open", broken)
    report = library.index(make_images(4)[0].parent)
    assert (report.added, report.failed, report.interrupted) == (4, 0, False)
    (warning,) = report.warnings
    assert warning.startswith("the first query will be slower")
    assert "the text tower is gone" in warning


def test_a_run_that_encodes_no_image_leaves_it_alone(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_images(4)[0].parent
    monkeypatch.setattr(Background, "open", broken)
    assert library.index(folder, dry_run=True).warnings == ()
    library.index(folder)
    assert library.index(folder).warnings == ()


def test_after_a_run_that_encodes_no_image_the_first_query_derives_nothing(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_images(5)
    library.index(files[0].parent)
    files[0].unlink()
    assert library.index(files[0].parent).removed == 1
    measured: list[int] = []
    original = Background.measure_images

    def measuring(self: Background, *arguments: Any) -> Any:
        measured.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(Background, "measure_images", measuring)
    with Library.open(library.path, encoder=ToyEncoder()) as other:
        assert other.search("a red house", k=3)[0].relevance is not None
    assert measured == []


@pytest.mark.parametrize("other", [False, True])
def test_interrupting_it_keeps_the_images(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch, other: bool
) -> None:
    def interrupt(*_: object) -> Background:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if other:  # as a module in C does that is imported
                raise ImportError("initialization failed") from None
            raise

    monkeypatch.setattr(Background, "open", interrupt)
    report = library.index(make_images(4)[0].parent)
    assert report.interrupted and report.added == 4
    assert library.status().contents == 4


def test_a_second_model_prepares_its_own(
    library: Library, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_images(4)[0].parent
    library.index(folder)
    loaded: list[str] = []

    def load(name: str) -> ToyEncoder:
        loaded.append(name)
        if len(loaded) > 2:
            raise EncoderError("loaded more than the run needs")
        return ToyEncoder("mini", seed=5)

    monkeypatch.setattr("clipsearch.library.session.load_encoder", load)
    steps: list[Progress] = []
    assert library.index(folder, model="mini", on_progress=steps.append).warnings == ()
    assert len(loaded) == 1
    assert "captions" in {step.phase for step in steps}
    stored = {path.suffix for path in (library.path / "background").iterdir()}
    assert {".captions", ".levels"} <= stored
    assert len(list((library.path / "background").glob("*.captions"))) == 2


def photographs(folder: Path, count: int) -> Path:
    """Write parts of two photographs."""
    folder.mkdir()
    for i in range(count):
        whole = PIL.Image.fromarray(load_sample_images().images[i % 2])
        left, top = 29 * i % 340, 17 * i % 127
        whole.crop((left, top, left + 300, top + 300)).save(folder / f"{i:02}.png")
    return folder


@pytest.mark.slow
def test_photographs_in_a_library_of_mini_are_warned_of_once_there_are_enough(
    tmp_path: Path,
) -> None:
    with Library.create(tmp_path / "library", model="mini") as library:
        assert library.index(photographs(tmp_path / "few", 19)).warnings == ()
        (warning,) = library.index(photographs(tmp_path / "more", 21)).warnings
        assert "photographs" in warning and "`--model default`" in warning
        assert library.index(tmp_path / "more").warnings == ()  # nothing was encoded


@pytest.mark.slow
def test_drawings_in_a_library_of_mini_are_what_it_is_made_for(tmp_path: Path) -> None:
    with Library.create(tmp_path / "library", model="mini") as library:
        report = library.index(Path(clipsearch.__file__).with_name("samples"))
        assert (report.added, report.warnings) == (300, ())
