"""Cohort normalisation: each part against arithmetic done by hand or in another way."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyEncoder

from clipsearch.calibration import Context, cohort, label_probabilities
from clipsearch.calibration.cohort import (
    SHIPPED_CALIBRATIONS,
    Background,
    CohortCalibration,
    CohortCentre,
    StoredLogMeanExps,
    background_captions,
    background_version,
    cohort_log_mean_exp,
    cohort_normalised_scores,
    genericity,
)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_log_mean_exp_is_the_log_of_the_mean_of_powers_over_the_captions() -> None:
    rng = np.random.default_rng(0)
    images, cohort = unit(rng.normal(size=(5, 8))), unit(rng.normal(size=(30, 8)))
    for image, log_mean_exp in zip(images, cohort_log_mean_exp(images, cohort, 7.0), strict=True):
        powers = [math.exp(7 * float(image @ caption)) for caption in cohort]
        assert log_mean_exp == pytest.approx(math.log(sum(powers) / 30), abs=1e-5)
    assert cohort_log_mean_exp(images, cohort, 1e4).max() <= 1e4  # and no overflow


def test_the_score_is_how_much_likelier_a_label_is_than_a_caption() -> None:
    """By the softmax of the model over the label and the cohort, as it defines it."""
    rng = np.random.default_rng(1)
    image, cohort = unit(rng.normal(size=(1, 8))), unit(rng.normal(size=(40, 8)))
    label = unit(rng.normal(size=(1, 8)))
    powers = np.exp(5 * (np.concatenate([label, cohort]) @ image[0]).astype(np.float64))
    softmax = powers / powers.sum()
    log_mean_exp = cohort_log_mean_exp(image, cohort, 5.0)
    found = cohort_normalised_scores(image @ label.T, log_mean_exp[:, None], 5.0)
    assert found[0, 0] == pytest.approx(math.log(softmax[0] / softmax[1:].mean()), abs=1e-5)


def test_the_score_rises_with_the_cosine_and_not_with_all_cosines_of_an_image() -> None:
    scores = np.array([[0.30, 0.10], [0.25, 0.20]])
    found = cohort_normalised_scores(scores, np.array([[4.0], [5.0]]), 20.0)
    np.testing.assert_allclose(found, [[2, -2], [0, -1]], atol=1e-12)
    # An image that gives every text more: its log-mean-exp moves by as much as its labels do.
    cosines = np.linspace(0.1, 0.4, 7)[None]
    here, there = (
        cohort_log_mean_exp(c.astype(np.float32), np.eye(7, dtype=np.float32), 20.0)
        for c in (cosines, cosines + 0.2)
    )
    np.testing.assert_allclose(there - here, 20 * 0.2, atol=1e-5)


def test_a_label_nearer_to_the_mean_of_texts_than_captions_is_penalised_four_times() -> None:
    """Captions at the corners of a square, 1 from their mean in the direction of a third axis."""
    captions = np.array([[1, 0, 1], [-1, 0, 1], [0, 1, 1], [0, -1, 1]]) / math.sqrt(2)
    far, near = np.array([1, 0, 0.0]), np.array([math.sin(0.1), 0, math.cos(0.1)])
    mean, usual = np.array([0, 0, 1 / math.sqrt(2)]), 1 / math.sqrt(2)
    found = genericity(np.stack([captions[0], far, near]), CohortCentre.of(captions))
    expected = math.log(usual / np.linalg.norm(near - mean))
    np.testing.assert_allclose(found, [0, 0, expected], atol=1e-7)
    scores = cohort_normalised_scores(np.zeros((2, 3)), np.zeros((2, 1)), 30.0, found)
    np.testing.assert_allclose(scores, [[0, 0, -4 * expected]] * 2, atol=1e-6)


def test_the_logit_is_a_line_of_the_score_and_a_shift_of_the_label() -> None:
    made = CohortCalibration(2.0, -1.0, {"cat": 0.5})
    context = Context(
        ("dog", "cat", "cow"),
        10.0,
        log_mean_exp=np.array([[1.0], [2.0]]),
        genericity=np.array([0, 0, 0.25]),
    )
    found = made.logits(np.full((2, 3), 0.3), context)
    np.testing.assert_allclose(found, [[3, 3.5, 1], [1, 1.5, -1]], atol=1e-12)


def test_shipped_parameters_are_of_the_background_that_is_shipped() -> None:
    shipped = json.loads(SHIPPED_CALIBRATIONS.read_text("utf-8"))
    assert shipped["models"], "run scripts/calibration/compare.py --write"
    for fingerprint, entry in shipped["models"].items():
        assert entry["background"] == background_version(), (
            "run scripts/calibration/compare.py --write"
        )
        found = CohortCalibration.of_model(fingerprint)
        assert (found.slope, found.offset) == (entry["slope"], entry["offset"])
        assert found.source == "shipped" and found.slope > 0


def test_a_model_without_parameters_gets_assumed_ones() -> None:
    found = CohortCalibration.of_model("no such model")
    assert (found.source, found.slope, found.offset) == ("assumed", 0.8, -1.4)
    context = Context(("a", "b"), 1.0, log_mean_exp=np.zeros((1, 1)), genericity=np.zeros(2))
    probabilities = label_probabilities(found.logits(np.array([[0.0, 3.5]]), context))
    assert probabilities[0] == pytest.approx([0.2, 0.8], abs=0.01)


class Counting:
    """Encodes with the toy, and counts how often."""

    def __init__(self) -> None:
        self.encoder = ToyEncoder()
        self.calls = 0

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.calls += 1
        return self.encoder.encode_texts(texts)


@pytest.fixture
def encode() -> Counting:
    return Counting()


def test_there_are_several_hundred_captions_none_twice() -> None:
    assert 300 <= len(background_captions()) <= 1000
    assert len(set(background_captions())) == len(background_captions())
    assert all(
        caption == caption.strip() and "#" not in caption for caption in background_captions()
    )


def test_it_names_many_things_as_labels_are_said() -> None:
    """With the full stop of the templates: a model hears it, and names without it fit worse."""
    named = [caption for caption in background_captions() if caption.endswith(".")]
    assert len(named) > 300
    assert all(caption.startswith("a picture of ") for caption in named)
    assert {f"a picture of a {x}." for x in ("cat", "penguin", "banjo")} <= set(named)


def test_what_stands_above_the_background_is_counted_in_its_own_scale(tmp_path: Path) -> None:
    info, encoder = ToyEncoder().info, ToyEncoder()
    found = Background.open(tmp_path, info, encoder.encode_texts)
    assert found.scale == info.logit_scale
    rows = encoder.encode_texts(["tree", "rain"])
    context = found.with_cohort(
        Context(("tree", "rain"), info.logit_scale), rows, found.log_mean_exp(rows)
    )
    assert context.log_mean_exp is not None and context.genericity is not None
    log_mean_exp = cohort.cohort_log_mean_exp(rows, found.vectors, info.logit_scale)
    np.testing.assert_array_equal(context.log_mean_exp, log_mean_exp[:, None])
    centre = cohort.CohortCentre.of(found.vectors)
    np.testing.assert_array_equal(context.genericity, cohort.genericity(rows, centre))
    columns = np.array([1, 0, 1])
    pairs = found.with_cohort(
        Context(("tree", "rain"), info.logit_scale, columns=columns), rows, log_mean_exp[[0, 0, 1]]
    )
    np.testing.assert_array_equal(pairs.log_mean_exp, log_mean_exp[[0, 0, 1]])
    np.testing.assert_array_equal(pairs.genericity, context.genericity[columns])


def test_it_is_encoded_once_and_then_read(tmp_path: Path, encode: Counting) -> None:
    first = Background.open(tmp_path, encode.encoder.info, encode)
    second = Background.open(tmp_path, encode.encoder.info, encode)
    assert encode.calls == 1
    np.testing.assert_array_equal(first.vectors, encode.encoder.encode_texts(background_captions()))
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert [p.suffix for p in (tmp_path / "background").iterdir()] == [".captions"]


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip(data: bytes) -> bytes:
    return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]


@pytest.mark.parametrize("damage", [_cut, _flip, lambda data: b"", lambda data: b"PK" * 9999])
def test_a_damaged_file_is_made_again(
    tmp_path: Path, encode: Counting, damage: Callable[[bytes], bytes]
) -> None:
    first = Background.open(tmp_path, encode.encoder.info, encode)
    (file,) = (tmp_path / "background").iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    again = Background.open(tmp_path, encode.encoder.info, encode)
    assert encode.calls == 2
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert file.read_bytes() == whole


def test_other_captions_are_encoded_anew(
    tmp_path: Path, encode: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    Background.open(tmp_path, encode.encoder.info, encode)
    monkeypatch.setattr(cohort, "background_version", lambda: "another")
    Background.open(tmp_path, encode.encoder.info, encode)
    assert encode.calls == 2


def test_models_have_files_of_their_own(tmp_path: Path, encode: Counting) -> None:
    other = Counting()
    other.encoder = ToyEncoder("other", seed=1)
    Background.open(tmp_path, encode.encoder.info, encode)
    Background.open(tmp_path, other.encoder.info, other)
    Background.open(tmp_path, encode.encoder.info, encode)
    assert (encode.calls, other.calls) == (1, 1)


def test_a_folder_that_cannot_be_written_to_is_no_error(tmp_path: Path, encode: Counting) -> None:
    (tmp_path / "background").write_text("a file where the folder would be")
    found = Background.open(tmp_path, encode.encoder.info, encode)
    assert len(found.vectors) == len(background_captions())


def test_an_image_in_words_is_a_text_that_says_the_same() -> None:
    """Two things, each with its images and captions; images share a direction of their own."""
    rng = np.random.default_rng(0)
    things, gap = np.eye(16)[:8], np.eye(16)[8]
    texts = np.repeat(things, 5, axis=0) + 0.1 * rng.normal(size=(40, 16))
    unit = (texts / np.linalg.norm(texts, axis=1, keepdims=True)).astype(np.float32)
    found = Background(unit, 100.0)
    images = things + 2 * gap
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    rows = np.stack([found.in_words(image) for image in images])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert ((rows @ things.T).argmax(axis=1) == np.arange(8)).all()
    assert np.abs(rows @ gap).max() < 0.2 < (images @ gap).min()


# --- stored log-mean-exps -----------------------------------------------------------------------


def test_log_mean_exps_are_found_by_id_and_grow(tmp_path: Path) -> None:
    info = ToyEncoder().info
    nothing = StoredLogMeanExps.open(tmp_path, info, "key")
    values, known = nothing.of(np.array([3, 4]))
    assert not known.any() and np.isinf(values).all()
    some = nothing.with_more(np.array([7, 3]), np.array([0.7, 0.3], np.float32))
    more = some.with_more(np.array([5]), np.array([0.5], np.float32))
    values, known = more.of(np.array([5, 4, 7, 3, 9]))
    assert known.tolist() == [True, False, True, True, False]
    np.testing.assert_allclose(values[known], [0.5, 0.7, 0.3])
    more.store(tmp_path, info, "key")
    read = StoredLogMeanExps.open(tmp_path, info, "key")
    np.testing.assert_array_equal(read.ids, [3, 5, 7])
    np.testing.assert_array_equal(read.values, more.of(read.ids)[0])


def test_log_mean_exps_of_another_catalog_or_background_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = ToyEncoder().info
    one = StoredLogMeanExps(np.array([1]), np.array([0.1], np.float32))
    one.store(tmp_path, info, "this catalog")
    assert len(StoredLogMeanExps.open(tmp_path, info, "this catalog").ids) == 1
    assert len(StoredLogMeanExps.open(tmp_path, info, "another").ids) == 0
    monkeypatch.setattr(cohort, "background_version", lambda: f"not {background_version()}")
    assert len(StoredLogMeanExps.open(tmp_path, info, "this catalog").ids) == 0
