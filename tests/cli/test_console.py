"""The flag --device reaches the library as an argument, and holds for one command."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

import pytest

from clipsearch._util import ClipsearchWarning, warn
from clipsearch.cli import console, main
from clipsearch.errors import LibraryNotFound
from clipsearch.library import Library
from clipsearch.types import Progress


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The devices that libraries were opened with; there is no library."""
    given: list[str | None] = []

    def refuse(path: Any = None, *, device: str | None = None, **_: Any) -> Library:
        given.append(device)
        raise LibraryNotFound("/nowhere")

    monkeypatch.setattr(Library, "open", refuse)
    monkeypatch.delenv("CLIPSEARCH_DEVICE", raising=False)
    return given


@pytest.mark.parametrize(
    "line",
    [
        "query horse",
        "similar a.jpg",
        "classify cat dog",
        "matrix --query x --texts a",
        "topics",
        "eval truth.csv",
        "calibrate truth.csv",
        "learn --suggest 3 --labels labels.txt",
    ],
)
def test_the_device_is_an_argument_of_the_library_for_one_command(
    devices: list[str | None], line: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    arguments = [*line.split(), "-L", "lib"]
    assert main(["--device", "cuda:1", *arguments]) == 1
    assert main(arguments) == 1
    assert devices == ["cuda:1", None]
    assert "CLIPSEARCH_DEVICE" not in os.environ


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that `announce` reads: the test sets its only entry."""
    now = [100.0]
    monkeypatch.setattr(console, "monotonic", lambda: now[0])
    monkeypatch.setattr(console, "_steps", {})
    return now


def tell(clock: list[float], *steps: tuple[int, float]) -> None:
    """Announce steps, (done, seconds since the start) each, of 881 captions."""
    for done, seconds in steps:
        clock[0] = 100.0 + seconds
        console.announce(Progress("captions", done, 881))


def test_a_quick_first_step_is_one_line(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(clock, (0, 0), (64, 0.5), (881, 4))
    assert capsys.readouterr().err == (
        "reading the captions that labels compete against, once for each model: 881 captions\n"
    )


def test_a_long_first_step_says_every_ten_seconds_how_far_it_is(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(clock, (0, 0), (64, 8), (128, 16), (192, 24), (256, 32), (881, 110))
    assert capsys.readouterr().err.splitlines()[1:] == [
        "  128 of 881 captions, 8.0 per second, 94 s left",
        "  256 of 881 captions, 8.0 per second, 78 s left",
        "  done in 110 s",
    ]


def test_on_a_terminal_the_line_is_overwritten_and_gone_at_the_end(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    tell(clock, (0, 0), (64, 8), (881, 110))
    assert terminal.getvalue().split("\n")[1] == (
        "\r  64 of 881 captions, 8.0 per second, 102 s left\x1b[K\r\r\x1b[K\r"
    )


def test_two_first_steps_after_each_other_are_announced_each(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    tell(clock, (0, 0), (64, 1))  # and it failed
    tell(clock, (0, 2), (881, 3))
    console.announce(Progress("vocabulary", 0, 721))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [
        "reading the captions that labels compete against",
        "reading the captions that labels compete against",
        "reading the phrases that topics are named with",
    ]


@pytest.mark.parametrize(
    "line",
    [
        ["\x1b[31mquery"],
        ["query", "--\x1b[31m"],
        ["query", "x", "-k", "\x1b[31m\n"],
        ["query", "x", "-f", "\x1b[31m" * 5000],
        ["--\x9b31m\u202e" + "x" * 100_000],
        ["query", "x", "-L", "\x1b[31m\n/none"],
        ["similar", "\x1b[31m/none.jpg", "-L", "\u202e"],
        ["classify", "a", "b", "--images", "\x1b[31m\n", "--model", "\x1b[31m" * 500],
        ["index", "--no-\u202e"],
        ["status", "\x1b[31m"],
    ],
)
def test_nothing_that_was_typed_steers_the_terminal(
    line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) in (1, 2)
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.split("\n")
    assert all(one.isprintable() for one in lines)
    assert max(map(len, lines)) <= 1000 and len(shown.err) < 3000
    assert "defect" not in shown.err


def test_what_is_said_is_printable_and_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("failed: a\n\x1b[31m.jpg", "x" * 10_000)
    console.warn_all(["bad \u202ename"])
    first, second, third, end = capsys.readouterr().err.split("\n")
    assert (first, third, end) == (r"failed: a\n\x1b[31m.jpg", r"warning: bad \u202ename", "")
    assert len(second) == 600


def test_warnings_and_logged_faults_are_printable() -> None:
    with pytest.warns(ClipsearchWarning) as caught:
        warn("bad \x1b[31m\nname")
    assert [str(one.message) for one in caught] == [r"bad \x1b[31m\nname"]


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (["cat,dog,horse"], ["cat", "dog", "horse"]),
        (["cat, dog ,"], ["cat", "dog"]),
        (["a cat, asleep", "a dog"], ["a cat, asleep", "a dog"]),
        (["cat"], ["cat"]),
        (["cat,"], ["cat,"]),
        ([], []),
    ],
)
def test_one_argument_with_commas_is_split_with_a_note(
    given: list[str], labels: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.split_labels(given) == labels
    told = capsys.readouterr().err
    assert told.startswith(f"read as {len(labels)} labels: 'cat', 'dog'") is (given != labels)


@pytest.mark.parametrize(("answer", "labels"), [("\n", 2), ("y\n", 2), ("n\n", 1), ("", 2)])
def test_a_person_is_asked_about_commas(
    answer: str, labels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    assert len(console.split_labels(["cat,dog"])) == labels
    assert "are these 2 labels: 'cat', 'dog'? [Y/n]" in shown.getvalue()
