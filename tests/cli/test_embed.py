"""`clipsearch embed`: what it prints, its exit codes, and what `ingest` makes of the parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.both_engines


@pytest.fixture
def run(run_beside_images: Run) -> Run:
    return run_beside_images


@pytest.mark.slow
def test_parts_become_a_library(run: Run) -> None:
    code, out, said = run("embed", "images", "--to", "parts", "--model", "mini", "--rows", 4)
    assert (code, out) == (0, "") and "6 images embedded in " in said
    assert "`clipsearch ingest parts` puts them into a library." in said
    code, out, said = run("embed", "images", "--to", "parts", "--model", "mini", "-f", "json")
    report = json.loads(out)
    assert (code, report["added"], report["unchanged"]) == (0, 0, 6) and "6 done before" in said
    assert run("ingest", "parts", "-L", "library", "--model", "mini")[0] == 0
    assert run("ingest", "parts", "-L", "other")[0] == 0  # a new library has the model of its parts
    assert "mini" in run("status", "-L", "other")[1]
    code, out, _ = run("query", "a horse", "-f", "paths", "-L", "library")
    assert code == 0 and len(out.splitlines()) == 6


@pytest.mark.slow
def test_what_fails_is_told_and_counted_under_strict(run: Run) -> None:
    Path("images/bad.png").write_bytes(b"no image")
    command = ("embed", "images", "--to", "parts", "--model", "mini")
    code, _, said = run(*command)
    assert code == 0 and "bad.png: " in said and "; 1 failed" in said
    assert run(*command, "--retry-failed", "--strict")[0] == 3
    assert run(*command, "--strict")[0] == 0  # nothing was tried


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("nowhere", "--to", "parts"), 1, "nowhere cannot be read: it is not there."),
        (("images", "--to", "parts", "--actors", 2), 2, "--actors needs --ray ADDRESS."),
        (("images",), 2, "Missing option '--to'"),
        (("images", "--to", "s3://me:secret@host/parts"), 1, "it holds a password"),
        (("images", "--to", "parts", "--ray", "127.0.0.1:1"), 1, "there is no Ray cluster at"),
        (("images", "--to", "images/0001.png"), 1, "images/0001.png: File exists"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(
    run: Run, arguments: tuple[object, ...], code: int, reason: str
) -> None:
    found, _, said = run("embed", *arguments, "--model", "mini")
    assert (found, reason in said) == (code, True), said
    assert "Traceback" not in said and "secret" not in said
