"""Dates as files have them: what is known of each, and nothing that is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch._util import PartialDate
from clipsearch.images.dates import parse_date

WHOLE = "2019-05-01T12:30:45"


@pytest.mark.parametrize(
    ("text", "known"),
    [
        # separators, blanks and none
        ("2019:05:01 12:30:45", WHOLE),
        ("2019-05-01T12:30:45", WHOLE),
        ("2019.05.01 12.30.45", WHOLE),
        ("2019/5/1 12:30:45", WHOLE),
        ("2019: 5: 1 12:30:45", WHOLE),
        ("2019:05:01:12:30:45", WHOLE),
        ("2019-05-01_12:30:45", WHOLE),
        ("  2019:05:01   12:30:45  ", WHOLE),
        ("20190501123045", WHOLE),
        ("20190501T123045", WHOLE),
        ("20190501 123045", WHOLE),
        ("2019:05:01 12:30:45.678", WHOLE),
        ("2019:05:01 12:30:45 CEST", WHOLE),
        ("2019:05:01 12:30:45photo", WHOLE),
        ("31/12/2019 12:30:45", "2019-12-31T12:30:45"),
        ("12/31/2019 12:30:45", "2019-12-31T12:30:45"),
        # the clock is known to the minute
        ("2019:05:01 12:30", "2019-05-01T12:30"),
        ("201905011230", "2019-05-01T12:30"),
        ("2019:05:01 13:29:.0", "2019-05-01T13:29"),
        # clocks of twelve hours
        ("2019:05:01 09:15:00 PM", "2019-05-01T21:15:00"),
        ("2019:05:01 09:15:00PM", "2019-05-01T21:15:00"),
        ("2019:05:01 09:15 p.m.", "2019-05-01T21:15"),
        ("2019:05:01 09:15:00 AM", "2019-05-01T09:15:00"),
        ("2019:05:01 12:15:00 AM", "2019-05-01T00:15:00"),
        ("2019:05:01 12:15:00 PM", "2019-05-01T12:15:00"),
        ("2019:05:01 15:15:00 PM", "2019-05-01T15:15:00"),
        ("2019:05:01 오후 3:04:05", "2019-05-01T15:04:05"),
        ("2019:05:01 下午 12:04:05", "2019-05-01T12:04:05"),
        ("2019:05:01 03:04:05 μ.μ.", "2019-05-01"),  # which half is not understood
        ("2019:05:01 13:04:05 μ.μ.", "2019-05-01T13:04:05"),
        # a time that is none leaves the day
        ("2019:01:01 24:04:20", "2019-01-01"),
        ("2019:01:01 24:00:00", "2019-01-01"),
        ("2016:12:31 23:59:60", "2016-12-31"),
        ("2016:12:31 23:59:60Z", "2016-12-31"),
        ("2017:08:21 15:08:70", "2017-08-21"),
        ("2017:08:21 15:75:00", "2017-08-21"),
        ("2019:05:01 12", "2019-05-01"),
        ("2019:05:01   :  :  ", "2019-05-01"),
        ("2019:05:01 -1:-1:-1", "2019-05-01"),
        ("2005.09.15 a6:28:54", "2005-09-15"),
        # partial
        ("2019:05:01", "2019-05-01"),
        ("20190501", "2019-05-01"),
        ("2019-05-01+02:00", "2019-05-01"),
        ("2019-05", "2019-05"),
        ("201905", "2019-05"),
        ("20190500", "2019-05"),
        ("2019:05:00 00:00:00", "2019-05"),
        ("2019:05:  ", "2019-05"),
        ("2019", "2019"),
        ("20190000", "2019"),
        ("2019:00:00 00:00:00", "2019"),
        ("2019:00:05 00:00:00", "2019"),
        ("2019:  :     :  :  ", "2019"),
        ("2019:??:??", "2019"),
        ("03/04/2019 10:00:00", "2019"),  # of March or of April
        # none
        ("", None),
        ("yesterday", None),
        ("0000:00:00 00:00:00", None),
        ("0001:01:01 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("2019:02:30 12:00:00", None),
        ("2019:13:01", None),
        ("2019:123:45", None),
        ("1717245296", None),
        ("2019 summer", None),
        ("19:05:01 12:30:45", None),
    ],
)  # fmt: skip
def test_a_date_is_what_is_known_of_it(text: str, known: str | None) -> None:
    found = parse_date(text)
    assert (found and found.moment.isoformat()) == known
    assert found is None or isinstance(found.moment, PartialDate) == (len(str(known)) < 19)


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("2019:05:01 12:30:45 +02:00", "+02:00"),
        ("2019-05-01T12:30:45-0330", "-03:30"),
        ("2019-05-01T12:30:45.678+01", "+01:00"),
        ("2019-05-01T12:30Z", "+00:00"),
        ("20190501 123045+1400", "+14:00"),
        ("2019:05:01 12:30:45 UTC+02:00", "+02:00"),
        ("2019:05:01 09:15:00 PM +02:00", "+02:00"),
        ("2019:05:01 12:30:45 +99:00", ""),
        ("2019:05:01 12:30:45    :  ", ""),
        ("2019:05:01 12:30:45 CEST", ""),
        ("2019-05-01+02:00", ""),  # of no moment
    ],
)
def test_an_offset_is_hours_and_minutes_from_utc(text: str, offset: str) -> None:
    found = parse_date(text)
    assert found is not None and found.offset == offset


@given(st.text(alphabet="0123456789:-/. TZ+apmAPM?x", max_size=30) | st.text(max_size=40))
def test_any_text_is_a_date_that_it_begins_with_or_none(text: str) -> None:
    found = parse_date(text)
    if found is not None:
        digits = "".join(c for c in text if c.isdigit())
        assert str(found.moment.year) in digits
