"""Relevance through the library, and the order of hits, against arithmetic from the pixels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree

import numpy as np
import pytest
from toy_scores import logits, mean_of, sigmoid, use, vectors

from clipsearch.calibration.background import background_captions
from clipsearch.errors import EncoderError
from clipsearch.library import Library
from clipsearch.library.cohorts import image_log_mean_exps
from clipsearch.library.session import Session
from clipsearch.text.composition import Composition
from clipsearch.types import Term

Make = Callable[..., list[Path]]
LABELS = ["cat", "dog", "bird"]

pytestmark = pytest.mark.usefixtures("plain_weights")


def relevance(library: Library, paths: list[Path], row: np.ndarray) -> np.ndarray:
    """Return the acceptance of one label, row (1, dim), with a base rate of 1 in 10."""
    return sigmoid(logits(library, paths, row)[:, 0] - np.log(9))


def test_relevance_and_the_number_of_relevant_images(library: Library, filled: list[Path]) -> None:
    use(library, 0.1, 4.0)
    expected = relevance(library, filled, library.encoder.encode_texts(["a red horse"]))
    found = library.search("a red horse", k=5)
    assert (found.relevant, found.searched) == (int((expected >= 0.5).sum()), 60)
    assert found.relevant is not None and 5 < found.relevant < 60
    of = dict(zip(map(str, filled), expected, strict=True))
    for hit in found:
        assert hit.relevance == pytest.approx(of[hit.path], abs=0.01)
    only = library.search("a red horse", k=None, relevant=True)
    assert {hit.path for hit in only} == {path for path, p in of.items() if p >= 0.5}
    relevances = [hit.relevance or 0 for hit in only]
    assert relevances == sorted(relevances, reverse=True)
    assert [h.path for h in library.search("a red horse", k=3, relevant=True)] == [
        hit.path for hit in only[:3]
    ]


def test_filters_and_copies_count(library: Library, make_images: Make) -> None:
    use(library, 0.1, 4.0)
    a, b = make_images(30, folder="a"), make_images(12, folder="b", seed=4)
    twins = [Path(shutil.copy(path, path.with_name(f"twin of {path.name}"))) for path in b]
    library.index([a[0].parent, b[0].parent])
    rows = library.encoder.encode_texts(["tree"])
    for paths, folder in (([*b, *twins], b[0].parent), (a, a[0].parent)):
        found = library.search("tree", under=folder, k=2)
        relevant = int((relevance(library, paths, rows) >= 0.5).sum())
        assert (found.relevant, found.searched) == (relevant, len(paths))
        assert 0 < relevant < len(paths)
    nothing = library.search("tree", where="width > 9000")
    assert (len(nothing), nothing.relevant, nothing.searched) == (0, 0, 0)


def test_new_and_removed_images_are_counted_at_once(library: Library, make_images: Make) -> None:
    use(library, 0.1, 4.0)
    paths = make_images(20)
    library.index([paths[0].parent])
    assert library.search("tree").searched == 20
    more = make_images(5, folder="more", seed=3)
    library.index([more[0].parent])
    library.remove(paths[:4])
    left = [*paths[4:], *more]
    found = library.search("tree", k=50)
    expected = relevance(library, left, library.encoder.encode_texts(["tree"]))
    assert (found.relevant, found.searched) == (int((expected >= 0.5).sum()), 21)
    with Library.open(library.path, encoder=library.encoder) as again:
        assert again.search("tree").relevant == found.relevant


def test_an_image_as_a_term_is_judged_in_words(library: Library, filled: list[Path]) -> None:
    use(library, 0.1, 4.0)
    background = library._session.background()
    image = vectors(library, filled[:1])[0]
    row = library.encoder.encode_texts(["tree"])[0] * 2 + background.in_words(
        image, mean_of(library)
    )
    row = (row / np.linalg.norm(row))[None]
    found = library.search([Term.text("tree", 2), Term.image(str(filled[0]))], k=60)
    of = dict(zip(map(str, filled), relevance(library, filled, row), strict=True))
    relevances = [h.relevance or 0.0 for h in found]
    np.testing.assert_allclose(relevances, [of[h.path] for h in found], atol=0.02)


def test_an_image_is_no_neighbour_of_its_own_in_the_count(
    library: Library, filled: list[Path]
) -> None:
    use(library, 0.1, 4.0)
    image = vectors(library, filled[:1])[0]
    row = library._session.background().in_words(image, mean_of(library))[None]
    expected = relevance(library, filled, row)[1:]
    found = library.similar(filled[0], k=60)
    assert (found.relevant, found.searched) == (int((expected >= 0.5).sum()), 59)


def test_a_head_of_several_labels_is_relevant_by_its_best(
    library: Library, filled: list[Path]
) -> None:
    use(library, 0.1, 4.0)
    head = library.head(LABELS)
    found = library.search(head, k=60)
    best = (vectors(library, filled) @ head.vectors.T).argmax(1)
    of = logits(library, filled, head.vectors)[np.arange(60), best]
    assert found.relevant == int((sigmoid(of - np.log(9)) >= 0.5).sum())


def test_of_very_many_images_only_the_hits_are_judged(
    library: Library, filled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as few:
        few.setattr("clipsearch.library.search.COUNTED", 59)
        few.setattr("clipsearch.library.search._READ_SINGLY", 59)
        found = library.search("tree", k=4)
    assert (len(found), found.relevant, found.searched) == (4, None, 60)
    every = list(library.search("tree", k=None))
    nearest = sorted(every, key=lambda hit: -hit.score)[:16]
    assert list(found) == [hit for hit in every if hit in nearest][:4]


def test_where_the_model_cannot_be_loaded_neighbours_come_without_relevance(
    library: Library, filled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str) -> None:
        raise EncoderError("its weights are gone.")

    rmtree(library.path / "background")  # as if `index` had not prepared queries
    library._session.caches.backgrounds.clear()
    with Library.open(library.path) as other:
        monkeypatch.setattr("clipsearch.library.session.load_encoder", gone)
        found = other.similar(filled[0], k=3)
        assert [hit.relevance for hit in found] == [None] * 3 and found.relevant is None
        assert "weights are gone" in found.warnings[0]
        library.search("x")  # encodes the background, for both
        assert other.similar(filled[0], k=3).relevant is not None


@pytest.mark.usefixtures("web_weights")
def test_a_search_judges_like_a_label_alone_with_the_odds_of_a_search(
    library: Library, filled: list[Path]
) -> None:
    head = library.head({"tree": ["tree"]})
    alone = {one.path: one.labels[0].probability for one in library.classify(head)}
    for hit in library.search("tree", k=None):
        assert hit.relevance is not None
        odds = alone[hit.path] / (1 - alone[hit.path]) / 9
        assert hit.relevance == pytest.approx(odds / (1 + odds), abs=1e-3)


# --- the order of hits -------------------------------------------------------------------------


def log_odds(library: Library, paths: list[Path], text: str) -> np.ndarray:
    """Return those of one text by itself, (images,)."""
    rows = library.encoder.encode_texts([text])
    return np.asarray(logits(library, paths, rows)[:, 0] - np.log(9))


@pytest.mark.parametrize("k", [1, 7, 60, None])
def test_hits_come_in_the_order_of_relevance(
    library: Library, filled: list[Path], k: int | None
) -> None:
    use(library, 0.1, 4.0)
    expected = log_odds(library, filled, "a red horse")
    order = np.argsort(-expected)
    cosines = vectors(library, filled) @ library.encoder.encode_texts(["a red horse"])[0]
    assert order.tolist() != np.argsort(-cosines).tolist()
    found = library.search("a red horse", k=k)
    assert [hit.path for hit in found] == [str(filled[i]) for i in order[:k]]
    assert [hit.score for hit in found] == pytest.approx(cosines[order[:k]].tolist(), abs=1e-3)


def test_only_images_with_a_high_cosine_in_the_order_of_relevance(
    library: Library, filled: list[Path]
) -> None:
    use(library, 0.1, 4.0)
    every = library.search("a red horse", k=None)
    least = sorted(hit.score for hit in every)[-9]
    found = library.search("a red horse", k=5, min_score=least)
    assert list(found) == [hit for hit in every if hit.score >= least][:5]
    assert found.relevant == every.relevant


# --- what images are not to show -----------------------------------------------------------------


def test_what_is_excluded_lowers_relevance_by_what_it_says_beyond_the_rest(
    library: Library, filled: list[Path]
) -> None:
    use(library, 0.1, 3.0)
    shown, hidden = (log_odds(library, filled, text) for text in ("a fish", "a red fish"))
    captions = library.encoder.encode_texts(background_captions())
    rows = library.encoder.encode_texts(["a fish", "a red fish"]) - captions.mean(axis=0)
    overlap = max(rows[0] @ rows[1] / np.linalg.norm(rows[0]) / np.linalg.norm(rows[1]), 0)
    beyond = hidden + np.log(9) - overlap * np.maximum(shown + np.log(9), 0)
    for weight in (1.0, 0.5):
        expected = sigmoid(shown) * (1 - sigmoid(beyond)) ** weight
        found = library.search("a fish", exclude=[f"{weight:g}:a red fish"], k=None)
        of = dict(zip(map(str, filled), expected, strict=True))
        got = [hit.relevance or 0 for hit in found]
        assert got == pytest.approx([of[hit.path] for hit in found], abs=0.01)
        assert got == sorted(got, reverse=True)
        assert found.relevant == sum(p >= 0.5 for p in expected)
        three = library.search("a fish", exclude=[f"{weight:g}:a red fish"], k=3)
        assert [hit.path for hit in three] == [hit.path for hit in found][:3]
    text = library.encoder.encode_texts(["a fish", "a red fish"])
    mixed = text[0] - 0.5 * text[1]
    cosines = vectors(library, filled) @ (mixed / np.linalg.norm(mixed))
    for hit in found:  # the score shown is that of the whole query
        assert hit.score == pytest.approx(cosines[filled.index(Path(hit.path))], abs=1e-3)


def test_a_query_of_nothing_but_what_to_avoid_is_its_opposite(
    library: Library, filled: list[Path]
) -> None:
    use(library, 0.1, 4.0)
    row = -library.encoder.encode_texts(["rain"])
    found = library.search("-1:rain", k=None)
    expected = dict(zip(map(str, filled), relevance(library, filled, row), strict=True))
    assert [hit.relevance for hit in found] == pytest.approx(
        [expected[hit.path] for hit in found], abs=0.01
    )


# --- texts of several things ---------------------------------------------------------------------


@pytest.mark.parametrize("needed", [0.0, 3.0])
def test_a_text_of_several_things_is_borne_out_by_each_and_as_they_are_bound(
    library: Library, filled: list[Path], monkeypatch: pytest.MonkeyPatch, needed: float
) -> None:
    alone = {"genericity": 4.0, "composition": needed, "binding": True}
    shipped = {"assumed": {"slope": 0.8, "offset": -1.4, "alone": alone, "among": alone}}
    monkeypatch.setattr(
        "clipsearch.calibration.cohort._read_shipped", lambda: {**shipped, "models": {}}
    )
    use(library, 0.1, 4.0)
    # The toy has no order of words: to it both of the real ones are the same.
    texts = ("a red dog next to a blue cat", "a red dog", "a blue cat", "a boat")
    said = Composition(texts[1:3], texts[3])
    monkeypatch.setattr("clipsearch.library.query_heads.compose", lambda text: said)
    whole, first, second, other = (log_odds(library, filled, text) for text in texts)
    lacking = whole + np.log(9) - np.abs(first - second) - needed
    expected = np.minimum(whole + np.minimum(lacking, 0), whole - other)
    assert (expected < whole).any() and (whole - other > expected).any()
    found = library.search(texts[0], k=None)
    of = dict(zip(map(str, filled), sigmoid(expected), strict=True))
    assert [hit.relevance for hit in found] == pytest.approx(
        [of[hit.path] for hit in found], abs=0.01
    )
    assert [hit.path for hit in found] == [str(filled[i]) for i in np.argsort(-expected)]
    assert found.relevant == int((expected >= 0).sum())
    assert list(library.search(texts[0], k=4)) == list(found)[:4]
    assert len(library.search(texts[0], k=None, relevant=True)) == found.relevant


def test_a_model_that_cannot_tell_is_not_asked_which_attribute_is_whose(
    library: Library, filled: list[Path]
) -> None:
    use(library, 0.1, 4.0)
    texts = ("a red dog next to a blue cat", "a red dog", "a blue cat")
    whole, first, second = (log_odds(library, filled, text) for text in texts)
    expected = whole + np.minimum(whole + np.log(9) - np.abs(first - second), 0)
    found = library.search(texts[0], k=None)
    of = dict(zip(map(str, filled), sigmoid(expected), strict=True))
    got = [hit.relevance for hit in found]
    assert got == pytest.approx([of[hit.path] for hit in found], abs=0.01)
    assert max(hit.relevance or 0 for hit in found) > 0.6


@pytest.mark.usefixtures("web_weights")
def test_an_image_is_searched_by_as_similar_does(library: Library, filled: list[Path]) -> None:
    use(library, 0.1, 4.0)
    found = library.search(images=[filled[0]], k=None)
    similar = library.similar(filled[0], k=None)
    others = [hit for hit in found if hit.path != str(filled[0])]
    assert [hit.path for hit in similar] == [hit.path for hit in others]
    for numbers in ("score", "relevance"):
        got, expected = ([getattr(hit, numbers) for hit in hits] for hits in (similar, others))
        assert got == pytest.approx(expected, abs=1e-6)


def test_a_vector_whose_cosines_are_not_known_is_not_relevant_and_no_number_is_lost(
    library: Library, filled: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(library, 0.1, 4.0)
    known = image_log_mean_exps

    def one_damaged(session: Session, ids: np.ndarray) -> np.ndarray:
        return np.where(ids == ids.min(), np.float32(np.inf), known(session, ids))

    monkeypatch.setattr("clipsearch.library.label_scores.image_log_mean_exps", one_damaged)
    found = library.search("a red dog next to a blue cat", exclude=["rain"], k=None)
    assert len(found) == 60 and found[-1].relevance == 0
    assert not np.isnan([hit.relevance or 0 for hit in found]).any()
