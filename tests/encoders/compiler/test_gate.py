"""The gate of int8 measures errors of scores, and how surely it knows them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clipsearch.encoders.compiler import gate
from clipsearch.encoders.compiler.gate import describe_failure, measure_gate
from clipsearch.encoders.compiler.store import Gate
from clipsearch.encoders.preprocess import Preprocess


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _rows(count: int, seed: int = 0) -> np.ndarray:
    """Return unit rows within a cone, as the images of a model lie."""
    rng = np.random.default_rng(seed)
    return _unit(np.eye(16)[0] + 0.1 * rng.normal(size=(count, 16)))


def _with_error(rows: np.ndarray, size: float, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return _unit(rows + 0.1 * size * rng.normal(size=rows.shape))


def test_equal_vectors_pass_without_an_error() -> None:
    same = measure_gate(_rows(40), _rows(40), _rows(20, seed=2))
    assert (same.images, round(same.cosine, 6), same.passed) == (40, 1, True)
    assert (same.error, same.deviation) == (0, 0)


def test_the_error_is_that_of_scores_relative_to_their_spread() -> None:
    exact, texts = _rows(40), _unit(np.random.default_rng(2).normal(size=(20, 16)))
    rounded = _with_error(exact, 0.1)
    measured = measure_gate(exact, rounded, texts)
    cosines = [float(a @ b) for a, b in zip(exact, rounded, strict=True)]
    assert measured.cosine == pytest.approx(np.mean(cosines))
    assert measured.worst == pytest.approx(min(cosines))
    errors = []
    for pairs in (
        [(exact @ text, rounded @ text) for text in texts],
        [(np.delete(exact @ exact[n], n), np.delete(rounded @ rounded[n], n)) for n in range(40)],
    ):
        noise = np.mean([np.var(after - before) for before, after in pairs])
        errors.append(np.sqrt(noise / np.mean([np.var(before) for before, _ in pairs])))
    assert measured.error == pytest.approx(max(errors))
    assert 0.05 < max(errors) < 0.2


def test_what_is_the_same_for_all_images_is_no_error() -> None:
    exact, texts = _rows(40), _rows(20, seed=2)
    moved = exact + 0.2 * np.eye(16)[3]  # changes every score of a query alike
    measured = gate._score_error(texts @ exact.T, texts @ moved.T)
    assert measured[0] == pytest.approx(0, abs=1e-6)


def test_the_standard_error_is_what_samples_differ_by() -> None:
    exact, texts = _rows(2_000), _unit(np.random.default_rng(2).normal(size=(50, 16)))
    # A part of the images is rounded worse, so that samples differ.
    rounded = np.concatenate([_with_error(exact[:1_000], 0.05), _with_error(exact[1_000:], 0.2)])
    rng = np.random.default_rng(3)
    found = []
    for _ in range(100):
        some = rng.choice(2_000, 64, replace=False)
        found.append(measure_gate(exact[some], rounded[some], texts))
    spread = np.std([one.error or np.nan for one in found])
    assert 0.6 < np.mean([one.deviation or np.nan for one in found]) / spread < 1.9


@pytest.mark.parametrize(("size", "passed"), [(0.05, True), (0.5, False)])
def test_errors_beyond_the_limit_do_not_pass(size: float, passed: bool) -> None:
    exact, texts = _rows(64), _unit(np.random.default_rng(2).normal(size=(20, 16)))
    measured = measure_gate(exact, _with_error(exact, size), texts)
    assert measured.passed is passed
    assert bool(describe_failure(measured)) is not passed


def test_an_error_that_may_be_beyond_the_limit_does_not_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact, texts = _rows(64), _unit(np.random.default_rng(2).normal(size=(20, 16)))
    rounded = _with_error(exact, 0.05)
    measured = measure_gate(exact, rounded, texts)
    assert measured.passed and measured.error and measured.deviation
    monkeypatch.setattr(gate, "_MOST_ERROR", measured.error + measured.deviation)
    assert not measure_gate(exact, rounded, texts).passed


def test_a_mean_cosine_that_is_too_low_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    exact, texts = _rows(64), _rows(20, seed=2)
    monkeypatch.setattr(gate, "_LEAST_COSINE", 1.01)
    assert not measure_gate(exact, exact, texts).passed


def test_a_failure_that_an_earlier_version_measured_is_told_without_an_error() -> None:
    before = Gate(356, 0.99, 0.9, False)
    assert describe_failure(before) == (
        "int8 did not pass the gate: mean cosine 0.99000 on 356 images"
    )
    assert describe_failure(None) == describe_failure(before._replace(passed=True)) == ""


def test_the_gate_asks_a_sample_of_ones_own_images_and_scenes(
    make_images: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_OWN", 5)
    folder = make_images(12)[0].parent
    (folder / "broken.png").write_bytes(b"no image")
    chosen = gate._choose_images([folder])
    assert len(set(chosen)) == 5
    assert chosen == gate._choose_images([folder])
    prepare = Preprocess((80, 80), "longest", "bicubic", 255)
    seen = list(gate.gate_images(prepare, [folder]))
    assert len(seen) == 64 - sum(path.endswith("broken.png") for path in chosen)
    assert {pixels.shape for pixels in seen} == {(80, 80, 3)}
    assert len(set(gate.gate_captions())) == 50
