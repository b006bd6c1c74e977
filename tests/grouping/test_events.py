"""Events: gaps in time, jumps in place, and images that say neither."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest

from clipsearch.errors import BadGrouping
from clipsearch.grouping.events import centre, event_title, events, haversine, span
from clipsearch.types import Facts

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


def test_negative_gaps_are_refused() -> None:
    with pytest.raises(BadGrouping, match="negative"):
        events([taken(0)], gap_hours=-1)
    with pytest.raises(BadGrouping, match="negative"):
        events([taken(0)], kilometres=-1)


def test_haversine() -> None:
    assert haversine(PARIS, LONDON) == pytest.approx(343.6, abs=0.5)
    assert haversine((0, 0), (90, 0)) == pytest.approx(6371.0088 * np.pi / 2)
    assert haversine((0, 0), (0, 180)) == pytest.approx(6371.0088 * np.pi)
    assert haversine(PARIS, PARIS) == 0


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
