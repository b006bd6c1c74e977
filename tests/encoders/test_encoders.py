"""Which engine and device run a model, and what is listed of the models."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clipsearch import encoders
from clipsearch.encoders import load_encoder, load_tokenizer
from clipsearch.encoders.compiler.compile import Compilation, compile_model
from clipsearch.encoders.compiler.store import (
    find_compiled,
)
from clipsearch.encoders.onnx import OnnxEncoder
from clipsearch.encoders.registry import resolve
from clipsearch.encoders.tokenizers.bpe import BytePairTokenizer
from clipsearch.encoders.torch import OpenClipEncoder
from clipsearch.errors import EncoderError
from clipsearch.types import Progress


@pytest.fixture
def no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let no graphics card show but by a file of the test's."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("CLIPSEARCH_DEVICE", raising=False)
    monkeypatch.setattr(encoders, "_GPU_TRACES", (str(tmp_path / "gpu"),))
    return tmp_path / "gpu"


@pytest.mark.slow
def test_on_a_cpu_a_compiled_model_runs_compiled(
    made: Compilation, no_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(load_encoder(made.name), OnnxEncoder)
    assert isinstance(load_encoder(made.name, device="cpu"), OnnxEncoder)
    assert isinstance(load_encoder(made.name, engine="torch"), OpenClipEncoder)
    assert isinstance(load_encoder(made.name, precision="bf16"), OpenClipEncoder)
    assert isinstance(load_tokenizer(made.name), BytePairTokenizer)
    no_gpu.touch()
    assert isinstance(load_encoder(made.name), OpenClipEncoder)
    assert isinstance(load_encoder(made.name, engine="onnx"), OnnxEncoder)
    monkeypatch.setenv("CLIPSEARCH_DEVICE", "cpu")
    assert isinstance(load_encoder(made.name), OnnxEncoder)


def test_a_model_that_is_not_compiled_runs_on_torch(
    empty_cache: Path, clip: Path, no_gpu: Path
) -> None:
    assert isinstance(load_encoder(f"local-dir:{clip}"), OpenClipEncoder)
    with pytest.raises(EncoderError, match=r"is not compiled: `clipsearch compile local-dir:"):
        load_encoder(f"local-dir:{clip}", engine="onnx")
    with pytest.raises(EncoderError, match=r"is not compiled: .* --precision int8"):
        load_encoder(f"local-dir:{clip}", precision="int8")


@pytest.mark.parametrize(
    ("system", "machine", "device", "expected"),
    [
        ("linux", "x86_64", "auto", True),
        ("linux", "x86_64", "cpu", True),
        ("linux", "x86_64", "cuda", False),
        ("darwin", "arm64", "auto", False),
        ("darwin", "arm64", "cpu", True),
        ("darwin", "x86_64", "auto", True),
        ("win32", "AMD64", "auto", True),
    ],
)
def test_what_runs_on_the_cpu(
    no_gpu: Path,
    monkeypatch: pytest.MonkeyPatch,
    system: str,
    machine: str,
    device: str,
    expected: bool,
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert encoders.runs_on_cpu(device) == expected


def test_the_device_is_that_of_the_environment_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CLIPSEARCH_DEVICE", raising=False)
    assert encoders.default_device() == "auto"
    monkeypatch.setenv("CLIPSEARCH_DEVICE", "cuda:1")
    assert encoders.default_device() == "cuda:1"


@pytest.mark.slow
def test_a_model_is_compiled_once_for_the_cpu_only(
    empty_cache: Path, clip: Path, no_gpu: Path
) -> None:
    name = f"local-dir:{clip}"
    assert encoders.compile_once(name, device="cuda", precision="fp32") == ""
    assert find_compiled(resolve(name)) is None
    assert encoders.compile_once(name, precision="fp32") == ""
    assert find_compiled(resolve(name)) is not None


def test_a_model_is_compiled_in_a_process_of_its_own(
    empty_cache: Path, clip: Path, no_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("compiled in this process")

    monkeypatch.setattr("clipsearch.encoders.compiler.compile.compile_model", refuse)
    name, steps = f"local-dir:{clip}", list[Progress]()
    assert encoders.compile_once(name, precision="fp32", progress=steps.append, apart=True) == ""
    assert find_compiled(resolve(name)) is not None
    assert {step.phase for step in steps} == {"compile"}


def test_why_a_model_cannot_be_compiled_comes_back_from_the_process(
    clip: Path, no_gpu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(clip / "open_clip_config.json"))  # no folder
    reason = encoders.compile_once(f"local-dir:{clip}", precision="fp32", apart=True)
    assert "could not be compiled (" in reason


@pytest.mark.slow
def test_models_are_listed_with_what_is_compiled(cache: Path) -> None:
    compile_model("mini", precision="fp32")
    mini, *others = encoders.list_models()
    assert (mini["name"], mini["dim"], mini["on_disk"]) == ("mini", 256, True)
    assert mini["compiled"] == {"precision": "fp32", "gate": None}
    assert [model["name"] for model in others] == ["default", "multilingual", "quality", "max"]
    assert {model["compiled"] for model in others} == {None}


def test_an_unknown_engine_names_those_that_there_are() -> None:
    assert {"onnx", "torch"} <= {*encoders.engine_names()}
    with pytest.raises(EncoderError, match="unknown engine 'tpu': choose from onnx, torch"):
        load_encoder("mini", engine="tpu")


def test_engines_of_other_packages_are_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def load(self) -> Callable[..., str]:
            return lambda spec, **options: f"{spec.name} on {options['device']}"

    monkeypatch.setattr(encoders, "_entry_points", lambda: {"other": Entry()})
    assert encoders.engine_names() == ("onnx", "other", "torch")
    assert load_encoder("mini", engine="other", device="cpu") == "mini on cpu"  # type: ignore[comparison-overlap]
