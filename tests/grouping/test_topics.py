"""Topics and events: against brute force and scikit-learn, on mixtures whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from oracle import unit_rows
from sklearn.metrics import adjusted_rand_score

from clipsearch.errors import BadGrouping, BadLabelFile
from clipsearch.grouping.topics import (
    centre,
    choose_distinct_names,
    clusters,
    event_title,
    events,
    measure_separations,
    name_scores,
    rank_typical,
    sample,
    separation_by_chance,
    span,
    topic_phrases,
)
from clipsearch.types import Facts, PartialDate, Progress


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def mixture(
    sizes: list[int], *, dim: int = 24, spread: float = 0.6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Make unit rows around `len(sizes)` random middles that share one direction, shuffled."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    middles = unit(rng.normal(size=(len(sizes), dim)))
    noise = rng.normal(size=(len(truth), dim)) / dim**0.5
    return unit(unit(rng.normal(size=(1, dim))) + middles[truth] + spread * noise), truth


# --- groups --------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[60, 40], [50, 30, 20], [30, 25, 20, 15, 10]])
def test_auto_finds_the_number_and_the_groups(sizes: list[int]) -> None:
    vectors, truth = mixture(sizes)
    groups = clusters(vectors)
    assert adjusted_rand_score(truth, groups) == 1.0
    assert np.bincount(groups).tolist() == sizes  # the largest first


def test_a_given_number_is_taken() -> None:
    vectors, truth = mixture([40, 30, 20])
    assert adjusted_rand_score(truth, clusters(vectors, 3)) == 1.0
    assert np.unique(clusters(vectors, 5)).tolist() == [0, 1, 2, 3, 4]
    assert clusters(vectors, 1).tolist() == [0] * 90


def test_the_same_images_give_the_same_groups() -> None:
    vectors, _ = mixture([30, 30, 30], spread=2.0)
    assert clusters(vectors, 4).tolist() == clusters(vectors, 4).tolist()
    assert clusters(vectors).tolist() == clusters(vectors).tolist()


def test_large_libraries_are_grouped_in_small_batches() -> None:
    vectors, truth = mixture([5_000, 2_500, 2_501], dim=8, spread=0.3)
    assert adjusted_rand_score(truth, clusters(vectors, 3)) > 0.99


def test_tiny_libraries() -> None:
    a, b, c = unit(np.eye(3))
    assert clusters(np.empty((0, 3), np.float32)).tolist() == []
    assert clusters(np.stack([a])).tolist() == [0]
    assert clusters(np.stack([a, b])).tolist() == [0, 0]
    assert clusters(np.stack([a, b]), 2).tolist() == [0, 1]
    assert clusters(np.stack([a, b]), 7).tolist() == [0, 1]
    assert clusters(np.stack([a, a, a]), 2).tolist() == [0, 0, 0]
    near = unit(np.array([[1, 0, 0.1]]))[0]
    assert clusters(np.stack([c, a, near])).tolist() == [1, 0, 0]


def test_a_number_below_one_is_refused() -> None:
    with pytest.raises(BadGrouping, match="0 topics"):
        clusters(np.eye(3, dtype=np.float32), 0)


def test_progress_counts_the_numbers_that_are_tried() -> None:
    seen: list[Progress] = []
    vectors, _ = mixture([20, 16])
    clusters(vectors, on_progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(i, 5) for i in range(5)]  # 2 to 6 = sqrt(36)


def test_a_sample_stands_for_many() -> None:
    assert sample(2_000, 0).tolist() == list(range(2_000))
    rows = sample(20_000, 0)
    assert len(np.unique(rows)) == 2_000 and (np.diff(rows) > 0).all()
    assert abs(float(rows.mean()) / (20_000) - 0.5) < 0.05
    assert np.array_equal(rows, sample(20_000, 0))


# --- what groups are like ------------------------------------------------------------------


def test_the_most_typical_is_the_medoid() -> None:
    vectors, _ = mixture([25], spread=2.0)
    order, scores = rank_typical(vectors)
    by_hand = (vectors.astype(np.float64) @ vectors.T.astype(np.float64)).mean(axis=1)
    assert order.tolist() == np.argsort(-by_hand).tolist()
    middle = vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
    np.testing.assert_allclose(scores, np.sort(vectors @ middle)[::-1], atol=1e-6)


def test_equal_images_keep_their_order() -> None:
    order, scores = rank_typical(unit(np.array([[0.0, 1.0], [1.0, 0.2], [1.0, 0.2], [1.0, 0.2]])))
    assert order.tolist() == [1, 2, 3, 0]
    assert scores[0] == scores[2] > scores[3]


def test_separations_are_mean_silhouettes() -> None:
    vectors, groups = mixture([6, 5, 4], dim=8, spread=1.5)
    distances = 1 - vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    silhouettes = []
    for row, group in enumerate(groups):
        own = distances[row, (groups == group) & (np.arange(15) != row)].mean()
        other = min(distances[row, groups == g].mean() for g in range(3) if g != group)
        silhouettes.append((other - own) / max(other, own))
    expected = [np.array(silhouettes)[groups == g].mean() for g in range(3)]
    np.testing.assert_allclose(measure_separations(vectors, groups), expected, atol=1e-5)  # type: ignore[arg-type]


def test_one_group_is_not_separate_from_anything() -> None:
    vectors, _ = mixture([5])
    assert measure_separations(vectors, np.zeros(5, np.int64)) == [None]
    assert measure_separations(vectors[:2], np.array([0, 1])) == [None, None]
    assert measure_separations(vectors[:0], np.zeros(0, np.int64)) == []


# --- names ---------------------------------------------------------------------------------


def test_name_scores_are_what_the_formula_says() -> None:
    vectors, groups = mixture([7, 5, 3])
    phrases = unit(np.random.default_rng(1).normal(size=(11, 24)))
    found = name_scores(vectors, groups, phrases)
    for group in range(3):
        for number, phrase in enumerate(phrases):
            inside = np.mean([v @ phrase for v in vectors[groups == group]])
            outside = np.mean([v @ phrase for v in vectors[groups != group]])
            assert found[group, number] == pytest.approx(inside - outside + 0.5 * inside, abs=1e-6)


def test_names_say_what_sets_a_group_apart_not_what_fits_all() -> None:
    common, sea, snow = np.eye(3)
    vectors = unit(np.stack([2 * common + sea] * 4 + [2 * common + snow] * 3))
    groups = np.array([0] * 4 + [1] * 3)
    scores = name_scores(vectors, groups, unit(np.stack([common, sea, snow])))
    names = choose_distinct_names(scores, ["image", "sea", "snow"])
    assert [name[0] for name in names] == ["sea", "snow"]


def test_a_single_group_is_named_by_what_fits() -> None:
    vectors = unit(np.array([[1.0, 0.1], [1.0, 0.3]]))
    scores = name_scores(vectors, np.zeros(2, np.int64), np.eye(2, dtype=np.float32))
    assert choose_distinct_names(scores, ["this", "that"]) == [("this", "that")]


def test_a_name_is_the_first_of_one_group_only() -> None:
    scores = np.array([[0.9, 0.5, 0.1, 0.0], [0.8, 0.7, 0.2, 0.1]])
    names = choose_distinct_names(scores, ["cat", "dog", "fish", "bird"])
    assert names == [("cat", "dog", "fish"), ("dog", "cat", "fish")]
    assert all(len(name) == 3 for name in names)


def test_more_groups_than_phrases() -> None:
    assert choose_distinct_names(np.array([[0.1], [0.3]]), ["cat"]) == [("cat",), ("cat",)]


def test_the_vocabulary_is_large_and_each_phrase_in_it_once() -> None:
    found = topic_phrases()
    assert len(found) > 500
    for place in ("night", "snow", "desert", "sky", "sea", "grass", "forest", "room", "beach"):
        assert place in found
    assert found["snow"] == ["in the snow", "snow"] and found["island"] == []
    lines = (
        Path(__file__).parents[2].joinpath("clipsearch/grouping/vocabulary.txt").read_text("utf-8")
    )
    phrases = [line for line in lines.splitlines() if line and not line.startswith("#")]
    assert len(phrases) == len(found)


def test_a_vocabulary_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "own.txt"
    file.write_text("cat\ndog: a dog; a hound\n", "utf-8")
    assert topic_phrases(file) == {"cat": [], "dog": ["a dog", "a hound"]}
    with pytest.raises(BadLabelFile, match="gone"):
        topic_phrases(tmp_path / "gone.txt")


DAY = datetime(2024, 7, 3, 10)
PARIS, LONDON = (48.8566, 2.3522), (51.5074, -0.1278)


def taken(hours: float | None, place: tuple[float, float] | None = None) -> Facts:
    when = None if hours is None else DAY + timedelta(hours=hours)
    lat, lon = place or (None, None)
    return Facts(100, 100, "JPEG", taken_at=when, lat=lat, lon=lon)


def test_a_long_gap_begins_an_event() -> None:
    facts = [taken(h) for h in (0, 0.5, 1, 7.5, 8, 40)]
    assert events(facts).tolist() == [0, 0, 0, 1, 1, 2]
    assert events(facts, gap_hours=7).tolist() == [0, 0, 0, 0, 0, 1]


def test_a_gap_is_long_beside_the_usual_ones() -> None:
    hourly = [taken(h) for h in (0, 1, 2, 3, 10, 11, 20)]  # 8 times the median: 8 hours
    assert events(hourly, gap_hours=0.1).tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_order_is_that_of_time_not_of_files() -> None:
    facts = [taken(h) for h in (50, 0, 51, 1, 2)]
    assert events(facts).tolist() == [1, 0, 1, 0, 0]


def test_an_image_a_day_is_one_event() -> None:
    assert set(events([taken(24 * day) for day in range(30)]).tolist()) == {0}
    sparse = [taken(24 * day) for day in (0, 1, 2, 3, 30, 31)]
    assert events(sparse).tolist() == [0, 0, 0, 0, 1, 1]


def test_a_jump_in_place_begins_an_event() -> None:
    facts = [taken(0, PARIS), taken(1), taken(2, PARIS), taken(5, LONDON), taken(6)]
    assert events(facts).tolist() == [0, 0, 0, 1, 1]
    assert events(facts, kilometres=400).tolist() == [0] * 5


def test_small_steps_add_up_to_a_journey_not_to_events() -> None:
    along = [taken(h, (48.8 + 0.2 * h, 2.35)) for h in range(10)]  # 22 km an hour
    assert set(events(along).tolist()) == {0}


def test_images_without_a_time_are_a_group_of_their_own() -> None:
    assert events([taken(None), taken(0), taken(None, PARIS)]).tolist() == [1, 0, 1]
    assert events([taken(None), taken(None)]).tolist() == [0, 0]
    assert events([]).tolist() == []
    assert events([taken(0)]).tolist() == [0]


def test_images_of_which_the_day_is_known_are_in_an_event_and_vaguer_ones_are_not() -> None:
    day, month = (replace(taken(0), taken_at=PartialDate(2024, 7, *more)) for more in ((3,), ()))
    facts = [month, day, taken(-5)]
    assert events(facts).tolist() == [1, 0, 0]
    start, end = span(facts)
    assert (str(start), str(end)) == ("2024-07", "2024-07-03 05:00:00")
    assert event_title(*span([day]), None, None, "beach") == "2024-07-03, beach"
    assert event_title(*span([month]), None, None, "beach") == "2024-07, beach"


def test_negative_gaps_are_refused() -> None:
    with pytest.raises(BadGrouping, match="negative"):
        events([taken(0)], gap_hours=-1)
    with pytest.raises(BadGrouping, match="negative"):
        events([taken(0)], kilometres=-1)


def test_a_way_of_just_over_the_limit_begins_an_event() -> None:
    facts = [taken(0, PARIS), taken(1, LONDON)]
    assert events(facts, kilometres=343).tolist() == [0, 1]
    assert events(facts, kilometres=344).tolist() == [0, 0]


def test_the_middle_of_places() -> None:
    assert centre([taken(0, PARIS), taken(1)]) == pytest.approx(PARIS)
    lat, lon = centre([taken(0, (0, 179)), taken(0, (0, -177))])
    assert (lat, lon) == pytest.approx((0, -179))
    assert centre([taken(0)]) == (None, None)


def test_the_span_of_times() -> None:
    assert span([taken(5), taken(None), taken(1)]) == (
        DAY + timedelta(hours=1),
        DAY + timedelta(hours=5),
    )
    assert span([taken(None)]) == (None, None)


def test_titles_say_when_where_and_what() -> None:
    later = DAY + timedelta(days=2)
    title = "2024-07-03 to 2024-07-05, 48.86 N 2.35 E, beach"
    assert event_title(DAY, later, *PARIS, "beach") == title
    assert event_title(DAY, DAY, None, None, "beach") == "2024-07-03, beach"
    assert event_title(DAY, DAY, -33.9, -70.5, "") == "2024-07-03, 33.90 S 70.50 W"
    assert event_title(None, None, None, None, "cat") == "no date, cat"


# --- the constants as numbers --------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "found"), [(5.9, [0, 0]), (6.1, [0, 1])])
def test_a_gap_of_six_hours_begins_an_event(hours: float, found: list[int]) -> None:
    facts = [taken(h) for h in (0, 0.1, 0.2, 0.2 + hours)]
    assert events(facts).tolist()[-2:] == found


@pytest.mark.parametrize(("gap", "found"), [(7.9, 0), (8.1, 1)])
def test_a_gap_of_eight_times_the_median_begins_an_event(gap: float, found: int) -> None:
    facts = [taken(h) for h in (0, 1, 2, 3, 3 + gap)]
    assert events(facts, gap_hours=0.1).tolist()[-1] == found


@pytest.mark.parametrize(("kilometres", "found"), [(49, 0), (51, 1)])
def test_fifty_kilometres_begin_an_event(kilometres: float, found: int) -> None:
    north = kilometres / 111.195  # degrees of latitude, by the mean radius of the earth
    facts = [taken(0, (48.0, 2.0)), taken(1, (48.0 + north, 2.0))]
    assert events(facts).tolist() == [0, found]


def test_images_without_groups_are_separated_by_chance_alone() -> None:
    rng = np.random.default_rng(0)
    shapeless = unit_rows(rng, 200, 16)
    groups = clusters(shapeless, 3)
    chance = separation_by_chance(shapeless, 3)
    found = [value for value in measure_separations(shapeless, groups) if value is not None]
    assert 0 < chance < 0.2
    assert np.mean(found) == pytest.approx(chance, abs=0.05)


def test_images_with_groups_are_further_apart_than_by_chance() -> None:
    rng = np.random.default_rng(0)
    centres = np.repeat(unit_rows(rng, 3, 16), 40, axis=0)
    rows = centres + 0.3 * unit_rows(rng, 120, 16)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    found = [value for value in measure_separations(rows, clusters(rows, 3)) if value is not None]
    assert min(found) > separation_by_chance(rows, 3) + 0.2
    assert separation_by_chance(rows, 3) == separation_by_chance(rows, 3)


@pytest.mark.parametrize(("images", "count"), [(0, 0), (5, 1), (3, 3)])
def test_too_few_images_or_groups_have_no_chance(images: int, count: int) -> None:
    assert separation_by_chance(unit_rows(np.random.default_rng(0), images, 4), count) == -1.0


def test_equal_images_have_no_chance() -> None:
    assert separation_by_chance(np.tile(np.eye(4, dtype=np.float32)[:1], (9, 1)), 2) == -1.0
