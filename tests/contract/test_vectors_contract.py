"""Every vector index gives the ids and cosines of plain numpy, in memory and from its file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import (
    OracleIndex,
    as_stored,
    assert_same,
    brute_force,
    images_and_texts,
    stored_rows,
    unit_rows,
)

from clipsearch.errors import SnapshotUnreadable, UnknownVectorIndex, VectorIndexError
from clipsearch.vectors import TuningTarget, VectorIndex, index_kinds, vector_index
from clipsearch.vectors.exact import FlatIndex
from clipsearch.vectors.storage import rows

DIM = 24
TUNED = ["compressed", "ivf"]
# No kinds of clipsearch: plain numpy, by which the tests themselves are tested, and the example of a
# kind that another package brings, in Qdrant's local mode, which compares with all.
OTHERS = {"oracle": "oracle:OracleIndex", "qdrant": "clipsearch_qdrant:QdrantIndex"}
EXACT = sorted({*index_kinds(), *OTHERS} - {*TUNED})
MAPPED = ["compressed", "exact", "ivf"]


def class_of(kind: str) -> type[VectorIndex]:
    if kind not in OTHERS:
        return vector_index(kind)
    module, _, name = OTHERS[kind].partition(":")
    return getattr(import_module(module), name)


@pytest.fixture(autouse=True)
def qdrant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSEARCH_QDRANT", ":memory:")


@pytest.fixture(params=EXACT + TUNED)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=EXACT)
def exact(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


Made = Callable[[str, np.ndarray, np.ndarray], VectorIndex]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Write an index of a kind to a file, in two batches, and open it."""

    def make(kind: str, ids: np.ndarray, vectors: np.ndarray) -> VectorIndex:
        path = tmp_path / f"made-{len(list(tmp_path.iterdir()))}"
        written(kind, path, ids, vectors)
        return class_of(kind).load(path)

    return make


def written(kind: str, path: Path, ids: np.ndarray, vectors: np.ndarray) -> None:
    half = len(ids) // 2
    batches = [(ids[:half], vectors[:half]), (ids[half:], vectors[half:])]
    class_of(kind).write(path, vectors.shape[1], batches)


def apart(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return queries as texts are: off to one side of the images (the modality gap)."""
    rows = unit_rows(rng, n, DIM) + 0.8 * unit_rows(rng, 1, DIM)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


# --- values --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 3, 400, 9000])
@pytest.mark.parametrize("k", [1, 10, 300])
def test_it_finds_what_numpy_finds(
    made: Made, exact: str, rng: np.random.Generator, n: int, k: int
) -> None:
    vectors, ids = stored_rows(rng, n, DIM), np.arange(n) * 3 + 5
    index = made(exact, ids, vectors)
    assert len(index) == n and index.dim == DIM
    for m in (1, 30):  # FAISS goes another way from 20 queries on
        queries = apart(rng, m)
        assert_same(index.search(queries, k), brute_force(queries, ids, vectors, k))


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.001, 0.04, 0.5, 1.0])
def test_a_filter_leaves_exactly_the_allowed_ids(
    made: Made, exact: str, rng: np.random.Generator, share: float
) -> None:
    vectors, ids = stored_rows(rng, 9000, DIM), rng.permutation(20_000)[:9000]
    index, queries = made(exact, ids, vectors), apart(rng, 3)
    kept = rng.random(9000) < share
    unknown = np.array([10**6, -4, 2**40])
    among = rng.permutation(np.concatenate([ids[kept], unknown, ids[kept][:5]]))
    for k in (1, 10, 5000):
        expected = brute_force(queries, ids[kept], vectors[kept], k)
        assert_same(index.search(queries, k, among=among), expected)


def test_a_filter_of_the_worst_vectors_finds_them(
    made: Made, exact: str, rng: np.random.Generator
) -> None:
    vectors, ids = stored_rows(rng, 8000, DIM), np.arange(8000)
    queries = apart(rng, 1)
    worst = np.argsort(vectors @ queries[0])[:3000]
    found = made(exact, ids, vectors).search(queries, 7, among=worst)
    assert_same(found, brute_force(queries, ids[worst], vectors[worst], 7))


def test_a_filter_that_allows_nothing_known_finds_nothing(
    made: Made, kind: str, rng: np.random.Generator
) -> None:
    index = made(kind, np.arange(50), stored_rows(rng, 50, DIM))
    for among in (np.empty(0, dtype=np.int64), np.array([99])):
        ids, scores = index.search(apart(rng, 2), 5, among=among)
        assert ids.shape == scores.shape == (2, 0)


def test_an_empty_index_finds_nothing(made: Made, kind: str, rng: np.random.Generator) -> None:
    index = made(kind, np.empty(0, np.int64), np.empty((0, DIM), np.float32))
    for among in (None, np.array([1])):
        ids, scores = index.search(apart(rng, 2), 5, among=among)
        assert ids.shape == scores.shape == (2, 0) and len(index) == 0


@pytest.mark.slow
def test_no_query_and_no_result_wanted_are_answered_with_empty_arrays(
    made: Made, kind: str, rng: np.random.Generator
) -> None:
    for n in (20, 5000):
        index = made(kind, np.arange(n), stored_rows(rng, n, DIM))
        assert index.search(np.empty((0, DIM), np.float32), 4)[0].shape == (0, 4)
        assert index.search(apart(rng, 2), 0)[1].shape == (2, 0)


def test_k_beyond_the_index_gives_every_vector_in_order(
    made: Made, kind: str, rng: np.random.Generator
) -> None:
    vectors, ids, queries = stored_rows(rng, 3000, DIM), np.arange(3000) + 1, apart(rng, 2)
    found = made(kind, ids, vectors).search(queries, 10**9)
    assert_same(found, brute_force(queries, ids, vectors, 3000))


@pytest.mark.slow
@pytest.mark.parametrize("n", [60, 7000])
def test_equal_vectors_tie_exactly_and_come_by_lower_id(
    made: Made, exact: str, rng: np.random.Generator, n: int
) -> None:
    distinct = stored_rows(rng, 12, DIM)
    ids = rng.permutation(n * 2)[:n]
    vectors = distinct[rng.integers(0, 12, n)]
    index = made(exact, ids, vectors)
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


@pytest.mark.slow
def test_one_query_gets_the_same_numbers_alone_and_in_a_batch(
    made: Made, exact: str, rng: np.random.Generator
) -> None:
    index, queries = made(exact, np.arange(6000), stored_rows(rng, 6000, DIM)), apart(rng, 40)
    ids, scores = index.search(queries, 20)
    for i in (0, 17, 39):
        alone = index.search(queries[i : i + 1], 20)
        np.testing.assert_array_equal(alone[0][0], ids[i])
        np.testing.assert_array_equal(alone[1][0], scores[i])


@pytest.mark.slow
def test_vectors_closer_than_float32_sums_can_tell_are_ranked_exactly(
    made: Made, exact: str, rng: np.random.Generator
) -> None:
    # Rounded to float16 they differ in few numbers by the least there is: many are equal, or next.
    vectors = as_stored(unit_rows(rng, 1, DIM) + 2e-5 * unit_rows(rng, 6000, DIM))
    index, ids = made(exact, np.arange(6000), vectors), np.arange(6000)
    for length in (1, 1000):
        queries = (length * apart(rng, 5)).astype(np.float32)
        found, expected = index.search(queries, 9), brute_force(queries, ids, vectors, 9)
        np.testing.assert_array_equal(found[1], expected[1])
        np.testing.assert_array_equal(found[0], expected[0])


# --- kinds that approximate ------------------------------------------------------------------

N, WIDE = 20_000, 64


@dataclass(frozen=True)
class Approximate:
    """An index of 20,000 vectors, tuned with texts, and others to ask it with."""

    index: VectorIndex
    ids: np.ndarray
    vectors: np.ndarray
    texts: np.ndarray

    def recall(self, found: np.ndarray, kept: np.ndarray) -> float:
        """Return the share of the true nearest among those kept, bool (n,), that was found."""
        true, _ = brute_force(self.texts, self.ids[kept], self.vectors[kept], found.shape[1])
        return float(np.mean([np.isin(a, b).mean() for a, b in zip(true, found, strict=True)]))

    def assert_scored_exactly(self, found: tuple[np.ndarray, np.ndarray]) -> None:
        order = np.argsort(self.ids)
        rows = order[np.searchsorted(self.ids[order], found[0])]
        own = np.einsum("md,mkd->mk", self.texts.astype(np.float64), self.vectors[rows])
        np.testing.assert_allclose(found[1], own, rtol=0, atol=1e-6)
        order = np.lexsort((found[0], -found[1]))
        np.testing.assert_array_equal(order, np.tile(np.arange(10), (len(order), 1)))


@pytest.fixture(scope="module", params=TUNED)
def approximate(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Approximate:
    vectors, texts = images_and_texts(np.random.default_rng(5), N, 200, WIDE)
    ids = np.random.default_rng(6).permutation(2 * N)[:N]
    path = tmp_path_factory.mktemp("approximate") / "index"
    kind = vector_index(str(request.param))
    target = TuningTarget(recall=0.99, queries=texts[100:])
    kind.write(
        path, WIDE, [(ids[:9000], vectors[:9000]), (ids[9000:], vectors[9000:])], target=target
    )
    return Approximate(kind.load(path), ids, vectors, texts[:100])


def test_tuning_reaches_the_recall_with_other_texts_and_says_so(approximate: Approximate) -> None:
    found = approximate.index.search(approximate.texts, 10)
    approximate.assert_scored_exactly(found)
    assert approximate.recall(found[0], np.ones(N, bool)) >= 0.99
    info = approximate.index.info
    assert info.recall >= 0.99 and info.queries == "texts"
    assert 0 < info.tuned["depth"] < N / 4 and info.resident < N * WIDE


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.99])
def test_a_filter_keeps_the_recall_and_fills_k(approximate: Approximate, share: float) -> None:
    kept = np.random.default_rng(8).random(N) < share
    found = approximate.index.search(approximate.texts, 10, among=approximate.ids[kept])
    assert found[0].shape == (100, 10) and np.isin(found[0], approximate.ids[kept]).all()
    approximate.assert_scored_exactly(found)
    assert approximate.recall(found[0], kept) >= 0.985


def test_a_filter_against_the_query_still_fills_k(approximate: Approximate) -> None:
    text = approximate.texts[:1]
    worst = np.argsort(approximate.vectors @ text[0])[: N // 2]
    found = approximate.index.search(text, 10, among=approximate.ids[worst])
    expected = brute_force(text, approximate.ids[worst], approximate.vectors[worst], 10)
    assert_same(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("k", [N // 3, N, N + 5])
def test_asking_for_very_many_compares_all(approximate: Approximate, k: int) -> None:
    text = approximate.texts[:2]
    found = approximate.index.search(text, k)
    assert_same(found, brute_force(text, approximate.ids, approximate.vectors, k))


def test_searches_at_once_give_what_they_give_one_by_one(approximate: Approximate) -> None:
    alone = [approximate.index.search(text[None], 10) for text in approximate.texts[:24]]
    with ThreadPoolExecutor(6) as pool:
        together = pool.map(
            lambda text: approximate.index.search(text[None], 10), approximate.texts[:24]
        )
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.slow
def test_without_texts_it_is_tuned_with_rows_set_aside(tmp_path: Path) -> None:
    vectors, texts = images_and_texts(np.random.default_rng(5), 6000, 50, WIDE)
    kind = vector_index("compressed")
    kind.write(tmp_path / "index", WIDE, [(np.arange(6000), vectors)], target=TuningTarget(0.95))
    index = kind.load(tmp_path / "index")
    assert index.info.queries == "simulated" and index.info.recall >= 0.95
    made = Approximate(index, np.arange(6000), vectors, texts)
    assert made.recall(index.search(texts, 10)[0], np.ones(6000, bool)) >= 0.93


# --- adding --------------------------------------------------------------------------------


def test_what_is_added_later_is_found_too(rng: np.random.Generator) -> None:
    growing, queries = FlatIndex(DIM), apart(rng, 4)
    vectors, ids = unit_rows(rng, 5000, DIM), rng.permutation(5000)
    for end in (1, 10, 10, 2500, 5000):
        start = len(growing)
        growing.add(ids[start:end], vectors[start:end])
        expected = brute_force(queries, ids[:end], vectors[:end], 12)
        assert_same(growing.search(queries, 12), expected)


def test_an_index_keeps_its_own_copy_of_what_was_added(rng: np.random.Generator) -> None:
    growing, vectors, ids = FlatIndex(DIM), unit_rows(rng, 30, DIM), np.arange(30)
    queries = apart(rng, 1)
    expected = brute_force(queries, ids, vectors, 30)
    growing.add(ids, vectors)
    vectors[:], ids[:] = 0, 1
    assert_same(growing.search(queries, 30), expected)


BAD_ROWS = [
    (np.arange(2), np.ones((2, DIM + 1)), rf"\(2, {DIM + 1}\).*\(n, {DIM}\)"),
    (np.arange(3), np.ones((2, DIM)), r"\(3,\)"),
    (np.array([4, 4]), np.ones((2, DIM)), "same id twice"),
    (np.array([20]), np.full((1, DIM), np.nan), "finite"),
]


@pytest.mark.parametrize(
    ("ids", "vectors", "complaint"),
    [
        *BAD_ROWS,
        (np.array([12, 3]), np.ones((2, DIM)), "id 3: it is in the index already"),
        (np.array([3]), np.ones((1, DIM)), "id 3"),
    ],
)
def test_rows_that_do_not_fit_are_refused_and_change_nothing(
    rng: np.random.Generator, ids: np.ndarray, vectors: np.ndarray, complaint: str
) -> None:
    growing, good, queries = FlatIndex(DIM), unit_rows(rng, 10, DIM), apart(rng, 1)
    growing.add(np.arange(10), good)
    with pytest.raises(VectorIndexError, match=complaint):
        growing.add(ids, vectors)
    assert_same(growing.search(queries, 99), brute_force(queries, np.arange(10), good, 99))


@pytest.mark.parametrize(
    ("ids", "vectors", "complaint"),
    [*BAD_ROWS, (np.array([3]), np.ones((1, DIM)), "id")],
)
def test_rows_that_do_not_fit_are_not_written(
    kind: str, tmp_path: Path, ids: np.ndarray, vectors: np.ndarray, complaint: str
) -> None:
    batches = [(np.arange(10), np.eye(10, DIM)), (ids, vectors)]
    with pytest.raises(VectorIndexError, match=complaint):
        class_of(kind).write(tmp_path / "index", DIM, batches)


@pytest.mark.parametrize(
    "queries", [np.ones(DIM), np.ones((1, DIM - 1)), np.full((1, DIM), np.inf)]
)
def test_queries_that_do_not_fit_are_refused(made: Made, kind: str, queries: np.ndarray) -> None:
    index = made(kind, np.arange(3), np.eye(3, DIM, dtype=np.float32))
    with pytest.raises(VectorIndexError, match="search"):
        index.search(queries, 3)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", EXACT)
def test_any_batches_and_searches_give_numpys_answers(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    path = tmp_path_factory.mktemp("indexes") / "index"
    sizes = data.draw(st.lists(st.sampled_from([0, 1, 7, 1200]), max_size=4), label="added")
    ids, pool = rng.permutation(9000)[: sum(sizes)], unit_rows(rng, 40, DIM)
    picked = pool[rng.integers(0, 40, len(ids))]
    twice = rng.random((len(ids), 1)) < 0.5
    vectors = as_stored(np.where(twice, picked, unit_rows(rng, len(ids), DIM)))
    ends = np.cumsum([0, *sizes])
    spans = [slice(*pair) for pair in pairwise(ends)]
    class_of(name).write(path, DIM, [(ids[span], vectors[span]) for span in spans])
    index = class_of(name).load(path)
    for _ in range(3):
        k = data.draw(st.sampled_from([1, 5, 100, 10_000]), label="k")
        kept = rng.random(len(ids)) < data.draw(st.sampled_from([0, 0.1, 0.9, 1]), label="kept")
        queries = apart(rng, 2)
        found = index.search(queries, k, among=None if kept.all() else ids[kept])
        if kept.any():
            assert_same(found, brute_force(queries, ids[kept], vectors[kept], k))
        else:
            assert found[0].shape == (2, 0)


# --- files ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 6000])
def test_a_file_is_free_to_go_once_it_is_open(
    kind: str, rng: np.random.Generator, tmp_path: Path, n: int
) -> None:
    vectors, ids, queries = stored_rows(rng, n, DIM), np.arange(n), apart(rng, 2)
    written(kind, tmp_path / "index", ids, vectors)
    index = class_of(kind).load(str(tmp_path / "index"))
    assert len(index) == n and index.dim == DIM
    before = index.search(queries, 8)
    (tmp_path / "index").unlink()
    after = index.search(queries, 8)
    np.testing.assert_array_equal(before, after)


@cache
def sound(kind: str, seed: int, n: int, dim: int) -> tuple[bytes, np.ndarray]:
    """Return a file of n vectors with ids from 300 on, and the vectors; made once."""
    vectors = stored_rows(np.random.default_rng(seed), n, dim)
    with TemporaryDirectory() as folder:
        written(kind, Path(folder) / "index", np.arange(n) + 300, vectors)
        return (Path(folder) / "index").read_bytes(), vectors


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 7, 300, -1, -9, -49, -300])
@pytest.mark.parametrize("harm", ["flip", "zero", "cut", "grow"])
@pytest.mark.parametrize("mapped", MAPPED)
def test_a_mapped_file_that_is_cut_or_has_a_damaged_end_is_noticed_on_opening(
    mapped: str, tmp_path: Path, place: int, harm: str
) -> None:
    if place == 300 and harm in ("flip", "zero"):
        place = -200  # between the sections nothing is stored
    path = tmp_path / "index"
    path.write_bytes(sound(mapped, 1, 700, DIM)[0])
    damage(path, harm, place % path.stat().st_size)
    with pytest.raises(SnapshotUnreadable, match="index"):
        vector_index(mapped).load(path)


@pytest.mark.parametrize("section", ["ids", "lengths", "codes"])
@pytest.mark.parametrize("mapped", MAPPED)
def test_damage_of_what_is_read_on_opening_is_noticed_then(
    mapped: str, tmp_path: Path, section: str
) -> None:
    path = tmp_path / "index"
    path.write_bytes(sound(mapped, 1, 700, DIM)[0])
    places = json.loads(footer_of(path))["sections"]
    if section in places:
        start, size, _ = places[section]
        damage(path, "flip", start + size // 2)
        with pytest.raises(SnapshotUnreadable, match=section):
            vector_index(mapped).load(path)


@pytest.mark.parametrize("harm", ["flip", "zero"])
@pytest.mark.parametrize("mapped", MAPPED)
def test_a_damaged_vector_is_an_error_when_it_would_be_found_not_a_wrong_answer(
    mapped: str, tmp_path: Path, harm: str
) -> None:
    path = tmp_path / "index"
    content, vectors = sound(mapped, 2, 700, 64)
    path.write_bytes(content)
    start, _, _ = json.loads(footer_of(path))["sections"]["vectors"]
    row = 600
    with open(path, "r+b") as file:
        file.seek(start + row * 64 * 2)
        numbers = np.frombuffer(file.read(128), "<u2") ^ (0x4000 if harm == "flip" else 0)
        file.seek(-128, 1)
        file.write(numbers.tobytes() if harm == "flip" else bytes(128))
    index = vector_index(mapped).load(path)
    with pytest.raises(SnapshotUnreadable, match=r"index.*clipsearch rebuild"):
        index.search(vectors[row : row + 1], 700)


@pytest.mark.parametrize("mapped", MAPPED)
def test_large_files_are_read_and_not_mapped_with_the_same_answers(
    mapped: str, rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, queries = tmp_path / "index", apart(rng, 3)
    content, vectors = sound(mapped, 1, 700, DIM)
    path.write_bytes(content)
    monkeypatch.setattr(rows, "_MAP_UP_TO", 0)
    index, ids = vector_index(mapped).load(path), np.arange(700) + 300
    path.unlink()
    kept = rng.random(700) < 0.3
    for k in (5, 700):
        assert_same(index.search(queries, k), brute_force(queries, ids, vectors, k))
        expected = brute_force(queries, ids[kept], vectors[kept], k)
        assert_same(index.search(queries, k, among=ids[kept]), expected)


def test_opening_and_one_search_among_few_read_a_fraction_of_the_file(tmp_path: Path) -> None:
    # 300,000 vectors of 64 numbers are 38 MB, of which the process may map a part.
    path, dim, n = tmp_path / "index", 64, 300_000
    batch = np.eye(1, dim, dtype=np.float32).repeat(10_000, axis=0)
    vector_index("exact").write(
        path, dim, ((np.arange(10_000) + start, batch) for start in range(0, n, 10_000))
    )
    code = (
        "import re, sys, numpy as np, pathlib\n"
        "from clipsearch.vectors.exact import ExactIndex\n"
        "def mapped():\n"  # kB; where the system does not say, nothing is claimed
        "    maps = pathlib.Path('/proc/self/smaps')\n"
        "    text = maps.read_text() if maps.exists() else '/index\\nRss: 0 kB'\n"
        "    return re.search(r'/index\\n(?:.*\\n)*?Rss: +(\\d+) kB', text)[1]\n"
        "index = ExactIndex.load(sys.argv[1])\n"
        "after_open = mapped()\n"
        f"index.search(np.eye(1, {dim}, dtype=np.float32), 5, among=np.arange(7))\n"
        "print(after_open, mapped(), 'faiss' in sys.modules)\n"
    )
    run = [sys.executable, "-c", code, str(path)]
    out = subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()
    opened, searched, faiss = int(out[0]), int(out[1]), out[2]
    assert opened < 8_000 and searched - opened < 1_000 and faiss == "False"


def damage(path: Path, harm: str, place: int) -> None:
    content = bytearray(path.read_bytes())
    at = min(place, len(content) - 1)
    if harm == "flip":
        content[at] ^= 16
    elif harm == "zero":
        content[at : at + 512] = bytes(len(content[at : at + 512]))
    elif harm == "cut":
        del content[at:]
    else:
        content[at:at] = b"\x00"
    assert bytes(content) != path.read_bytes()
    path.write_bytes(content)


def footer_of(path: Path) -> bytes:
    content = path.read_bytes()
    size = int.from_bytes(content[-48:-40], "little")
    return content[-48 - size : -48]


def test_a_missing_file_a_folder_and_a_strangers_file_are_unreadable(
    kind: str, rng: np.random.Generator, tmp_path: Path
) -> None:
    with pytest.raises(SnapshotUnreadable, match="missing"):
        class_of(kind).load(tmp_path / "missing")
    with pytest.raises(SnapshotUnreadable):
        class_of(kind).load(tmp_path)
    for other in {*MAPPED, "oracle"} - {kind}:
        (tmp_path / other).write_bytes(sound(other, 3, 50, DIM)[0])
        with pytest.raises(SnapshotUnreadable):
            class_of(kind).load(tmp_path / other)


def test_a_folder_that_cannot_be_written_is_an_error(kind: str, tmp_path: Path) -> None:
    with pytest.raises((OSError, VectorIndexError)):
        class_of(kind).write(tmp_path / "no" / "such" / "folder", DIM, [])


# --- the table -----------------------------------------------------------------------------


def test_an_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(UnknownVectorIndex, match=r"'hnsw'.*auto, compressed, exact, ivf"):
        vector_index("hnsw")


def test_a_package_can_bring_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "brought-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[clipsearch.vectors]\nbrought = oracle:OracleIndex\n"
        "exact = brought:Usurper\nbroken = no_such_module:Index\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert vector_index("brought") is OracleIndex
    assert vector_index("exact").__name__ == "ExactIndex"
    with pytest.raises(VectorIndexError, match=r"'broken'.*no_such_module"):
        vector_index("broken")
