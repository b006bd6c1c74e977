"""Every vector index gives the ids and cosines of plain numpy, in memory and from its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import assert_same, brute_force, unit_rows

from clipsearch.errors import SnapshotUnreadable, UnknownVectorIndex, VectorIndexError
from clipsearch.vectors import KINDS, VectorIndex, kinds, vector_index

DIM = 24


@pytest.fixture(params=sorted(kinds()))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def made(kind: str, ids: np.ndarray, vectors: np.ndarray) -> VectorIndex:
    index = vector_index(kind).create(vectors.shape[1])
    index.add(ids, vectors)
    return index


def apart(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return queries as texts are: off to one side of the pictures (the modality gap)."""
    rows = unit_rows(rng, n, DIM) + 0.8 * unit_rows(rng, 1, DIM)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


# --- values --------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 400, 9000])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_it_finds_what_numpy_finds(kind: str, rng: np.random.Generator, n: int, k: int) -> None:
    vectors, ids = unit_rows(rng, n, DIM), np.arange(n) * 3 + 5
    index = made(kind, ids, vectors)
    assert len(index) == n and index.dim == DIM
    for m in (1, 30):  # FAISS goes another way from 20 queries on
        queries = apart(rng, m)
        assert_same(index.search(queries, k), brute_force(queries, ids, vectors, k))


@pytest.mark.parametrize("share", [0.001, 0.04, 0.5, 1.0])
def test_a_filter_leaves_exactly_the_allowed_ids(
    kind: str, rng: np.random.Generator, share: float
) -> None:
    vectors, ids = unit_rows(rng, 9000, DIM), rng.permutation(20_000)[:9000]
    index, queries = made(kind, ids, vectors), apart(rng, 3)
    kept = rng.random(9000) < share
    unknown = np.array([10**6, -4, 2**40])
    among = rng.permutation(np.concatenate([ids[kept], unknown, ids[kept][:5]]))
    for k in (1, 10, 5000):
        expected = brute_force(queries, ids[kept], vectors[kept], k)
        assert_same(index.search(queries, k, among=among), expected)


def test_a_filter_of_the_worst_vectors_finds_them(kind: str, rng: np.random.Generator) -> None:
    vectors, ids = unit_rows(rng, 8000, DIM), np.arange(8000)
    queries = apart(rng, 1)
    worst = np.argsort(vectors @ queries[0])[:3000]
    found = made(kind, ids, vectors).search(queries, 7, among=worst)
    assert_same(found, brute_force(queries, ids[worst], vectors[worst], 7))


def test_a_filter_that_allows_nothing_known_finds_nothing(
    kind: str, rng: np.random.Generator
) -> None:
    index = made(kind, np.arange(50), unit_rows(rng, 50, DIM))
    for among in (np.empty(0, dtype=np.int64), np.array([99])):
        ids, scores = index.search(apart(rng, 2), 5, among=among)
        assert ids.shape == scores.shape == (2, 0)


def test_an_empty_index_finds_nothing(kind: str, rng: np.random.Generator) -> None:
    index = vector_index(kind).create(DIM)
    for among in (None, np.array([1])):
        ids, scores = index.search(apart(rng, 2), 5, among=among)
        assert ids.shape == scores.shape == (2, 0) and len(index) == 0


def test_no_query_and_no_result_wanted_are_answered_with_empty_arrays(
    kind: str, rng: np.random.Generator
) -> None:
    for n in (20, 5000):
        index = made(kind, np.arange(n), unit_rows(rng, n, DIM))
        assert index.search(np.empty((0, DIM), np.float32), 4)[0].shape == (0, 4)
        assert index.search(apart(rng, 2), 0)[1].shape == (2, 0)


def test_k_beyond_the_index_gives_every_vector_in_order(
    kind: str, rng: np.random.Generator
) -> None:
    vectors, ids, queries = unit_rows(rng, 3000, DIM), np.arange(3000) + 1, apart(rng, 2)
    found = made(kind, ids, vectors).search(queries, 10**9)
    assert_same(found, brute_force(queries, ids, vectors, 3000))


@pytest.mark.parametrize("n", [60, 7000])
def test_equal_vectors_tie_exactly_and_come_by_lower_id(
    kind: str, rng: np.random.Generator, n: int
) -> None:
    distinct = unit_rows(rng, 12, DIM)
    ids = rng.permutation(n * 2)[:n]
    vectors = distinct[rng.integers(0, 12, n)]
    index = made(kind, ids, vectors)
    for m in (1, 25):
        queries = apart(rng, m)
        for among in (None, ids[::2]):
            allowed = np.isin(ids, ids if among is None else among)
            expected = brute_force(queries, ids[allowed], vectors[allowed], n // 5)
            found = index.search(queries, n // 5, among=among)
            assert_same(found, expected)
            same = np.diff(found[1], axis=1) == 0
            assert (np.diff(found[0], axis=1)[same] > 0).all()
            np.testing.assert_array_equal(found[0], expected[0])


def test_one_query_gets_the_same_numbers_alone_and_in_a_batch(
    kind: str, rng: np.random.Generator
) -> None:
    index, queries = made(kind, np.arange(6000), unit_rows(rng, 6000, DIM)), apart(rng, 40)
    ids, scores = index.search(queries, 20)
    for i in (0, 17, 39):
        alone = index.search(queries[i : i + 1], 20)
        np.testing.assert_array_equal(alone[0][0], ids[i])
        np.testing.assert_array_equal(alone[1][0], scores[i])


def test_vectors_closer_than_float32_sums_can_tell_are_ranked_exactly(
    kind: str, rng: np.random.Generator
) -> None:
    vectors = unit_rows(rng, 1, DIM) + 3e-7 * unit_rows(rng, 6000, DIM)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    index, ids = made(kind, np.arange(6000), vectors), np.arange(6000)
    for length in (1, 1000):
        queries = (length * apart(rng, 5)).astype(np.float32)
        found, expected = index.search(queries, 9), brute_force(queries, ids, vectors, 9)
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[0], expected[0])


# --- adding --------------------------------------------------------------------------------


def test_what_is_added_later_is_found_too(kind: str, rng: np.random.Generator) -> None:
    index, queries = vector_index(kind).create(DIM), apart(rng, 4)
    vectors, ids = unit_rows(rng, 5000, DIM), rng.permutation(5000)
    for end in (1, 10, 10, 2500, 5000):
        start = len(index)
        index.add(ids[start:end], vectors[start:end])
        expected = brute_force(queries, ids[:end], vectors[:end], 12)
        assert_same(index.search(queries, 12), expected)


def test_an_index_keeps_its_own_copy_of_what_was_added(kind: str, rng: np.random.Generator) -> None:
    vectors, ids, queries = unit_rows(rng, 30, DIM), np.arange(30), apart(rng, 1)
    expected = brute_force(queries, ids, vectors, 30)
    index = made(kind, ids, vectors)
    vectors[:], ids[:] = 0, 1
    assert_same(index.search(queries, 30), expected)


@pytest.mark.parametrize(
    ("ids", "vectors", "complaint"),
    [
        (np.arange(2), np.ones((2, DIM + 1)), rf"\(2, {DIM + 1}\).*\(n, {DIM}\)"),
        (np.arange(3), np.ones((2, DIM)), r"\(3,\)"),
        (np.array([4, 4]), np.ones((2, DIM)), "same id twice"),
        (np.array([12, 3]), np.ones((2, DIM)), "id 3: it is in the index already"),
        (np.array([3]), np.ones((1, DIM)), "id 3"),
        (np.array([20]), np.full((1, DIM), np.nan), "finite"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_change_nothing(
    kind: str, rng: np.random.Generator, ids: np.ndarray, vectors: np.ndarray, complaint: str
) -> None:
    good = unit_rows(rng, 10, DIM)
    index, queries = made(kind, np.arange(10), good), apart(rng, 1)
    with pytest.raises(VectorIndexError, match=complaint):
        index.add(ids, vectors)
    assert_same(index.search(queries, 99), brute_force(queries, np.arange(10), good, 99))


@pytest.mark.parametrize(
    "queries", [np.ones(DIM), np.ones((1, DIM - 1)), np.full((1, DIM), np.inf)]
)
def test_queries_that_do_not_fit_are_refused(kind: str, queries: np.ndarray) -> None:
    index = vector_index(kind).create(DIM)
    with pytest.raises(VectorIndexError, match="search"):
        index.search(queries, 3)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", sorted(KINDS))
def test_any_order_of_adding_saving_and_searching_gives_numpys_answers(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    seed = data.draw(st.integers(0, 2**32 - 1), label="seed")
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("indexes")
    index = vector_index(name).create(DIM)
    ids, vectors = np.empty(0, np.int64), np.empty((0, DIM), np.float32)
    pool, free = unit_rows(rng, 40, DIM), rng.permutation(9000)  # steps * the most added, and more
    for step in range(data.draw(st.integers(1, 6), label="steps")):
        n = data.draw(st.sampled_from([0, 1, 7, 1200]), label="added")
        new, free = free[:n], free[n:]
        rows = np.where(
            rng.random((n, 1)) < 0.5, pool[rng.integers(0, 40, n)], unit_rows(rng, n, DIM)
        )
        index.add(new, rows)
        ids, vectors = np.concatenate([ids, new]), np.concatenate([vectors, rows], dtype=np.float32)
        if data.draw(st.booleans(), label="reopened"):
            index.save(folder / str(step))
            index = vector_index(name).load(folder / str(step))
        k = data.draw(st.sampled_from([1, 5, 100, 10_000]), label="k")
        kept = rng.random(len(ids)) < data.draw(st.sampled_from([0, 0.1, 0.9, 1]), label="kept")
        queries = apart(rng, 2)
        found = index.search(queries, k, among=None if kept.all() else ids[kept])
        if kept.any():
            assert_same(found, brute_force(queries, ids[kept], vectors[kept], k))
        else:
            assert found[0].shape == (2, 0)


# --- files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 6000])
def test_a_saved_index_opens_with_the_same_answers_and_grows(
    kind: str, rng: np.random.Generator, tmp_path: Path, n: int
) -> None:
    vectors, ids, queries = unit_rows(rng, n + 9, DIM), rng.permutation(n + 9), apart(rng, 3)
    made(kind, ids[:n], vectors[:n]).save(tmp_path / "index")
    index = vector_index(kind).load(str(tmp_path / "index"))
    assert len(index) == n and index.dim == DIM
    if n:
        assert_same(index.search(queries, 8), brute_force(queries, ids[:n], vectors[:n], 8))
    index.add(ids[n:], vectors[n:])
    assert_same(index.search(queries, 8), brute_force(queries, ids, vectors, 8))


def test_a_file_is_free_to_go_once_it_is_open(
    kind: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    vectors, ids, queries = unit_rows(rng, 3000, DIM), np.arange(3000), apart(rng, 2)
    made(kind, ids, vectors).save(tmp_path / "index")
    index = vector_index(kind).load(tmp_path / "index")
    (tmp_path / "index").unlink()
    assert_same(index.search(queries, 8), brute_force(queries, ids, vectors, 8))


@pytest.mark.parametrize("place", [0.0, 0.00001, 0.001, 0.3, 0.7, 0.99, 1.0])
@pytest.mark.parametrize("harm", ["flip", "zero", "cut", "grow"])
def test_a_damaged_file_is_noticed(
    kind: str, rng: np.random.Generator, tmp_path: Path, place: float, harm: str
) -> None:
    path = tmp_path / "index"
    made(kind, np.arange(2000) + 300, unit_rows(rng, 2000, DIM)).save(path)
    content = bytearray(path.read_bytes())
    at = min(int(place * len(content)), len(content) - 1)
    if harm == "flip":
        content[at] ^= 16
    elif harm == "zero":
        content[at : at + 512] = bytes(b ^ b for b in content[at : at + 512])
    elif harm == "cut":
        del content[at:]
    else:
        content[at:at] = b"\x00"
    assert bytes(content) != path.read_bytes()
    path.write_bytes(content)
    with pytest.raises(SnapshotUnreadable, match="index"):
        vector_index(kind).load(path)


def test_a_missing_file_a_folder_and_a_strangers_file_are_unreadable(
    kind: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    with pytest.raises(SnapshotUnreadable, match="missing"):
        vector_index(kind).load(tmp_path / "missing")
    with pytest.raises(SnapshotUnreadable):
        vector_index(kind).load(tmp_path)
    for other in KINDS.keys() - {kind}:
        made(other, np.arange(50), unit_rows(rng, 50, DIM)).save(tmp_path / other)
        with pytest.raises(SnapshotUnreadable):
            vector_index(kind).load(tmp_path / other)


def test_a_folder_that_cannot_be_written_is_an_error(kind: str, tmp_path: Path) -> None:
    with pytest.raises((OSError, VectorIndexError)):
        vector_index(kind).create(DIM).save(tmp_path / "no" / "such" / "folder")


# --- the table -----------------------------------------------------------------------------


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(UnknownVectorIndex, match=r"'hnsw'.*faiss, flat"):
        vector_index("hnsw")


def test_a_package_can_bring_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "brought-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[clipsearch.vectors]\nbrought = clipsearch.vectors.flat:FlatIndex\n"
        "faiss = brought:Usurper\nbroken = no_such_module:Index\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert vector_index("brought") is vector_index("flat")
    assert vector_index("faiss").__name__ == "FaissIndex"
    with pytest.raises(VectorIndexError, match=r"'broken'.*no_such_module"):
        vector_index("broken")
