"""Tables of results for people: what each column says."""

from __future__ import annotations

from pathlib import Path

import pytest
from result_values import hit, prediction, written

from clipsearch.output.text import shown_path
from clipsearch.types import Hit


def test_a_piped_table_is_plain_aligned_and_uncut() -> None:
    long = "/photos/" + "x" * 200 + ".jpg"
    lines = written([hit(long, 0.4125), Hit("/b.jpg", -0.02)], "table").splitlines()
    column = len(long)
    assert lines == [
        f"{' score'}  {'image'.ljust(column)}  {'size'.ljust(11)}  taken",
        f"{' 0.412'}  {long}  4000 × 3000  2024-05-01 12:03",
        f"{'-0.020'}  /b.jpg",
    ]


def test_a_table_of_predictions_shows_probability_label_and_runners_up() -> None:
    lines = written(
        [prediction("/a.jpg", cat=0.7, dog=0.2, cow=0.08, pig=0.02)], "table"
    ).splitlines()
    assert lines == [
        "probability  label  image   then",
        "     70.0 %  cat    /a.jpg  dog 20 %, cow 8 %",
    ]


def test_paths_below_the_current_folder_are_shown_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown_path(str(tmp_path / "a" / "b.jpg")) == str(Path("a/b.jpg"))
    assert shown_path("/elsewhere/b.jpg") == "/elsewhere/b.jpg"


def test_file_names_cannot_steer_the_terminal_or_break_a_line() -> None:
    text = written([Hit("/\x1b[2Jevil\nname.jpg", 0.5)], "table")
    assert r"/\x1b[2Jevil\nname.jpg" in text
    assert "\x1b" not in text and len(text.splitlines()) == 2
