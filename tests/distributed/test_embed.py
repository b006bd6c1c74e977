"""Images that lie anywhere become parts, once each; what breaks is an error of its row."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ToyEncoder
from distributed_rows import rows_of, stored

from clipsearch.distributed import contents
from clipsearch.distributed.embed import embed_images
from clipsearch.distributed.embedder import UnitEmbedder, Written
from clipsearch.distributed.parts import model_of_parts
from clipsearch.distributed.sources import Unit
from clipsearch.errors import BadParts, BadSource, CannotPlace, ModelMismatch
from clipsearch.library import Library
from clipsearch.types import IndexReport, Progress

Make = Callable[..., list[Path]]


@pytest.fixture
def images(make_images: Make) -> list[Path]:
    return make_images(12)


def embed(*sources: object, to: object, **options: Any) -> IndexReport:
    return embed_images(
        [str(source) for source in sources], str(to), encoder=ToyEncoder(), **options
    )


def counts(report: IndexReport) -> tuple[int, int, int]:
    return report.added, report.unchanged, report.failed


def by_path(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert max(Counter(row["path"] for row in rows).values(), default=1) == 1
    return {row["path"]: row for row in rows}


# --- folders -----------------------------------------------------------------------------------


def test_parts_hold_what_index_would_have_stored(tmp_path: Path, images: list[Path]) -> None:
    said: list[Progress] = []
    report = embed(tmp_path / "images", to=tmp_path / "parts", rows=5, on_progress=said.append)
    assert counts(report) == (12, 0, 0) and len(list((tmp_path / "parts").iterdir())) == 3
    assert [(one.done, one.total) for one in said if one.phase == "embed"][-1] == (12, 12)
    with Library.create(tmp_path / "one", encoder=ToyEncoder()) as one:
        one.index([tmp_path / "images"])
        records = {record.path: record for record in one.records()}
    with Library.create(tmp_path / "other", encoder=ToyEncoder()) as other:
        assert other.ingest(tmp_path / "parts").embedded == 12
        assert {r.path: (r.sha256, r.bytes, r.facts) for r in other.records()} == {
            path: (r.sha256, r.bytes, r.facts) for path, r in records.items()
        }
        later = other.index([tmp_path / "images"])  # nothing has to be read again
        assert (later.unchanged, later.embedded) == (12, 0)
    assert stored(tmp_path / "one") == stored(tmp_path / "other")


def test_another_run_embeds_what_is_new_or_has_changed(tmp_path: Path, images: list[Path]) -> None:
    parts = tmp_path / "parts"
    assert counts(embed(tmp_path / "images", to=parts)) == (12, 0, 0)
    assert counts(embed(tmp_path / "images", to=parts)) == (0, 12, 0)
    images[3].write_bytes(images[4].read_bytes())
    os.utime(images[3], ns=(1, 1))
    (tmp_path / "images" / "new.png").write_bytes(images[5].read_bytes())
    assert counts(embed(tmp_path / "images", images[0], to=parts)) == (2, 11, 0)
    assert sorted(path.name[:10] for path in parts.iterdir()) == ["part-00001", "part-00002"]
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        report = library.ingest(parts)
        assert report.failed == 0 and library.status().files == 13
        assert {r.path: r.sha256 for r in library.records()}[str(images[3])] == rows_of(parts)[-2][
            "sha256"
        ]


def test_a_bad_image_is_an_error_of_its_row_until_it_is_tried_again(
    tmp_path: Path, images: list[Path]
) -> None:
    parts, bad = tmp_path / "parts", tmp_path / "images" / "bad.jpg"
    bad.write_bytes(b"no image")
    report = embed(tmp_path / "images", to=parts)
    assert counts(report) == (12, 0, 1) and report.failures[0].path == str(bad)
    row = by_path(rows_of(parts))[str(bad)]
    assert row["error"] == report.failures[0].reason and row["embedding"] is None
    assert counts(embed(tmp_path / "images", to=parts)) == (0, 13, 0)
    assert counts(embed(tmp_path / "images", to=parts, retry_failed=True)) == (0, 12, 1)
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        report = library.ingest(parts)
        assert report.added == 12 and {one.path for one in report.failures} == {str(bad)}


def test_parts_of_another_model_and_damaged_ones_are_refused(
    tmp_path: Path, images: list[Path]
) -> None:
    parts = tmp_path / "parts"
    embed(images[0], to=parts)
    with pytest.raises(ModelMismatch, match="holds embeddings of another model than other"):
        embed_images(images[1], parts, encoder=ToyEncoder("other"))
    (part,) = parts.iterdir()
    part.write_bytes(part.read_bytes()[:-30])
    with pytest.raises(BadParts, match="delete it to embed its images again"):
        embed(images[1], to=parts)
    (parts / "notes.txt").write_text("not mine")
    part.unlink()
    assert counts(embed(images[0], to=parts)) == (1, 0, 0)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nowhere", "it is not there"),
        ("empty", "there are no images in it"),
        ("ftq://host/images", "Protocol not known"),
        ("https://me:secret@example.org/a", "holds a password"),
        ("memory://nothing", "it is not there"),
        ("words.parquet", "Parquet magic bytes not found"),
    ],
)
def test_what_cannot_be_a_source_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("words.parquet").write_text("some words that are no table")
    with pytest.raises(BadSource, match=reason) as caught:
        embed(source, to=tmp_path / "parts")
    assert "secret" not in str(caught.value)


def test_a_part_that_cannot_be_written_ends_the_run(tmp_path: Path, images: list[Path]) -> None:
    (tmp_path / "parts").write_text("a file")
    with pytest.raises(CannotPlace, match=r"no files can be put into .*parts: File exists"):
        embed(images[0], to=tmp_path / "parts")


# --- what holds many ---------------------------------------------------------------------------


def make_tar(path: Path, images: list[Path], *, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for number, image in enumerate(images):
            archive.add(image, f"{number:03d}.png")
            text = f"caption {number}".encode()
            entry = tarfile.TarInfo(f"{number:03d}.txt")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    return path


def test_tars_of_webdataset_are_read_and_done_once(tmp_path: Path, images: list[Path]) -> None:
    (tmp_path / "shards").mkdir()
    make_tar(tmp_path / "shards" / "a-000.tar", images[:4])
    make_tar(tmp_path / "shards" / "a-001.tar.gz", images[4:8], mode="w:gz")
    make_tar(tmp_path / "shards" / "a-002.tar", images[8:])
    parts = tmp_path / "parts"
    assert counts(embed(tmp_path / "shards" / "a-{000..000}.tar", to=parts)) == (4, 0, 0)
    assert counts(embed(tmp_path / "shards", to=parts)) == (8, 4, 0)
    assert counts(embed(tmp_path / "shards", to=parts)) == (0, 12, 0)
    found = by_path(rows_of(parts))
    assert sorted(found) == [
        *(f"{tmp_path}/shards/a-000.tar/{n:03d}.png" for n in range(4)),
        *(f"{tmp_path}/shards/a-001.tar.gz/{n:03d}.png" for n in range(4)),
        *(f"{tmp_path}/shards/a-002.tar/{n:03d}.png" for n in range(4)),
    ]
    first = found[f"{tmp_path}/shards/a-000.tar/002.png"]
    assert (first["width"], first["height"], first["format"]) == (48, 40, "PNG")
    assert first["bytes"] == images[2].stat().st_size


def test_of_a_tar_that_breaks_off_what_came_before_is_kept(
    tmp_path: Path, images: list[Path]
) -> None:
    tar = make_tar(tmp_path / "a.tar", images)
    tar.write_bytes(tar.read_bytes()[:6_000])
    (tmp_path / "b.tar").write_bytes(os.urandom(3_000))
    parts = tmp_path / "parts"
    report = embed(tar, tmp_path / "b.tar", to=parts)
    assert 0 < report.added < 12 and report.failed == 2
    assert {one.path for one in report.failures} == {str(tar), str(tmp_path / "b.tar")}
    make_tar(tar, images)  # it is another one now
    assert counts(embed(tar, to=parts)) == (12, 0, 0)


@pytest.mark.parametrize("damage", ["a bit of a header", "cut at a header", "a header of sizes"])
def test_of_a_damaged_tar_the_rest_is_not_left_out_without_a_word(
    tmp_path: Path, images: list[Path], damage: str
) -> None:
    tar = make_tar(tmp_path / "a.tar", images)
    data = bytearray(tar.read_bytes())
    with tarfile.open(tar) as archive:
        start = [entry for entry in archive if entry.isfile()][5].offset
    if damage == "a bit of a header":
        data[start + 10] ^= 0x40
    elif damage == "cut at a header":
        del data[start:]
    else:
        sparse = tarfile.TarInfo("x.png")
        sparse.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
        sparse.size = 100
        header = sparse.tobuf(tarfile.PAX_FORMAT) + b"x" * 512
        data[start:start] = header
    tar.write_bytes(data)
    report = embed(tar, to=tmp_path / "parts")
    assert 0 < report.added < len(images) and report.failed == 1
    assert [one.path for one in report.failures] == [str(tar)]


def test_names_in_archives_may_be_any_bytes(tmp_path: Path, images: list[Path]) -> None:
    with tarfile.open(
        tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1"
    ) as archive:
        archive.add(images[0], "caf\xe9.png")
        archive.add(images[1], "../../up.png")
    assert counts(embed(tmp_path / "a.tar", to=tmp_path / "parts")) == (2, 0, 0)
    names = {Path(row["path"]).name for row in rows_of(tmp_path / "parts")}
    assert names == {"caf?.png", "up.png"} and not (tmp_path.parent / "up.png").exists()


@pytest.mark.parametrize("kind", ["bytes", "struct"])
def test_tables_hold_images_as_bytes(tmp_path: Path, images: list[Path], kind: str) -> None:
    data: list[Any] = [image.read_bytes() for image in images]
    if kind == "struct":  # as Hugging Face's datasets keep them
        data = [{"bytes": one, "path": image.name} for one, image in zip(data, images, strict=True)]
    data[5] = None
    names = [f"key {number}" for number in range(12)]
    table = pa.table({"key": names, "image": data, "label": list(range(12))})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=5)
    report = embed(tmp_path / "t.parquet", to=tmp_path / "parts")
    assert counts(report) == (11, 0, 1) and "holds no image" in report.failures[0].reason
    found = by_path(rows_of(tmp_path / "parts"))
    name = "key 3" if kind == "bytes" else images[3].name
    right = ToyEncoder()
    with Library.create(tmp_path / "library", encoder=right) as library:
        library.index([images[3]])
    (vector,) = stored(tmp_path / "library").values()
    row = found[f"{tmp_path}/t.parquet/{name}"]
    assert np.array(row["embedding"], np.float16).tobytes() == vector
    assert counts(embed(tmp_path / "t.parquet", to=tmp_path / "parts")) == (0, 12, 0)


def test_a_table_without_images_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"label": [1, 2]}), tmp_path / "t.parquet")
    report = embed(tmp_path / "t.parquet", to=tmp_path / "parts")
    assert report.failures[0].reason == "none of its columns (label) holds images or addresses"


def test_addresses_in_tables_are_fetched_on_request_only(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [f"https://example.org/{image.name}" for image in images]
    pq.write_table(pa.table({"URL": urls}), tmp_path / "t.parquet")
    fetched: list[str] = []

    def fetch_image(address: str, most: int) -> bytes:
        fetched.append(address)
        if address == urls[2]:
            raise FileNotFoundError("its host answers 404 Not Found")
        if address == urls[3] and fetched.count(address) < 3:
            raise OSError("its host does not answer")
        return images[urls.index(address)].read_bytes()

    monkeypatch.setattr(contents, "fetch_public", fetch_image)
    monkeypatch.setattr(contents, "_PAUSE", 0.001)
    report = embed(tmp_path / "t.parquet", to=tmp_path / "parts")
    assert counts(report) == (0, 0, 12) and fetched == []
    assert "--fetch fetches it" in report.failures[0].reason
    report = embed(tmp_path / "t.parquet", to=tmp_path / "parts", fetch=True)
    assert counts(report) == (11, 0, 1)  # what was not fetched is no failure that stays
    report = embed(tmp_path / "t.parquet", to=tmp_path / "parts", fetch=True)
    assert counts(report) == (0, 12, 0)
    assert report.warnings == ("1 image failed before; --retry-failed reads what failed again.",)
    fetched.clear()
    report = embed(tmp_path / "t.parquet", to=tmp_path / "other", fetch=True)
    assert counts(report) == (11, 0, 1)
    assert (report.failures[0].path, fetched.count(urls[2])) == (urls[2], 1)


# --- elsewhere ---------------------------------------------------------------------------------


@pytest.fixture
def bucket(images: list[Path]) -> Iterator[Any]:
    """A file system that is an address, in the memory of this process."""
    memory = fsspec.filesystem("memory")
    for image in images:
        memory.pipe_file(f"/bucket/trip/{image.name}", image.read_bytes())
    memory.pipe_file("/bucket/trip/notes.txt", b"no image")
    yield memory
    memory.rm("/bucket", recursive=True)


def test_addresses_are_read_and_written(tmp_path: Path, bucket: Any, images: list[Path]) -> None:
    to = "memory://bucket/parts"
    assert counts(embed("memory://bucket/trip", to=to, rows=5)) == (12, 0, 0)
    assert counts(embed("memory://bucket/trip", to=to, rows=5)) == (0, 12, 0)
    assert counts(embed("memory://bucket/trip/000[12].png", to=to)) == (0, 2, 0)
    bucket.get("/bucket/parts", str(tmp_path / "parts"), recursive=True)
    found = by_path(rows_of(tmp_path / "parts"))
    assert set(found) == {f"memory:///bucket/trip/{image.name}" for image in images}
    assert {row["sha256"] for row in found.values()} == {
        row["sha256"] for row in rows_of_folder(tmp_path, images)
    }
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        assert library.ingest(tmp_path / "parts").added == 12
        assert library.search("a boy", k=3)[0].path in found


def rows_of_folder(tmp_path: Path, images: list[Path]) -> list[dict[str, Any]]:
    embed(*images, to=tmp_path / "local")
    return rows_of(tmp_path / "local")


def test_an_image_that_cannot_be_brought_is_an_error_of_its_row(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = contents.download

    def broken(address: str, most: int) -> bytes:
        if address.endswith("0003.png"):
            raise OSError("the service is not there")
        return original(address, most)

    monkeypatch.setattr(contents, "download", broken)
    monkeypatch.setattr(contents, "_PAUSE", 0.001)
    report = embed("memory://bucket/trip", to=tmp_path / "parts")
    assert counts(report) == (11, 0, 1) and "not there" in report.failures[0].reason


def test_what_comes_from_elsewhere_is_deleted_once_it_is_embedded(
    tmp_path: Path, bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    there: list[int] = []
    original = UnitEmbedder.write

    def write(self: UnitEmbedder, unit: Unit, to: str, run: int, on_image: object) -> Written:
        return original(self, unit, to, run, lambda path: there.append(count_files(tmp_path)))

    monkeypatch.setattr(UnitEmbedder, "write", write)
    embed("memory://bucket/trip", to=tmp_path / "parts")
    assert len(there) == 12 and there[-1] == 0 and count_files(tmp_path) == 0


def count_files(folder: Path) -> int:
    return len(list(folder.glob("clipsearch-*/*.png")))


# --- kills -------------------------------------------------------------------------------------

VICTIM = """
import sys, time
from conftest import ToyEncoder
from clipsearch.distributed.embed import embed_images

class Slow(ToyEncoder):
    def encode_images(self, batch):
        time.sleep(0.02 * len(batch))
        return super().encode_images(batch)

embed_images(sys.argv[1], sys.argv[2], rows=3, encoder=Slow())
"""


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_and_every_image_is_there_once(
    tmp_path: Path, make_images: Make
) -> None:
    make_images(40)
    parts = tmp_path / "parts"
    for _ in range(3):
        before = len(list(parts.glob("*.parquet"))) if parts.exists() else 0
        run = subprocess.Popen(
            [sys.executable, "-c", VICTIM, str(tmp_path / "images"), str(parts)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        deadline = time.monotonic() + 120
        while run.poll() is None and time.monotonic() < deadline:
            if parts.exists() and len(list(parts.glob("*.parquet"))) > before + 1:
                run.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        run.wait()
    report = embed(tmp_path / "images", to=parts)
    assert report.failed == 0 and report.unchanged > 0 and report.added + report.unchanged == 40
    assert len(by_path(rows_of(parts))) == 40


@pytest.mark.slow
def test_images_in_s3_are_embedded_once(
    tmp_path: Path, s3: Any, make_images: Callable[..., list[Path]]
) -> None:
    images = make_images(30)
    for image in images:
        s3.pipe_file(f"bucket/photos/{int(image.stem) % 3}/{image.name}", image.read_bytes())
    s3.pipe_file("bucket/photos/broken.jpg", b"no image")

    def embed() -> tuple[int, int, int]:
        report = embed_images(
            "s3://bucket/photos", "s3://bucket/parts", encoder=ToyEncoder(), rows=9
        )
        return report.added, report.unchanged, report.failed

    assert embed() == (30, 0, 1)
    assert embed() == (0, 31, 0)
    lost = sorted(s3.find("bucket/parts"))[1]
    s3.rm(lost)  # as if the run had been killed before
    added, known, failed = embed()
    assert 0 < added <= 9 and added + known + failed == 31
    s3.pipe_file("bucket/photos/1/0001.png", images[2].read_bytes())
    assert embed() == (1, 30, 0)
    s3.get("bucket/parts", str(tmp_path / "parts"), recursive=True)
    assert model_of_parts(["s3://bucket/parts"]) == ToyEncoder().info.name
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        assert library.ingest(Path("s3://bucket/parts")).added == 30
        with pytest.raises(BadParts, match="it holds no"):
            library.ingest("s3://bucket/photos/1")
        assert library.ingest(tmp_path / "parts").added == 0
        paths = {record.path for record in library.records()}
    names = (f"s3://bucket/photos/{int(image.stem) % 3}/{image.name}" for image in images)
    assert paths == set(names)
    changed = [row for row in rows_of(tmp_path / "parts") if row["path"].endswith("1/0001.png")]
    assert len({row["state"] for row in changed}) == 2
    with pytest.raises(BadSource, match="it is not there"):
        embed_images("s3://bucket/nothing", tmp_path / "parts", encoder=ToyEncoder())
