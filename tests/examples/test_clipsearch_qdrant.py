"""The example of an index in Qdrant works once it is installed; the contract tests hold its answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import clipsearch_qdrant
import numpy as np
import pytest
from clipsearch_qdrant import ADDRESS, QdrantIndex, delete_unnamed
from oracle import stored_rows

import clipsearch
from clipsearch.errors import SnapshotUnreadable, VectorIndexError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/qdrant_index"
DIM = 8


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let Qdrant keep its collections in a folder of the test."""
    monkeypatch.setenv(ADDRESS, str(tmp_path / "qdrant"))
    return tmp_path


@pytest.fixture
def written(folder: Path) -> Path:
    (folder / "snapshots").mkdir()
    path = folder / "snapshots" / "1-00.qdrant"
    QdrantIndex.write(path, DIM, [(np.arange(30), stored_rows(np.random.default_rng(1), 30, DIM))])
    return path


def install(site: Path) -> None:
    """Install the entry points that the example's own pyproject.toml declares."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text("utf-8"))["project"]
    info = site / f"clipsearch_qdrant-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


@pytest.mark.slow
def test_an_installed_example_answers_as_comparing_with_all_does(tmp_path: Path) -> None:
    install(tmp_path / "site")
    images = tmp_path / "images"
    images.mkdir()
    *some, last = sorted(Path(clipsearch.__file__).with_name("samples").glob("*.webp"))[:41]
    for path in some:
        shutil.copy(path, images)
    paths = [str(path) for path in (ROOT, EXAMPLE, tmp_path / "site")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), ADDRESS: "qdrant"}

    def run(*arguments: str) -> str:
        command = [sys.executable, "-W", "ignore", "-m", "clipsearch", *arguments, "-L", "library"]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def answers() -> list[Any]:
        text = "orange boy riding a blue horse"
        asked = (
            ["query", text, "-k", "7"],
            ["query", text, "--where", "width > 0 and height > 0", "-k", "5"],
            ["similar", str(images / "scene-007.webp"), "-k", "6"],
        )
        found = [json.loads(run(*arguments, "-f", "json")) for arguments in asked]
        for hit in (hit for hits in found for hit in hits):
            # It is computed from cosines that two kinds of products give to about 1e-7.
            hit["relevance"] = hit["relevance"] and round(hit["relevance"], 4)
        return found

    run("index", "images", "--model", "mini")
    assert json.loads(run("status", "-f", "json"))["index_kind"] == "exact"
    expected = answers()
    run("rebuild", "--kind", "qdrant")
    status = json.loads(run("status", "-f", "json"))
    assert (status["index_kind"], status["index_recall"]) == ("qdrant", 1.0)
    assert answers() == expected
    # What comes later is found too, and a collection that is gone is written again.
    shutil.copy(last, images)
    run("index", "images")
    assert [
        hit["path"] for hit in json.loads(run("similar", str(last), "-k", "1", "-f", "json"))
    ] == [str(images / last.name)]
    shutil.rmtree(tmp_path / "qdrant")
    assert len(json.loads(run("query", "a horse", "-k", "50", "-f", "json"))) == 41
    run("rebuild", "--kind", "qdrant")
    assert len(list((tmp_path / "qdrant" / "collection").iterdir())) == 1


def test_a_collection_that_is_gone_is_a_snapshot_that_cannot_be_read(written: Path) -> None:
    name = json.loads(written.read_text())["collection"]
    assert len(QdrantIndex.load(written)) == 30
    clipsearch_qdrant._connect().delete_collection(name)
    with pytest.raises(SnapshotUnreadable, match=rf"{name}, which is not there"):
        QdrantIndex.load(written)


def test_a_collection_that_lost_vectors_is_no_shorter_answer(written: Path) -> None:
    index = QdrantIndex.load(written)
    name = json.loads(written.read_text())["collection"]
    clipsearch_qdrant._connect().delete(name, [3, 5])
    with pytest.raises(SnapshotUnreadable, match=r"lost vectors.*clipsearch rebuild"):
        index.search(np.eye(1, DIM, dtype=np.float32), 30)


def test_what_cannot_be_written_leaves_no_collection(folder: Path) -> None:
    rows = np.full((1, DIM), np.nan, np.float32)
    with pytest.raises(VectorIndexError, match="finite"):
        QdrantIndex.write(folder / "index", DIM, [(np.arange(1), rows)])
    assert clipsearch_qdrant._connect().get_collections().collections == []


def test_collections_that_no_file_names_are_deleted(written: Path) -> None:
    other = written.with_name("1-01.qdrant")
    QdrantIndex.write(other, DIM, [(np.arange(1), stored_rows(np.random.default_rng(2), 1, DIM))])
    gone = json.loads(other.read_text())["collection"]
    assert delete_unnamed(written.parent) == []
    other.unlink()
    assert delete_unnamed(written.parent) == [gone]
    assert len(QdrantIndex.load(written)) == 30


def test_without_an_address_or_an_answer_it_says_what_to_do(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ADDRESS, "http://127.0.0.1:9")
    with pytest.raises(VectorIndexError, match=r"127\.0\.0\.1:9, named by \$CLIPSEARCH_QDRANT"):
        QdrantIndex.load(written)
    monkeypatch.delenv(ADDRESS)
    with pytest.raises(VectorIndexError, match=r"address of a server in \$CLIPSEARCH_QDRANT"):
        QdrantIndex.load(written)
