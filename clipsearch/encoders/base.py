"""What every encoder is: preprocess, an image tower and a text tower into one space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from clipsearch.types import ModelInfo

if TYPE_CHECKING:
    import PIL.Image


@runtime_checkable
class Encoder(Protocol):
    """Turns pictures and texts into unit vectors of one space.

    >>> encoder.encode_texts(["a horse"]) @ encoder.encode_images(batch).T   # cosines
    """

    @property
    def info(self) -> ModelInfo:
        """Name, dim, logit scale and bias, fingerprint: what a library stores of the model."""
        ...

    @property
    def context_length(self) -> int:
        """Tokens the text tower reads, start and end tokens included (77 for CLIP)."""
        ...

    def preprocess(self, image: PIL.Image.Image) -> np.ndarray:
        """Resize and crop an RGB picture as the model wants it: uint8 (H, W, 3). Thread-safe."""
        ...

    def encode_images(self, batch: np.ndarray) -> np.ndarray:
        """Encode uint8 (n, H, W, 3) to float32 unit rows (n, dim)."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts to float32 unit rows (n, dim)."""
        ...
