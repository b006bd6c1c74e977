"""Choosing a method by cross-validation, and what it brings, on worlds made to order."""

from __future__ import annotations

import numpy as np
import pytest
from few_shot_worlds import unit, world

from clipsearch.errors import QueryError
from clipsearch.evaluation.metrics import average_precision
from clipsearch.fewshot import cross_validation
from clipsearch.fewshot.cross_validation import (
    CAREFUL,
    PLANS,
    ZERO_SHOT,
    Plan,
    assign_folds,
    choose_plan,
    cross_validate,
    learning_curve,
)
from clipsearch.fewshot.methods import Task


def accuracy(scores: np.ndarray, truth: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == truth).mean())


# --- plans -------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [ZERO_SHOT, *(Plan(m, 0.0) for m in ("probe", "tip"))])
def test_strength_nought_is_zero_shot(plan: Plan) -> None:
    task = world()
    assert np.array_equal(plan.learn(task).scores(task.vectors), task.vectors @ task.text.T)


@pytest.mark.parametrize("plan", PLANS["auto"], ids=str)
def test_scores_of_images_in_general_stay_at_the_level_of_the_text(plan: Plan) -> None:
    task, others = world(16, wrong=0.5), world(16, wrong=0.5, noise=3.0, seed=9)
    before = others.vectors @ task.text.T
    after = plan.learn(task).scores(others.vectors)
    assert after.mean() <= before.mean() + 0.01


def test_the_careful_plans_are_these() -> None:
    assert {
        "auto": Plan("probe", 1.0),
        "probe": Plan("probe", 1.0),
        "tip": Plan("tip", 2.0, 2.0),
        "prototype": Plan("prototype", 2.0),
    } == CAREFUL


def test_the_plans_tried_are_these() -> None:
    assert [plan.strength for plan in PLANS["probe"]] == [0.25, 0.5, 1, 2, 4, 8]
    assert [plan.strength for plan in PLANS["prototype"]] == [1, 2, 4, 8, 16, 32]
    assert [(plan.sharpness, plan.strength) for plan in PLANS["tip"]] == [
        (sharpness, strength) for sharpness in (2, 4) for strength in (1, 2, 8, 32)
    ]
    assert len(PLANS["auto"]) == 20


@pytest.mark.parametrize(
    ("plan", "shots", "expected"),
    [
        (Plan("probe", 8.0), 4, True),
        (Plan("probe", 8.001), 4, False),
        (Plan("tip", 8.0, 4.0), 2, True),
        (Plan("tip", 8.001, 4.0), 2, False),
        (Plan("prototype", 32.0), 8, True),
        (Plan("prototype", 32.0), 7.9, False),
        (ZERO_SHOT, 1, True),
    ],
)
def test_a_plan_may_be_twice_as_strong_per_image_of_a_label(
    plan: Plan, shots: float, expected: bool
) -> None:
    assert plan.is_within_reach(shots) is expected


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(QueryError, match="'forest': choose from probe, tip, prototype, auto"):
        choose_plan(world(), "forest")  # type: ignore[arg-type]


# --- choosing ------------------------------------------------------------------------------


def test_folds_spread_each_label_evenly() -> None:
    labels = np.repeat([0, 1, 2, 3], [11, 5, 7, 1])
    fold = assign_folds(labels)
    assert fold[-1] == -1
    assert set(fold[:-1].tolist()) == set(range(5))
    for label in range(3):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(fold[:-1])
    assert sizes.max() - sizes.min() <= 1
    assert not np.array_equal(fold, assign_folds(labels, seed=1))
    assert assign_folds(np.repeat([0, 1], 2)).max() == 1  # not more folds than images of a label
    assert (assign_folds(np.arange(4)) == -1).all()


def test_without_a_second_image_of_any_label_the_careful_plan_is_taken() -> None:
    for wanted, plan in CAREFUL.items():
        assert choose_plan(world(1), wanted) == plan


def test_a_text_that_is_wrong_is_left_far_behind() -> None:
    plan = choose_plan(world(16, wrong=0.8))
    assert plan.strength > CAREFUL["auto"].strength
    for wanted in ("probe", "tip", "prototype"):
        assert choose_plan(world(8, wrong=0.8), wanted).method == wanted


def test_few_images_do_not_choose_what_is_far_from_the_text() -> None:
    for wanted in ("auto", "probe", "prototype", "tip"):
        for shots in (2, 3, 8):
            plan = choose_plan(world(shots, wrong=1.0, noise=0.3), wanted)
            assert plan.method != "zero-shot"
            assert plan.strength <= 2 * shots * CAREFUL[plan.method].strength
    assert choose_plan(world(8, wrong=1.0, noise=0.3), "probe").strength == 8


def test_a_choice_needs_to_be_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [ZERO_SHOT, *PLANS["probe"]]
    careful = plans.index(CAREFUL["probe"])

    def chosen(gain: float, error: float, lost: int = 0) -> Plan:
        """Choose where the last plan gains so much, with that error, and gets `lost` more wrong."""
        losses, right = np.ones((len(plans), 100)), np.full((len(plans), 100), True)
        losses[careful + 1 :] = 2.0
        losses[-1] = 1.0 - gain + 10 * error * np.resize([1, -1], 100)
        right[-1, :lost] = right[0, -1] = False
        monkeypatch.setattr(cross_validation, "_try_plans", lambda *_: (losses, right))
        return choose_plan(world(10), "probe")

    assert chosen(gain=0.2, error=0.1) == plans[-1]
    assert chosen(gain=0.2, error=0.3) == CAREFUL["probe"]
    assert chosen(gain=0.2, error=0.1, lost=2) == plans[-1]  # two wrong for one is noise
    assert chosen(gain=0.2, error=0.1, lost=5) == ZERO_SHOT


def test_the_choice_looks_at_a_part_of_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    tried = cross_validation._try_plans
    monkeypatch.setattr(cross_validation, "_MOST_IMAGES", 100)
    monkeypatch.setattr(
        cross_validation, "_try_plans", lambda t, *a: seen.append(t.counts.tolist()) or tried(t, *a)
    )
    choose_plan(world(16))
    assert seen == [[10] * 10]


# --- never worse than the text, and better where that is wrong ------------------------------


def gains(wrong: float, noise: float, *, draws: int = 4) -> dict[int, float]:
    """Return points of accuracy gained over zero-shot, by number of images a label."""
    test = world(60, wrong=wrong, noise=noise, seed=99)
    before = accuracy(test.vectors @ test.text.T, test.labels)
    found = {}
    for shots in (1, 2, 4, 8, 16):
        tasks = [world(shots, wrong=wrong, noise=noise, seed=seed) for seed in range(draws)]
        after = [accuracy(choose_plan(t).learn(t).scores(test.vectors), test.labels) for t in tasks]
        found[shots] = 100 * (float(np.mean(after)) - before)
    return found


@pytest.mark.slow
def test_where_the_text_is_right_nothing_is_lost() -> None:
    found = gains(wrong=0.0, noise=1.2)
    assert min(found.values()) > -1.0


@pytest.mark.slow
def test_where_the_text_is_half_wrong_more_images_help_more() -> None:
    found = gains(wrong=0.55, noise=1.2)
    assert found[1] > -1.0
    assert found[4] > found[1]
    assert found[16] > max(10.0, found[4])


@pytest.mark.parametrize("method", ["probe", "prototype", "tip"])
def test_a_learned_row_finds_more_of_its_label_than_the_text_does(method: str) -> None:
    task, test = world(16, wrong=0.6, noise=1.0), world(20, wrong=0.6, noise=1.0, seed=9)

    def precision(scores: np.ndarray) -> float:
        each = [average_precision(test.labels == j, scores[:, j]) for j in range(10)]
        return float(np.mean(each))

    rows = choose_plan(task, method).learn(task)  # type: ignore[arg-type]
    text = precision(test.vectors @ task.text.T)
    assert precision(rows.scores(test.vectors)) > text + 0.1


# --- what it brings ------------------------------------------------------------------------


def test_no_image_is_tested_that_took_part_in_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    task = world(5, 4)
    asked: list[set[bytes]] = []

    def spy(inside: Task, *args: object, **more: object) -> Plan:
        asked.append({vector.tobytes() for vector in inside.vectors})
        return CAREFUL["auto"]

    monkeypatch.setattr(cross_validation, "choose_plan", spy)
    done = cross_validate(task)
    assert done is not None
    assert sorted(done.which.tolist()) == list(range(20))
    assert done.truth.tolist() == task.labels[done.which].tolist()
    tested = [{task.vectors[i].tobytes() for i in part} for part in np.split(done.which, 5)]
    assert all(inside.isdisjoint(outside) for inside, outside in zip(asked, tested, strict=True))
    assert [len(inside) for inside in asked] == [16] * 5


def test_random_labels_are_found_by_chance_alone() -> None:
    rng = np.random.default_rng(3)
    task = Task(
        unit(rng.normal(size=(100, 64))), np.arange(100) % 10, unit(rng.normal(size=(10, 64))), 30
    )
    done = cross_validate(task)
    assert done is not None
    assert (done.few_shot == done.truth).mean() < 0.3
    learned = Plan("probe", 8.0).learn(task)
    assert (
        accuracy(learned.scores(task.vectors), task.labels) > 0.9
    )  # what it would have said inside


def test_cross_validation_sees_what_learning_brings() -> None:
    done = cross_validate(world(16, wrong=0.6, noise=1.0))
    assert done is not None
    assert (done.few_shot == done.truth).mean() > (done.zero_shot == done.truth).mean() + 0.1
    assert cross_validate(world(1)) is None


def test_the_curve_rises_and_ends_where_nothing_is_left_to_test() -> None:
    task = world(9, wrong=0.6, noise=1.0)
    points = learning_curve(task, repeats=4)
    assert [point.shots for point in points] == [1, 2, 4, 8]
    assert points[-1].few_shot > points[0].few_shot
    assert all(p.low <= p.few_shot <= p.high and p.repeats == 4 for p in points)
    everything = accuracy(task.vectors @ task.text.T, task.labels)
    assert points[0].zero_shot == pytest.approx(everything, abs=0.05)


def test_a_label_of_few_images_leaves_one_for_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    task = world(6, 3)
    task = task.part(np.arange(4, 18))  # two, six, six
    learned = []
    choice = cross_validation.choose_plan

    def spy(inside: Task, *args: object, **more: object) -> Plan:
        learned.append(inside.counts.tolist())
        return choice(inside, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(cross_validation, "choose_plan", spy)
    learning_curve(task, shots=(4,), repeats=2)
    assert learned == [[1, 4, 4]] * 2


def test_a_gain_of_one_and_a_half_standard_errors_is_enough_and_less_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans = [ZERO_SHOT, *PLANS["probe"]]

    def choice(errors: float) -> Plan:
        """Choose where the last plan gains that many standard errors."""
        losses, right = np.ones((len(plans), 100)), np.full((len(plans), 100), True)
        noise = np.resize([1.0, -1.0], 100)  # standard deviation 1, standard error 0.1
        losses[-1] = 1.0 - 0.1 * errors + noise
        monkeypatch.setattr(cross_validation, "_try_plans", lambda *_: (losses, right))
        return choose_plan(world(10), "probe")

    assert choice(1.51) == plans[-1]
    assert choice(1.49) == CAREFUL["probe"]


def test_more_than_two_thousand_images_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(task: Task, plans: list[Plan], fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append(len(task.labels))
        return np.ones((len(plans), 9)), np.ones((len(plans), 9), bool)

    monkeypatch.setattr(cross_validation, "_try_plans", spy)
    for shots in (200, 201):
        choose_plan(world(shots, dim=4))
    assert seen == [2000, 2000]
    choose_plan(world(250, 8, dim=4).part(np.arange(1999)))
    assert seen[-1] == 1999
