"""Writes the towers of a model into a folder, each in the first way that gives its vectors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from clipsearch.encoders.compiler.anatomy import (
    image_tower,
    text_end,
    text_pool,
    text_tower,
)
from clipsearch.encoders.compiler.drawings import write_image_graph, write_text_graph
from clipsearch.encoders.compiler.export import export_images, export_texts
from clipsearch.encoders.compiler.graph import Graph
from clipsearch.encoders.compiler.parts import Unsupported
from clipsearch.encoders.compiler.towers import Linear
from clipsearch.encoders.onnx import (
    FEW,
    IMAGE,
    PROOF_TEXT,
    TEXT,
    Run,
    open_graph,
    proof_image,
    token_rows,
)
from clipsearch.encoders.preprocess import Preprocess
from clipsearch.encoders.tokenizers.data import SAMPLES
from clipsearch.encoders.torch import OpenClipEncoder
from clipsearch.errors import NotCompilable

TOLERANCE = 1e-4
"""Greatest difference of a unit vector's numbers to open_clip's."""
WHOLE, REDUCED = 127, 63
"""Greatest weight in int8; reduced where the processor's sums of products overflow."""

Cut = Literal["highest"] | int | None
"""See `Manifest.cut`."""


class Towers:
    """The towers of one model, on their way into `folder`."""

    def __init__(self, encoder: OpenClipEncoder, folder: Path) -> None:
        self._encoder, self._model, self._folder = encoder, encoder.model, folder
        self.preprocess = Preprocess.of(self._model.visual.preprocess_cfg)
        self.ways: dict[str, str] = {}
        """How each was made: `written` or `exported`."""
        self.cut: Cut = None
        self.proof: dict[str, list[float]] = {}
        """What each gives for the image and the text that prove it."""

    def write_text(self) -> None:
        """Write the text tower. Raises NotCompilable."""
        encoder, path = self._encoder, self._folder / TEXT
        rows = token_rows(encoder.tokenizer, SAMPLES, cut=None)
        if rows != encoder.raw_tokenizer(list(SAMPLES)).tolist():
            raise NotCompilable(encoder.info.name, "its texts are framed in a way of their own")

        def written() -> None:
            self.cut = self._cut()
            write_text_graph(text_tower(self._model), path)

        def exported() -> None:
            self.cut = None
            export_texts(self._model, rows[:2], path)

        def run_all(run: Run) -> np.ndarray:
            short = token_rows(encoder.tokenizer, (PROOF_TEXT, *SAMPLES), cut=self.cut)
            few, runs = self._folder / FEW, [run]
            if few.exists():
                runs.append(open_graph(few, optimise=False, prepack=False))
            found = [
                np.concatenate([one(np.array([row], np.int32)) for row in short]) for one in runs
            ]
            return max(found, key=lambda rows: float(np.abs(rows - exact).max()))

        exact = encoder.encode_texts([PROOF_TEXT, *SAMPLES])
        self._keep_first_right(TEXT, {"written": written, "exported": exported}, run_all, exact)

    def write_image(self) -> None:
        """Write the image tower. Raises NotCompilable."""
        path, size = self._folder / IMAGE, self.preprocess.size
        noise = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
        batch = np.concatenate([proof_image(size), noise])
        ways: dict[str, Callable[[], None]] = {
            "written": lambda: write_image_graph(image_tower(self._model), path),
            "exported": lambda: export_images(self._model, path),
        }
        exact = self._encoder.encode_images(batch)
        self._keep_first_right(IMAGE, ways, lambda run: run(batch), exact)

    def write_rounded_image(self, folder: Path) -> list[float]:
        """Write the image tower in int8 into another folder; return what proves it."""
        limit = REDUCED if overflows() else WHOLE
        write_image_graph(image_tower(self._model), folder / IMAGE, int8=limit)
        run = open_graph(folder / IMAGE, optimise=False)
        return _rounded(run(proof_image(self.preprocess.size))[0])

    # --- inside ----------------------------------------------------------------------------

    def _cut(self) -> Cut:
        """Say where rows of tokens end for a causal tower: what follows changes nothing."""
        text = getattr(self._model, "text", self._model)
        if getattr(text, "attn_mask", None) is None:
            return None
        ends: dict[str, Cut] = {"argmax": "highest", "eos": text_end(self._model)}
        return ends.get(text_pool(self._model))

    def _keep_first_right(
        self,
        name: str,
        ways: dict[str, Callable[[], None]],
        run_all: Callable[[Run], np.ndarray],
        exact: np.ndarray,
    ) -> None:
        """Keep the first way of making a tower whose vectors are `exact`; its first row proves it."""
        path, reasons = self._folder / name, []
        for way, write in ways.items():
            before = set(self._folder.iterdir())
            try:
                write()
                found = run_all(open_graph(path, optimise=way != "written"))
            except Unsupported as error:
                reasons.append(f"{way}: not possible with {error}")
            # torch's exporter and onnxruntime raise whatever they like; torch itself is left.
            except Exception as error:  # noqa: BLE001
                said = " ".join(str(error).split())[:200]
                reasons.append(f"{way}: {type(error).__name__} {said}")
            else:
                apart = float(np.abs(found - exact).max())
                if apart <= TOLERANCE:
                    self.ways[path.stem], self.proof[path.stem] = way, _rounded(found[0])
                    return
                reasons.append(f"{way}: its vectors differ by {apart:.1g}")
            for left in set(self._folder.iterdir()) - before:
                left.unlink()
        raise NotCompilable(self._encoder.info.name, f"{path.stem} tower, {'; '.join(reasons)}")


def overflows() -> bool:
    """Say whether int8 products overflow on this processor (x86 without VNNI).

    There, neighbouring products are added in 16 bits: two of 255 x 127 do not fit. Found out by
    trying, in the kernels themselves: one of two columns has such neighbours.
    """
    weight = np.zeros((64, 2), np.float32)
    weight[:, 0], weight[::2, 1] = 1, 1
    graph = Graph(int8=WHOLE)
    x = graph.input("x", np.float32, ["batch", 64])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.onnx"
        graph.save(path, graph.linear(x, Linear(weight)), 2)
        found = open_graph(path)(np.ones((8, 64), np.float32))
    return bool(np.abs(found - np.array([2, 1]) / np.sqrt(5)).max() > 0.01)


def _rounded(vector: np.ndarray) -> list[float]:
    return [round(float(number), 6) for number in vector]
