"""A library's vector index, made anew: its kind, its recall, and what status says of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyEncoder

from clipsearch.cli import main
from clipsearch.errors import UnknownVectorIndex, VectorIndexError
from clipsearch.library import Library

Make = Callable[..., list[Path]]


def test_rebuild_tunes_with_the_models_own_texts_and_says_what_was_reached(
    tmp_path: Path, toy_encoder: ToyEncoder, make_images: Make
) -> None:
    folder = make_images(12)[0].parent
    with Library.create(tmp_path / "library", encoder=toy_encoder) as library:
        library.index([folder])
        before = library.status()
        assert (before.index_kind, before.index_recall, before.index_queries) == ("exact", 1.0, "")
        assert before.index_tuned == {} and before.index_memory == 12 * 12
        found = [(hit.path, hit.score) for hit in library.search("a red house", k=5)]
        after = library.rebuild(kind="compressed", recall=0.9)
        assert after == library.status()
        assert (after.index_kind, after.index_queries, after.indexed) == ("compressed", "texts", 12)
        assert after.index_recall == 1.0 and after.index_tuned == {"depth": 12}
        assert [(hit.path, hit.score) for hit in library.search("a red house", k=5)] == found
        [file] = (tmp_path / "library" / "snapshots").iterdir()
        assert after.index_bytes == file.stat().st_size
        for bad in (0, 1, 1.5, -0.1, np.nan):
            with pytest.raises(VectorIndexError, match="between 0 and 1"):
                library.rebuild(recall=bad)
        with pytest.raises(UnknownVectorIndex, match="'hnsw'"):
            library.rebuild(kind="hnsw")
        assert library.status().index_kind == "compressed"


def test_the_command_reports_as_text_and_as_json(
    tmp_path: Path,
    toy_encoder: ToyEncoder,
    make_images: Make,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, place = make_images(12)[0].parent, str(tmp_path / "library")
    with Library.create(place, encoder=toy_encoder) as library:
        library.index([folder])
    capfd.readouterr()
    assert main(["rebuild", "--kind", "exact", "-L", place]) == 0
    said = capfd.readouterr().err
    assert "vector index: exact, 12 vectors" in said
    assert "finds: all: it compares every vector" in said
    assert main(["rebuild", "--kind", "auto", "--recall", "0.95", "-L", place, "-f", "json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["index_kind"], told["index_recall"], told["indexed"]) == ("exact", 1.0, 12)
    assert main(["status", "-L", place]) == 0
    out = capfd.readouterr().out
    assert "exact, 12 vectors" in out and "in memory" in out
    assert main(["rebuild", "--recall", "2", "-L", place]) == 1
    assert "between 0 and 1" in capfd.readouterr().err
