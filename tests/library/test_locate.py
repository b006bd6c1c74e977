"""Which library is meant, and which of its images, in whatever letters they are named."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from os import PathLike
from pathlib import Path

import platformdirs
import pytest

from clipsearch.errors import QueryError, UnknownLabel
from clipsearch.heads.label_file import labels_from_file
from clipsearch.library import Library
from clipsearch.library.locate import ENVIRONMENT, locate_library


def test_the_first_that_is_named_is_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    users = Path(platformdirs.user_data_path("clipsearch")) / "library"
    assert locate_library() == users
    (tmp_path / "index").mkdir()
    assert locate_library() == users  # a folder of this name is not a library
    (tmp_path / "index" / "catalog.db").touch()
    assert locate_library() == tmp_path / "index"
    monkeypatch.setenv(ENVIRONMENT, "other")
    assert locate_library() == tmp_path / "other"
    assert locate_library("named") == tmp_path / "named"


# --- letters of two forms ----------------------------------------------------------------------

FOLDER = "Été à Sète"


def decomposed(text: str) -> str:
    """Return a name as macOS writes it."""
    return unicodedata.normalize("NFD", text)


@pytest.fixture
def images(
    library: Library, make_images: Callable[..., list[Path]], tmp_path: Path
) -> dict[Path, Path]:
    """Eight images in two folders with names of macOS: the path as a keyboard writes it -> the path."""
    found = {}
    for seed, name in enumerate(("à", "ü")):
        for path in make_images(4, folder=decomposed(f"{FOLDER}/{name}"), seed=seed):
            file = path.rename(path.with_name(decomposed(f"é{path.name}")))
            found[tmp_path / FOLDER / name / f"é{path.name}"] = file
    assert library.index(tmp_path / FOLDER).added == 8
    return found


def test_files_are_found_in_whatever_letters_they_are_named(
    library: Library, images: dict[Path, Path], tmp_path: Path
) -> None:
    composed, stored = list(images), [str(path) for path in images.values()]
    inside = tmp_path / FOLDER / "à"
    assert {hit.path for hit in library.search("any", k=9, under=inside)} == set(stored[:4])
    assert {r.path for r in library.records(where=f"path like '{inside}%'")} == set(stored[:4])
    assert library.record(composed[0]) is not None
    assert len(library.similar(composed[0], k=9)) == 7
    assert len(library.search(images=[composed[0]], k=1)) == 1
    assert library.classify(["a", "b"], images=composed[:2])[0].path == stored[0]
    assert library.matrix(composed[:2], ["a"]).paths == tuple(stored[:2])
    assert [r.path for r in library.embeddings(paths=composed[:2]).records] == stored[:2]
    assert library.index(composed[0]).unchanged == 1


def test_ground_truth_and_labels_match_in_whatever_letters(
    library: Library, images: dict[Path, Path], tmp_path: Path
) -> None:
    truth = tmp_path / "truth.csv"  # as a spreadsheet writes it
    rows = [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in images]
    truth.write_text("\n".join(["path,label", *rows]), "utf-8")
    assert library.evaluate(truth).images == 8
    examples: dict[str | PathLike[str], str] = {path: path.parent.name for path in images}
    assert library.learn(examples).images == 8
    head = library.learn(tmp_path / FOLDER).head
    assert library.search(head, label="à", k=1)
    found = library.classify(head, mode="multi", threshold={"À": 0.0, "": 1.0})
    assert {one.label for one in found} == {decomposed("à")}
    with pytest.raises(UnknownLabel):
        library.search(head, label="a")
    file = tmp_path / "labels.txt"
    file.write_text(f"one: image:{FOLDER}/à/é0000.png\ntwo: dog\n", "utf-8")
    assert len(library.classify(labels_from_file(file))) == 8


def test_files_out_of_reach_are_known_in_whatever_letters(
    library: Library, images: dict[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / decomposed(FOLDER)).rename(tmp_path / "unplugged")
    assert len(library.records(under=tmp_path / FOLDER)) == 8
    assert library.record(next(iter(images))) is not None
    with pytest.raises(QueryError, match="no image of the library"):
        library.records(under=tmp_path / FOLDER / "ö")
    assert library.remove(tmp_path / FOLDER / "à") == 4
    assert library.relocate(tmp_path / FOLDER, tmp_path / "unplugged").there == 4
