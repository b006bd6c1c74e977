"""Few-shot learning on vectors: against formulas written out, and on worlds made to order."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from clipsearch.evaluation.metrics import average_precision
from clipsearch.fewshot import choose as choosing
from clipsearch.fewshot import trial
from clipsearch.fewshot.choose import CAREFUL, PLANS, ZERO_SHOT, Plan, choose, folds
from clipsearch.fewshot.methods import _Loss, learn_rows, log_loss, probe, prototype, tip, unit
from clipsearch.fewshot.suggest import margins, suggest
from clipsearch.fewshot.task import Task, distinct
from clipsearch.fewshot.trial import cross_validate, learning_curve


def world(
    shots: int = 8,
    labels: int = 10,
    *,
    wrong: float = 0.0,
    noise: float = 0.5,
    dim: int = 48,
    seed: int = 0,
) -> Task:
    """Make images and texts as CLIP has them: each kind in a cone of its own.

    wrong: how much of a label's text is about something else. noise: of the images.
    """
    rng = np.random.default_rng(7)
    names, others = unit(rng.normal(size=(2, labels, dim)))
    text_cone, image_cone = unit(rng.normal(size=(2, dim)))
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(labels), shots)
    grain = unit(rng.normal(size=(len(truth), dim)))
    images = unit(image_cone + 0.5 * names[truth] + noise * grain)
    text = unit(text_cone + 0.5 * unit((1 - wrong) * names + wrong * others))
    return Task(images, truth, text, 30.0)


def accuracy(scores: np.ndarray, truth: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == truth).mean())


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
    assert task.part(task.drawn(2)).counts.tolist() == [2, 2, 2]
    assert task.drawn(9).all()
    draws = {tuple(task.drawn(1, seed=seed).tolist()) for seed in range(20)}
    assert len(draws) > 5


def test_equal_images_count_once_and_not_at_all_if_their_labels_differ() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(3, 8)))
    kept, unclear = distinct(vectors[[0, 1, 0, 2, 1]], np.array([4, 5, 4, 4, 6]))
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
    found = probe(task, 2.0).vectors
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
        assert prototype(task, 5.0).vectors[j] == pytest.approx(expected, abs=1e-6)


def test_tip_adds_its_strength_at_most() -> None:
    task = world(1, 2)
    rows = tip(task, 6.0, 2.0)
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


# --- choosing ------------------------------------------------------------------------------


def test_folds_spread_each_label_evenly() -> None:
    labels = np.repeat([0, 1, 2, 3], [11, 5, 7, 1])
    fold = folds(labels)
    assert fold[-1] == -1
    assert set(fold[:-1].tolist()) == set(range(5))
    for label in range(3):
        counts = np.bincount(fold[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
    sizes = np.bincount(fold[:-1])
    assert sizes.max() - sizes.min() <= 1
    assert not np.array_equal(fold, folds(labels, seed=1))
    assert folds(np.repeat([0, 1], 2)).max() == 1  # not more folds than images of a label
    assert (folds(np.arange(4)) == -1).all()


def test_without_a_second_image_of_any_label_the_careful_plan_is_taken() -> None:
    for wanted, plan in CAREFUL.items():
        assert choose(world(1), wanted) == plan


def test_a_text_that_is_wrong_is_left_far_behind() -> None:
    plan = choose(world(16, wrong=0.8))
    assert plan.strength > CAREFUL["auto"].strength
    for wanted in ("probe", "tip", "prototype"):
        assert choose(world(8, wrong=0.8), wanted).method == wanted


def test_few_images_do_not_choose_what_is_far_from_the_text() -> None:
    for wanted in ("auto", "probe", "prototype", "tip"):
        for shots in (2, 3, 8):
            plan = choose(world(shots, wrong=1.0, noise=0.3), wanted)
            assert plan.method != "zero-shot"
            assert plan.strength <= 2 * shots * CAREFUL[plan.method].strength
    assert choose(world(8, wrong=1.0, noise=0.3), "probe").strength == 8


def test_a_choice_needs_to_be_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [ZERO_SHOT, *PLANS["probe"]]
    careful = plans.index(CAREFUL["probe"])

    def chosen(gain: float, error: float, lost: int = 0) -> Plan:
        """Choose where the last plan gains so much, with that error, and gets `lost` more wrong."""
        losses, right = np.ones((len(plans), 100)), np.full((len(plans), 100), True)
        losses[careful + 1 :] = 2.0
        losses[-1] = 1.0 - gain + 10 * error * np.resize([1, -1], 100)
        right[-1, :lost] = right[0, -1] = False
        monkeypatch.setattr(choosing, "_tried", lambda *_: (losses, right))
        return choose(world(10), "probe")

    assert chosen(gain=0.2, error=0.1) == plans[-1]
    assert chosen(gain=0.2, error=0.3) == CAREFUL["probe"]
    assert chosen(gain=0.2, error=0.1, lost=2) == plans[-1]  # two wrong for one is noise
    assert chosen(gain=0.2, error=0.1, lost=5) == ZERO_SHOT


def test_the_choice_looks_at_a_part_of_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    tried = choosing._tried
    monkeypatch.setattr(choosing, "MANY", 100)
    monkeypatch.setattr(
        choosing, "_tried", lambda t, *a: seen.append(t.counts.tolist()) or tried(t, *a)
    )
    choose(world(16))
    assert seen == [[10] * 10]


# --- never worse than the text, and better where that is wrong ------------------------------


def gains(wrong: float, noise: float, *, draws: int = 4) -> dict[int, float]:
    """Return points of accuracy gained over zero-shot, by number of images a label."""
    test = world(60, wrong=wrong, noise=noise, seed=99)
    before = accuracy(test.vectors @ test.text.T, test.labels)
    found = {}
    for shots in trial.SHOTS:
        tasks = [world(shots, wrong=wrong, noise=noise, seed=seed) for seed in range(draws)]
        after = [accuracy(choose(t).learn(t).scores(test.vectors), test.labels) for t in tasks]
        found[shots] = 100 * (float(np.mean(after)) - before)
    return found


def test_where_the_text_is_right_nothing_is_lost() -> None:
    found = gains(wrong=0.0, noise=1.2)
    assert min(found.values()) > -1.0


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

    rows = choose(task, method).learn(task)  # type: ignore[arg-type]
    text = precision(test.vectors @ task.text.T)
    assert precision(rows.scores(test.vectors)) > text + 0.1


# --- what it brings ------------------------------------------------------------------------


def test_no_image_is_tested_that_took_part_in_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    task = world(5, 4)
    asked: list[set[bytes]] = []

    def spy(inside: Task, *args: object, **more: object) -> Plan:
        asked.append({vector.tobytes() for vector in inside.vectors})
        return CAREFUL["auto"]

    monkeypatch.setattr(trial, "choose", spy)
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
    choice = trial.choose

    def spy(inside: Task, *args: object, **more: object) -> Plan:
        learned.append(inside.counts.tolist())
        return choice(inside, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(trial, "choose", spy)
    learning_curve(task, shots=(4,), repeats=2)
    assert learned == [[1, 4, 4]] * 2


# --- what to label next --------------------------------------------------------------------


def test_margins_are_those_of_the_two_best_labels() -> None:
    scores = np.array([[0.30, 0.25, 0.1], [0.2, 0.2, 0.1]])
    odds = np.exp(40 * scores[0, :2])
    assert margins(scores, 40.0) == pytest.approx([(odds[0] - odds[1]) / odds.sum(), 0.0])


def test_suggestions_are_uncertain_and_of_all_kinds() -> None:
    rng = np.random.default_rng(0)
    kinds = unit(rng.normal(size=(4, 32)))
    which = np.repeat(np.arange(4), [60, 10, 6, 4])
    vectors = unit(kinds[which] + 0.1 * rng.normal(size=(80, 32)))
    certain = unit(kinds[0] + 0.1 * rng.normal(size=(40, 32)))
    margin = np.concatenate([rng.uniform(0, 0.2, 80), np.full(40, 0.9)])
    chosen = suggest(np.concatenate([vectors, certain]), margin, 8)
    assert len(set(chosen.tolist())) == 8
    assert (chosen < 80).all()
    assert set(which[chosen].tolist()) == {0, 1, 2, 3}
    assert (np.diff(margin[chosen]) >= 0).all()


def test_equal_images_are_suggested_once() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(5, 8)))
    chosen = suggest(np.repeat(vectors, 3, axis=0), np.repeat([0.4, 0.1, 0.3, 0.2, 0.5], 3), 20)
    assert (chosen // 3).tolist() == [1, 3, 2, 0, 4]
