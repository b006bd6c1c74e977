"""What is relevant is counted exactly or estimated; filters are read once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ToyEncoder

from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.catalog import Catalog, Entry
from clipsearch.library import Library
from clipsearch.library.ranker import Ranker
from clipsearch.library.relevance import RelevanceJudge
from clipsearch.types import Facts, Hit
from clipsearch.vectors.compressed import CompressedIndex
from clipsearch.vectors.ranking import Estimates
from clipsearch.vectors.storage.rows import StoredRows

NOT_ESTIMATED = "clipsearch.library.estimated.rank_estimated"


def opened(library: Path) -> Library:
    return Library.open(library, encoder=ToyEncoder())


# --- which are relevant ------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A library whose images lie around the texts of two labels, one of them rarer."""
    encoder = ToyEncoder()
    rng = np.random.default_rng(5)
    with Catalog.create(tmp_path / "many") as catalog:
        model_id = catalog.add_model(encoder.info)
        rows = rng.standard_normal((1_500, encoder.info.dim)) / encoder.info.dim**0.5
        rows[:400] += 2 * encoder.encode_texts(["a boy"])[0]
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        facts = [Facts(width=100 + number % 2, height=9, format="PNG") for number in range(2)]
        catalog.commit(
            [
                Entry(
                    f"/m/{number:04d}.png",
                    1,
                    number,
                    "/m",
                    sha256=f"{number:064d}",
                    facts=facts[number % 2],
                    vector=row,
                )
                for number, row in enumerate(rows)
            ],
            model_id,
        )
    with opened(tmp_path / "many") as library:
        library.rebuild(kind="compressed")
    return tmp_path / "many"


@pytest.mark.slow
@pytest.mark.parametrize("k", [3, 40])
@pytest.mark.parametrize(
    "terms",
    [
        {"query": "a boy"},
        {"query": "a boy", "exclude": ["a horse"]},
        {"query": "a boy and a horse"},
        {"query": "a boy", "relevant": True},
    ],
)
def test_what_is_out_of_reach_is_not_judged_and_nothing_else_is_lost(
    many: Path, monkeypatch: pytest.MonkeyPatch, terms: dict[str, Any], k: int
) -> None:
    judged: list[int] = []
    original = RelevanceJudge.__call__

    def counting(
        self: RelevanceJudge,
        ids: IdArray,
        scores: FloatArray,
        columns: IdArray,
        others: FloatArray,
        *,
        more: float = 0.0,
    ) -> FloatArray:
        judged.append(len(ids))
        return original(self, ids, scores, columns, others, more=more)

    monkeypatch.setattr(RelevanceJudge, "__call__", counting)
    monkeypatch.setattr(
        "clipsearch.library.estimated.rank_estimated", lambda *_, **__: None
    )  # all are compared
    with opened(many) as library:
        quick = library.search(**terms, k=k, missing=True)
        assert 0 < max(judged) < 1_500
        monkeypatch.setattr(Ranker, "_within_reach", lambda *_: slice(None))
        whole = library.search(**terms, k=k, missing=True)
        assert max(judged) == 1_500
    assert (quick.relevant, [*quick]) == (whole.relevant, [*whole])


@pytest.mark.usefixtures("by_cosine")
@pytest.mark.parametrize("where", [None, "width = 101"])
def test_of_very_many_images_the_relevant_ones_are_estimated(
    many: Path, monkeypatch: pytest.MonkeyPatch, where: str | None
) -> None:
    options: dict[str, Any] = {"k": 10, "where": where, "missing": True}
    with opened(many) as library:
        exact = library.search("a boy", **options)
        monkeypatch.setattr("clipsearch.library.search.COUNTED", 0)
        monkeypatch.setattr("clipsearch.library.search._READ_SINGLY", 0)
        whole = library.search("a boy", **options)
        monkeypatch.setattr("clipsearch.vectors.storage.rows._SAMPLE_LEAST", 500)
        monkeypatch.setattr("clipsearch.vectors.storage.container.Sections.has", lambda *_: False)
        library._session.caches.searchers.clear()
        sampled = library.search("a boy", **options)
    assert exact.relevant is not None and exact.relevant > 50 and not exact.estimated
    assert whole.estimated and sampled.estimated
    # From a sample of all images the estimate is the number but for its rounding to two digits.
    assert whole.relevant == int(float(f"{exact.relevant:.1e}"))
    assert sampled.relevant == pytest.approx(exact.relevant, rel=0.3)
    assert exact.searched == sampled.searched == (1_500 if where is None else 750)
    assert [hit.path for hit in whole] == [hit.path for hit in exact]


@pytest.mark.slow
@pytest.mark.parametrize(
    "terms",
    [
        {"query": "a boy"},
        {"query": "a boy", "exclude": ["a horse"]},
        {"query": "a boy and a horse"},
        {"query": "a boy", "where": "width = 101"},
        {"query": "a boy", "k": 300},
    ],
)
def test_estimates_choose_what_is_compared_and_change_no_hit(
    many: Path, monkeypatch: pytest.MonkeyPatch, terms: dict[str, Any]
) -> None:
    compared: list[int] = []
    original = StoredRows.cosines

    def counting(self: StoredRows, queries: FloatArray, places: IdArray | None = None) -> Any:
        compared.append(len(self) if places is None else len(places))
        return original(self, queries, places)

    options: dict[str, Any] = {"k": 10, "missing": True} | terms
    with opened(many) as library:
        exact = library.search(**options)
        assert exact.relevant is not None and not exact.estimated
        monkeypatch.setattr(StoredRows, "cosines", counting)
        limits = {
            "vectors.compressed._FEW": 0,
            "vectors.compressed._FEW_SHARE": 0,
            "library.cosines._SCATTERED": 0,
            "library.estimated._COMPARED": 740,
            "library.estimated._ESTIMATED": 700,
            "library.estimated._ESTIMATED_SHARE": 1,
            "library.estimated._ESTIMATED_MOST": 1_200,
        }
        for name, value in limits.items():
            monkeypatch.setattr(f"clipsearch.{name}", value)
        quick = library.search(**options)
        assert compared and max(compared) < 700  # of all, or of those that pass, 1,500 or 750
        # One vector of this library is estimated wrong by ten standard errors.
        assert quick.relevant in (exact.relevant, exact.relevant - 1) and not quick.estimated
        assert [*quick] == [*exact]

        # Where more are relevant than are compared, all are.
        monkeypatch.setattr("clipsearch.library.estimated._COMPARED", 5)
        assert library.search(**options | {"k": 2}).relevant == exact.relevant
        assert [*library.search(**options)] == [*exact]

        # Of very many images what may be among the first is compared, and the rest is estimated.
        monkeypatch.setattr("clipsearch.library.estimated._COMPARED", 1_024)
        monkeypatch.setattr("clipsearch.library.search.COUNTED", 0)
        monkeypatch.setattr("clipsearch.library.search._READ_SINGLY", 0)
        about = library.search(**options)
        assert [*about] == [*exact]
        assert about.relevant == pytest.approx(exact.relevant, rel=0.15, abs=3)


FEW_ARE_ESTIMATED = {
    "vectors.compressed._FEW": 0,
    "library.estimated._COMPARED": 200,
    "library.estimated._ESTIMATED": 300,
}


def grown(folder: Path, kind: str, count: int, tail: int, *, horses: bool = False) -> Library:
    """Make a library whose images are ever wider the nearer they are to a text; open it.

    horses: every other one of the nearest shows something else, too.
    """
    encoder = ToyEncoder()
    rng = np.random.default_rng(3)
    toward = encoder.encode_texts(["a boy"])[0]
    rows = rng.standard_normal((count + tail, encoder.info.dim)) / encoder.info.dim**0.5
    rows[::50] += 2 * toward
    if horses:
        rows[::100] += 1.5 * encoder.encode_texts(["a horse"])[0]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    near = np.argsort(np.argsort(rows @ toward)) * 100 // len(rows)

    def add(catalog: Catalog, numbers: range) -> None:
        entries = [
            Entry(
                f"/m/{number:05d}.png",
                1,
                number,
                "/m",
                sha256=f"{number:064d}",
                facts=Facts(width=int(near[number]), height=9, format="PNG"),
                vector=rows[number],
            )
            for number in numbers
        ]
        catalog.commit(entries, catalog.add_model(encoder.info))

    with Catalog.create(folder) as catalog:
        add(catalog, range(count))
    with opened(folder) as library:
        library.rebuild(kind=kind)
    with Catalog.open(folder) as catalog:
        add(catalog, range(count, count + tail))
    return opened(folder)


@pytest.mark.slow
@pytest.mark.parametrize("tail", [0, 300])
@pytest.mark.parametrize("kind", ["compressed", "ivf"])
def test_images_far_from_the_query_are_found_among_those_that_pass_a_filter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, tail: int
) -> None:
    for name, value in FEW_ARE_ESTIMATED.items():
        monkeypatch.setattr(f"clipsearch.{name}", value)
    with grown(tmp_path / "grown", kind, 4_000, tail) as library:
        for terms in ({"query": "a boy"}, {"query": "a boy and a horse"}, {"query": "purple"}):
            for where in (None, "width < 50", "width > 60"):
                for k in (1, 10, 100):
                    options: dict[str, Any] = {**terms, "where": where, "k": k, "missing": True}
                    library._session.caches.uncounted = 0
                    quick = library.search(**options)
                    with monkeypatch.context() as patched:
                        patched.setattr(NOT_ESTIMATED, lambda *_, **__: None)
                        whole = library.search(**options)
                    assert [hit.path for hit in quick] == [hit.path for hit in whole], options
                    assert quick.relevant == whole.relevant and not quick.estimated, options


@pytest.mark.slow
@pytest.mark.parametrize(
    "terms", [{"query": "a boy", "exclude": ["a horse"]}, {"query": "a boy and a horse"}]
)
def test_parts_of_a_text_and_what_it_excludes_count_in_very_large_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terms: dict[str, Any]
) -> None:
    for name, value in FEW_ARE_ESTIMATED.items():
        monkeypatch.setattr(f"clipsearch.{name}", value)
    monkeypatch.setattr("clipsearch.library.estimated._COMPARED", 20)
    monkeypatch.setattr("clipsearch.library.estimated._ESTIMATED", 900)
    with grown(tmp_path / "grown", "compressed", 4_000, 0, horses=True) as library:
        for k in (2, 10):
            with monkeypatch.context() as patched:
                patched.setattr(NOT_ESTIMATED, lambda *_, **__: None)
                whole = library.search(**terms, k=k, missing=True)
                alone = library.search("a boy", k=k, missing=True).relevant
            with monkeypatch.context() as patched:
                patched.setattr("clipsearch.library.search.COUNTED", 0)
                patched.setattr("clipsearch.library.search._READ_SINGLY", 0)
                about = library.search(**terms, k=k, missing=True)
            assert [hit.path for hit in about] == [hit.path for hit in whole]
            assert whole.relevant is not None and alone is not None and whole.relevant < alone
            assert about.relevant == pytest.approx(whole.relevant, rel=0.15, abs=2)


@pytest.mark.slow
def test_many_images_since_the_snapshot_do_not_hide_that_others_are_relevant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FEW_ARE_ESTIMATED.items():
        monkeypatch.setattr(f"clipsearch.{name}", value)
    monkeypatch.setattr("clipsearch.library.estimated._ESTIMATED_MOST", 300)
    with grown(tmp_path / "grown", "compressed", 40_000, 0) as library:
        exact = library.search("a boy", missing=True)
        monkeypatch.setattr("clipsearch.library.search.COUNTED", 0)
        monkeypatch.setattr("clipsearch.library.search._READ_SINGLY", 0)
        before = library.search("a boy", missing=True)
    with grown(tmp_path / "tail", "compressed", 40_000, 900) as library:
        after = library.search("a boy", missing=True)
    assert exact.relevant is not None and exact.relevant > 600  # twice as many as are estimated
    for found in (before, after):
        assert found.estimated and found.relevant == pytest.approx(exact.relevant, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("tail", [0, 600])
def test_estimates_that_are_all_too_high_or_too_low_are_corrected_by_those_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail: int
) -> None:
    for name, value in FEW_ARE_ESTIMATED.items():
        monkeypatch.setattr(f"clipsearch.{name}", value)
    original = CompressedIndex.estimate
    estimated: list[int] = []

    def search_with_all_wrong_by(more: float) -> tuple[list[Hit], int]:
        def estimate(self: CompressedIndex, *args: Any, **options: Any) -> Estimates:
            found = original(self, *args, **options)
            estimated.append(int(np.count_nonzero(~found.exact)))
            return found._replace(cosines=found.cosines + np.float32(more))

        monkeypatch.setattr(CompressedIndex, "estimate", estimate)
        found = library.search("a boy", k=20, missing=True)
        assert found.estimated and found.relevant is not None
        return [*found], found.relevant

    with grown(tmp_path / "grown", "compressed", 4_000, tail) as library:
        hits = library.search("a boy", k=20, missing=True)
        monkeypatch.setattr("clipsearch.library.search.COUNTED", 0)
        monkeypatch.setattr("clipsearch.library.search._READ_SINGLY", 0)
        for more in (0.0, -0.3, 0.3):
            found, count = search_with_all_wrong_by(more)
            assert found == [*hits] and count == pytest.approx(hits.relevant, abs=3)
    assert min(estimated) > 0


@pytest.mark.usefixtures("by_cosine")
def test_an_estimate_of_none_is_no_estimate(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsearch.library.search.COUNTED", 0)
    monkeypatch.setattr("clipsearch.library.search._READ_SINGLY", 0)
    with opened(many) as library:
        found = library.search("a boy", k=3, where="name like '149%'", missing=True)
    assert (found.relevant, found.estimated) == (0, False)


# --- filters that are kept ---------------------------------------------------------------------


@pytest.mark.usefixtures("by_cosine")
def test_what_passes_a_filter_is_read_once_for_each_state_of_the_catalog(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []
    original = Catalog.passing_contents

    def passing(self: Catalog, **filters: Any) -> Any:
        read.append(filters)
        return original(self, **filters)

    monkeypatch.setattr(Catalog, "passing_contents", passing)
    with opened(many) as library:

        def search(where: str | None, under: str | None = None) -> int | None:
            found = library.search("a boy", k=1, where=where, under=under, missing=True)
            return found.searched

        assert [search("width = 101"), search("width = 101"), search("width = 100")] == [750] * 3
        assert search("width = 101", "/m") == 750 and search("width = 101", "/m/0001.png") == 1
        assert search(None) == 1_500 and len(read) == 4
        library.remove(["/m/0001.png", "/m/0002.png"])
        assert [search("width = 101"), search("width = 100")] == [749, 749] and len(read) == 6
        for width in range(6):  # more than are kept
            search(f"width = {width}")
        assert search("width = 100") == 749 and len(read) == 13
        assert len(library._session.caches.selections) == 4
        monkeypatch.setattr("clipsearch.library.locate._FILTERED_MOST", 1_000)
        assert search("width = 101") == 749
        assert len(library._session.caches.selections) < 4
        assert search("width = 101") == 749 and len(read) == 14
