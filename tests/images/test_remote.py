"""Images in S3 are indexed, found, shown and copied as those on this machine are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from serving import client

from clipsearch.errors import BadSource, CannotPlace, CannotRelocate, QueryError, UnreadableImage
from clipsearch.images import remote, remote_cache
from clipsearch.images.files import read_file
from clipsearch.images.thumbnails import ThumbnailCache
from clipsearch.images.walk import Walk
from clipsearch.library import Library
from clipsearch.output.placing import place_images
from clipsearch.serve.service import Service
from clipsearch.types import IndexReport

MakeImages = Callable[..., list[Path]]


@pytest.fixture
def photos(s3: Any, make_images: MakeImages) -> list[str]:
    """Put twelve images into three folders of a bucket; their addresses."""
    images = make_images(12)
    places = [f"bucket/photos/{number % 3}/{image.name}" for number, image in enumerate(images)]
    for place, image in zip(places, images, strict=True):
        s3.pipe_file(place, image.read_bytes())
    return sorted(f"s3://{place}" for place in places)


def counts(report: IndexReport) -> tuple[int, int, int, int, int]:
    return report.added, report.unchanged, report.updated, report.removed, report.failed


@pytest.mark.slow
def test_a_bucket_is_brought_up_to_date_by_its_listing(
    library: Library, s3: Any, photos: list[str], make_images: MakeImages
) -> None:
    assert counts(library.index("s3://bucket/photos")) == (12, 0, 0, 0, 0)
    assert sorted(record.path for record in library.records()) == photos
    assert counts(library.index("s3://bucket/photos/")) == (0, 12, 0, 0, 0)

    # A file of the same size, within the same second: the service gives it another etag.
    before = remote.look_at(photos[0])
    [other] = make_images(1, folder="other", seed=7, suffix=".bmp")
    first = other.read_bytes()
    s3.pipe_file("bucket/photos/0/new.bmp", first)
    assert library.index("s3://bucket/photos").added == 1
    s3.pipe_file("bucket/photos/0/new.bmp", first[:-1] + bytes([first[-1] ^ 1]))
    assert counts(library.index("s3://bucket/photos")) == (0, 12, 1, 0, 0)
    assert remote.look_at(photos[0]) == before

    s3.rm("bucket/photos/1", recursive=True)
    s3.pipe_file("bucket/photos/0/broken.jpg", b"no image")
    assert counts(library.index("s3://bucket/photos")) == (0, 9, 0, 4, 1)
    assert not library.check()
    assert library.status().roots == ("s3://bucket/photos",)


@pytest.mark.slow
def test_what_cannot_be_listed_is_kept(
    library: Library, s3: Any, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library.index("s3://bucket/photos")

    def refuse(address: str) -> list[remote.RemoteEntry]:
        if address.endswith("/1"):
            raise PermissionError("Access Denied")
        return list_folder(address)

    list_folder = remote.list_folder
    with monkeypatch.context() as patch:  # undoing all would take the service away, too
        patch.setattr("clipsearch.images.found.list_folder", refuse)
        report = library.index("s3://bucket/photos")
    assert counts(report) == (0, 8, 0, 0, 1)
    assert any("4 known images were not seen below" in warning for warning in report.warnings)
    s3.rm("bucket/photos", recursive=True)  # an empty bucket, as one of another account would be
    report = library.index("s3://bucket/photos")
    assert report.removed == 0 and library.status().files == 12
    report = library.index("s3://elsewhere/photos")
    assert report.failed == 1 and library.status().files == 12


@pytest.mark.slow
def test_a_file_with_the_name_of_the_root_makes_nothing_gone(
    library: Library, s3: Any, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library.index("s3://bucket/photos")
    s3.pipe_file("bucket/photos", b"")
    assert counts(library.index("s3://bucket/photos")) == (0, 12, 0, 0, 0)
    # A proxy that answers each question with a page: the root seems to be a file.
    monkeypatch.setattr("clipsearch.images.found.is_remote_folder", lambda address: False)
    report = library.index("s3://bucket/photos")
    assert report.removed == 0 and library.status().files == 12


@pytest.mark.slow
def test_odd_names_are_images_and_a_short_answer_is_asked_for_again(
    library: Library, s3: Any, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = s3.cat_file(photos[0])
    odd = [
        "a::b/1.png",
        "10:30@2x/1.png",
        "q #%20[1]&/1.png",
        "\u00fc \u2028/1.png",
        "p.png/1.png",
        "p.png",
    ]
    for name in odd:
        s3.pipe_file(f"bucket/odd/{name}", data)
    fetch = remote.fetch_bytes
    with monkeypatch.context() as patch:
        patch.setattr(remote_cache, "fetch_bytes", lambda address: fetch(address)[:-9])
        report = library.index("s3://bucket/odd")
    assert report.failed == len(odd) and "cut short" in report.failures[0].reason
    report = library.index("s3://bucket/odd")
    assert (report.failed, report.added + report.updated) == (0, len(odd))
    assert {record.path for record in library.records()} == {f"s3://bucket/odd/{n}" for n in odd}


@pytest.mark.slow
def test_a_prefix_that_was_renamed_is_told(library: Library, s3: Any, photos: list[str]) -> None:
    library.index("s3://bucket/photos")
    with pytest.raises(CannotRelocate, match="still holds 12"):
        library.relocate("s3://bucket/photos", "s3://bucket/photos/1")
    for photo in photos:
        s3.mv(photo, photo.replace("bucket/photos", "bucket/archive"))
    moved = library.relocate("s3://bucket/photos", "s3://bucket/archive")
    assert (moved.files, moved.there) == (12, 12)
    assert library.index("s3://bucket/archive").added == 0


@pytest.mark.slow
def test_images_in_a_bucket_are_searched_filtered_and_forgotten(
    library: Library, s3: Any, photos: list[str], tmp_path: Path
) -> None:
    library.index("s3://bucket/photos")
    s3.copy(photos[5], "s3://bucket/loose.png")
    alike = library.similar(photos[3], k=20)
    assert sorted([photos[3], *(hit.path for hit in alike)]) == photos
    assert library.similar("s3://bucket/loose.png", k=1)[0].path == photos[5]
    below = library.search("a house", k=20, under="s3://bucket/photos/1/")
    assert sorted(hit.path for hit in below) == photos[4:8]
    # A path that the command line made of an address has one slash of two.
    assert len(library.search("a house", k=20, under=Path("s3://bucket/photos/1"))) == 4
    assert place_images(below, tmp_path / "copies").added == 4
    assert place_images(below, tmp_path / "copies").added == 0
    assert sorted(os.listdir(tmp_path / "copies")) == [os.path.basename(p) for p in photos[4:8]]
    linked = place_images(below, tmp_path / "links", method="symlink")
    assert linked.added == 0 and "it can be copied" in linked.failures[0].reason
    with pytest.raises(CannotPlace, match="an address"):
        place_images(below, "s3://bucket/copies")
    with pytest.raises(QueryError, match="on this machine"):
        below.save("s3://bucket/hits.csv")
    s3.copy(photos[5], "s3://bucket/photos/1/twin.png")
    library.index("s3://bucket/photos")
    [twins] = library.dupes("same-bytes")
    assert {one.path for one in twins.records} == {photos[5], "s3://bucket/photos/1/twin.png"}
    s3.rm("bucket/photos/1/twin.png")
    assert library.index("s3://bucket/photos").removed == 1
    assert library.remove("s3://bucket/photos/2") == 4
    assert sorted(record.path for record in library.records()) == photos[:8]


@pytest.mark.slow
def test_ignore_files_and_patterns_apply_in_a_bucket(s3: Any, photos: list[str]) -> None:
    s3.pipe_file("bucket/photos/1/.clipsearchignore", b"0001.png\n")
    s3.pipe_file("bucket/photos/.hidden/a.png", b"x")
    s3.pipe_file("bucket/photos/@eaDir/a.png", b"x")
    s3.pipe_file("bucket/photos/notes.txt", b"x")
    s3.pipe_file("bucket/photos/1", b"a file that has the name of a folder")
    walk = Walk("s3://bucket/photos", exclude=["2/"])
    assert [file.path for file in walk] == [photo for photo in photos[:8] if "/0001" not in photo]
    assert walk.complete("s3://bucket/photos/") and not walk.problems
    [one] = Walk(photos[0])
    assert one.path == one.root == photos[0] and one.size == remote.look_at(photos[0]).st_size


@pytest.mark.slow
def test_views_read_a_file_once_and_keep_a_bounded_number(
    s3: Any, photos: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    fetched: list[str] = []
    save = remote_cache.save_as
    monkeypatch.setattr(
        remote_cache, "save_as", lambda a, target: (fetched.append(a), save(a, target))
    )
    data, _ = read_file(photos[0])
    assert data == s3.cat_file(photos[0]) and read_file(photos[0])[0] == data
    assert fetched == [photos[0]]
    kept = tmp_path / "cache" / "remote"
    monkeypatch.setenv("CLIPSEARCH_REMOTE_CACHE", str(5 * len(data)))
    known = set(kept.iterdir())
    for number, photo in enumerate(photos[1:7]):
        read_file(photo)
        [new] = {*kept.iterdir()} - known
        os.utime(new, (number, number))
        known.add(new)
    assert 3 < len([*kept.iterdir()]) < 7 and new.exists()
    assert sum(file.stat().st_size for file in kept.iterdir()) <= 5 * len(data)
    monkeypatch.setenv("CLIPSEARCH_REMOTE_CACHE", "0")
    before = len(fetched)
    assert read_file(photos[7])[0] == s3.cat_file(photos[7])
    assert len(fetched) == before
    with pytest.raises(UnreadableImage):
        read_file("s3://bucket/photos/none.png")


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1/a.png", "zip://a.png::http://127.0.0.1/x.zip", "file:///etc/a.png"],
)
def test_addresses_of_a_table_lead_to_no_other_host_and_file(address: str) -> None:
    with pytest.raises(UnreadableImage, match="read in place"):
        read_file(address)
    with pytest.raises(UnreadableImage, match="read in place"):
        ThumbnailCache().get(address, 64)
    with pytest.raises(BadSource, match="read in place"):
        list(Walk(address))


@pytest.mark.slow
def test_a_server_shows_images_of_a_bucket(
    library: Library, s3: Any, photos: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    library.index("s3://bucket/photos")
    assert not (tmp_path / "cache" / "remote").exists()  # indexing keeps none
    http = client(Service(library))
    answer = http.get("/v1/image", params={"path": photos[5], "size": 128})
    assert answer.status_code == 200 and answer.content[:2] == b"\xff\xd8"
    assert http.get("/v1/image", params={"path": photos[5]}).content == s3.cat_file(photos[5])
    assert len([*(tmp_path / "cache" / "remote").iterdir()]) == 1
