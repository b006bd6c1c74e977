"""The flag --device reaches the library as an argument, and holds for one command."""

from __future__ import annotations

import os
from typing import Any

import pytest

from clipsearch.cli import main
from clipsearch.errors import LibraryNotFound
from clipsearch.library import Library


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
