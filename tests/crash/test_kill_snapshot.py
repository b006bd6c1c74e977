"""kill -9 at every line of publishing, and at any moment of committing, loses nothing."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import victim
from oracle import unit_rows
from vector_library import BATCH, VectorLibrary, batch_names, batch_rows

from clipsearch.catalog import Catalog

pytestmark = pytest.mark.both_engines


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """A killed process leaves litter, never a damaged snapshot: opening has nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def reopened(library: VectorLibrary, folder: Path) -> VectorLibrary:
    """Return the same truth over the catalog in another folder."""
    again = object.__new__(VectorLibrary)
    again.__dict__ |= library.__dict__ | {"folder": folder, "catalog": Catalog.open(folder)}
    return again


def assert_sound(library: VectorLibrary) -> None:
    """Search exactly, tidy up after the killed process, publish, and search exactly again."""
    snapshots = library.snapshots(None)
    library.assert_exact(snapshots.open())
    assert snapshots.check() == []
    for path in snapshots.folder.glob("*"):
        os.utime(path, times=(time.time() - 100,) * 2)
    snapshots.sweep()
    assert set(snapshots.folder.glob("*")) == {snapshots.path(row) for row in snapshots.rows()}
    snapshots.publish()
    [row] = snapshots.rows()
    assert [*snapshots.folder.iterdir()] == [snapshots.path(row)]
    searcher = snapshots.open()
    assert searcher.tail == 0
    library.assert_exact(searcher)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "published"), [("exact", True), ("exact", False)])
def test_a_kill_before_any_line_of_publishing_leaves_searches_exact(
    tmp_path: Path, kind: str, published: bool
) -> None:
    library = VectorLibrary(tmp_path / "library")
    library.add(range(40))
    if published:
        library.snapshots(kind).publish()
    library.remove(range(6))  # over 10 %: publishing purges them first
    library.add(range(40, 50))
    library.catalog.close()
    process = victim("lines", tmp_path / "library", tmp_path / "out", kind)
    said = process.communicate()[0].split("\n")[:-1]
    assert process.returncode == 0 and said[-1] == f"{len(said)} finished"
    assert len(said) > 50 and all(line.endswith("killed") for line in said[:-1])
    rows_seen = set()
    for number in range(1, len(said) + 1):
        again = reopened(library, tmp_path / "out" / str(number))
        rows = again.snapshots().rows()
        rows_seen.add((len(rows), rows[0].rows if rows else 0))
        assert_sound(again)
        again.catalog.close()
    # Killed before the publication, between it and tidying up, and after all.
    assert rows_seen == ({(1, 40), (2, 44), (1, 44)} if published else {(0, 0), (1, 50)})


@pytest.mark.slow
def test_a_kill_while_a_segment_is_added_leaves_a_chain_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = VectorLibrary(tmp_path / "library")
    with monkeypatch.context() as patch:
        patch.setattr("clipsearch.vectors.segments._SEGMENTED_ROWS", 100)
        for names in (range(100), range(100, 130), range(130, 140)):
            library.add(names)
            library.snapshots(None).publish()
    library.remove(range(95, 102))
    library.add(range(140, 150))  # with the last segment 20: it is written again, 30 are kept
    library.catalog.close()
    process = victim("segments", tmp_path / "library", tmp_path / "out", "auto")
    said = [line.split() for line in process.communicate()[0].split("\n")[:-1]]
    assert process.returncode == 0 and said[-1][1] == "finished" and len(said) > 50
    seen: set[tuple[tuple[int, ...], int]] = set()
    for number, _ in said:
        again = reopened(library, tmp_path / "out" / number)
        snapshots = again.snapshots(None)
        chain = snapshots.chain()
        assert chain[0].after == 0 and {snapshots.path(row) for row in chain} <= {
            *snapshots.folder.iterdir()
        }
        ends = tuple(row.watermark for row in chain)
        searcher = snapshots.open()
        assert searcher.tail == 150 - ends[-1]
        again.assert_exact(searcher)
        state = ends, len(snapshots.rows())
        if state not in seen:
            assert_sound(again)
        seen.add(state)
        again.catalog.close()
    before, after = (100, 130, 140), (100, 150)
    assert seen == {(before, 3), (after, 4), (after, 3), (after, 2)}


@pytest.mark.slow
def test_a_kill_at_any_moment_of_writing_a_large_snapshot_leaves_searches_exact(
    tmp_path: Path,
) -> None:
    library = VectorLibrary(tmp_path)
    rows = unit_rows(library.rng, 20_000, 16)
    library.add(range(20_000), rows=rows)
    for delay in (0, 0.003, 0.01, 0.03, 0.06, 0.1):
        process = victim("publish", tmp_path, "exact")
        assert process.stdout is not None and process.stdout.readline() == "1\n"
        time.sleep(delay)
        process.kill()
        process.communicate()
        again = reopened(library, tmp_path)
        searcher = again.snapshots(None).open()
        assert searcher.tail == 0 and len(searcher) == 20_000
        again.assert_exact(searcher)
        again.catalog.close()
    assert_sound(library)
    library.catalog.close()


@pytest.mark.parametrize("batches", [1, 2, 3, 4, 7, 8])
def test_what_was_committed_before_a_kill_is_found_and_no_half_batch(
    tmp_path: Path, batches: int
) -> None:

    process = victim("commit", tmp_path, "exact")
    assert process.stdout is not None
    for number in range(batches):
        assert process.stdout.readline() == f"{number}\n"
    time.sleep(0.002 * batches)
    process.kill()
    said = batches + process.communicate()[0].count("\n")
    library = VectorLibrary(tmp_path)
    files = library.catalog.status_counts().files
    assert files % BATCH == 0 and said <= files // BATCH <= said + 1
    for number in range(files // BATCH):
        library.expect(batch_names(number), batch_rows(number))
    assert library.catalog.check() == []
    assert_sound(library)
    library.catalog.close()
