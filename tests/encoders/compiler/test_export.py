"""Towers are written by hand or exported, whichever first has the vectors of the model."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

from clipsearch.encoders import load_encoder
from clipsearch.encoders.compiler import original
from clipsearch.encoders.compiler.export import Towers, overflows
from clipsearch.encoders.compiler.graph import Unsupported
from clipsearch.encoders.compiler.original import TorchModel
from clipsearch.encoders.onnx import open_graph, proof_image
from clipsearch.encoders.torch import OpenClipEncoder
from clipsearch.errors import NotCompilable


@pytest.fixture
def encoder(clip: Path) -> OpenClipEncoder:
    made = load_encoder(f"local-dir:{clip}", engine="torch", device="cpu", precision="fp32")
    assert isinstance(made, OpenClipEncoder)
    return made


def refuse(*anything: object) -> None:
    raise Unsupported("a part that is not known")


def test_towers_are_written_by_hand_first(encoder: OpenClipEncoder, tmp_path: Path) -> None:
    towers = Towers(TorchModel(encoder), tmp_path)
    towers.write_image()
    towers.write_text()
    assert towers.ways == {"image": "written", "text": "written"}
    assert towers.cut == "highest"
    proof = encoder.encode_images(proof_image(towers.preprocess.size))[0]
    np.testing.assert_allclose(towers.proof["image"], proof, atol=1e-5)


def test_what_is_not_known_is_exported_with_the_same_vectors(
    encoder: OpenClipEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(original, "image_tower", refuse)
    monkeypatch.setattr(original, "text_tower", refuse)
    towers = Towers(TorchModel(encoder), tmp_path)
    towers.write_image()
    towers.write_text()
    assert towers.ways == {"image": "exported", "text": "exported"}
    assert towers.cut is None
    batch = np.random.default_rng(0).integers(0, 256, (3, *towers.preprocess.size, 3), np.uint8)
    result = open_graph(tmp_path / "image.onnx")(batch)
    np.testing.assert_allclose(result, encoder.encode_images(batch), atol=1e-5)


def test_where_no_way_gives_the_vectors_each_reason_is_told_and_nothing_is_left(
    encoder: OpenClipEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*anything: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(original, "image_tower", refuse)
    monkeypatch.setattr(original, "export_images", fail)
    with pytest.raises(NotCompilable) as raised:
        Towers(TorchModel(encoder), tmp_path).write_image()
    assert "written: not possible with a part that is not known" in str(raised.value)
    assert "exported: RuntimeError no such operator" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_int8_products_overflow_on_x86_without_vnni_only() -> None:
    flags = Path("/proc/cpuinfo")
    x86 = platform.machine() in ("x86_64", "AMD64")
    without = x86 and flags.exists() and "_vnni" not in flags.read_text("utf-8")
    if flags.exists() or not x86:
        assert overflows() is without
