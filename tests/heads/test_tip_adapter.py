"""The cache of a Tip-Adapter, against the sums of its formula written out."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from clipsearch.heads.tip_adapter import Cache


def rows(n: int, dim: int = 8, *, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(n, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def cache(**changed: object) -> Cache:
    owners = np.array([0, 0, 0, 1, 3])  # label 2 has no image
    facts = {"keys": rows(5), "owners": owners, "labels": 4, "weight": 0.3, "sharpness": 2.5}
    return Cache(**{**facts, **changed})  # type: ignore[arg-type]


def test_the_bonus_is_that_of_the_formula() -> None:
    made, images = cache(), rows(6, seed=1)
    for image, bonus in zip(images, made.bonus(images), strict=True):
        near = [math.exp(-2.5 * (1 - float(image @ key))) for key in made.keys]
        means = {0: sum(near[:3]) / 3, 1: near[3], 3: near[4]}
        level = sum(means.values()) / 3
        expected = [0.3 * (means[label] - level) if label in means else 0.0 for label in range(4)]
        assert bonus == pytest.approx(expected, abs=1e-6)


def test_it_favours_the_label_of_the_same_image_and_moves_no_level() -> None:
    made = cache(keys=rows(3), owners=np.array([0, 1, 3]))
    bonus = made.bonus(made.keys)
    assert bonus.argmax(axis=1).tolist() == made.owners.tolist()
    assert bonus.sum(axis=1) == pytest.approx(0, abs=1e-6)


def test_one_label_keeps_what_it_had_among_all() -> None:
    made, images = cache(), rows(6, seed=1)
    for label in range(4):
        alone = made.only(label).bonus(images)
        assert alone.shape == (6, 1)
        assert np.array_equal(alone[:, 0], made.bonus(images)[:, label])


def test_it_survives_json() -> None:
    for made in (cache(), cache().only(3)):
        again = Cache.from_json(json.loads(json.dumps(made.to_json())))
        assert again == made
        assert np.array_equal(again.bonus(rows(3)), made.bonus(rows(3)))
    assert cache() != cache(weight=0.4)
    assert cache() != cache(keys=rows(5, seed=2))
    assert cache() != "a cache"


@pytest.mark.parametrize("changed", [{"labels": 3}, {"owners": ""}, {"keys": "?"}])
def test_json_that_is_no_cache_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Cache.from_json({**cache().to_json(), **changed})
