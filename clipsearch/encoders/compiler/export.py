"""Write the towers of a model as ONNX: by a hand-built graph where there is one, else by torch.

A tower is kept only if its vectors are those of the model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from clipsearch._util import describe_error
from clipsearch._util.arrays import FloatArray
from clipsearch.encoders.base import Tokenizer
from clipsearch.encoders.compiler.graph import Unsupported
from clipsearch.encoders.compiler.store import Cut, is_passing
from clipsearch.encoders.compiler.towers import (
    ImageTower,
    Linear,
    TextTower,
    TowerGraph,
    write_image_graph,
    write_text_graph,
)
from clipsearch.encoders.onnx import (
    FEW_FILE,
    IMAGE_FILE,
    PROOF_TEXT,
    TEXT_FILE,
    Run,
    open_graph,
    proof_image,
)
from clipsearch.encoders.preprocess import Preprocess
from clipsearch.encoders.tokenizers import filled, token_rows
from clipsearch.errors import NotCompilable
from clipsearch.types import ModelInfo

_TOLERANCE = 1e-4  # greatest difference of a number of a unit vector to open_clip's
WHOLE_INT8, REDUCED_INT8 = 127, 63
"""Greatest weight in int8; reduced where the processor's sums of products overflow."""
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


class Original(Protocol):
    """A model in float32 on the CPU, which is to be compiled."""

    info: ModelInfo
    context_length: int
    preprocess: Preprocess

    @property
    def tokenizer(self) -> Tokenizer:
        """What makes the same tokens, and can be saved."""
        ...

    def raw_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the rows of tokens that the model itself reads, of full length."""
        ...

    def encode_images(self, batch: np.ndarray) -> FloatArray:
        """Encode uint8 (n, H, W, 3) to float32 unit rows (n, dim)."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Encode n texts to float32 unit rows (n, dim)."""
        ...

    def read_image(self) -> ImageTower:
        """Read the image tower. Raises Unsupported."""
        ...

    def read_text(self) -> tuple[TextTower, Cut]:
        """Read the text tower, and where rows of tokens end. Raises Unsupported."""
        ...

    def export_image(self, path: Path) -> None:
        """Write the image tower by torch's exporter; raises whatever that does."""
        ...

    def export_text(self, rows: Sequence[Sequence[int]], path: Path) -> None:
        """Write the text tower for rows of full length by torch's exporter; raises likewise."""
        ...


class Towers:
    """Writes the towers of one model into a folder.

    Parameters
    ----------
    original
        The model.
    folder
        Where the files go.
    """

    def __init__(self, original: Original, folder: Path) -> None:
        self._original, self._folder = original, folder
        self.preprocess = original.preprocess
        self.ways: dict[str, str] = {}
        """How each was made: `written` or `exported`."""
        self.cut: Cut = None
        self.fills = False
        self.proof: dict[str, list[float]] = {}
        """What each gives for the image and the text that prove it."""

    def write_text(self) -> None:
        """Write the text tower.

        Raises
        ------
        NotCompilable
            No way of writing it gives the vectors of the model.
        """
        original, path = self._original, self._folder / TEXT_FILE
        rows = token_rows(original.tokenizer, _SAMPLE_TEXTS, cut=None)
        if rows != original.raw_rows(_SAMPLE_TEXTS):
            raise NotCompilable(
                original.info.name, "its tokens are not those of any known tokenizer"
            )

        def write_by_hand() -> None:
            tower, self.cut = original.read_text()
            self.fills = write_text_graph(tower, path, self.cut)

        def export() -> None:
            self.cut, self.fills = None, False
            original.export_text(rows[:2], path)

        def run_all(run: Run) -> FloatArray:
            short = token_rows(original.tokenizer, (PROOF_TEXT, *_SAMPLE_TEXTS), cut=self.cut)
            few, runs = self._folder / FEW_FILE, [run]
            if few.exists():
                runs.append(open_graph(few, optimise=False, prepack=False))
            vectors = [
                np.concatenate([one(np.array([row], np.int32)) for row in short]) for one in runs
            ]
            if self.fills:
                vectors.append(runs[-1](np.array(filled(short), np.int32)))
            return max(vectors, key=lambda rows: float(np.abs(rows - exact).max()))

        exact = original.encode_texts([PROOF_TEXT, *_SAMPLE_TEXTS])
        self._keep_first_right(
            TEXT_FILE, {"written": write_by_hand, "exported": export}, run_all, exact
        )

    def write_image(self) -> None:
        """Write the image tower; raises as `write_text` does."""
        path, size = self._folder / IMAGE_FILE, self.preprocess.size
        noise = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
        batch = np.concatenate([proof_image(size), noise])
        ways: dict[str, Callable[[], None]] = {
            "written": lambda: write_image_graph(self._original.read_image(), path),
            "exported": lambda: self._original.export_image(path),
        }
        exact = self._original.encode_images(batch)
        self._keep_first_right(IMAGE_FILE, ways, lambda run: run(batch), exact)

    def write_rounded_image(self, folder: Path) -> list[float]:
        """Write the image tower in int8 into another folder.

        Returns
        -------
        Its vector of `proof_image`.
        """
        limit = REDUCED_INT8 if overflows() else WHOLE_INT8
        write_image_graph(self._original.read_image(), folder / IMAGE_FILE, int8=limit)
        run = open_graph(folder / IMAGE_FILE, optimise=False)
        return _round(run(proof_image(self.preprocess.size))[0])

    # --- inside ----------------------------------------------------------------------------

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
        raise NotCompilable(self._original.info.name, f"{path.stem} tower, {'; '.join(reasons)}")


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
