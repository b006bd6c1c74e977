"""The images of a library as a cohort: moments by hand, robust lines, and what prototypes learn."""

from __future__ import annotations

import numpy as np
import pytest

from clipsearch.calibration import CohortWeights
from clipsearch.calibration.image_cohort import (
    ImageCohort,
    Prototypes,
    reduce_weights,
    sample_of,
)

SCALE = 50.0


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def world(shares: list[float], n: int = 600) -> tuple[ImageCohort, np.ndarray, np.ndarray]:
    """Return a library, the rows of as many labels as `shares`, and what each image shows.

    Images and texts lie in two cones; an image leans towards the text of what it shows.
    """
    rng = np.random.default_rng(0)
    dim = 40
    gap = np.eye(dim)[0]
    things = unit(rng.normal(size=(60, dim)) * (np.arange(dim) > 0))
    truth = rng.choice(len(things), n, p=_shares(shares, len(things)))
    images = unit(gap * 0.9 + 0.5 * things[truth] + 0.08 * rng.normal(size=(n, dim)))
    texts = unit(-0.3 * gap + 0.9 * things + 0.3 * np.eye(dim)[1])
    captions = texts[len(shares) :]
    cohort = ImageCohort.of(images, np.zeros(n, np.float32), captions, SCALE)
    return cohort, texts[: len(shares)], truth


def _shares(first: list[float], count: int) -> np.ndarray:
    rest = (1 - sum(first)) / (count - len(first))
    return np.array([*first, *[rest] * (count - len(first))])


def test_a_small_library_is_its_own_cohort_and_a_large_one_a_part_of_it() -> None:
    few, many = np.arange(5, 2053), np.arange(1, 100_001)
    np.testing.assert_array_equal(sample_of(few), few)
    found = sample_of(many)
    assert len(found) == len(set(found)) == 2048
    assert found[0] == 1 and 99_900 < found[-1] <= 100_000
    assert np.diff(found).max() - np.diff(found).min() <= 1


def test_mean_and_spread_are_stated_for_one_image_in_ten() -> None:
    """With images that surely show a label or do not, in any share, and enough to drown the prior."""
    for share in (0.02, 0.5):
        cohort, rows, truth = world([share], n=20_000)
        shown = truth == 0
        evidence = np.where(shown, 50.0, -50.0)[:, None]
        excess, mean, spread = cohort.statistics(rows, cohort.cosines(rows), evidence, (1.0, 0.0))
        cosines = (cohort.vectors @ rows[0]).astype(np.float64)
        low, high = cosines[~shown], cosines[shown]
        expected = 0.9 * low.mean() + 0.1 * high.mean()
        variance = 0.9 * low.var() + 0.1 * high.var() + 0.09 * (high.mean() - low.mean()) ** 2
        assert mean[0] == pytest.approx(expected, abs=0.01)
        assert spread[0] == pytest.approx(np.sqrt(variance), rel=0.1)
        assert excess[0] == pytest.approx(
            mean[0] - cohort.line[0] - cohort.line[1] * float(rows[0] @ cohort.centre), abs=1e-6
        )


def test_a_library_of_nothing_else_does_not_make_a_label_usual() -> None:
    """Its mean is near that in a mixed library, far below the cosines of all its images."""
    means = []
    for share in (0.1, 0.98):
        cohort, rows, truth = world([share], n=3000)
        evidence = np.where(truth == 0, 8.0, -8.0)[:, None]
        statistics = cohort.statistics(rows, cohort.cosines(rows), evidence, (1.0, 0.0))
        means.append(statistics.mean[0])
        cosines = cohort.vectors[truth == 0] @ rows[0]
    assert means[1] == pytest.approx(means[0], abs=0.04)
    assert means[1] < np.quantile(cosines, 0.01)


def test_what_is_expected_of_a_text_is_not_moved_by_captions_that_are_shown() -> None:
    """Half of the images show one of the captions: the line passes through the others."""
    plain, rows, _ = world([0.02])
    shares = [0.02, *[0.0] * 9]
    cohort, _, _ = world(shares)
    for one in (plain, cohort):
        hidden = (one.vectors @ rows.T).mean()
        expected = one.line[0] + one.line[1] * float(rows[0] @ one.centre)
        assert expected == pytest.approx(hidden, abs=0.05)


def test_prototypes_learn_what_labels_look_like_without_being_told() -> None:
    """Images of a label lie at a place of their own; the text points beside it."""
    rng = np.random.default_rng(3)
    dim, n = 24, 400
    places = unit(rng.normal(size=(4, dim)))
    truth = rng.integers(0, 4, n)  # the last one is none of the labels
    images = unit(places[truth] + 0.25 * rng.normal(size=(n, dim)))
    texts = unit(places[:3] + 0.9 * unit(rng.normal(size=(3, dim))))
    cohort = ImageCohort.of(
        images, np.zeros(n, np.float32), unit(rng.normal(size=(50, dim))), SCALE
    )
    base = 12 * (images @ texts.T).astype(np.float64) - 5

    def judge(evidence: np.ndarray) -> np.ndarray:
        powers = np.exp(evidence)
        shares: np.ndarray = powers / (1 + powers.sum(axis=1, keepdims=True))
        return shares

    made = Prototypes.learn(cohort, base, judge, 1.0)
    looks = made.evidence(images)
    known = truth < 3
    before = (base.argmax(axis=1) == truth)[known].mean()
    after = ((base + looks).argmax(axis=1) == truth)[known].mean()
    assert after > before + 0.02 and after > 0.97
    for label in range(3):
        assert np.median(looks[truth == label, label]) > 1.5
        assert np.median(looks[truth != label, label]) < 0.5
    again = Prototypes.learn(cohort, base, judge, 1.0)
    np.testing.assert_array_equal(again.rows, made.rows)  # nothing is drawn at random
    # A new image is judged like those that were learned from.
    new = unit(places[1] + 0.25 * rng.normal(size=(50, dim)))
    assert (made.evidence(new).argmax(axis=1) == 1).mean() > 0.9


def test_a_label_that_nothing_shows_has_a_prototype_of_no_weight() -> None:
    cohort, _rows, _ = world([0.1])
    nothing = np.full((len(cohort.vectors), 1), -30.0)
    made = Prototypes.learn(cohort, nothing, lambda evidence: np.exp(evidence), 1.0)
    assert np.abs(made.evidence(cohort.vectors)).max() < 1e-6


# --- what the images teach ---------------------------------------------------------------------


def test_images_count_less_where_most_show_one_label() -> None:
    weights = CohortWeights(genericity=4.0, z=2.0, excess=1.5, looks=0.5, stretch=0.7)
    alike = np.full((20, 4), 0.25)
    assert reduce_weights(weights, alike) == weights
    assert reduce_weights(weights, 1e-9 * np.eye(4)[[0] * 20]) == weights  # no label is shown
    most = np.array([[27.0, 3.0, 3.0, 3.0]])  # with one more each 28 of 40: (4 * .7 - 1) / 3 = .6
    less = reduce_weights(weights, most)
    assert (less.z, less.excess, less.looks) == pytest.approx((0.5, 0.375, 0.125))
    assert less._replace(z=2.0, excess=1.5, looks=0.5) == weights
    only = reduce_weights(weights, np.array([[1e9, 0.0]]))
    assert (only.z, only.excess, only.looks) == pytest.approx((0, 0, 0))


def test_rows_move_towards_the_images_that_seem_to_show_them() -> None:
    rng = np.random.default_rng(3)
    things, gap = np.eye(8)[:2], np.eye(8)[7]
    kinds = np.repeat([0, 1], 100)
    images = unit(things[kinds] + 2 * gap + 0.1 * rng.normal(size=(200, 8))).astype(np.float32)
    captions = unit(rng.normal(size=(50, 8))).astype(np.float32)
    cohort = ImageCohort.of(images, np.zeros(200, np.float32), captions, 20.0)
    rows = unit(np.eye(8)[2:4] + 0.1 * things)  # texts of two things, off the images of these
    moved = cohort.move_rows(rows, np.eye(2)[kinds])
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-6)
    before, after = (np.diag(r @ things.T) - np.diag(r[::-1] @ things.T) for r in (rows, moved))
    assert (after > before + 0.3).all()
    assert np.abs(moved @ gap).max() < 0.05  # not to where images lie, but apart
    one = cohort.move_rows(rows, np.tile([1.0, 0.0], (200, 1)))
    assert (one * rows).sum(axis=1) == pytest.approx(1, abs=1e-3)
