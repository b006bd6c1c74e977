"""Words and numbers in results: the right number of a noun, and no false certainty."""

from __future__ import annotations

import pytest

from clipsearch.output.wording import bytes_text, percent, plural, relevant_count
from clipsearch.types import Hit, Results


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "file", "0 files"),
        (1, "file", "1 file"),
        (1234, "image", "1,234 images"),
        (2, "query", "2 queries"),
        (2, "key", "2 keys"),
    ],
)
def test_a_count_has_its_noun_in_the_right_number(count: int, noun: str, text: str) -> None:
    assert plural(count, noun) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (None, ""),
        (0.0, "0 %"),
        (0.004, "< 1 %"),
        (0.5, "50 %"),
        (0.985, "98 %"),
        (0.9949, "99.4 %"),
        (0.9962, "99.6 %"),
        (0.99999, "> 99.9 %"),
        (1.0, "100 %"),
    ],
)
def test_only_certainty_is_a_hundred_percent(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_sizes_have_the_unit_that_fits() -> None:
    assert [bytes_text(n) for n in (1, 999, 1500, 2_500_000)] == [
        *("1 byte", "999 bytes", "1.5 kB", "2.5 MB")
    ]


def test_the_relevant_are_counted_among_the_images_searched() -> None:
    hits = Results((Hit("/a.jpg", 0.5),), relevant=1, searched=1)
    assert relevant_count(hits) == "1 relevant of 1 image"
    assert relevant_count(Results((Hit("/a.jpg", 0.5),))) == ""
