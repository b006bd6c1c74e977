"""Names of topics, and events: against the rule and plain references."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from mixtures import mixture, unit

from clipsearch.errors import BadGrouping, BadLabelFile
from clipsearch.filters.fields import distance_km
from clipsearch.grouping.topics import (
    centres,
    choose_distinct_names,
    event_title,
    events,
    name_scores,
    span,
    topic_phrases,
)
from clipsearch.types import Facts, PartialDate

# --- names ---------------------------------------------------------------------------------


def test_name_scores_are_what_the_formula_says() -> None:
    vectors, groups = mixture([7, 5, 3])
    phrases = unit(np.random.default_rng(1).normal(size=(11, 24)))
    found = np.concatenate(list(name_scores(vectors, groups, phrases)))
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
    names = choose_distinct_names([scores], ["cat", "dog", "fish", "bird"])
    assert names == [("cat", "dog", "fish"), ("dog", "cat", "fish")]
    assert all(len(name) == 3 for name in names)


def test_more_groups_than_phrases() -> None:
    assert choose_distinct_names([np.array([[0.1], [0.3]])], ["cat"]) == [("cat",), ("cat",)]


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


def centre(facts: list[Facts]) -> tuple[float, float] | tuple[None, None]:
    (found,) = centres(facts, np.zeros(len(facts), np.int64))
    return found


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


# --- against plain references ----------------------------------------------------------------


def names_by_sorting_all_pairs(scores: np.ndarray, phrases: list[str]) -> list[tuple[str, ...]]:
    """Go through all pairs of groups and phrases, the best first: quadratic."""
    best: dict[int, int] = {}
    ranked = sorted((-score, g, p) for g, row in enumerate(scores) for p, score in enumerate(row))
    for _, group, phrase in ranked:
        if group not in best and phrase not in best.values():
            best[group] = phrase
    names = []
    for group, row in enumerate(scores):
        order = sorted(range(len(phrases)), key=lambda p: (-row[p], p))
        own = [best[group]] if group in best else []
        names.append(tuple(phrases[p] for p in [*own, *(p for p in order if p not in own)][:3]))
    return names


@pytest.mark.parametrize("groups", [0, 1, 2, 5, 30, 200])
@pytest.mark.parametrize("phrases", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("values", [3, 10**6])
def test_names_are_those_of_all_pairs_sorted(
    groups: int, phrases: int, values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.grouping.topics._PAIRS_HELD", 1)
    rng = np.random.default_rng([groups, phrases, values])
    words = [f"word {p}" for p in range(phrases)]
    liked = rng.integers(values, size=phrases)  # by all groups alike, and many scores are equal
    scores = (rng.integers(values, size=(groups, phrases)) + liked) / values
    blocks = [scores[start : start + 16] for start in range(0, groups, 16)]
    assert choose_distinct_names(blocks, words) == names_by_sorting_all_pairs(scores, words)


def events_by_comparing_all(facts: list[Facts], gap_hours: float, kilometres: float) -> list[int]:
    """Number the events by the rule of the guide, looking through all images at each step."""
    dated = [row for row, f in enumerate(facts) if f.taken_at and len(str(f.taken_at)) > 7]
    order: list[int] = []
    while len(order) < len(dated):
        left = [row for row in dated if row not in order]
        order.append(min(left, key=lambda row: (facts[row].taken_at, row)))
    times = [facts[row].taken_at for row in order]
    gaps = [(times[i] - times[i - 1]).total_seconds() for i in range(1, len(times))]  # type: ignore[operator]
    usual = sorted(gaps)[len(gaps) // 2] if gaps else 0.0
    found = {}
    event: list[int] = []
    number = 0
    for place, row in enumerate(order):
        placed = [facts[other] for other in event if facts[other].lat is not None]
        here = facts[row]
        way = None
        if placed and here.lat is not None:
            way = distance_km(placed[-1].lat, placed[-1].lon, here.lat, here.lon)
        long = place > 0 and gaps[place - 1] > max(3600 * gap_hours, 8 * usual)
        if event and (long or (way is not None and way > kilometres)):
            number, event = number + 1, []
        event.append(row)
        found[row] = number
    last = number + 1 if order else 0
    return [found.get(row, last) for row in range(len(facts))]


@pytest.mark.parametrize("seed", range(40))
def test_events_are_those_of_the_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    facts = []
    for _ in range(int(rng.integers(0, 60))):
        kind = rng.random()
        later = float(rng.exponential(30)) if kind < 0.6 else float(rng.integers(5))
        hours = None if kind > 0.9 else later
        near = (48 + float(rng.normal(0, 0.3)), 2.0)
        facts.append(taken(hours, near if rng.random() < 0.6 else None))
    gap, km = float(rng.choice([0, 1, 6])), float(rng.choice([0, 10, 50]))
    expected = events_by_comparing_all(facts, gap, km)
    assert events(facts, gap_hours=gap, kilometres=km).tolist() == expected


def test_the_middles_of_groups_are_those_of_each_by_itself() -> None:
    rng = np.random.default_rng(0)
    groups = np.concatenate([np.arange(9), rng.integers(9, size=60)])
    facts = [
        taken(0, None if g == 4 or rng.random() < 0.3 else tuple(rng.uniform(-80, 80, 2).tolist()))
        for g in groups
    ]
    found = centres(facts, groups)
    for group in range(9):
        own = [f for f, g in zip(facts, groups, strict=True) if g == group]
        assert found[group] == pytest.approx(centre(own)) if group != 4 else (None, None)
    assert found[4] == (None, None) and centres([], np.empty(0, np.int64)) == []
