"""The library is the one that is named, else that of the environment, else ./index, else the user's."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from clipsearch.library.locate import ENVIRONMENT, locate_library


def test_the_first_that_is_named_is_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    users = Path(platformdirs.user_data_path("clipsearch")) / "library"
    assert locate_library() == users
    (tmp_path / "index").mkdir()
    assert locate_library() == users  # a folder of this name is not a library
    (tmp_path / "index" / "catalog.db").touch()
    assert locate_library() == tmp_path / "index"
    monkeypatch.setenv(ENVIRONMENT, "other")
    assert locate_library() == tmp_path / "other"
    assert locate_library("named") == tmp_path / "named"
