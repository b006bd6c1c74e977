"""`clipsearch copy`, and addresses on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from postgres_server import server

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(run_beside_images: Run) -> Run:
    return run_beside_images


@pytest.mark.slow
def test_a_folder_becomes_a_library_that_others_share(run: Run) -> None:
    address = server().new_library()
    assert run("index", "images", "-L", "library", "--model", "mini")[0] == 0
    code, out, said = run("copy", "library", address)
    assert (code, out) == (0, "")
    assert "copied and compared: 6 files, 6 images, 6 vectors, 0 labels." in said
    answers = [
        json.loads(run("query", "a red horse", "-f", "json", "-L", place)[1])
        for place in ("library", address)
    ]
    assert answers[0] == answers[1] and len(answers[0]) == 6
    assert run("copy", "library", address)[0] == 1
    code, out, said = run("index", "images", "-L", address)
    assert code == 0 and "6  unchanged" in out


@pytest.mark.slow
def test_a_library_is_made_at_an_address(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSEARCH_LIBRARY", server().new_library())
    assert run("index", "images", "--model", "mini")[0] == 0
    code, out, _ = run("status")
    assert code == 0 and "postgresql://postgres@127.0.0.1" in out
    assert run("check")[0] == run("rebuild")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "horse", "-L", "postgresql://ann:hidden@db/photos"),
        ("status", "-L", "postgresql://db/photos?password=hidden"),
        ("copy", "library", "postgresql://ann:hidden@db/photos"),
    ],
)
def test_a_password_on_the_command_line_is_refused(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, said = run(*arguments)
    assert (code, out) == (2, "") and "$PGPASSWORD" in said and "hidden" not in said


@pytest.mark.slow
def test_a_password_in_the_environment_is_shown_nowhere(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = server().new_library().replace("postgres@", "postgres:hidden@", 1)
    monkeypatch.setenv("CLIPSEARCH_LIBRARY", place)
    for command in (("index", "images", "--model", "mini"), ("status",), ("query", "horse")):
        code, out, said = run(*command)
        assert code == 0 and "hidden" not in out + said
    monkeypatch.setenv("CLIPSEARCH_LIBRARY", "postgresql://ann:hidden@127.0.0.1:1/photos")
    code, out, said = run("status")
    assert code == 1 and "hidden" not in out + said and "ann@127.0.0.1:1/photos" in said
