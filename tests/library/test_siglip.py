"""A model with a sigmoid loss, from files to probabilities: on the geometry of `toy_siglip`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from toy_scores import sigmoid, use
from toy_siglip import BIAS, SCALE, WORDS, ToySigLIP, write_images

from clipsearch.heads.head import Head
from clipsearch.library import Library
from clipsearch.types import NONE

LABELS = WORDS[:8]
"""The images of the last two words show none of them."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Write twelve images of each word: what each shows, by its path."""
    return write_images(tmp_path_factory.mktemp("siglip") / "images", each=12)


@pytest.fixture(scope="module")
def library(shown: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    folder = tmp_path_factory.mktemp("library") / "library"
    with Library.create(folder, encoder=ToySigLIP()) as made:
        made.index([Path(next(iter(shown))).parent])
        yield made


@pytest.fixture(scope="module")
def head(library: Library) -> Head:
    return library.head(LABELS, templates=["{}"])


def test_each_label_by_itself_gets_the_probability_of_the_loss(
    library: Library, head: Head, shown: dict[str, str]
) -> None:
    found = library.classify(head, mode="multi", threshold=0.0)
    assert len(found) == 120 and library.calibration().source == "assumed"
    for one in found:
        for label in one.labels:
            # Zhai et al. 2023, equation 1: sigmoid(t x.y + b).
            expected = 1 / (1 + math.exp(-(SCALE * label.score + BIAS)))
            assert label.probability == pytest.approx(expected, abs=1e-6)
            assert (label.probability > 0.5) == (label.label == shown[one.path])
        assert one.none == pytest.approx(1 - one.labels[0].probability)
    held = library.classify(head, mode="multi")
    assert [one.label for one in held] == [
        shown[one.path] if shown[one.path] in LABELS else NONE for one in held
    ]


def test_a_matrix_has_the_same_probabilities(library: Library, head: Head) -> None:
    found = library.matrix(None, head, where="width = 16")
    assert found.normalisation == "sigmoid"
    expected = sigmoid(SCALE * found.scores.astype(np.float64) + BIAS)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)


def test_a_calibration_takes_the_place_of_the_loss(
    shown: dict[str, str], head: Head, tmp_path: Path
) -> None:
    paths = list(shown)[:20]
    with Library.create(tmp_path / "fitted", encoder=ToySigLIP()) as library:
        before = library.matrix(paths, head)
        use(library, 1e-9, 1.0)  # the same for every cosine
        after = library.matrix(paths, head)
        judged = library.classify(head, images=paths, mode="multi")
    assert (before.normalisation, after.normalisation) == ("sigmoid", "calibrated")
    np.testing.assert_allclose(after.probabilities, 1 / (1 + np.exp(-1)), atol=1e-6)
    assert {len(one.labels) for one in judged} == {len(LABELS)}


def test_the_assumed_calibration_refuses_what_is_not_in_the_list(
    library: Library, head: Head, shown: dict[str, str]
) -> None:
    found = library.classify(head)
    right = [one.label == (shown[one.path] if shown[one.path] in LABELS else NONE) for one in found]
    assert np.mean(right) > 0.95
    sure = [one.probability for one in found if shown[one.path] in LABELS]
    assert np.median(sure) > 0.9


@pytest.mark.parametrize("word", WORDS)
def test_the_assumed_calibration_finds_the_relevant_images(
    library: Library, shown: dict[str, str], word: str
) -> None:
    hits = library.search(word, k=120)
    relevance = {hit.path: hit.relevance or 0.0 for hit in hits}
    least = min(relevance[path] for path, name in shown.items() if name == word)
    others = [relevance[path] for path, name in shown.items() if name != word]
    assert least > 0.98
    assert sum(p >= 0.5 for p in others) <= 3 and np.median(others) < 0.01
    assert hits.relevant == 12 + sum(p >= 0.5 for p in others)


@pytest.mark.parametrize("word", ["quartz", "harbour crane", "zebra"])
def test_a_word_that_no_image_shows_finds_next_to_nothing(library: Library, word: str) -> None:
    found = library.search(word, k=120)
    assert found.relevant is not None and found.relevant <= 1
    assert max(hit.relevance or 0.0 for hit in found[1:]) < 0.5
