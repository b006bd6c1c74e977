"""Few-shot methods and margin sampling against formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
from few_shot_worlds import unit, world
from scipy.optimize import approx_fprime, minimize

from clipsearch.fewshot.methods import (
    _Loss,
    distinct_images,
    label_margins,
    learn_rows,
    linear_probe,
    log_loss,
    prototypes,
    sample_margins,
    tip_adapter,
)

# --- tasks ---------------------------------------------------------------------------------


def test_the_spread_is_the_variance_of_images() -> None:
    task = world()
    expected = task.vectors.astype(np.float64).var(axis=0, ddof=1).sum()
    assert task.spread == pytest.approx(expected, rel=1e-5)
    assert task.part(np.array([0])).spread > 0


def test_first_and_at_most_count_within_each_label() -> None:
    task = world(5, 3).part(np.array([0, 5, 10, 1, 6, 11, 2, 7]))  # labels 0 1 2 0 1 2 0 1
    assert task.first(1).tolist() == [True] * 3 + [False] * 5
    assert task.first(np.array([2, 0, 9])).tolist() == [True, False, True] * 2 + [False, False]
    assert task.part(task.draw(2)).counts.tolist() == [2, 2, 2]
    assert task.draw(9).all()
    draws = {tuple(task.draw(1, seed=seed).tolist()) for seed in range(20)}
    assert len(draws) > 5


def test_equal_images_count_once_and_not_at_all_if_their_labels_differ() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(3, 8)))
    kept, unclear = distinct_images(vectors[[0, 1, 0, 2, 1]], np.array([4, 5, 4, 4, 6]))
    assert (kept.tolist(), unclear) == ([0, 3], 1)


# --- methods -------------------------------------------------------------------------------


def test_the_slope_of_the_loss_is_that_of_its_value() -> None:
    task = world(3, 4, dim=6)
    loss = _Loss(task, np.arange(4), task.text.astype(np.float64), 2.0)
    at = task.text.astype(np.float64).ravel() + np.random.default_rng(0).normal(0, 0.1, 24)
    numeric = approx_fprime(at, lambda flat: loss(flat)[0], 1e-7)
    assert loss(at)[1] == pytest.approx(numeric, abs=2e-3, rel=1e-4)


def test_the_probe_finds_the_minimum_of_what_it_states() -> None:
    task = world(4, 2, dim=2, wrong=0.6)
    penalty = (task.scale / 2.0) ** 2 * task.spread

    def stated(flat: np.ndarray) -> float:
        rows = flat.reshape(2, 2)
        cosines = task.vectors @ (rows / np.linalg.norm(rows, axis=1, keepdims=True)).T
        odds = np.exp(task.scale * cosines)
        right = odds[np.arange(8), task.labels] / odds.sum(axis=1)
        return float(-np.log(right).sum() + penalty / 2 * ((rows - task.text) ** 2).sum())

    best = minimize(stated, task.text.ravel(), method="Nelder-Mead", options={"xatol": 1e-7})
    found = linear_probe(task, 2.0).vectors
    assert found == pytest.approx(unit(best.x.reshape(2, 2)), abs=2e-3)
    assert np.abs(found - task.text).max() > 0.02


def test_log_loss_is_that_of_softmax_and_never_overflows() -> None:
    logits = np.array([[1.0, 2.0, 0.5], [2e4, 0.0, -2e4]])
    losses, slopes = log_loss(logits, np.array([1, 2]))
    odds = np.exp(logits[0])
    assert losses == pytest.approx([-np.log(odds[1] / odds.sum()), 4e4])
    assert slopes.sum(axis=1) == pytest.approx(0, abs=1e-12)


def test_the_prototype_is_that_of_its_formula() -> None:
    task = world(4, 3)
    task = task.part(np.arange(3, 12))  # one image, four, four
    means = [task.vectors[task.labels == j].mean(axis=0) for j in range(3)]
    step = 5.0 / (task.scale * task.spread)
    for j, n in enumerate((1, 4, 4)):
        moved = task.text[j] + step * n / (n + 1) * (means[j] - sum(means) / 3)
        expected = moved / np.linalg.norm(moved)
        assert prototypes(task, 5.0).vectors[j] == pytest.approx(expected, abs=1e-6)


def test_tip_adds_its_strength_at_most() -> None:
    task = world(1, 2)
    rows = tip_adapter(task, 6.0, 2.0)
    gained = task.scale * (rows.scores(task.vectors) - task.vectors @ task.text.T)
    other = np.exp(-2.0 / task.spread * (1 - task.vectors[0] @ task.vectors[1]))
    assert gained == pytest.approx(3.0 * (1 - other) * np.array([[1, -1], [-1, 1]]), abs=1e-4)


@pytest.mark.parametrize("method", ["probe", "prototype", "tip"])
def test_a_label_without_images_keeps_its_text(method: str) -> None:
    task = world(4, 5)
    task = task.part(task.labels != 2)
    rows = learn_rows(task, method, 2.0)  # type: ignore[arg-type]
    text = task.vectors @ task.text.T
    assert rows.scores(task.vectors)[:, 2] == pytest.approx(text[:, 2], abs=1e-6)
    assert np.abs(rows.scores(task.vectors) - text)[:, [0, 1, 3, 4]].max() > 1e-3
    assert np.linalg.norm(rows.vectors, axis=1) == pytest.approx(1, abs=1e-6)


def test_margins_are_those_of_the_two_best_labels() -> None:
    scores = np.array([[0.30, 0.25, 0.1], [0.2, 0.2, 0.1]])
    odds = np.exp(40 * scores[0, :2])
    assert label_margins(40.0 * scores) == pytest.approx([(odds[0] - odds[1]) / odds.sum(), 0.0])


def test_suggestions_are_uncertain_and_of_all_kinds() -> None:
    rng = np.random.default_rng(0)
    kinds = unit(rng.normal(size=(4, 32)))
    which = np.repeat(np.arange(4), [60, 10, 6, 4])
    vectors = unit(kinds[which] + 0.1 * rng.normal(size=(80, 32)))
    certain = unit(kinds[0] + 0.1 * rng.normal(size=(40, 32)))
    margin = np.concatenate([rng.uniform(0, 0.2, 80), np.full(40, 0.9)])
    chosen = sample_margins(np.concatenate([vectors, certain]), margin, 8)
    assert len(set(chosen.tolist())) == 8
    assert (chosen < 80).all()
    assert set(which[chosen].tolist()) == {0, 1, 2, 3}
    assert (np.diff(margin[chosen]) >= 0).all()


def test_equal_images_are_suggested_once() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(5, 8)))
    chosen = sample_margins(
        np.repeat(vectors, 3, axis=0), np.repeat([0.4, 0.1, 0.3, 0.2, 0.5], 3), 20
    )
    assert (chosen // 3).tolist() == [1, 3, 2, 0, 4]


def test_only_the_ten_least_certain_per_image_are_candidates() -> None:
    """Of two groups, the certain one is reached only where the first has fewer than 10 n images."""
    rng = np.random.default_rng(1)
    near, far = unit(rng.normal(size=(2, 16)))
    for uncertain, expected in ((20, False), (19, True)):
        grain = 0.01 * rng.normal(size=(uncertain + 5, 16))
        groups = np.r_[np.zeros(uncertain, int), np.ones(5, int)]
        vectors = unit(np.stack([near, far])[groups] + grain)
        chosen = sample_margins(vectors, np.r_[np.full(uncertain, 0.1), np.full(5, 0.2)], 2)
        assert bool((groups[chosen] == 1).any()) is expected


def test_no_images_are_sampled_where_none_are_wanted() -> None:
    vectors = np.eye(3, dtype=np.float32)
    assert sample_margins(vectors, np.zeros(3), 0).tolist() == []
