"""`clipsearch ingest` and `clipsearch export -f clip-retrieval`: what they print, and their exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import clipsearch
from clipsearch.cli import main
from clipsearch.library import Library

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.both_engines


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def made(run: Run) -> Path:
    """A library of the bundled images."""
    samples = Path(clipsearch.__file__).with_name("samples")
    assert run("index", samples, "-L", "library", "--model", "mini")[0] == 0
    return Path("library")


@pytest.mark.slow
def test_a_library_travels_in_the_layout_of_clip_retrieval(run: Run, made: Path) -> None:
    code, _, said = run("export", "-f", "clip-retrieval", "-o", "parts", "-L", made)
    assert code == 0 and "wrote parts" in said
    vectors = np.load("parts/img_emb/img_emb_0.npy")
    with Library.open(made) as library:
        count = library.status().files
    assert vectors.dtype == np.float16 and len(vectors) == count
    code, out, said = run("ingest", "parts", "-L", "other", "--model", "mini")
    assert code == 0 and f"{count} embeddings stored in " in said
    assert f"{count}" in out and "added" in out
    first, second = (run("query", "a horse", "-f", "json", "-L", path) for path in (made, "other"))
    assert first[1] == second[1] and first[0] == 0
    code, _, said = run("export", "-f", "clip-retrieval", "-o", "parts", "-L", made)
    assert code == 1 and "parts: it is not empty; name a new one" in said
    code, _, said = run("export", "-f", "clip-retrieval", "-L", made)
    assert code == 2 and "is a folder of files: name it with -o" in said


@pytest.mark.slow
def test_rows_that_fail_are_told_and_counted_under_strict(run: Run, made: Path) -> None:
    with Library.open(made) as library:
        vectors = np.zeros((8, library.encoder.info.dim), np.float32)
    vectors[0, 0] = 1
    np.savez("p.npz", paths=np.array([f"s3://b/{n}.jpg" for n in range(8)]), vectors=vectors)
    code, _, said = run("ingest", "p.npz", "-L", made, "--strict")
    assert code == 3
    assert said.count("its part holds no embedding of it") == 5 and "and 2 rows more" in said
    assert run("ingest", "p.npz", "-L", made)[0] == 0


@pytest.mark.slow
def test_what_cannot_be_ingested_is_one_line(run: Run, made: Path) -> None:
    code, out, said = run("ingest", "nothing.parquet", "-L", made)
    assert (code, out) == (1, "")
    assert said.strip() == "error: nothing.parquet cannot be ingested: it is not there."
