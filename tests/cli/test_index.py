"""What `index` says of folders that no library can hold, and what it leaves behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipsearch.cli import main
from clipsearch.library import Library

pytestmark = pytest.mark.both_engines


@pytest.fixture
def folder(
    tmp_path: Path, make_images: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Three images, and a folder of them that is named in no UTF-8."""
    monkeypatch.setenv("CLIPSEARCH_LIBRARY", str(tmp_path / "library"))
    made = make_images(3)[0].parent
    shutil.copytree(made, tmp_path / os.fsdecode(b"caf\xe9"))
    return made


@pytest.mark.slow
def test_a_folder_whose_name_is_not_utf_8_does_not_stop_the_others(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange = tmp_path / os.fsdecode(b"caf\xe9")
    assert main(["index", str(strange), str(folder), "--model", "mini", "--strict"]) == 3
    assert "caf\ufffd: its name is not valid UTF-8; rename it" in capsys.readouterr().err
    with Library.open() as library:
        assert library.status().roots == (str(folder),)
        assert library.status().files == 3


@pytest.mark.slow
def test_a_folder_whose_name_is_not_utf_8_makes_no_library(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    strange = tmp_path / os.fsdecode(b"caf\xe9")
    assert main(["index", str(strange), "--model", "mini"]) == 1
    monkeypatch.chdir(strange)
    assert main(["index", ".", str(tmp_path / "gone"), "--model", "mini"]) == 1
    assert not (tmp_path / "library").exists()
    said = capsys.readouterr().err
    assert "caf\\udce9: the path is not valid UTF-8" in said and "defect" not in said
    assert main(["index", str(folder), "--model", "mini"]) == 0
    assert main(["index", ".", "--model", "mini"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "query cat --under caf\udce9",
        "dupes --under .",
        "similar caf\udce9.jpg",
        "query --image caf\udce9.jpg",
        "remove caf\udce9",
        "relocate caf\udce9 folder",
        "index folder --moved caf\udce9=folder",
        "classify caf\udce9 dog",
        "query caf\udce9",
    ],
)
def test_what_is_not_utf_8_is_refused_in_one_line(
    line: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["index", str(folder), "--model", "mini"]) == 0
    monkeypatch.chdir(tmp_path / os.fsdecode(b"caf\xe9"))
    capsys.readouterr()
    assert main(line.replace(" folder", f" {folder}").split()) == 1
    (said,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("error")]
    assert "udce9" in said and "is not valid UTF-8" in said


@pytest.mark.slow
def test_images_at_addresses_are_named_on_the_command_line(
    run_beside_images: Callable[..., tuple[int, str, str]], s3: Any, tmp_path: Path
) -> None:
    run = run_beside_images
    s3.put(str(tmp_path / "images"), "bucket/photos", recursive=True)
    code, out, said = run("index", "s3://bucket/photos", "-L", "library", "--model", "mini")
    assert (code, "6  added" in out) == (0, True), said
    assert "6  unchanged" in run("index", "s3://bucket/photos", "-L", "library")[1]
    photo = "s3://bucket/photos/0002.png"
    for command in (
        ("query", "a horse", "--under", "s3://bucket/photos"),
        ("similar", photo),
        ("query", "a horse", "--copy-to", "copies"),
    ):
        code, out, said = run(*command, "-L", "library", "-f", "paths", "-k", "3")
        assert code == 0 and out.splitlines()[0].startswith("s3://bucket/photos/"), said
    assert len(list((tmp_path / "copies").iterdir())) == 3
    for option in ("-o", "--copy-to", "--link-to"):
        code, _, said = run("query", "a horse", option, "s3://bucket/out.csv", "-L", "library")
        assert (code, "s3://bucket/out.csv is an address" in said) == (2, True)
    assert not (tmp_path / "s3:").exists()
    assert run("remove", photo, "-L", "library")[0] == 0
    assert photo not in run("export", "-f", "paths", "-L", "library")[1]
    code, _, said = run("index", "s3://nowhere/photos", "-L", "other", "--model", "mini")
    assert code == 1 and "s3://nowhere/photos" in said and "Traceback" not in said
    code, _, said = run("index", "nothing://bucket/photos", "-L", "other", "--model", "mini")
    assert code == 1 and "nothing" in said and "Traceback" not in said
    assert not (tmp_path / "other").exists()
