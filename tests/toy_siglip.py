"""A simulated SigLIP: cosines of images with texts lie as they do in models with a sigmoid loss.

The logit scale and bias are near those of the published models (112 and -16.5), and what a text gets
from an image of something else is .08 plus or minus .014; the right text gets .115 more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from conftest import ToyEncoder

from clipsearch._util.arrays import unit

SCALE, BIAS = 112.0, -16.5
WORDS = ("cat", "dog", "horse", "owl", "fish", "tree", "boat", "house", "glacier", "violin")
"""What an image may show, by the first number of its pixels."""
_TEXT_DIM = 1024
_COMMON = 0.6
"""How much of a text all texts share."""
_OTHERS, _MORE, _NOISE = 0.08, 0.115, 0.55


class ToySigLIP(ToyEncoder):
    """Texts are hashed words beside what they share; images lie far from them, across a gap."""

    def __init__(self) -> None:
        super().__init__("toy-siglip")
        self.info = dataclasses.replace(
            self.info, dim=_TEXT_DIM + 2, logit_scale=SCALE, logit_bias=BIAS
        )

    def preprocess(self, image: PIL.Image.Image) -> np.ndarray:
        return np.asarray(image.resize((1, 1)), dtype=np.uint8)

    def encode_images(self, batch: np.ndarray) -> np.ndarray:
        return np.stack([_image(*map(int, pixel)) for pixel in batch.reshape(len(batch), 3)])

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        own = np.sqrt(1 - _COMMON**2) * np.stack([_words(text.lower().split()) for text in texts])
        shared = np.tile([_COMMON, 0.0], (len(texts), 1))
        return np.concatenate([own, shared], axis=1).astype(np.float32)


def write_images(folder: Path, *, each: int) -> dict[str, str]:
    """Write images of each word; return what each shows, by its path."""
    folder.mkdir()
    shown = {}
    for number, word in enumerate(WORDS):
        for i in range(each):
            path = folder / f"{word}-{i:02d}.png"
            PIL.Image.new("RGB", (16, 16), (number, i, 0)).save(path)
            shown[str(path)] = word
    return shown


def _words(words: Sequence[str]) -> np.ndarray:
    rows = np.stack([_random(f"word {word}".encode()) for word in words])
    return unit(rows.sum(axis=0)[None])[0]


def _image(word: int, number: int, _: int) -> np.ndarray:
    rest = unit(_random(f"image {word} {number}".encode())[None])[0]
    own = _MORE / np.sqrt(1 - _COMMON**2) * _words([WORDS[word]]) + _NOISE * rest
    shared = _OTHERS / _COMMON
    across = np.sqrt(1 - own @ own - shared**2)
    return np.concatenate([own, [shared, across]]).astype(np.float32)


def _random(seed: bytes) -> np.ndarray:
    return np.random.default_rng(list(seed)).normal(size=_TEXT_DIM)
