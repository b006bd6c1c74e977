"""Read the dates of cameras, phones, scanners and editors, as far as they make sense.

The standards know one form each: `2024:06:01 12:34:56` (EXIF), `20240601` and `123456+0200` (IPTC),
ISO 8601 that may end early (XMP). Files hold any separators and blanks, hours of 24, seconds of 60
and 70, clocks of twelve hours, months and days of 0. The parts that make sense are kept; no other
time is made of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from clipsearch._util import PartialDate


class CameraDate(NamedTuple):
    """A date, and its offset from UTC where it is said."""

    moment: datetime
    """Wall clock; a `PartialDate` where the second is not known."""
    offset: str = ""
    """As `+09:00`."""


_FIRST_PHOTOGRAPH = 1826
_LARGEST_OFFSET = 14 * 60  # minutes, of Kiritimati

_UNKNOWN = r"[ ?xX_0-]*"  # written in place of a month or a day
_SEPARATED = re.compile(
    r"(?P<year>\d{4}) ?[:/.-] ?"
    rf"(?:(?P<month>\d{{1,2}})(?: ?[:/.-] ?(?:(?P<day>\d{{1,2}})|{_UNKNOWN}(?!\d)))?|{_UNKNOWN})(?!\d)",
    re.ASCII,
)
_COMPACT = re.compile(
    r"(?P<year>\d{4})(?P<month>\d\d)?(?P<day>\d\d)?(?!\d)"
    r"|(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d)(?=\d{4}(?:\d\d)?(?!\d))",
    re.ASCII,
)
_DAY_FIRST = re.compile(r"(?P<one>\d\d?)[:/.-](?P<two>\d\d?)[:/.-](?P<year>\d{4})(?!\d)", re.ASCII)
_NO_TIME = re.compile(r"[ T:.?xX_0-]*(?:[Z+-][\d:]*)?", re.ASCII)

_HALVES = {
    **dict.fromkeys(("a.m.", "am", "上午", "午前", "오전", "ص"), 0),
    **dict.fromkeys(("p.m.", "pm", "下午", "午後", "오후", "م"), 12),
}
_HALF = "|".join(re.escape(half) for half in _HALVES)
_TIME = re.compile(
    rf"[ T:_-]*(?P<before>{_HALF})? ?"
    r"(?:(?P<hour>\d{1,2})(?P<sep>[:.]) ?(?P<minute>\d{1,2})(?:(?P=sep) ?(?P<second>\d{1,2}))?"
    r"|(?P<h>\d\d)(?P<min>\d\d)(?P<sec>\d\d)?)(?!\d)"
    r"(?:[.,:]\d+)?"  # fractions of a second
    rf" ?(?P<after>(?:{_HALF})(?![a-z]))?(?P<rest>.*)",
    re.ASCII | re.IGNORECASE | re.DOTALL,
)
_OFFSET = re.compile(r" ?(?:(?P<utc>Z)\b|(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)?(?!\d))")
_ZONE = re.compile(r" ?[A-Z]{3,5}\b")  # CEST: a name, and names of zones say no offset


def parse_date(text: str) -> CameraDate | None:
    """Read a date as far as it makes sense.

    Parameters
    ----------
    text
        One line: a date, perhaps with a time and an offset from UTC behind it.

    Returns
    -------
    The date; None for blank, zero and impossible ones. A time that is none, such as 24:04:20 or
    15:08:70, leaves the day.

    >>> parse_date("2019:10:14 09:15:00 PM+0200")
    CameraDate(moment=datetime.datetime(2019, 10, 14, 21, 15), offset='+02:00')
    >>> str(parse_date("2019:05:00 00:00:00").moment)
    '2019-05'
    """
    text = text.strip()
    known, rest = _parse_day(text)
    if not known or known[0] < _FIRST_PHOTOGRAPH:
        return None
    try:
        day = PartialDate(*known)
    except ValueError:
        return None
    if len(known) < 3:
        # Digits that remain are no date that anybody writes.
        return CameraDate(day) if _NO_TIME.fullmatch(rest) else None
    return _add_time(day, rest) or CameraDate(day)


def _parse_day(text: str) -> tuple[list[int], str]:
    """Return the year, the month and the day, as many as are known, and what follows them."""
    if match := _SEPARATED.match(text) or _COMPACT.match(text):
        parts = match.groupdict()
        numbers = [
            int(parts[name] or parts.get(short) or 0)
            for name, short in (("year", "y"), ("month", "m"), ("day", "d"))
        ]
        while numbers and not numbers[-1]:
            numbers.pop()
        # No month, but a day: the day is of no use.
        return (numbers[:1] if 0 in numbers else numbers), text[match.end() :]
    if match := _DAY_FIRST.match(text):
        one, two, year = (int(match[name]) for name in ("one", "two", "year"))
        rest = text[match.end() :]
        if one == two or one > 12 >= two:
            return [year, two, one], rest
        if two > 12 >= one:
            return [year, one, two], rest
        return [year], ""  # 03/04/2019 is a day of March or of April
    return [], ""


def _add_time(day: datetime, text: str) -> CameraDate | None:
    """Read the time of a day; None if it is none, or if half of it is not understood."""
    match = _TIME.match(text)
    if match is None:
        return None
    hour, minute, second = (match[a] or match[b] for a, b in _PARTS)
    numbers = [int(hour), int(minute), *([int(second)] if second else [])]
    rest = match["rest"]
    if half := match["before"] or match["after"]:
        if numbers[0] <= 12:
            numbers[0] = numbers[0] % 12 + _HALVES[half.lower()]
    elif numbers[0] <= 12 and any(c.isalpha() and not c.isascii() for c in rest):
        return None  # before noon or after it, in another language
    kind: Callable[..., datetime] = datetime if second else PartialDate
    try:
        return CameraDate(kind(day.year, day.month, day.day, *numbers), _parse_offset(rest))
    except ValueError:
        return None


_PARTS = (("hour", "h"), ("minute", "min"), ("second", "sec"))


def _parse_offset(text: str) -> str:
    match = _OFFSET.match(_ZONE.sub("", text, count=1) if _ZONE.match(text) else text)
    if match is None:
        return ""
    minutes = 60 * int(match["hours"] or 0) + int(match["minutes"] or 0)
    if minutes > _LARGEST_OFFSET:
        return ""
    return f"{match['sign'] or '+'}{minutes // 60:02}:{minutes % 60:02}"
