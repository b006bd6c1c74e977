"""Encoder engine onnx: compiled models on the CPU by ONNX Runtime, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from clipsearch._util import LazyModule, describe_error, warn
from clipsearch._util.parallel import cores
from clipsearch.encoders.base import Tokenizer, compile_again
from clipsearch.encoders.compiler.store import (
    Manifest,
    damaged_files,
    discard,
    find_compiled,
)
from clipsearch.encoders.registry import ModelSpec, multilingual
from clipsearch.encoders.tokenizers import filled, group_by_length, open_tokenizer, token_rows
from clipsearch.errors import ClipsearchError, EncoderError
from clipsearch.types import ModelInfo

if TYPE_CHECKING:
    from concurrent import futures

    import PIL.Image

    from clipsearch.encoders.preprocess import Preprocess
else:
    futures, PIL = LazyModule("concurrent.futures"), LazyModule("PIL")

IMAGE_FILE, TEXT_FILE, FEW_FILE = "image.onnx", "text.onnx", "few.onnx"
PROOF_TEXT = "a photo of a cat"
"""Its vector, and that of `proof_image`, tell whether a tower is damaged."""
_PROOF_COSINE = 0.999
_IMAGE_BATCH = 4  # per run: larger ones gain nothing with one thread per run, and take memory
_TEXT_BATCH = 32
_FEW_TEXTS = 8  # run on weights as they lie in the file: arranging them for speed takes as long

# What the names of the files begin with that a part reads.
_READ_BY = {"image": "image", "text": "text", "few": "few text", "tokens": "tokens tokenizer"}

Run = Callable[[np.ndarray], np.ndarray]


def open_graph(path: Path, *, optimise: bool = True, prepack: bool = True, threads: int = 1) -> Run:
    """Open a graph of one input and one output.

    Parameters
    ----------
    path
        An ONNX file, its weights beside it.
    optimise
        Let the runtime optimise the graph.
    prepack
        Arrange weights for speed, which costs the time and memory of a copy.
    threads
        Threads that work on one run.

    Returns
    -------
    A function of one batch, which any thread may call. Opening raises whatever onnxruntime does
    with a damaged file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Between two runs threads sleep, instead of waiting for work at full speed.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4  # errors are raised; stderr is the user's
    if not optimise:
        level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.graph_optimization_level = level
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: np.asarray(session.run(None, {name: batch})[0])


class OnnxEncoder:
    """A compiled model on the CPU; see `encoders.base.Encoder` and `SharedEncoder`. Thread-safe.

    Large batches of images are spread over `threads` threads; small ones run in the thread that
    asks. Texts have all threads, a batch at a time, once there are more than _FEW_TEXTS.
    """

    worker_chunk = _IMAGE_BATCH

    def __init__(
        self, folder: Path, manifest: Manifest, spec: ModelSpec, *, threads: int = 0
    ) -> None:
        self.info = ModelInfo(
            name=spec.name,
            dim=manifest.dim,
            logit_scale=manifest.logit_scale,
            logit_bias=manifest.logit_bias,
            fingerprint=manifest.fingerprint,
            spec=spec.name,
        )
        self.context_length = manifest.context_length
        self.precision = manifest.precision
        self._folder, self._manifest, self._spec = folder, manifest, spec
        self._threads = threads or cores()
        self._lock = Lock()
        self._parts: dict[str, Any] = {}
        self._texts_read = 0
        # Rounded inputs share one scale a run: by itself an image has the same vector always.
        self._images_at_once = 1 if manifest.precision == "int8" else _IMAGE_BATCH

    @classmethod
    def load(cls, spec: ModelSpec, *, device: str = "auto", precision: str = "auto") -> OnnxEncoder:
        """Open the compiled model of `spec`; weights are read when they are first needed.

        Parameters
        ----------
        spec
            The model.
        device
            `cpu` or `auto`, which is the same.
        precision
            `fp32`, `int8`, or `auto`: as it was last compiled.

        Raises
        ------
        EncoderError
            It is not compiled, or the device is another one.
        """
        if device not in ("auto", "cpu"):
            raise EncoderError(f"compiled models run on the CPU, not on {device!r}.")
        if precision not in ("auto", "fp32", "int8"):
            raise EncoderError(f"unknown precision {precision!r}: choose auto, fp32 or int8.")
        folder = find_compiled(spec, precision)
        manifest = Manifest.read(folder) if folder else None
        if folder is None or manifest is None:
            _raise_gate(spec, precision)
            option = "" if precision == "auto" else f" --precision {precision}"
            raise EncoderError(
                f"{spec.name} is not compiled: `clipsearch compile {spec.name}{option}`."
            )
        return cls(folder, manifest, spec)

    @property
    def tokenizer(self) -> Tokenizer:
        """What makes tokens of texts."""
        saved, length = self._manifest.tokenizer, self.context_length
        languages = multilingual(self._spec, saved["vocabulary"])
        tokenizer: Tokenizer = self._part(
            "tokens",
            lambda: open_tokenizer(
                saved, self._folder, context_length=length, multilingual=languages
            ),
        )
        return tokenizer

    @cached_property
    def prepare(self) -> Preprocess:
        """The preprocessing; texts do without it."""
        from clipsearch.encoders.preprocess import Preprocess

        return Preprocess(**self._manifest.preprocess)

    def preprocess(self, image: PIL.Image.Image) -> np.ndarray:
        """Resize and crop an RGB image as the model wants it: uint8 (H, W, 3). Thread-safe."""
        return self.prepare(image)

    def encode_images(self, batch: np.ndarray) -> np.ndarray:
        """Encode uint8 (n, H, W, 3) to float32 unit rows (n, dim)."""
        height, width = self.prepare.size
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != (height, width, 3):
            wanted = f"uint8 (n, {height}, {width}, 3)"
            raise ValueError(f"{self.info.name} takes {wanted}, not {batch.dtype} {batch.shape}")
        if not len(batch):
            return np.empty((0, self.info.dim), np.float32)
        size, run = self._images_at_once, self._image_run()
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        few = len(batch) <= self.worker_chunk or self._threads == 1
        rows = map(run, parts) if few else self._pool().map(run, parts)
        return self._check_finite(np.concatenate(list(rows)))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts to float32 unit rows (n, dim); long texts are cut, as open_clip does."""
        if isinstance(texts, str):
            raise TypeError("encode_texts takes a list of texts, not one text")
        rows = token_rows(self.tokenizer, texts, cut=self._manifest.cut)
        run = self._text_run(len(rows))
        if self._manifest.fills and self._texts_read <= _FEW_TEXTS:
            rows = filled(rows)
        vectors = np.empty((len(rows), self.info.dim), np.float32)
        for group in group_by_length(rows, _TEXT_BATCH):
            vectors[group] = run(np.array([rows[number] for number in group], np.int32))
        return self._check_finite(vectors)

    # --- inside ----------------------------------------------------------------------------

    def _image_run(self) -> Run:
        return self._tower("image", proof_image(self._manifest.preprocess["size"]))

    def _text_run(self, count: int) -> Run:
        """Return the text tower, arranged for speed once it has been asked for enough texts."""
        self._texts_read += count
        if self._texts_read <= _FEW_TEXTS:
            few: Run = self._part("few", lambda: self._graph("text", prepack=False))
            return few
        rows = token_rows(self.tokenizer, [PROOF_TEXT], cut=self._manifest.cut)
        return self._tower("text", np.array(rows, np.int32))

    def _tower(self, tower: str, proof: np.ndarray) -> Run:
        """Return a tower that gave the vector of `proof` which it gave when it was compiled."""

        def open_checked() -> Run:
            run = self._graph(tower)
            if not float(run(proof)[0] @ np.array(self._manifest.proof[tower])) >= _PROOF_COSINE:
                raise _WrongVectors("its vectors are not those of the model")
            return run

        checked: Run = self._part(tower, open_checked)
        return checked

    def _graph(self, tower: str, *, prepack: bool = True) -> Run:
        # A graph written by hand has nothing left to optimise, and opens faster so.
        optimise = self._manifest.ways[tower] != "written"
        # On weights that are not arranged, a second thread only repeats what the first one does.
        threads = self._threads if tower == "text" and prepack else 1
        few = tower == "text" and not prepack and FEW_FILE in self._manifest.files
        path = self._folder / (FEW_FILE if few else f"{tower}.onnx")
        return open_graph(path, optimise=optimise, prepack=prepack, threads=threads)

    def _part(self, name: str, opening: Callable[[], Any]) -> Any:
        """Open a part once, if its files are as they were written; else the model is made again."""
        with self._lock:
            if name not in self._parts:
                self._replace_damaged(name)
                try:
                    self._parts[name] = opening()
                except _WrongVectors:  # weights in int8 that were rounded for another processor
                    self._make_again("gives other vectors on this processor")
                    self._parts[name] = opening()
                except (ClipsearchError, MemoryError):
                    raise
                except Exception as error:  # onnxruntime and SQLite have one for every fault
                    raise self._explain(name, error) from error
            return self._parts[name]

    def _explain(self, part: str, error: Exception) -> EncoderError:
        """Return an error for files that are as they were written: the fault is elsewhere."""
        name = self.info.name
        return EncoderError(
            f"the compiled {name} in {self._folder} cannot be opened ({part}: {describe_error(error)}). "
            f"Try again; if that does not help: `clipsearch compile {name} --force`."
        )

    def _replace_damaged(self, part: str) -> None:
        """Compile the model again if files of a part are damaged. Raises EncoderError."""
        towers = _READ_BY.get(part, "").split()
        names = [name for name in self._manifest.files if name.split(".")[0] in towers]
        try:
            damaged = damaged_files(self._folder, self._manifest, names)
        except OSError as error:  # no permission, a disk that is away
            raise self._explain(part, error) from error
        if damaged:
            self._make_again(f"is damaged ({damaged[0]})")

    def _make_again(self, fault: str) -> None:
        fault = f"the compiled {self.info.name} in {self._folder} {fault}"
        warn(f"{fault}: it is compiled again.")
        discard(self._folder)
        try:
            compile_again(self._spec.name, self.precision)
        except (ClipsearchError, OSError, ImportError, MemoryError) as error:
            raise EncoderError(
                f"{fault} and was deleted. Make it again: `clipsearch compile {self.info.name}` "
                f"({describe_error(error)})."
            ) from error
        folder = find_compiled(self._spec)
        manifest = Manifest.read(folder) if folder else None
        if not folder or not manifest or manifest.fingerprint != self.info.fingerprint:
            raise EncoderError(f"{fault}, and the weights that it was made from have changed.")
        self._folder, self._manifest = folder, manifest

    def _pool(self) -> futures.ThreadPoolExecutor:
        pool: futures.ThreadPoolExecutor = self._part(
            "pool", lambda: futures.ThreadPoolExecutor(self._threads)
        )
        return pool

    def _check_finite(self, rows: np.ndarray) -> np.ndarray:
        if not np.isfinite(rows).all():
            raise EncoderError(
                f"{self.info.name} gave numbers that are not finite: its weights are damaged."
            )
        return rows


class _WrongVectors(Exception):
    """A tower whose files are as they were written gives other vectors than it did."""


def _raise_gate(spec: ModelSpec, precision: str) -> None:
    """Raise EncoderError if int8 is asked for that was tried and is not near enough."""
    folder = find_compiled(spec, "fp32") if precision == "int8" else None
    manifest = Manifest.read(folder) if folder else None
    if manifest and manifest.gate and not manifest.gate.passed:
        near = f"mean cosine {manifest.gate.cosine:.5f}"
        raise EncoderError(
            f"{spec.name} does not pass the gate in int8 ({near}): use fp32 or auto."
        )


def proof_image(size: tuple[int, int]) -> np.ndarray:
    """Return a fixed image whose vector shows whether a tower is damaged: uint8 (1, H, W, 3)."""
    rows, columns, colours = np.ogrid[: size[0], : size[1], :3]
    pattern = (rows * 5 + columns * 3 + colours * 60 + rows * columns // 16) % 256
    return np.asarray(pattern[None], np.uint8)
