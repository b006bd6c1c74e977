"""A compiled model is kept if its vectors are those of the model; int8 if it passes the gate."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models

from clipsearch.encoders.compiler import compile as compiling
from clipsearch.encoders.compiler import export, gate
from clipsearch.encoders.compiler.compile import compile_model
from clipsearch.encoders.compiler.store import (
    MANIFEST_FILE,
    find_compiled,
    folder_of,
)
from clipsearch.encoders.onnx import OnnxEncoder
from clipsearch.encoders.registry import resolve
from clipsearch.encoders.sources import PROBES
from clipsearch.encoders.torch import OpenClipEncoder
from clipsearch.errors import EncoderError, NotCompilable
from clipsearch.types import Progress

WEIGHTS = "open_clip_model.safetensors"
LABELS = [*tiny_models.texts(40), *PROBES, "", "horse " * 200, "<end_of_text> horse", "&amp; É 🐎"]


def batch_of(encoder: Any, n: int) -> np.ndarray:
    return np.stack([encoder.preprocess(image) for image in tiny_models.images(n)])


@pytest.mark.slow
def test_mini_passes_the_gate_and_runs_in_int8(
    cache: Path, make_images: Callable[..., list[Path]]
) -> None:
    steps: list[Progress] = []
    made = compile_model(
        "mini",
        precision="int8",
        images=make_images(3),
        force=True,
        progress=steps.append,
    )
    measured = made.manifest.gate
    assert measured is not None and measured.passed
    assert (made.manifest.precision, made.reason, measured.images) == ("int8", "", 64)
    assert 0.995 < measured.worst <= measured.cosine < 1
    assert measured.error is not None and measured.deviation is not None
    assert 0 < measured.deviation < measured.error < 0.05
    assert steps[0] == Progress("compile", 0, 3)
    assert steps[-2:] == [Progress("gate", 128, 128), Progress("compile", 3, 3)]
    assert [step.done for step in steps] == [0, 1, 2, 32, 64, 96, 128, 3]

    encoder = OnnxEncoder.load(resolve("mini"))
    assert encoder.precision == "int8"
    reference = OpenClipEncoder.load(resolve("mini"), device="cpu")
    batch = batch_of(reference, 12)
    found, expected = encoder.encode_images(batch), reference.encode_images(batch)
    assert 1e-4 < abs(found - expected).max() < 0.05
    assert (found * expected).sum(axis=1).min() > 0.995
    # An image has one vector, whichever images are encoded with it.
    np.testing.assert_array_equal(encoder.encode_images(batch[5:6]), found[5:6])
    np.testing.assert_allclose(
        encoder.encode_texts(LABELS), reference.encode_texts(LABELS), atol=1e-5
    )


def test_a_small_model_stays_exact_unless_int8_is_asked_for(
    empty_cache: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = compile_model(f"local-dir:{clip}")
    assert (small.manifest.precision, small.manifest.gate) == ("fp32", None)
    assert "so small" in small.reason
    other = tmp_path / "other"
    shutil.copytree(clip, other)
    assert not compile_model(f"local-dir:{other}").fresh
    monkeypatch.setattr(compiling, "_SMALL", 0)
    assert compile_model(f"local-dir:{clip}", force=True).manifest.gate is not None


@pytest.mark.slow
def test_what_is_asked_for_again_is_what_runs(cache: Path) -> None:
    for precision in ("int8", "fp32", "int8"):
        compile_model("mini", precision=precision)
        assert OnnxEncoder.load(resolve("mini")).precision == precision
    assert not compile_model("mini", precision="int8").fresh


def test_what_does_not_pass_the_gate_stays_fp32(
    empty_cache: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "_MOST_ERROR", 1e-6)
    made = compile_model(f"local-dir:{clip}", precision="int8")
    measured = made.manifest.gate
    assert measured is not None and not measured.passed
    assert made.manifest.precision == "fp32"
    assert made.reason.startswith("int8 did not pass the gate: mean cosine 0.99")
    assert re.search(r", error of scores \d+\.\d% ± \d+\.\d% on 64 images$", made.reason)
    assert sorted(path.name for path in made.folder.iterdir()) == [
        *(
            "few.onnx",
            "image.bin",
            "image.onnx",
            MANIFEST_FILE,
            "text.bin",
            "text.onnx",
            "tokens.db",
        )
    ]
    spec = resolve(f"local-dir:{clip}")
    assert find_compiled(spec) == made.folder == folder_of(made.manifest.fingerprint, "fp32")
    assert find_compiled(spec, "int8") is None
    with pytest.raises(EncoderError, match="int8"):
        OnnxEncoder.load(spec, precision="int8")
    for precision in ("int8", "auto"):
        again = compile_model(f"local-dir:{clip}", precision=precision)
        assert (again.fresh, again.folder, again.reason) == (False, made.folder, made.reason)


# --- what has no compiled form, or is asked wrongly ----------------------------------------


def uncompilable(folder: Path) -> Path:
    """Make a model with registers that stretches its positions, which torch cannot export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny_models.SIGLIP["vision_cfg"], "timm_model_name", "test_vit2")
        patch.setitem(tiny_models.SIGLIP["vision_cfg"], "timm_pool", "avg")
        return tiny_models.make_siglip(folder / "registers")


def test_a_model_that_cannot_be_compiled_says_why(empty_cache: Path, tmp_path: Path) -> None:
    folder = uncompilable(tmp_path)
    with pytest.raises(NotCompilable) as caught:
        compile_model(f"local-dir:{folder}")
    assert "written: not possible with register tokens" in caught.value.reason
    assert "exported: UnsupportedOperatorError" in caught.value.reason
    assert "It runs on torch all the same." in str(caught.value)
    assert list(empty_cache.iterdir()) == []


def test_vectors_that_are_not_the_models_are_not_kept(
    empty_cache: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_TOLERANCE", 1e-12)
    with pytest.raises(NotCompilable, match=r"text tower, written: its vectors differ by .*e-07"):
        compile_model(f"local-dir:{clip}")


@pytest.mark.slow
def test_a_tower_that_torch_exports_is_the_model_too(empty_cache: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        vision = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "image_size": 64}
        patch.setitem(tiny_models.CLIP, "vision_cfg", vision)
        patch.setitem(
            tiny_models.CLIP, "text_cfg", {**tiny_models.CLIP["text_cfg"], "embed_cls": True}
        )
        patch.setitem(tiny_models.CLIP, "custom_text", True)
        folder = tiny_models.make_clip(tmp_path / "resnet")
    made = compile_model(f"local-dir:{folder}")
    assert made.manifest.ways == {"text": "exported", "image": "exported"}
    assert made.manifest.precision == "fp32"
    assert "no plain transformer" in made.reason
    encoder = OnnxEncoder.load(resolve(made.name))
    reference = OpenClipEncoder.load(resolve(made.name), device="cpu")
    batch = batch_of(reference, 5)
    np.testing.assert_allclose(
        encoder.encode_images(batch), reference.encode_images(batch), atol=1e-4
    )
    np.testing.assert_allclose(
        encoder.encode_texts(LABELS), reference.encode_texts(LABELS), atol=1e-4
    )
    assert not compile_model(made.name).fresh
