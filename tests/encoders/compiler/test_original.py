"""open_clip's own model, as the compiler asks it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from clipsearch.encoders.compiler import original
from clipsearch.encoders.compiler.original import TorchModel, find_weights
from clipsearch.encoders.registry import resolve
from clipsearch.encoders.torch import OpenClipEncoder


def test_it_gives_what_the_torch_engine_gives(clip: Path) -> None:
    spec = resolve(f"local-dir:{clip}")
    model, encoder = TorchModel.load(spec), OpenClipEncoder.load(spec, device="cpu")
    assert model.info == encoder.info
    np.testing.assert_array_equal(model.encode_texts(["a cat"]), encoder.encode_texts(["a cat"]))
    assert model.raw_rows(["a cat"])[0][:2] == [49406, 320]
    assert model.read_text()[1] == "highest"
    assert find_weights(spec) == ""  # open_clip finds them


def test_exporting_leaves_torchs_settings_as_they_were(clip: Path, tmp_path: Path) -> None:
    model = TorchModel.load(resolve(f"local-dir:{clip}"))
    before = torch.backends.mha.get_fastpath_enabled()
    model.export_image(tmp_path / "image.onnx")
    assert torch.backends.mha.get_fastpath_enabled() == before
    assert original.open_clip.list_models()
