"""Words, numbers and columns: the right number of a noun, no false certainty, no broken name."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from result_values import Terminal

from clipsearch._util import plural
from clipsearch.output.text import bytes_text, percent, relevant_count, table
from clipsearch.types import Hit, Results

Draw = Callable[..., list[str]]


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


# --- aligned columns ---------------------------------------------------------------------------


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Draw:
    def lines(
        columns: list[str], rows: list[list[str]], width: int, **options: object
    ) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        stream = Terminal()
        table(columns, rows, stream, **options)  # type: ignore[arg-type]
        return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()

    return lines


def test_paths_fold_after_separators_and_names_stay_whole(draw: Draw) -> None:
    path = "/home/anna/Pictures/2023/holidays in norway/scene-016.webp"
    lines = draw([">score", "image", "size", "taken"], [["0.312", path, "9 × 9", "2024"]], 40)
    assert all(len(line) <= 40 for line in lines)
    for piece in ("/home/anna/", "Pictures/2023/", "holidays in norway/"):
        assert any(piece in line for line in lines)
    assert any("scene-016.webp" in line for line in lines)


def test_the_least_important_columns_are_cut_and_then_left_out(draw: Draw) -> None:
    columns, row = ["image", "about"], ["a-long-file-name.jpg", "one two three four five six"]
    wide = draw(columns, [row], 60, shorten=("about",))
    assert wide[2] == "a-long-file-name.jpg  one two three four five six"
    cut = draw(columns, [row], 40, shorten=("about",))
    assert cut[2].startswith("a-long-file-name.jpg  one two") and cut[2].endswith("…")
    assert len(cut[2]) <= 40
    assert draw(columns, [row], 25, shorten=("about",))[2] == "a-long-file-name.jpg"


def test_a_name_that_is_wider_than_the_terminal_is_never_broken(draw: Draw) -> None:
    name = "x" * 70 + ".jpg"
    assert name in draw(["image"], [[name]], 60)[2]


def test_wide_letters_take_two_columns(draw: Draw) -> None:
    lines = draw(["name", "n"], [["赤い馬", "1"], ["abcdef", "2"]], 60)
    assert lines[2] == "赤い馬  1" and lines[3] == "abcdef  2"


def test_nothing_is_styled_where_the_user_wants_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    table(["image"], [["a.jpg"]], stream)
    assert "\x1b" not in stream.getvalue()
