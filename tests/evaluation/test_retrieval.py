"""Figures of captions that find images, and images that find captions, against a brute-force search."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from clipsearch.evaluation import Gallery, measure_retrieval, metrics
from clipsearch.evaluation.results import Retrieval

RNG = np.random.default_rng(2)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


# Five captions for some images, one for others; captions that several images share, written
# differently; a copy of an image with a caption of its own.
IMAGES = [f"/p/{i:02d}.jpg" for i in range(40)]
ROWS = unit(RNG.normal(size=(40, 16)))
ROWS[7] = ROWS[3]
CAPTIONS = {
    path: tuple(f"text {i} {j}" for j in range(5 if i % 2 else 1)) for i, path in enumerate(IMAGES)
}
CAPTIONS[IMAGES[10]] += ("A shared one.",)
CAPTIONS[IMAGES[11]] += ("a  shared one",)
WORDS = {f"text {i} {j}": ROWS[i] + 0.35 * RNG.normal(size=16) for i in range(40) for j in range(5)}
WORDS["a shared one"] = ROWS[10] + ROWS[11]


def found_by_retrieval(**options: int) -> tuple[Gallery, np.ndarray, Retrieval]:
    gallery = Gallery.of(IMAGES, ROWS, CAPTIONS)
    texts = unit(np.stack([WORDS[" ".join(t.lower().strip(".").split())] for t in gallery.texts]))
    return gallery, texts, measure_retrieval(gallery, texts, **options)


def brute_force(
    queries: list[np.ndarray], candidates: list[np.ndarray], right: list[set[int]]
) -> tuple[list[int], list[float]]:
    ranks, gains = [], []
    for query, own in zip(queries, right, strict=True):
        order = sorted(range(len(candidates)), key=lambda j: -float(query @ candidates[j]))
        ranks.append(1 + min(order.index(j) for j in own))
        discounted = sum(1 / np.log2(2 + i) for i, j in enumerate(order[:10]) if j in own)
        gains.append(discounted / sum(1 / np.log2(2 + i) for i in range(min(10, len(own)))))
    return ranks, gains


def test_retrieval_agrees_with_brute_force_both_ways() -> None:
    gallery, texts, found = found_by_retrieval(resamples=100)
    # Written anew from the images and their captions: the copy is gone, its caption is not.
    images = [i for i in range(40) if i != 7]
    captions = {i: {t.lower().rstrip(".").replace("  ", " ") for t in CAPTIONS[IMAGES[i]]}
                for i in range(40)}  # fmt: skip
    captions[3] |= captions.pop(7)
    names = sorted({t for own in captions.values() for t in own})
    vectors = {
        " ".join(t.lower().strip(".").split()): v for t, v in zip(gallery.texts, texts, strict=True)
    }
    assert (found.images, found.captions) == (39, len(names)) == (39, 121)
    ways = {
        "text_to_image": brute_force(
            [vectors[t] for t in names],
            [ROWS[i] for i in images],
            [{n for n, i in enumerate(images) if t in captions[i]} for t in names],
        ),
        "image_to_text": brute_force(
            [ROWS[i] for i in images],
            [vectors[t] for t in names],
            [{n for n, t in enumerate(names) if t in captions[i]} for i in images],
        ),
    }
    for way, (ranks, gains) in ways.items():
        direction = getattr(found, way)
        for k in (1, 5, 10):
            expected = sum(rank <= k for rank in ranks) / len(ranks)
            assert getattr(direction, f"recall_{k}").value == pytest.approx(expected, abs=1e-6)
        assert direction.median_rank.value == np.median(ranks)
        assert direction.ndcg_10.value == pytest.approx(np.mean(gains), abs=1e-6)
        assert direction.queries == len(ranks)
        assert 0.2 < direction.recall_1.value < 1
        assert direction.recall_1.low < direction.recall_1.value < direction.recall_1.high


def test_the_worst_misses_name_what_was_wanted_and_what_came_first() -> None:
    gallery, texts, found = found_by_retrieval(resamples=0, misses=2)
    scores = texts @ gallery.vectors.T
    worst, second = found.text_to_image.misses
    assert worst.rank >= second.rank > 1
    row = gallery.texts.index(worst.query)
    own = gallery.paths.index(worst.right)
    assert 1 + (scores[row] > scores[row, own]).sum() == worst.rank
    assert gallery.paths[scores[row].argmax()] == worst.found != worst.right
    (first, *_) = found.image_to_text.misses
    assert first.query in gallery.paths and first.found in gallery.texts


def test_ties_count_against_wrong_candidates_only_as_in_the_plain_figures() -> None:
    # Corners of a cube: cosines of few values, so that nearly everything is tied.
    corners = unit(RNG.choice([-1.0, 1.0], size=(60, 4)) + np.arange(60)[:, None] * 1e-7)
    texts = unit(RNG.choice([-1.0, 1.0], size=(90, 4)))
    pairs = np.unique(np.stack([RNG.integers(0, 60, 200), RNG.integers(0, 90, 200)], 1), axis=0)
    pairs = np.unique(np.concatenate([pairs, [[i % 60, i] for i in range(90)]]), axis=0)
    names = tuple(map(str, range(90)))
    found = measure_retrieval(Gallery(names[:60], corners, names, pairs), texts, resamples=0)
    relevant = np.zeros((60, 90), dtype=bool)
    relevant[tuple(pairs.T)] = True
    for way, scores, right in (
        (found.image_to_text, corners @ texts.T, relevant),
        (found.text_to_image, texts @ corners.T, relevant.T),
    ):
        ranks = metrics.ranks(scores, right)
        assert way.median_rank.value == np.median(ranks)
        assert way.recall_1.value == metrics.recall_at(ranks, 1)
        # A right candidate stands behind wrong ones of an equal score: just below them.
        keys = np.where(right, np.nextafter(scores, -np.inf, dtype=np.float64), scores)
        gain = sk.ndcg_score(right.astype(float), keys, k=10)
        assert way.ndcg_10.value == pytest.approx(gain, abs=1e-6)


def test_images_and_captions_that_are_the_same_count_once() -> None:
    rows = unit(np.eye(3, 4))[[0, 0, 1, 2]]
    captions = {"a": ("One.",), "b": ("two",), "c": ("TWO ",), "d": ("three",)}
    gallery = Gallery.of(list("abcd"), rows, captions)
    assert gallery.paths == ("a", "c", "d") and gallery.texts == ("One.", "two", "three")
    assert gallery.pairs.tolist() == [[0, 0], [0, 1], [1, 1], [2, 2]]
    found = measure_retrieval(gallery, unit(np.eye(3, 4)), resamples=0)
    assert found.text_to_image.recall_1.value == 1
    # "two" finds the image c, and b's copy a, by turns.
    assert found.image_to_text.recall_1.value == 1


def test_a_caption_weighs_as_much_as_its_images() -> None:
    # Image 0 is always found and has every second caption; image 1 never is.
    rows = unit(np.array([[1.0, 0], [0, 1.0]]))
    gallery = Gallery.of(["a", "b"], rows, {"a": ("x", "y", "z"), "b": ("w",)})
    found = measure_retrieval(gallery, unit(np.array([[1.0, 0.1]] * 4)), resamples=400)
    way = found.text_to_image
    # A resample holds a twice, a and b, or b twice: 3 of 3, 3 of 4 or 0 of 1 captions found.
    assert (way.recall_1.value, way.recall_1.low, way.recall_1.high) == (0.75, 0.0, 1.0)
