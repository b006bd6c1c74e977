"""Test example images: the modality gap and the Tip-Adapter cache."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from clipsearch.heads.example_images import Cache, Modalities, coefficients


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def some(n: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(n, dim)))


# --- what counts how much ------------------------------------------------------------------


@pytest.mark.parametrize("image", [False, True])
def test_prompts_of_one_kind_are_averaged(image: bool) -> None:
    rows = some(3)
    counted = coefficients(rows, [image] * 3, [1, 1, 1])
    assert counted is not None
    np.testing.assert_allclose(counted @ rows, unit(rows.mean(axis=0)))
    assert np.ptp(counted) == 0


def test_weights_count() -> None:
    rows = some(3)
    counted = coefficients(rows, [False] * 3, [2, 1, -0.5])
    assert counted is not None
    np.testing.assert_allclose(counted @ rows, unit(2 * rows[0] + rows[1] - 0.5 * rows[2]))


def test_the_images_count_by_their_share_however_many_there_are() -> None:
    rows = some(6)
    for chosen in ([1], [1, 2], [1, 2, 3, 5]):
        side = [i in chosen for i in range(6)]
        counted = coefficients(rows, side, [1] * 6)
        texts, images = unit(rows[np.invert(side)].sum(axis=0)), unit(rows[side].sum(axis=0))
        assert counted is not None
        np.testing.assert_allclose(counted @ rows, unit(0.75 * texts + 0.25 * images))


@pytest.mark.parametrize("weights", [[1, -1, 1], [0, 0, 1], [1, 1, 0]])
def test_a_side_that_cancels_out_is_told(weights: list[float]) -> None:
    row = some(1)
    rows = np.concatenate([row, row, some(1, seed=1)])
    found = coefficients(rows, [False, False, True], weights)
    if weights == [1, -1, 1]:
        assert found is None
    else:  # a side without weight is not there
        assert found is not None
        kept = rows[2] if weights == [0, 0, 1] else rows[0]
        np.testing.assert_allclose(found @ rows, kept)


def test_nothing_is_left_of_no_weights() -> None:
    assert coefficients(some(2), [False, True], [0, 0]) is None


# --- across the gap ------------------------------------------------------------------------


def test_an_image_becomes_the_text_that_differs_from_texts_as_it_does_from_images() -> None:
    texts, images = unit(some(40, seed=1) + 0.7), unit(some(30, seed=2) - 0.7)
    found = Modalities.of(texts.astype(np.float32), images.astype(np.float32))
    mean = texts.mean(axis=0)
    spread = np.mean([np.linalg.norm(text - mean) for text in texts])
    assert found.text_spread == pytest.approx(spread, rel=1e-5)
    for image, moved in zip(images, found.as_texts(images), strict=True):
        expected = mean + spread * unit(image - images.mean(axis=0))
        np.testing.assert_allclose(moved, unit(expected), atol=1e-6)


def test_the_mean_image_says_nothing() -> None:
    found = Modalities(some(1)[0], some(1, seed=1)[0], 0.5)
    np.testing.assert_allclose(found.as_texts(found.image_mean[None]), some(1), atol=1e-9)


def test_classes_with_an_image_do_not_win_against_classes_of_words() -> None:
    rng = np.random.default_rng(3)
    concepts, far = some(20, dim=64, seed=4), 2 * some(2, dim=64, seed=5)
    texts = unit(concepts + far[0])
    truth = np.repeat(np.arange(20), 20)
    images = unit(concepts[truth] + far[1] + rng.normal(scale=0.05, size=(400, 64)))
    modalities = Modalities.of(texts, images)

    def accuracy(examples: np.ndarray) -> float:
        head = texts.copy()
        head[:10] = unit(0.75 * texts[:10] + 0.25 * examples)
        return float(((images @ head.T).argmax(axis=1) == truth).mean())

    examples = images[np.arange(10) * 20]
    assert accuracy(examples) < 0.6  # as they are, they take everything
    assert accuracy(modalities.as_texts(examples)) >= accuracy(texts[:10]) > 0.9


# --- Tip-Adapter cache -----------------------------------------------------------------------


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


@pytest.mark.parametrize("selected", [-1, 4.0, True, 1e-300, "1", []])
def test_one_label_that_the_examples_do_not_have_is_refused(selected: object) -> None:
    with pytest.raises(ValueError):
        Cache.from_json(cache().to_json() | {"selected": selected})
    with pytest.raises((TypeError, ValueError)):
        Cache.from_json(cache().to_json() | {"labels": selected})
    assert cache() != "a cache"


@pytest.mark.parametrize("changed", [{"labels": 3}, {"owners": ""}, {"keys": "?"}])
def test_json_that_is_no_cache_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Cache.from_json({**cache().to_json(), **changed})
