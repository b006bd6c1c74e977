"""Write the towers of a model as ONNX: by a hand-built graph where there is one, else by torch's exporter.

A tower is kept only if its vectors are those of the model.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from timm.utils.model import reparameterize_model

from clipsearch._util import describe_error
from clipsearch._util.arrays import FloatArray
from clipsearch.encoders.compiler.graph import OUTPUT
from clipsearch.encoders.compiler.store import is_passing
from clipsearch.encoders.compiler.towers import (
    IMAGE_INPUT,
    TOKEN_INPUT,
    Linear,
    TowerGraph,
    write_image_graph,
    write_text_graph,
)
from clipsearch.encoders.compiler.weights import (
    Unsupported,
    image_tower,
    text_end,
    text_pool,
    text_tower,
)
from clipsearch.encoders.onnx import (
    FEW_FILE,
    IMAGE_FILE,
    PROOF_TEXT,
    TEXT_FILE,
    Run,
    open_graph,
    proof_image,
    token_rows,
)
from clipsearch.encoders.preprocess import Preprocess
from clipsearch.encoders.torch import OpenClipEncoder
from clipsearch.errors import NotCompilable

_TOLERANCE = 1e-4  # greatest difference of a number of a unit vector to open_clip's
WHOLE_INT8, REDUCED_INT8 = 127, 63
"""Greatest weight in int8; reduced where the processor's sums of products overflow."""
_OPSET = 18
# Texts that both tokenizers and both towers are compared on: accents, entities, emoji, scripts,
# case, white space, nothing.
_SAMPLE_TEXTS = (
    "a photo of a cat",
    "",
    "The  QUICK brown-fox's 3.14 &amp;amp; <b> it’s",
    "naïve café, Straße; Ünïcödé e\u0301 ﬁ İ",
    "赤い馬に乗る少年 конь собака كلب 🐎👍🏽",
    "tabs\tand\r\nlines\u00a0\u200b end </s> <end_of_text>",
    "word " * 200,
)
_Cut = Literal["highest"] | int | None  # see `Manifest.cut`


class Towers:
    """Writes the towers of one model into a folder.

    Parameters
    ----------
    encoder
        The model in float32 on the CPU.
    folder
        Where the files go.
    """

    def __init__(self, encoder: OpenClipEncoder, folder: Path) -> None:
        self._encoder, self._model, self._folder = encoder, encoder.model, folder
        self.preprocess = Preprocess.of(self._model.visual.preprocess_cfg)
        self.ways: dict[str, str] = {}
        """How each was made: `written` or `exported`."""
        self.cut: _Cut = None
        self.proof: dict[str, list[float]] = {}
        """What each gives for the image and the text that prove it."""

    def write_text(self) -> None:
        """Write the text tower.

        Raises
        ------
        NotCompilable
            No way of writing it gives the vectors of the model.
        """
        encoder, path = self._encoder, self._folder / TEXT_FILE
        rows = token_rows(encoder.tokenizer, _SAMPLE_TEXTS, cut=None)
        if rows != encoder.raw_tokenizer(list(_SAMPLE_TEXTS)).tolist():
            raise NotCompilable(
                encoder.info.name, "its tokens are not those of any known tokenizer"
            )

        def write_by_hand() -> None:
            self.cut = self._find_cut()
            write_text_graph(text_tower(self._model), path)

        def export() -> None:
            self.cut = None
            export_texts(self._model, rows[:2], path)

        def run_all(run: Run) -> FloatArray:
            short = token_rows(encoder.tokenizer, (PROOF_TEXT, *_SAMPLE_TEXTS), cut=self.cut)
            few, runs = self._folder / FEW_FILE, [run]
            if few.exists():
                runs.append(open_graph(few, optimise=False, prepack=False))
            vectors = [
                np.concatenate([one(np.array([row], np.int32)) for row in short]) for one in runs
            ]
            return max(vectors, key=lambda rows: float(np.abs(rows - exact).max()))

        exact = encoder.encode_texts([PROOF_TEXT, *_SAMPLE_TEXTS])
        self._keep_first_right(
            TEXT_FILE, {"written": write_by_hand, "exported": export}, run_all, exact
        )

    def write_image(self) -> None:
        """Write the image tower; raises as `write_text` does."""
        path, size = self._folder / IMAGE_FILE, self.preprocess.size
        noise = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
        batch = np.concatenate([proof_image(size), noise])
        ways: dict[str, Callable[[], None]] = {
            "written": lambda: write_image_graph(image_tower(self._model), path),
            "exported": lambda: export_images(self._model, path),
        }
        exact = self._encoder.encode_images(batch)
        self._keep_first_right(IMAGE_FILE, ways, lambda run: run(batch), exact)

    def write_rounded_image(self, folder: Path) -> list[float]:
        """Write the image tower in int8 into another folder.

        Returns
        -------
        Its vector of `proof_image`.
        """
        limit = REDUCED_INT8 if overflows() else WHOLE_INT8
        write_image_graph(image_tower(self._model), folder / IMAGE_FILE, int8=limit)
        run = open_graph(folder / IMAGE_FILE, optimise=False)
        return _round(run(proof_image(self.preprocess.size))[0])

    # --- inside ----------------------------------------------------------------------------

    def _find_cut(self) -> _Cut:
        """Return where rows of tokens end for a causal tower: what follows changes nothing."""
        text = getattr(self._model, "text", self._model)
        if getattr(text, "attn_mask", None) is None:
            return None
        ends: dict[str, _Cut] = {"argmax": "highest", "eos": text_end(self._model)}
        return ends.get(text_pool(self._model))

    def _keep_first_right(
        self,
        name: str,
        ways: dict[str, Callable[[], None]],
        run_all: Callable[[Run], FloatArray],
        exact: FloatArray,
    ) -> None:
        """Keep the first way of making a tower whose vectors are `exact`; its first row proves it."""
        path, reasons = self._folder / name, []
        for way, write in ways.items():
            before = set(self._folder.iterdir())
            try:
                write()
                vectors = run_all(open_graph(path, optimise=way != "written"))
            except Unsupported as error:
                reasons.append(f"{way}: not possible with {error}")
            # torch's exporter and onnxruntime raise whatever they like; torch itself is left.
            except Exception as error:
                if is_passing(error):
                    raise OSError(f"cannot write {path}: {describe_error(error)}") from error
                reason = " ".join(str(error).split())[:200]
                reasons.append(f"{way}: {type(error).__name__} {reason}")
            else:
                apart = float(np.abs(vectors - exact).max())
                if apart <= _TOLERANCE:
                    self.ways[path.stem], self.proof[path.stem] = way, _round(vectors[0])
                    return
                reasons.append(f"{way}: its vectors differ by {apart:.1g}")
            for left in set(self._folder.iterdir()) - before:
                left.unlink()
        raise NotCompilable(self._encoder.info.name, f"{path.stem} tower, {'; '.join(reasons)}")


def overflows() -> bool:
    """Tell whether int8 products overflow on this processor (x86 without VNNI).

    There, neighbouring products are added in 16 bits: two of 255 x 127 do not fit. Tried in the
    kernels themselves: one of two columns has such neighbours.
    """
    weight = np.zeros((64, 2), np.float32)
    weight[:, 0], weight[::2, 1] = 1, 1
    graph = TowerGraph(int8=WHOLE_INT8)
    x = graph.input("x", np.float32, ["batch", 64])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.onnx"
        graph.save(path, graph.linear(x, Linear(weight)), 2)
        result = open_graph(path)(np.ones((8, 64), np.float32))
    return bool(np.abs(result - np.array([2, 1]) / np.sqrt(5)).max() > 0.01)


def _round(vector: FloatArray) -> list[float]:
    return [round(float(number), 6) for number in vector]


# --- torch's exporter ------------------------------------------------------------------------


class _Images(torch.nn.Module):
    """From uint8 (n, H, W, 3) to unit rows."""

    def __init__(self, model: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.visual = model.visual
        self._mean, self._std = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        floats = images.permute(0, 3, 1, 2).float().div(255)
        features = self.visual((floats - self._mean) / self._std)
        return torch.nn.functional.normalize(features, dim=-1)


class _Texts(torch.nn.Module):
    """From int32 (n, tokens) to unit rows."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(self.model.encode_text(tokens.long()), dim=-1)


def export_images(model: Any, path: Path) -> None:
    """Write the image tower of an open_clip model by torch's exporter; raises whatever that does.

    Branches that exist only for training are merged first, where timm can (MobileCLIP). Input and
    output are those of `write_image_graph`.
    """
    preprocess = model.visual.preprocess_cfg
    size = preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else size
    tower = _Images(model, preprocess["mean"], preprocess["std"])
    tower.visual = reparameterize_model(tower.visual)  # a copy
    pixels = torch.arange(2 * height * width * 3).remainder(251).to(torch.uint8)
    _export(tower, pixels.view(2, height, width, 3), path, IMAGE_INPUT)


def export_texts(model: Any, rows: Sequence[Sequence[int]], path: Path) -> None:
    """Write the text tower for rows of full length by torch's exporter; raises whatever that does."""
    _export(_Texts(model), torch.tensor(rows, dtype=torch.int32), path, TOKEN_INPUT)


def _export(tower: torch.nn.Module, example: torch.Tensor, path: Path, name: str) -> None:
    with _quiet(), _plain_attention(), torch.no_grad():
        torch.onnx.export(
            tower.eval(),
            (example,),
            str(path),
            input_names=[name],
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "batch"}, OUTPUT: {0: "batch"}},
            opset_version=_OPSET,
            # The other exporter needs one more package, and takes several times as long.
            dynamo=False,
        )


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep torch from its fused attention, which has no ONNX operator."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what the exporter prints: warnings, and whole graphs when it fails."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
