"""Margin sampling: the least certain images, and not all of one kind."""

from __future__ import annotations

import numpy as np
import pytest
from few_shot_worlds import unit

from clipsearch.fewshot.margin_sampling import label_margins, sample_margins


def test_margins_are_those_of_the_two_best_labels() -> None:
    scores = np.array([[0.30, 0.25, 0.1], [0.2, 0.2, 0.1]])
    odds = np.exp(40 * scores[0, :2])
    assert label_margins(scores, 40.0) == pytest.approx([(odds[0] - odds[1]) / odds.sum(), 0.0])


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
