"""Vector indexes in Qdrant: an example of a kind that another package adds to clipsearch.

Vectors lie in a collection of their own on the server that `$CLIPSEARCH_QDRANT` names. The file that
clipsearch publishes holds the name of the collection. A folder or `:memory:` in place of an address
is Qdrant's local mode, for tests.
"""

from __future__ import annotations

import atexit
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ApiException

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.errors import SnapshotUnreadable, VectorIndexError
from clipsearch.vectors import IndexInfo, TuningTarget
from clipsearch.vectors.ranking import (
    best_first,
    check_queries,
    check_rows,
    error_margins,
    score_exactly,
)
from clipsearch.vectors.tuning import simulate_texts

ADDRESS = "CLIPSEARCH_QDRANT"
"""The environment variable with the address of the server."""
_PREFIX = "clipsearch-"
_MEMORY = ":memory:"
_ROWS_AT_ONCE = 1_000  # a server takes requests of at most 32 MB
_MORE, _WIDER = 16, 4
_SAMPLE_ROWS, _QUERIES, _RECALL_K = 1_000, 100, 10
_WAIT_SECONDS = 1.0


class QdrantIndex:
    """A collection of a Qdrant server. Safe from several threads."""

    def __init__(self, client: QdrantClient, collection: str, dim: int, info: IndexInfo) -> None:
        """Take a collection; `load` is the usual way in."""
        self._client, self._collection = client, collection
        self._dim, self._info = dim, info
        with _asking():
            self._count = int(client.count(collection).count)

    @classmethod
    def write(
        cls,
        path: str | PathLike[str],
        dim: int,
        batches: Iterable[tuple[IdArray, FloatArray]],
        *,
        target: TuningTarget | None = None,
    ) -> None:
        """Write vectors to a new collection, and its name to a new file, as `VectorIndex.write`."""
        with open(path, "w", encoding="utf-8") as file:
            client, name = _connect(), _PREFIX + os.urandom(8).hex()
            distance = models.Distance.DOT  # of unit rows, and a server leaves them as they are
            with _asking():
                client.create_collection(
                    name, vectors_config=models.VectorParams(size=dim, distance=distance)
                )
                try:
                    ids = _upload(client, name, dim, batches)
                    _wait_until_indexed(client, name)
                    info = IndexInfo(recall=1.0, queries="simulated")
                    written = cls(client, name, dim, info)
                    recall = written._measure_recall(ids)
                except BaseException:
                    client.delete_collection(name)
                    raise
            json.dump({"kind": "qdrant", "collection": name, "dim": dim, "recall": recall}, file)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """Open the collection that a file names. Raises SnapshotUnreadable if there is none."""
        try:
            found = json.loads(Path(path).read_text("utf-8"))
            if found["kind"] != "qdrant":
                raise ValueError("it is of another kind")
            name, dim, recall = str(found["collection"]), int(found["dim"]), float(found["recall"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SnapshotUnreadable(f"cannot read {os.fspath(path)}: {error}.") from error
        client = _connect()
        with _asking():
            if not client.collection_exists(name):
                raise SnapshotUnreadable(
                    f"{os.fspath(path)} names the collection {name}, which is not there."
                )
        return cls(client, name, dim, IndexInfo(recall=recall, queries="simulated"))

    def __len__(self) -> int:
        return self._count

    @property
    def dim(self) -> int:
        """Numbers per vector."""
        return self._dim

    @property
    def info(self) -> IndexInfo:
        """Properties: the recall when it was written; nothing is held in this process."""
        return self._info

    def search(
        self, queries: FloatArray, k: int, *, among: IdArray | None = None
    ) -> tuple[IdArray, FloatArray]:
        """Find the `k` nearest of each query: ids int64 and cosines float32, (m, k') each."""
        queries = check_queries(queries, self.dim)
        with _asking():
            allowed, count = self._allow(among)
            k = max(0, min(k, count))
            ids, scores = np.empty((len(queries), k), np.int64), np.empty((len(queries), k), "f4")
            for i in range(len(queries) if k else 0):
                ids[i], scores[i] = self._find_nearest(queries[i : i + 1], k, count, allowed)
        return ids, scores

    def _allow(self, among: IdArray | None) -> tuple[models.Filter | None, int]:
        """Return the filter of the ids that may be returned, and how many there are."""
        if among is None:
            return None, len(self)
        some = np.unique(among)
        wanted = some[some >= 0].tolist()  # a server knows no ids below 0
        if not wanted or not len(self):
            return None, 0
        allowed = models.Filter(must=[models.HasIdCondition(has_id=wanted)])
        count = int(self._client.count(self._collection, count_filter=allowed, exact=True).count)
        return (None if count == len(self) else allowed), count

    def _find_nearest(
        self, query: FloatArray, k: int, count: int, allowed: models.Filter | None
    ) -> tuple[IdArray, FloatArray]:
        """Return the `k` best ids and cosines of one query (1, dim)."""
        width, margin = k + _MORE, error_margins(query)[0]
        while True:
            width = min(width, count)
            ids, rough, rows = self._ask(query, width, allowed)
            if len(ids) < width:  # a graph does not lead to all that pass a filter
                ids, rough, rows = self._ask(query, width, allowed, exact=True)
            if len(ids) < width:
                raise SnapshotUnreadable(
                    f"the collection {self._collection} has lost vectors. "
                    "Write it again with `clipsearch rebuild`."
                )
            scores = score_exactly(query, rows.__getitem__, np.arange(width)[None])
            best_ids, best = best_first(ids[None], scores, k)
            # The server adds in float32: what it ranks just below may be better, or as good.
            if width == count or rough.min() + margin < best[0, -1]:
                return best_ids[0], best[0]
            width *= _WIDER

    def _ask(
        self, query: FloatArray, width: int, allowed: models.Filter | None, *, exact: bool = False
    ) -> tuple[IdArray, FloatArray, FloatArray]:
        """Return ids (n,), scores (n,) and rows (n, dim) of what the server finds nearest."""
        points = self._client.query_points(
            self._collection,
            query=query[0].tolist(),
            limit=width,
            query_filter=allowed,
            # The local mode compares with all, and warns of parameters.
            search_params=models.SearchParams(exact=True) if exact and _is_server() else None,
            with_payload=False,
            with_vectors=True,
        ).points
        ids = np.array([point.id for point in points], np.int64)
        rough = np.array([point.score for point in points], np.float32)
        rows = np.array([point.vector for point in points], np.float32)
        return ids, rough, rows.reshape(len(points), self.dim)

    def _measure_recall(self, ids: IdArray) -> float:
        """Return the mean share of the ten nearest of simulated texts that a search finds."""
        if not len(ids):
            return 1.0
        some = ids[np.linspace(0, len(ids) - 1, min(_SAMPLE_ROWS, len(ids))).astype(np.int64)]
        points = self._client.retrieve(self._collection, some.tolist(), with_vectors=True)
        texts = simulate_texts(np.array([point.vector for point in points], np.float32), _QUERIES)
        k = min(_RECALL_K, len(ids))
        found, _ = self.search(texts, k)
        true = [self._ask(texts[i : i + 1], k, None, exact=True)[0] for i in range(len(texts))]
        pairs = zip(found, true, strict=True)
        return float(np.mean([np.isin(all_, some).mean() for some, all_ in pairs]))


def delete_unnamed(*folders: str | PathLike[str]) -> list[str]:
    """Delete the collections of clipsearch that no file in these folders names any more.

    Parameters
    ----------
    folders
        The folders of snapshots of all libraries that use the server.

    Returns
    -------
    The names of the collections that were deleted.

    Raises
    ------
    VectorIndexError
        If the server does not answer.
    """
    client = _connect()
    # Collections before files: one that is written meanwhile is not in the list.
    with _asking():
        names = [one.name for one in client.get_collections().collections]
        files = [path for folder in folders for path in Path(folder).iterdir() if path.is_file()]
        named = b"".join(path.read_bytes() for path in files if ".qdrant" in path.name)
        gone = [name for name in names if name.startswith(_PREFIX) and name.encode() not in named]
        for name in gone:
            client.delete_collection(name)
    return gone


def _upload(
    client: QdrantClient, name: str, dim: int, batches: Iterable[tuple[IdArray, FloatArray]]
) -> IdArray:
    """Put vectors into a collection, and return their ids."""
    known = np.empty(0, np.int64)
    for ids, vectors in batches:
        ids, vectors = check_rows(ids, vectors, dim, known=known)
        known = np.concatenate([known, ids])
        for start in range(0, len(ids), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            points = models.Batch(ids=ids[some].tolist(), vectors=vectors[some].tolist())
            client.upsert(name, points, wait=True)
    return known


def _wait_until_indexed(client: QdrantClient, name: str) -> None:
    """Wait while the server builds its graph: a search would compare with all until then."""
    while client.get_collection(name).status == models.CollectionStatus.YELLOW:
        time.sleep(_WAIT_SECONDS)


def _address() -> str:
    address = os.environ.get(ADDRESS)
    if not address:
        raise VectorIndexError(f"an index in Qdrant needs the address of a server in ${ADDRESS}.")
    return address


def _is_server() -> bool:
    return "://" in _address()


def _connect() -> QdrantClient:
    """Return the client of the address, one for the process: a local folder is locked by the first."""
    address = _address()
    try:
        return _client_of(address)
    except (OSError, RuntimeError) as error:
        raise VectorIndexError(f"cannot open {address}, named by ${ADDRESS}: {error}") from error


@cache
def _client_of(address: str) -> QdrantClient:
    if "://" in address or address == _MEMORY:
        client = QdrantClient(location=address, check_compatibility=False)
    else:
        client = QdrantClient(path=address, force_disable_check_same_thread=True)
    atexit.register(client.close)  # later its modules are gone
    return client


@contextmanager
def _asking() -> Iterator[None]:
    """Turn what a server, or the way to it, complains of into an error of clipsearch."""
    try:
        yield
    except ApiException as error:
        raise VectorIndexError(
            f"Qdrant at {_address()}, named by ${ADDRESS}, did not do what it was asked: {error}"
        ) from error
