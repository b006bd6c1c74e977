"""kill -9 while images are indexed, by workers that encode or by one thread, loses only seconds."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ToyEncoder
from killing import victim
from postgres_server import SERVER_OF_FOLDERS, schema_of, server

from clipsearch.library import Library

pytestmark = pytest.mark.both_engines

COUNT = 120  # more than two runs encode before their third commit


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["shared", "alone"])
def test_what_was_committed_before_a_kill_stays_and_the_next_run_does_the_rest(
    tmp_path: Path, make_images: Callable[..., list[Path]], kind: str
) -> None:
    folder = make_images(COUNT)[0].parent
    for killed_after in (1, 2):
        said = killed(victim("index", tmp_path / "library", folder, kind), killed_after)
        committed = sound(tmp_path / "library")
        assert said <= committed < COUNT
    encoder = ToyEncoder()
    with Library.open(tmp_path / "library", encoder=encoder) as library:
        report = library.index([folder])
        assert (report.added, report.unchanged) == (COUNT - committed, committed)
        assert encoder.images_encoded == COUNT - committed
        assert library.check() == []
        assert len(library.search("anything", k=COUNT)) == COUNT


def killed(process: subprocess.Popen[str], after: int) -> int:
    """Kill a victim after as many commits as wanted; return how many files it said it has by then."""
    assert process.stdout is not None
    try:
        said = [process.stdout.readline() for _ in range(after)]
    finally:
        process.kill()
        process.communicate()
    assert all(said), "it ended before it was killed"
    return int(said[-1])


def sound(folder: Path) -> int:
    """Return how many files are in a library, each with its content and its vector."""
    tables = ("file", "content", "embedding")
    if SERVER_OF_FOLDERS in os.environ:
        schema = schema_of(folder)
        counts = [int(server().sql(f"SELECT count(*) FROM {schema}.{table}")) for table in tables]
    else:
        with sqlite3.connect(folder / "catalog.db") as catalog:
            counts = [
                catalog.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables
            ]
            assert catalog.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert catalog.execute("PRAGMA foreign_key_check").fetchall() == []
        catalog.close()
    assert len(set(counts)) == 1
    return int(counts[0])
