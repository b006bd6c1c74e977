"""The ways that clipsearch is compared with, re-enacted by their public design.

naive   What tutorials of CLIP search do. Pillow opens each file whole, open_clip's own transform
        prepares it, its own model encodes batches of 32 in torch with torch's own threads, one
        step after the other. Vectors go into a flat FAISS index, paths into SQLite through
        SQLAlchemy. A query makes the model, loads its weights, encodes the text, reads the index,
        searches it, and looks the paths up.

rclip   By the public sources of rclip (github.com/yurijmikhalevich/rclip). A pool of threads
        decodes with Pillow and resizes the whole image; ONNX Runtime runs a standard export in
        fp32 on all cores, in batches of 8; vectors are float32 blobs in SQLite, one row an
        image. A query runs the text tower on 77 tokens, which a tokenizer without torch makes;
        reads every blob, multiplies, and sorts in Python.

Neither is the programs themselves (`real_rclip` runs rclip itself): the same model, the same images and the same machine for all,
and nothing is measured but the work. What a program does besides (progress bars, looking for
changed files, thumbnails) is left out, in favour of these two.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

NAIVE_BATCH, RCLIP_BATCH = 32, 8
INDEX_FILE, PATHS_FILE, BLOBS_FILE = "index.faiss", "paths.db", "rclip.db"
RCLIP_TABLE = """CREATE TABLE images (id INTEGER PRIMARY KEY, deleted BOOLEAN,
    filepath TEXT NOT NULL UNIQUE, modified_at DATETIME, size INTEGER, vector BLOB NOT NULL)"""
RCLIP_ROW = "INSERT INTO images (filepath, modified_at, size, vector) VALUES (?, ?, ?, ?)"

Block = tuple[list[str], np.ndarray]
"""Paths, and their unit rows float32 (n, dim)."""


class Naive:
    """Pillow, open_clip and torch, one step after the other."""

    def __init__(self, model: str) -> None:
        import open_clip

        arch, weights = for_open_clip(model)
        made = open_clip.create_model_and_transforms(arch, pretrained=weights)
        self._model, self._preprocess = made[0].eval(), made[2]

    def index(self, files: Sequence[str], folder: Path) -> np.ndarray:
        """Encode files and store them in a folder; return unit rows float32 (n, dim)."""
        blocks = [
            (list(part), self._encode(part))
            for part in (
                files[start : start + NAIVE_BATCH] for start in range(0, len(files), NAIVE_BATCH)
            )
        ]
        store_naive(folder, blocks)
        return np.concatenate([rows for _, rows in blocks])

    def _encode(self, files: Sequence[str]) -> np.ndarray:
        import PIL.Image
        import torch

        batch = torch.stack([self._preprocess(PIL.Image.open(file)) for file in files])
        with torch.inference_mode():
            rows = self._model.encode_image(batch, normalize=True)
        return np.asarray(rows.numpy())


class Rclip:
    """A pool of Pillow threads before ONNX Runtime."""

    def __init__(self, exported: Path) -> None:
        """Take the folder that `material.exported` made."""
        self._run = session(exported / "image.onnx")
        found = np.load(exported / "preprocess.npz")
        self._size = int(found["size"])
        self._mean, self._std = found["mean"], found["std"]
        self._threads = os.cpu_count() or 1

    def index(self, files: Sequence[str], folder: Path) -> np.ndarray:
        """Encode files and store them in a folder; return unit rows float32 (n, dim)."""
        with ThreadPoolExecutor(self._threads) as pool:
            rows = np.concatenate([self._encode(b) for b in self._batches(pool, files)])
        store_rclip(folder, [(list(files), rows)])
        return rows

    def _batches(self, pool: ThreadPoolExecutor, files: Sequence[str]) -> Iterator[np.ndarray]:
        waiting: deque[Future[np.ndarray]] = deque()
        todo, batch = iter(files), []
        for file in todo:
            waiting.append(pool.submit(self._prepare, file))
            if len(waiting) == 3 * RCLIP_BATCH:
                break
        while waiting:
            batch.append(waiting.popleft().result())
            if (following := next(todo, None)) is not None:
                waiting.append(pool.submit(self._prepare, following))
            if len(batch) == RCLIP_BATCH or not waiting:
                yield np.stack(batch)
                batch = []

    def _prepare(self, file: str) -> np.ndarray:
        import PIL.Image

        image = PIL.Image.open(file).convert("RGB")
        size, (width, height) = self._size, image.size
        # The short side fits; the whole image is resized, then cut.
        target = (
            (size, int(height * size / width))
            if width < height
            else (int(width * size / height), size)
        )
        image = image.resize(target, PIL.Image.Resampling.BICUBIC)
        left, top = round((target[0] - size) / 2), round((target[1] - size) / 2)
        pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.float32) / 255
        return np.asarray(((pixels - self._mean) / self._std).transpose(2, 0, 1), np.float32)

    def _encode(self, batch: np.ndarray) -> np.ndarray:
        return unit(self._run(batch))


# --- what they store -----------------------------------------------------------------------


def store_naive(folder: Path, blocks: Iterable[Block]) -> None:
    """Write a flat index and a table of paths."""
    import faiss
    import sqlalchemy

    engine = sqlalchemy.create_engine(f"sqlite:///{folder / PATHS_FILE}")
    insert = sqlalchemy.text("INSERT INTO images (id, path) VALUES (:id, :path)")
    index: Any = None
    with engine.begin() as connection:
        create = "CREATE TABLE images (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE)"
        connection.execute(sqlalchemy.text(create))
        for paths, rows in blocks:
            index = faiss.IndexFlatIP(rows.shape[1]) if index is None else index
            values = [{"id": index.ntotal + i, "path": path} for i, path in enumerate(paths)]
            connection.execute(insert, values)
            index.add(np.ascontiguousarray(rows))
    faiss.write_index(index, str(folder / INDEX_FILE))
    engine.dispose()


def store_rclip(folder: Path, blocks: Iterable[Block]) -> None:
    """Write a table with a blob of float32 for each image."""
    with sqlite3.connect(folder / BLOBS_FILE) as database:
        database.execute(RCLIP_TABLE)
        for paths, rows in blocks:
            values = zip(paths, rows.astype(np.float32), strict=True)
            database.executemany(RCLIP_ROW, ((path, 0.0, 0, row.tobytes()) for path, row in values))
    database.close()


# --- what they run -------------------------------------------------------------------------


def for_open_clip(model: str) -> tuple[str, str | None]:
    """Return architecture and checkpoint of a model's name, as open_clip takes them."""
    arch, _, file = model.partition("@")
    return arch, file or None


def session(path: Path) -> Any:
    """Open a graph as rclip does: fp32, as many threads as cores."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = os.cpu_count() or 1
    made = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda batch: made.run(None, {"x": batch})[0]


def unit(rows: np.ndarray) -> np.ndarray:
    """Return rows of length one."""
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))
