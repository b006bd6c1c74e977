"""An evaluation's figures against scikit-learn and a brute-force search written here."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from clipsearch.calibration import fit
from clipsearch.errors import TooFewLabels
from clipsearch.evaluation import (
    Gallery,
    OpenSetPrediction,
    Scored,
    measure_classification,
    measure_open_set,
    measure_retrieval,
    membership,
    metrics,
)
from clipsearch.evaluation.results import Retrieval, to_json_types

RNG = np.random.default_rng(2)
LABELS = tuple("abcdefgh")


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def scored(relevant: np.ndarray, labels: tuple[str, ...] = LABELS) -> Scored:
    scores = (RNG.normal(size=relevant.shape) + 1.5 * relevant).astype(np.float32)
    paths = tuple(f"/p/{i}.jpg" for i in range(len(scores)))
    return Scored(paths, labels, scores, softmax(scores), relevant)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


TRUTH = np.r_[RNG.integers(0, 7, 150), np.zeros(30, int)]  # nothing is an h
SINGLE = scored(np.eye(8, dtype=bool)[TRUTH])
MANY = RNG.random((150, 8)) < 0.25
MANY[MANY.sum(axis=1) == 0, 0] = True
MULTI = scored(MANY)


# --- labels --------------------------------------------------------------------------------


def test_single_labels_agree_with_scikit_learn() -> None:
    found = measure_classification(SINGLE, resamples=200)
    guess = SINGLE.scores.argmax(1)
    near = pytest.approx
    assert found.top_1.value == near(sk.accuracy_score(TRUTH, guess), abs=1e-6)
    top_5 = sk.top_k_accuracy_score(TRUTH, SINGLE.scores, k=5, labels=range(8))
    assert found.top_5 is not None and found.top_5.value == near(top_5, abs=1e-6)
    mean = sk.recall_score(TRUTH, guess, average="macro", labels=range(7))
    assert found.mean_class_accuracy is not None
    assert found.mean_class_accuracy.value == near(mean, abs=1e-6)
    assert found.confusion is not None
    assert found.confusion.tolist() == sk.confusion_matrix(TRUTH, guess, labels=range(8)).tolist()
    assert found.mean_average_precision is None and not found.multi_label
    recall = sk.recall_score(TRUTH, guess, average=None, labels=range(7))
    assert [c.recall for c in found.classes[:7]] == near(recall.tolist(), abs=1e-6)
    precision = sk.precision_score(TRUTH, guess, average=None, labels=range(8))
    assert [c.precision for c in found.classes] == near(precision.tolist(), abs=1e-6)
    assert np.isnan(found.classes[7].recall) and found.classes[7].images == 0


def test_several_labels_agree_with_scikit_learn() -> None:
    found = measure_classification(MULTI, resamples=200)
    expected = sk.average_precision_score(MANY, MULTI.scores, average="macro")
    assert found.mean_average_precision is not None
    assert found.mean_average_precision.value == pytest.approx(expected, abs=1e-6)
    each = sk.average_precision_score(MANY, MULTI.scores, average=None)
    assert [c.average_precision for c in found.classes] == pytest.approx(each.tolist(), abs=1e-6)
    guess = MULTI.scores.argmax(1)
    assert found.top_1.value == pytest.approx(MANY[np.arange(150), guess].mean(), abs=1e-6)
    order = np.argsort(-MULTI.scores, axis=1)[:, :5]
    assert found.top_5 is not None
    assert found.top_5.value == np.take_along_axis(MANY, order, 1).any(1).mean()
    assert found.confusion is None and found.mean_class_accuracy is None


def test_the_calibration_error_is_that_of_a_plain_loop() -> None:
    found = measure_classification(SINGLE, resamples=50)
    p, right = SINGLE.probabilities.max(1), SINGLE.scores.argmax(1) == TRUTH
    error = 0.0
    for low in np.arange(15) / 15:
        inside = (p > low) & (p <= low + 1 / 15)
        error += abs(p[inside].sum() - right[inside].sum()) / len(p)
    assert found.ece.value == pytest.approx(error, abs=1e-6)
    assert found.reliability.counts.sum() == 180


def test_intervals_hold_the_value_and_are_as_wide_as_the_normal_ones() -> None:
    found = measure_classification(SINGLE, resamples=2000)
    value, error = found.top_1.value, (found.top_1.value * (1 - found.top_1.value) / 180) ** 0.5
    assert found.top_1.low == pytest.approx(value - 1.96 * error, abs=0.02)
    assert found.top_1.high == pytest.approx(value + 1.96 * error, abs=0.02)
    again = measure_classification(SINGLE, resamples=2000)
    assert (again.top_1, again.ece) == (found.top_1, found.ece)
    other = measure_classification(SINGLE, resamples=2000, seed=1)
    assert other.ece != found.ece and other.top_1.value == value


def test_the_worst_mistakes_are_those_with_the_widest_gap() -> None:
    found = measure_classification(SINGLE, mistakes=3, resamples=0)
    p, guess = SINGLE.probabilities, SINGLE.scores.argmax(1)
    gaps = sorted(
        ((p[i, guess[i]] - p[i, TRUTH[i]], i) for i in range(180) if guess[i] != TRUTH[i]),
        reverse=True,
    )
    assert [m.path for m in found.mistakes] == [f"/p/{i}.jpg" for _, i in gaps[:3]]
    first, i = found.mistakes[0], gaps[0][1]
    assert (first.truth, first.found) == ((LABELS[TRUTH[i]],), LABELS[guess[i]])
    assert first.probability == pytest.approx(p[i].max())
    assert first.truth_probability == pytest.approx(p[i, TRUTH[i]])
    assert np.isnan(found.top_1.low)  # no resamples were asked for


def test_the_label_that_takes_most_images_of_another_is_named() -> None:
    relevant = np.eye(3, dtype=bool)[[0, 0, 0, 1, 2]]
    scores = np.eye(3, dtype=np.float32)[[0, 2, 2, 1, 2]]
    paths = tuple(map(str, range(5)))
    found = measure_classification(
        Scored(paths, ("a", "b", "c"), scores, scores, relevant), resamples=0
    )
    assert [c.confused_with for c in found.classes] == ["c", None, None]
    assert found.top_5 is None


def test_membership_passes_over_labels_that_are_not_there() -> None:
    found = membership([("b",), ("a", "c"), ("x",)], ("a", "b", "c"))
    assert found.tolist() == [[False, True, False], [True, False, True], [False] * 3]


# --- labels left out -----------------------------------------------------------------------


def judge(kept: np.ndarray) -> OpenSetPrediction:
    """Say the best of the kept labels, and none of these where its score is low."""
    best = kept[SINGLE.scores[:, kept].argmax(1)]
    p = 1 / (1 + np.exp(-(SINGLE.scores[np.arange(180), best].astype(float) - 2)))
    return OpenSetPrediction(best, 0.9 * p, 1 - p)


def test_labels_left_out_agree_with_scikit_learn_fold_by_fold() -> None:
    found = measure_open_set(judge, SINGLE.relevant, LABELS, folds=3, resamples=100)
    assert sorted(label for fold in found.folds for label in fold.left_out) == list("abcdefg")
    areas, accepted, rejected, errors = [], [], [], []
    for fold in found.folds:
        kept = np.array([j for j, label in enumerate(LABELS) if label not in fold.left_out])
        known = np.isin(TRUTH, kept)
        best, p = SINGLE.scores[:, kept].argmax(1), SINGLE.scores[:, kept].max(1)
        assert (fold.known, fold.unknown) == (known.sum(), (~known).sum())
        areas.append(sk.roc_auc_score(known, p))
        accepted.append(sum(p[known] >= 2) / known.sum())
        rejected.append(sum(p[~known] < 2) / (~known).sum())
        sure = 1 / (1 + np.exp(-(p.astype(float) - 2)))
        said = np.where(p >= 2, 0.9 * sure, 1 - sure)
        right = np.where(p >= 2, kept[best] == TRUTH, ~known)
        errors.append(fit.ece(said, right))
        assert (fold.auroc, fold.accepted, fold.rejected) == pytest.approx(
            (areas[-1], accepted[-1], rejected[-1]), abs=1e-6
        )
    for measure, values in (
        (found.auroc, areas),
        (found.accepted, accepted),
        (found.rejected, rejected),
        (found.ece, errors),
    ):
        assert measure.value == pytest.approx(np.mean(values), abs=1e-6)
        assert measure.low < measure.value < measure.high
    assert found.reliability.counts.sum() == 3 * 180


def test_one_label_cannot_be_left_out() -> None:
    with pytest.raises(TooFewLabels, match="at least two labels: these have 1"):
        measure_open_set(judge, np.ones((2, 1), bool), ("a",))


# --- captions ------------------------------------------------------------------------------

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


# --- as a whole ----------------------------------------------------------------------------


def test_figures_become_plain_json() -> None:
    found = to_json_types(measure_classification(SINGLE, resamples=10, mistakes=1))
    assert found["top_1"].keys() == {"value", "low", "high"}
    assert found["classes"][7]["recall"] is None
    assert found["confusion"][0][0] == int((SINGLE.scores.argmax(1)[TRUTH == 0] == 0).sum())
    assert found["mistakes"][0]["path"].startswith("/p/")
