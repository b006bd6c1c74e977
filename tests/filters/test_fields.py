"""The fields of filters, and dates as periods."""

from __future__ import annotations

from datetime import datetime

import pytest

from clipsearch.filters.fields import FIELDS, OTHER_NAMES, period


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024", "2024-01-01T00:00:00", "2025-01-01T00:00:00"),
        ("2024-02", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        ("2024-12", "2024-12-01T00:00:00", "2025-01-01T00:00:00"),
        ("2024-02-28", "2024-02-28T00:00:00", "2024-02-29T00:00:00"),
        ("2023-02-28", "2023-02-28T00:00:00", "2023-03-01T00:00:00"),
        ("2024-12-31T23:59", "2024-12-31T23:59:00", "2025-01-01T00:00:00"),
        ("2024-12-31 23:59:58", "2024-12-31T23:59:58", "2024-12-31T23:59:59"),
        ("0001", "0001-01-01T00:00:00", "0002-01-01T00:00:00"),
    ],
)
def test_a_date_is_all_of_its_year_month_day_minute_or_second(
    text: str, start: str, end: str
) -> None:
    assert period(text) == (start, end)


@pytest.mark.parametrize("text", ["9999", "9999-12", "9999-12-31", "9999-12-31T23:59:59"])
def test_the_end_of_time_is_after_every_time(text: str) -> None:
    ends = period(text)
    assert ends is not None
    assert ends[0] <= "9999-12-31T23:59:59"
    assert datetime.max.isoformat() < ends[1]


@pytest.mark.parametrize(
    "text",
    ["", "24", "2024-1", "2024-13", "2023-02-29", "0000", "2024-01-01T24:00", "2024-01-01T10",
     "2024-01-01T10:61", "2024-01-", "x2024", "2024x", "٢٠٢٤"],
)  # fmt: skip
def test_what_is_no_date_is_none(text: str) -> None:
    assert period(text) is None


def test_what_people_write_for_a_field_is_no_field_and_means_one() -> None:
    assert OTHER_NAMES.keys().isdisjoint(FIELDS)
    assert set(OTHER_NAMES.values()) <= FIELDS.keys()
