"""What a few-shot result says is what can be counted from its predictions."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from few_shot_worlds import world

from clipsearch.errors import TooFewExamples
from clipsearch.fewshot.cross_validation import CurvePoint, hold_out
from clipsearch.fewshot.methods import Task
from clipsearch.fewshot.result import FewShotResult, fit_head
from clipsearch.heads.head import Head

LABELS = tuple("abcde")


def head_of(task: Task) -> Head:
    labels = LABELS[: len(task.text)]
    return Head(labels, task.text, tuple((label,) for label in labels), "toy", "f", task.scale)


def fit(task: Task, *, shots: int | None = None, curve: bool = False) -> FewShotResult:
    return fit_head(task, head_of(task), "auto", shots=shots, curve=curve)


@pytest.fixture(scope="module")
def task() -> Task:
    """Make images whose labels the texts describe badly."""
    return world(8, 5, wrong=0.7)


@pytest.fixture(scope="module")
def result(task: Task) -> FewShotResult:
    return fit(task)


def test_accuracies_are_shares_of_the_predictions_and_the_gain_is_their_difference(
    task: Task, result: FewShotResult
) -> None:
    trial = result.trial
    assert trial is not None and result.images == result.tested == len(trial.truth) == 40
    before, after = trial.zero_shot == trial.truth, trial.few_shot == trial.truth
    assert result.zero_shot.value == before.mean()
    assert result.few_shot.value == after.mean() > before.mean()
    assert result.gain.value == pytest.approx(after.mean() - before.mean())
    for measure in (result.zero_shot, result.few_shot, result.gain):
        assert measure.low <= measure.value <= measure.high


def test_each_label_has_its_own_shares_and_the_label_that_took_most_of_its_images(
    result: FewShotResult,
) -> None:
    trial = result.trial
    assert trial is not None and result.confusion is not None
    counts = np.zeros((5, 5), int)
    np.add.at(counts, (trial.truth, trial.few_shot), 1)
    assert result.confusion.tolist() == counts.tolist()
    for j, one in enumerate(result.labels):
        own = trial.truth == j
        assert (one.label, one.examples, one.tested) == (LABELS[j], 8, 8)
        assert one.zero_shot == (trial.zero_shot[own] == j).mean()
        assert one.few_shot == (trial.few_shot[own] == j).mean()
        wrong = [counts[j, i] if i != j else 0 for i in range(5)]
        assert one.confused_with == (LABELS[int(np.argmax(wrong))] if any(wrong) else None)


@pytest.mark.slow
def test_the_head_keeps_its_labels_and_scores_images_as_it_was_learned(
    task: Task, result: FewShotResult
) -> None:
    head = result.head
    assert head.labels == LABELS and head.fingerprint == "f"
    right = (head.scores(task.vectors).argmax(axis=1) == task.labels).mean()
    assert right > ((task.vectors @ task.text.T).argmax(axis=1) == task.labels).mean()


def test_images_beyond_the_shots_are_what_it_is_tested_with(task: Task) -> None:
    found = fit(task, shots=3)
    assert (found.images, found.tested) == (15, 25)
    assert [(one.examples, one.tested) for one in found.labels] == [(3, 5)] * 5
    expected = hold_out(task, task.draw(3, seed=0), "auto", seed=0)
    assert found.trial is not None
    assert found.trial.few_shot.tolist() == expected.few_shot.tolist()


def test_one_image_a_label_is_learned_from_and_nothing_is_claimed() -> None:
    task = world(1, 5)
    found = fit(task, curve=True)
    assert (found.images, found.tested, found.trial, found.curve) == (5, 0, None, ())
    text = (task.vectors @ task.text.T).argmax(axis=1)
    assert found.zero_shot.value == (text == task.labels).mean()
    assert np.isnan([found.few_shot.value, found.gain.value]).all()
    assert all(np.isnan(one.few_shot) and one.tested == 0 for one in found.labels)
    with pytest.raises(TooFewExamples, match="learning curve"):
        found.curve_figure()
    with pytest.raises(TooFewExamples, match="confusion matrix"):
        found.confusion_figure()
    told = found.to_dict()
    assert told["few_shot"]["value"] is None and told["labels"][0]["few_shot"] is None


def test_a_label_that_no_image_tests_has_no_shares() -> None:
    task = world(4, 3)
    kept = (task.labels != 2) | (np.arange(12) == 8)
    found = fit(task.part(kept), shots=2)
    assert [one.tested for one in found.labels] == [2, 2, 0]
    last = found.labels[2]
    assert (last.examples, last.confused_with) == (1, None)
    assert np.isnan([last.zero_shot, last.few_shot]).all()


def test_json_holds_the_figures_without_the_head_and_the_single_images(
    result: FewShotResult,
) -> None:
    told = replace(result, curve=(CurvePoint(1, 0.5, 0.6, 0.5, 0.7, 10),)).to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert {"head", "trial"}.isdisjoint(told) and told["calibration"] is None
    assert told["method"] == result.method and told["labels"][0]["label"] == "a"
    assert told["curve"][0]["few_shot"] == 0.6
    assert result.confusion is not None and told["confusion"] == result.confusion.tolist()


def test_its_figures_show_the_curve_and_the_confusion(result: FewShotResult) -> None:
    curve = (CurvePoint(1, 0.5, 0.6, 0.5, 0.7, 10), CurvePoint(2, 0.5, 0.75, 0.7, 0.8, 10))
    (axes,) = replace(result, curve=curve).curve_figure().axes
    assert np.asarray(axes.lines[0].get_xydata()).tolist() == [[1, 0.6], [2, 0.75]]
    (axes,) = result.confusion_figure().axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [*LABELS]
