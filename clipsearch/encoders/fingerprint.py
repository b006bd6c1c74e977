"""The fingerprint of a model, by which vectors of two models are kept apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

# Weights alone do not say how a text becomes tokens, so the tokens of these texts are hashed too.
PROBES = (
    "a photo of a cat",
    "The  QUICK brown-fox's 3.14 &amp; <b>",
    "naïve café, Straße; Ünïcödé",
    "赤い馬に乗る少年 конь собака 🐎",
    "word " * 200,
)


def fingerprint(tensors: Iterable[tuple[str, np.ndarray]], structure: Mapping[str, object]) -> str:
    """Hash what makes the vectors: named weights, and all else as JSON (hex sha256).

    The same model must be given with float32 weights and in one order on every device, whatever
    precision it computes in and whatever file it came from.
    """
    digest = hashlib.sha256(json.dumps(structure, sort_keys=True).encode())
    with ThreadPoolExecutor() as pool:  # hashing releases the lock: seconds less for large models
        for line in pool.map(_line, tensors):
            digest.update(line)
    return digest.hexdigest()


def _line(named: tuple[str, np.ndarray]) -> bytes:
    name, array = named
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return f"{name} {array.shape} {hashlib.sha256(content.data).hexdigest()}\n".encode()
