"""A folder that was moved keeps what is known of its images, under their new paths."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ToyEncoder

from clipsearch.errors import CannotRelocate
from clipsearch.library import Library
from clipsearch.types import MovedFolder

pytestmark = pytest.mark.both_engines

Make = Callable[..., list[Path]]


@pytest.fixture
def photos(make_images: Make) -> Path:
    """Six images, two of them in a folder below."""
    make_images(2, folder="photos/2024", seed=2)
    return make_images(4, folder="photos")[0].parent


@pytest.fixture
def library(tmp_path: Path, photos: Path) -> Library:
    made = Library.create(tmp_path / "library", encoder=ToyEncoder())
    made.index(photos)
    content = made.records()[0].content_id
    made._session.catalog.save_labels([(content, "cat", "me", 0.9)])
    return made


def relative(library: Library, folder: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Path below a folder -> hash and labels."""
    return {
        str(Path(record.path).relative_to(folder)): (record.sha256, record.labels)
        for record in library.records()
    }


def test_a_moved_folder_is_one_rename_and_nothing_is_read(
    library: Library, photos: Path, tmp_path: Path
) -> None:
    before = relative(library, photos)
    new = tmp_path / "a disk" / "100%_photos"
    new.parent.mkdir()
    photos.rename(new)
    assert library.relocate(photos, new) == MovedFolder(str(photos), str(new), 6, 6)
    assert relative(library, new) == before
    assert library.status().roots == (str(new),)
    report = library.index(new)
    assert (report.unchanged, report.added, report.removed, report.embedded) == (6, 0, 0, 0)
    assert library.check() == []


@pytest.mark.parametrize("deeper", [True, False])
def test_a_folder_moves_into_itself_and_out_of_itself(
    library: Library, photos: Path, tmp_path: Path, deeper: bool
) -> None:
    before = relative(library, photos)
    photos.rename(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", photos / "photos")
    library.relocate(photos, photos / "photos")
    assert relative(library, photos / "photos") == before
    if not deeper:
        shutil.rmtree(photos)
        shutil.copytree(tmp_path / "elsewhere", photos)
        library.relocate(photos / "photos", photos)
        assert relative(library, photos) == before


def test_what_was_indexed_in_both_places_is_known_once(
    library: Library, photos: Path, tmp_path: Path
) -> None:
    before = relative(library, photos)
    new = tmp_path / "new"
    photos.rename(new)
    (new / "0000.png").unlink()
    report = library.index(new)
    assert (report.added, report.embedded) == (5, 0)
    (warning,) = report.warnings
    assert f"`clipsearch relocate {photos} {new}`" in warning
    assert "5 of its 6 images" in warning
    moved = library.relocate(photos, new)
    assert (moved.files, moved.there) == (6, 5)
    assert relative(library, new) == before
    assert library.index(new).removed == 1


def test_an_index_run_asks_whether_a_folder_was_moved(
    library: Library, photos: Path, tmp_path: Path
) -> None:
    before = relative(library, photos)
    new = tmp_path / "moved" / "photos"
    new.parent.mkdir()
    shutil.copytree(photos, new, copy_function=shutil.copyfile)  # with other times of change
    shutil.rmtree(photos)
    asked: list[MovedFolder] = []

    def yes(folder: MovedFolder) -> bool:
        asked.append(folder)
        return True

    report = library.index(new.parent, on_moved=yes)  # the root is the folder above now
    assert asked == [MovedFolder(str(photos), str(new), 6, 6)]
    assert (report.added, report.embedded, report.unchanged, report.warnings) == (0, 0, 6, ())
    assert relative(library, new) == before


def test_a_folder_is_taken_as_moved_on_request(
    library: Library, photos: Path, tmp_path: Path
) -> None:
    new = tmp_path / "new"
    photos.rename(new)
    for _ in range(2):  # a run that was interrupted may be repeated
        report = library.index(new, moved={str(photos): str(new)})
        assert (report.added, report.unchanged) == (0, 6)
    with pytest.raises(CannotRelocate, match="no image in"):
        library.index(new, moved={str(photos): str(tmp_path / "other")})


@pytest.mark.parametrize("change", ["other bytes", "few", "still there"])
def test_other_images_are_no_moved_folder(
    library: Library, photos: Path, tmp_path: Path, change: str
) -> None:
    new = tmp_path / "new"
    shutil.copytree(photos, new)
    if change == "other bytes":
        for path in new.rglob("*.png"):
            data = path.read_bytes()
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    if change == "few":
        for path in list(new.glob("*.png")):
            path.unlink()
    if change != "still there":
        shutil.rmtree(photos)

    def ask(folder: MovedFolder) -> bool:
        raise AssertionError(folder)

    report = library.index(new, on_moved=ask)
    assert report.warnings == ()


def test_what_cannot_be_moved_is_said_and_nothing_changes(
    library: Library, photos: Path, tmp_path: Path
) -> None:
    before = relative(library, photos)
    new = tmp_path / "new"
    with pytest.raises(CannotRelocate, match="no image in"):
        library.relocate(tmp_path / "unknown", photos)
    with pytest.raises(CannotRelocate, match="is not there"):
        library.relocate(photos, new)
    shutil.copytree(photos, new)
    with pytest.raises(CannotRelocate, match="still holds 6 of 6 images"):
        library.relocate(photos, new)
    shutil.rmtree(photos)
    shutil.rmtree(new)
    new.mkdir()
    with pytest.raises(CannotRelocate, match="none of the 6 images"):
        library.relocate(photos, new)
    assert relative(library, photos) == before
