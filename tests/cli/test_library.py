"""What `clipsearch index` is told about engines and precision, with a model of random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_models

from clipsearch._util import processes
from clipsearch.cli import main
from clipsearch.encoders.compiler import gate
from clipsearch.encoders.compiler.store import find_compiled
from clipsearch.encoders.registry import resolve
from clipsearch.library import Library

pytestmark = pytest.mark.both_engines


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make a model that is quickly compiled, on a machine without a graphics card."""
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CLIPSEARCH_LIBRARY", str(tmp_path / "library"))
    monkeypatch.setenv("CLIPSEARCH_COMPILE", "yes")
    monkeypatch.setenv("CLIPSEARCH_DEVICE", "cpu")
    monkeypatch.setattr(gate, "_IMAGES", 12)
    monkeypatch.setattr(processes, "can_start", lambda: False)  # it is compiled here
    return f"local-dir:{tiny_models.make_clip(tmp_path / 'clip')}"


@pytest.fixture
def folder(make_images: Callable[..., list[Path]]) -> str:
    return str(make_images(3, suffix=".jpg")[0].parent)


def noted() -> str | None:
    """Return how the library's vectors were computed."""
    with Library.open() as library:
        return library._session.catalog.get_meta("precisions of model 1")


def test_fp32_is_compiled_and_used_where_it_is_asked_for(clip: str, folder: str) -> None:
    assert main(["index", folder, "--model", clip, "--precision", "fp32"]) == 0
    assert find_compiled(resolve(clip), "fp32") is not None
    assert find_compiled(resolve(clip), "int8") is None
    assert noted() == "fp32"


@pytest.mark.slow
def test_torch_needs_nothing_compiled_and_its_vectors_fit_beside_others(
    clip: str, folder: str, make_images: Callable[..., list[Path]]
) -> None:
    assert main(["index", folder, "--model", clip, "--engine", "torch"]) == 0
    assert find_compiled(resolve(clip)) is None
    more = str(make_images(2, folder="more", seed=5)[0].parent)
    assert main(["index", more, "--engine", "torch", "--precision", "bf16", "--fast"]) == 0
    assert noted() == "fp32 bf16"
    with Library.open() as library:
        assert library.status().files == 5


def test_int8_that_is_not_near_enough_is_refused_by_name_and_auto_does_without(
    clip: str, folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "_LEAST_COSINE", 2.0)
    assert main(["index", folder, "--model", clip, "--precision", "int8"]) == 1
    assert "does not pass the gate in int8 (mean cosine" in capsys.readouterr().err
    assert main(["index", folder]) == 0
    assert noted() == "fp32"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--engine", "tpu"], 1, "unknown engine 'tpu': choose from onnx, torch"),
        (["--precision", "int4"], 2, "'int4' is not one of"),
        (["--engine", "onnx", "--precision", "bf16"], 1, "choose auto, fp32 or int8"),
        (["--engine", "torch", "--precision", "int8"], 1, "choose auto, fp32, fp16 or bf16"),
    ],
)
def test_what_makes_no_sense_is_one_message(
    clip: str,
    folder: str,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    assert main(["index", folder, "--model", clip, "--no-compile", *options]) == code
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
