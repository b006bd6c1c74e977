"""Warnings name the line that called clipsearch; faults that repair themselves are logged."""

from __future__ import annotations

import ast
import copy
import pickle
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from conftest import ToyEncoder
from fault_log import logged_fault

import clipsearch
from clipsearch import ClipsearchWarning, Library
from clipsearch._util import (
    PartialDate,
    existing_spelling,
    log_fault,
    log_with,
    read_date,
    report_first_step,
    warn,
    watch_first_steps,
)

PACKAGE = Path(clipsearch.__file__).parent


def test_a_path_is_spelled_as_far_as_it_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    composed, decomposed = "\u00e9", "e\u0301"
    mixed = f"{decomposed}/a/{composed}/{decomposed}"
    (tmp_path / mixed).mkdir(parents=True)
    for given in (f"{composed}/a/{composed}/{composed}", f"{decomposed}/a/{decomposed}/{composed}"):
        assert existing_spelling(str(tmp_path / given)) == str(tmp_path / mixed)
        assert existing_spelling(str(tmp_path / given / "new\u00e8")) == str(
            tmp_path / mixed / "new\u00e8"
        )
    assert existing_spelling(str(tmp_path / f"x/{composed}/")) == str(tmp_path / f"x/{composed}/")
    monkeypatch.chdir(tmp_path)
    assert existing_spelling(f"{composed}/a") == f"{decomposed}/a"
    (tmp_path / composed).mkdir()
    assert existing_spelling(composed) == composed


def test_a_warning_is_of_the_line_that_called() -> None:
    line = sys._getframe().f_lineno + 2
    with pytest.warns(ClipsearchWarning, match="too few") as caught:
        warn("too few images")
    assert [(one.filename, one.lineno) for one in caught] == [(__file__, line)]


def test_a_warning_from_deep_below_is_of_the_line_that_called_clipsearch(tmp_path: Path) -> None:
    encoder = ToyEncoder(context_length=5)
    with Library.create(tmp_path, encoder=encoder) as library:
        line = sys._getframe().f_lineno + 2
        with pytest.warns(ClipsearchWarning, match="more than the 5") as caught:
            library.head(["a blue horse in the rain", "dog"], templates="{}")
        assert [(one.filename, one.lineno) for one in caught] == [(__file__, line)]


def test_a_fault_is_logged_by_the_name_of_the_package(caplog: pytest.LogCaptureFixture) -> None:
    with logged_fault("rebuilt"):
        log_fault("100 % was rebuilt")
    assert caplog.record_tuples == [("clipsearch", 30, "100 % was rebuilt")]


def test_what_sets_up_the_log_is_called_once_before_the_first_message() -> None:
    calls: list[int] = []
    log_with(lambda: calls.append(1))
    assert calls == []
    for number in range(2):
        with logged_fault(f"fault {number}"):
            log_fault(f"fault {number}")
    assert calls == [1]


@pytest.mark.slow
def test_warnings_are_issued_and_faults_are_logged_in_one_module() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), call)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and (call := ast.unparse(node.func)) in ("warnings.warn", "warnings.warn_explicit")
    }
    assert found == {
        ("_util/__init__.py", "warnings.warn"),
        # What decoders warn of outside of a file of ours is passed on as it is.
        ("images/complaints.py", "warnings.warn"),
    }


def test_first_steps_are_told_to_the_last_who_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsearch._util._watch", [])
    report_first_step("nobody hears it")
    first, second = list[str](), list[str]()
    watch_first_steps(first.append)
    watch_first_steps(second.append)
    report_first_step("captions")
    assert (first, second) == ([], ["captions"])


@pytest.mark.parametrize("parts", [(2019,), (2019, 5), (2019, 5, 1), (2019, 5, 1, 12, 30)])
def test_a_partial_date_says_no_more_than_is_known(parts: tuple[int, ...]) -> None:
    date = PartialDate(*parts)
    text = "2019-05-01T12:30"[: (4, 7, 10, 16, 16)[len(parts) - 1]]
    assert (date.isoformat(), str(date)) == (text, text.replace("T", " "))
    assert date == datetime(*(*parts, 1, 1)[: max(3, len(parts))])  # type: ignore[arg-type]
    for copied in (read_date(text), pickle.loads(pickle.dumps(date)), copy.deepcopy(date)):
        assert (type(copied), copied.isoformat()) == (PartialDate, text)


def test_partial_dates_are_ordered_by_their_first_moment() -> None:
    dates = [datetime(2018, 12, 31), PartialDate(2019), PartialDate(2019, 5), datetime(2019, 5, 2)]
    assert sorted([dates[2], dates[0], dates[3], dates[1]]) == dates
    assert dates[3] - dates[1] == timedelta(days=121)
    assert (PartialDate(2019) + timedelta(hours=1)).isoformat() == "2019-01-01T01:00:00"


def test_a_whole_date_is_read_as_a_datetime_and_others_are_refused() -> None:
    assert type(read_date("2019-05-01T12:30:45")) is datetime
    for text in ("", "2019-5", "2019-13", "2019-02-30", "2019-05-01T12", "2019-05-01T24:00", "x"):
        with pytest.raises(ValueError):
            read_date(text)
