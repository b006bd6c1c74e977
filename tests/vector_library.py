"""A catalog of vectors without images, beside the plain dictionaries that it must agree with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from oracle import unit_rows

from clipsearch.catalog import Catalog, Entry
from clipsearch.types import Facts, ModelInfo
from clipsearch.vectors.searcher import Searcher
from clipsearch.vectors.snapshots import Snapshots

DIM = 16
BATCH = 20


class VectorLibrary:
    """Files `0`, `1`, ... whose bytes are their name; `files` and `vectors` are the truth."""

    def __init__(self, folder: Path, *, seed: int = 0) -> None:
        self.folder = folder
        self.catalog = Catalog.create(folder)
        self.rng = np.random.default_rng(seed)
        self.files: dict[str, str] = {}  # path -> sha256
        self.vectors: dict[int, dict[str, np.ndarray]] = {}  # model id -> sha256 -> as stored
        self.model = self.add_model("first")

    def add_model(self, name: str, dim: int = DIM) -> int:
        info = ModelInfo(name, dim, 100.0, None, fingerprint=name, spec=name)
        model_id = self.catalog.add_model(info)
        self.vectors[model_id] = {}
        return model_id

    def add(
        self, names: Sequence[object], *, model: int | None = None, rows: np.ndarray | None = None
    ) -> None:
        """Commit a file for each name with a vector of its own (or one of `rows`)."""
        model = model or self.model
        dim = self.catalog.models()[model].dim
        rows = unit_rows(self.rng, len(names), dim) if rows is None else rows
        self.catalog.commit(self.expect(names, rows, model=model), model)

    def expect(
        self, names: Sequence[object], rows: np.ndarray, *, model: int | None = None
    ) -> list[Entry]:
        """Count these files among the truth and return their entries, without committing them."""
        entries = [entry_of(str(name), row) for name, row in zip(names, rows, strict=True)]
        for entry, row in zip(entries, rows, strict=True):
            assert entry.sha256 is not None
            self.files[entry.path] = entry.sha256
            self.vectors[model or self.model].setdefault(entry.sha256, as_stored(row))
        return entries

    def remove(self, names: Sequence[object]) -> None:
        """Forget these files; contents and vectors stay until they are purged."""
        for name in names:
            del self.files[path_of(str(name))]
        assert self.catalog.remove_paths([path_of(str(name)) for name in names]) == len(names)

    def put_back(self, names: Sequence[object]) -> None:
        """Let files return unchanged, embedding only those whose vector is gone."""
        entries = [entry_of(str(name), np.zeros(DIM)) for name in names]
        known = self.catalog.find_known([str(entry.sha256) for entry in entries], self.model)
        for name, entry in zip(names, entries, strict=True):
            assert entry.sha256 is not None
            kept = known[entry.sha256][1]
            row = self.vectors[self.model][entry.sha256]
            self.catalog.commit([entry_of(str(name), None if kept else row)], self.model)
            self.files[entry.path] = entry.sha256

    def purge(self) -> int:
        """Delete the vectors without a file."""
        return self.catalog.purge_stale(self.model)

    def snapshots(self, kind: str | None = "exact", *, model: int | None = None) -> Snapshots:
        return Snapshots(self.folder, self.catalog, model or self.model, kind=kind)

    def assert_exact(
        self, searcher: Searcher, *, model: int | None = None, among: np.ndarray | None = None
    ) -> None:
        """Compare searches of several sizes with numpy over the files that are there."""
        model = model or self.model
        live = sorted(set(self.files.values()) & set(self.vectors[model]))
        if among is not None:
            kept = {records[0].sha256 for records in self.catalog.hits(among.tolist()).values()}
            live = sorted(kept & set(live))
        place = {sha: i for i, sha in enumerate(live)}
        dim = self.catalog.models()[model].dim
        truth = np.array([self.vectors[model][sha] for sha in live]).reshape(len(live), dim)
        queries = unit_rows(np.random.default_rng(99), 3, dim)
        cosines = (queries.astype(np.float64) @ truth.T.astype(np.float64)).astype(np.float32)
        for k in (0, 1, 5, len(live), len(live) + 7):
            ids, scores = searcher.search(queries, k, among=among)
            assert ids.shape == scores.shape == (3, min(k, len(live)))
            best = -np.sort(-cosines, axis=1)[:, :k]
            np.testing.assert_allclose(scores, best, rtol=0, atol=1e-6)
            hits = self.catalog.hits(ids.ravel().tolist())
            for i, (row, values) in enumerate(zip(ids.tolist(), scores, strict=True)):
                shas = [hits[id_][0].sha256 for id_ in row]
                assert len(set(shas)) == len(shas)
                own = np.array([cosines[i, place[sha]] for sha in shas], dtype=np.float32)
                np.testing.assert_allclose(values, own, rtol=0, atol=1e-6)
                order = np.lexsort((row, -values))
                assert order.tolist() == list(range(len(row)))


def path_of(name: str) -> str:
    return f"/images/{name}.png"


def entry_of(name: str, row: np.ndarray | None) -> Entry:
    """Return the catalog entry of a file with these bytes; without a row it is known already."""
    return Entry(
        path=path_of(name),
        size=len(name),
        mtime_ns=1,
        root="/images",
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        facts=None if row is None else Facts(width=4, height=3, format="PNG"),
        vector=row,
    )


def as_stored(row: np.ndarray) -> np.ndarray:
    """Return the row as the catalog gives it back: rounded to float16, unit again."""
    rounded = row.astype(np.float16).astype(np.float32)
    return np.asarray(rounded / np.linalg.norm(rounded), dtype=np.float32)


def batch_names(number: int) -> list[str]:
    """Return the names of the files that the process to be killed commits as its n-th batch."""
    return [f"{number} {i}" for i in range(BATCH)]


def batch_rows(number: int) -> np.ndarray:
    """Return their vectors: the same in the killed process and in the test."""
    return unit_rows(np.random.default_rng(number), BATCH, DIM)
