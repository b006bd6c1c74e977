"""The background: captions encoded once, log_mean_exps and the images of a library, kept in files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import ToyEncoder

from clipsearch.calibration import Context, background
from clipsearch.calibration.background import (
    Background,
    StoredLogMeanExps,
    background_captions,
    background_version,
)
from clipsearch.calibration.cohort import CohortCentre, cohort_log_mean_exp, genericity
from clipsearch.encoders.compiler.store import folder_of


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


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
    log_mean_exp = cohort_log_mean_exp(rows, found.vectors, info.logit_scale)
    np.testing.assert_array_equal(context.log_mean_exp, log_mean_exp[:, None])
    centre = CohortCentre.of(found.vectors)
    np.testing.assert_array_equal(context.genericity, genericity(rows, centre))
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


def test_libraries_of_a_compiled_model_share_what_was_encoded(
    tmp_path: Path, encode: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    info = encode.encoder.info
    libraries = [tmp_path / name for name in "abc"]
    for library in libraries:
        library.mkdir()
    Background.open(libraries[0], info, encode)
    Background.open(libraries[1], info, encode)
    assert encode.calls == 2  # the model is not compiled
    folder_of(info.fingerprint, "fp32").mkdir(parents=True)
    first = Background.open(libraries[0], info, encode)
    assert encode.calls == 2
    assert not list((tmp_path / "cache").rglob("*.captions"))  # the library had them
    Background.open(tmp_path / "new", info, encode)
    second = Background.open(libraries[2], info, encode)
    assert encode.calls == 3
    np.testing.assert_array_equal(first.vectors, second.vectors)
    (stored,) = (tmp_path / "cache").rglob("*.captions")
    stored.write_bytes(_cut(stored.read_bytes()))
    # Moved to where nothing is compiled, a library still has its own.
    assert len(list((libraries[2] / "background").iterdir())) == 1
    Background.open(libraries[2], info, encode)
    assert encode.calls == 3


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
    monkeypatch.setattr(background, "background_version", lambda: "another")
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
    rows = np.stack([found.in_words(image, images.mean(axis=0)) for image in images])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert ((rows @ things.T).argmax(axis=1) == np.arange(8)).all()
    assert np.abs(rows @ gap).max() < 0.2 < (images @ gap).min()


# --- log_mean_exps --------------------------------------------------------------------------------


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
    monkeypatch.setattr(background, "background_version", lambda: f"not {background_version()}")
    assert len(StoredLogMeanExps.open(tmp_path, info, "this catalog").ids) == 0


def test_the_images_of_a_library_are_stored_for_one_state_of_its_catalog(
    tmp_path: Path, encode: Counting
) -> None:
    info = encode.encoder.info
    made = Background.open(tmp_path, info, encode)
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(40, info.dim)))
    cohort = made.measure_images(vectors, made.log_mean_exp(vectors))
    made.store_images(tmp_path, info, "catalog 7", cohort)
    found = made.open_images(tmp_path, info, "catalog 7")
    assert found is not None
    np.testing.assert_array_equal(found.vectors, cohort.vectors)
    np.testing.assert_allclose(found.vectors, vectors, atol=1e-3)
    np.testing.assert_array_equal(found.log_mean_exps, cohort.log_mean_exps)
    np.testing.assert_array_equal(found.centre, cohort.centre)
    assert (found.line, found.spread) == (cohort.line, cohort.spread)
    assert made.open_images(tmp_path, info, "catalog 8") is None
    made.store_images(tmp_path, info, "", cohort)  # nothing to name it by
    assert made.open_images(tmp_path, info, "") is None


def test_labels_are_judged_with_the_images_of_the_library(
    tmp_path: Path, encode: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The formula written out for one label, and that a list of labels also has looks."""
    info = encode.encoder.info
    made = Background.open(tmp_path, info, encode)
    rng = np.random.default_rng(1)
    vectors = unit(rng.normal(size=(30, info.dim)))
    log_mean_exps = made.log_mean_exp(vectors)
    images = made.measure_images(vectors, log_mean_exps)
    rows = encode(["tree", "rain", "sun"])
    known = made.library_labels(images, rows[:1])
    assert known.prototypes is None and known.statistics is not None
    excess, mean, spread = (values[0] for values in known.statistics)
    context = made.with_cohort(
        Context(("tree",), info.logit_scale),
        rows[:1],
        log_mean_exps,
        library=known,
        vectors=vectors,
    )
    cosines = (vectors @ rows[:1].T).astype(np.float64)
    shrunk = 0.75 * log_mean_exps + 0.25 * log_mean_exps.mean()
    plain = info.logit_scale * cosines - shrunk[:, None]
    expected = plain + 0.2 * (cosines - mean) / spread - 0.3 * info.logit_scale * excess
    found = background.CohortCalibration.evidence(cosines, context)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert context.sharing == 1

    several = made.library_labels(images, rows, among=True)
    assert several.prototypes is not None
    context = made.with_cohort(
        Context(("tree", "rain", "sun"), info.logit_scale),
        rows,
        log_mean_exps,
        library=several,
        vectors=vectors,
    )
    assert context.looks is not None and context.looks.shape == (30, 3)
    assert context.sharing == 0.5
    assert made.library_labels(images, rows[:1], among=True).prototypes is None
