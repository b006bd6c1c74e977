"""Tiny models, compiled and not, which the tests of encoders share."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_models

from clipsearch.encoders.compiler.compile import Compilation, compile_model
from clipsearch.encoders.onnx import OnnxEncoder
from clipsearch.encoders.registry import ModelSpec, resolve
from clipsearch.encoders.torch import OpenClipEncoder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the module a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("CLIPSEARCH_CACHE", str(folder))
        yield folder / "compiled"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "compiled"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.make_siglip(tmp_path_factory.mktemp("siglip"))


@pytest.fixture(scope="module", params=["clip", "siglip", "mini"])
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    if request.param == "mini":
        return resolve("mini")
    return resolve(f"local-dir:{request.getfixturevalue(request.param)}")


@pytest.fixture(scope="module")
def exact(cache: Path, spec: ModelSpec) -> Compilation:
    return compile_model(spec.name, precision="fp32")


@pytest.fixture(scope="module")
def reference(spec: ModelSpec) -> OpenClipEncoder:
    return OpenClipEncoder.load(spec, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def encoder(exact: Compilation, spec: ModelSpec) -> OnnxEncoder:
    return OnnxEncoder.load(spec, precision="fp32")


@pytest.fixture
def made(empty_cache: Path, clip: Path, tmp_path: Path) -> Compilation:
    folder = shutil.copytree(clip, tmp_path / "copy")
    return compile_model(f"local-dir:{folder}", precision="fp32")
