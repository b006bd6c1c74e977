"""Entries for a catalog, made from a word: equal words are equal bytes and equal vectors."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from clipsearch.catalog import Catalog, Entry
from clipsearch.types import Facts, ModelInfo

DIM = 24


def model(name: str = "toy", *, dim: int = DIM, fingerprint: str = "") -> ModelInfo:
    return ModelInfo(name, dim, 100.0, None, fingerprint or f"print of {name}", f"spec of {name}")


def sha(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


def unit(word: str, dim: int = DIM) -> np.ndarray:
    """A float32 unit vector that only this word has."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    row = np.random.default_rng(seed).normal(size=dim)
    return (row / np.linalg.norm(row)).astype(np.float32)


def entry(path: str, word: str = "", **changes: Any) -> Entry:
    """An image seen for the first time; its word is its path unless given."""
    word = word or path
    values: dict[str, Any] = {
        "path": path,
        "size": 1000,
        "mtime_ns": 5,
        "root": "/pics",
        "sha256": sha(word),
        "facts": Facts(640, 480, "JPEG"),
        "vector": unit(word),
    }
    return Entry(**(values | changes))


def failure(path: str, reason: str = "not an image", **changes: Any) -> Entry:
    return entry(path, sha256=None, facts=None, vector=None, error=reason, **changes)


def ids_of(catalog: Catalog, model_id: int) -> dict[str, int]:
    """Path -> vector id of all live files."""
    hits = catalog.hits(catalog.allowed_ids(model_id))
    return {record.path: number for number, records in hits.items() for record in records}
