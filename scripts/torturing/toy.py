"""A model without weights worth loading: commands start at once, and equal bytes give equal vectors.

It is found as a folder, `local-dir:FOLDER`, whose weights are a seed; another seed is another model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image

from clipsearch.encoders import ENGINES
from clipsearch.encoders.base import Tokenizer
from clipsearch.encoders.registry import ModelSpec
from clipsearch.encoders.tokenizers.clip import clip_tokenizer
from clipsearch.types import ModelInfo

DIM = 32
_CONFIG, _WEIGHTS = "open_clip_config.json", "open_clip_model.bin"


class ToyModel:
    """An encoder: a fixed random projection of a thumbnail, or of hashed words."""

    worker_chunk = 4
    context_length = 77

    def __init__(self, name: str, seed: int, tokenizer: Tokenizer) -> None:
        fingerprint = hashlib.sha256(f"toy {seed}".encode()).hexdigest()
        self.info = ModelInfo(name, DIM, 100.0, None, fingerprint, name)
        self.tokenizer = tokenizer
        self._seed = seed
        self._projection = np.random.default_rng(seed).normal(size=(8 * 8 * 3, DIM))

    @classmethod
    def load(cls, spec: ModelSpec, *, device: str = "auto", precision: str = "auto") -> ToyModel:
        """Open the model of a folder."""
        seed = int(Path(spec.folder or "", _WEIGHTS).read_text("utf-8"))
        tokenizer = clip_tokenizer(spec)
        assert tokenizer is not None
        return cls(spec.name, seed, tokenizer)

    def preprocess(self, image: PIL.Image.Image) -> np.ndarray:
        """Return a thumbnail, uint8 (8, 8, 3)."""
        return np.asarray(image.resize((8, 8)), dtype=np.uint8)

    def encode_images(self, batch: np.ndarray) -> np.ndarray:
        """Return unit rows float32 (n, DIM)."""
        rows = (batch.reshape(len(batch), -1) / 255 - 0.5) @ self._projection
        return _unit(rows + 1e-3)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit rows float32 (n, DIM)."""
        read = [text.lower().split()[: self.context_length - 2] for text in texts]
        rows = [sum((_word(word, self._seed) for word in words), _word("", 0)) for words in read]
        return _unit(np.stack(rows))


@cache
def _word(word: str, seed: int) -> np.ndarray:
    start = hashlib.sha256(f"{seed} {word}".encode()).digest()[:8]
    return np.random.default_rng(int.from_bytes(start, "little")).normal(size=DIM)


def warm_up_words(texts: Iterable[str]) -> None:
    """Make the vectors of words for the first models, so that children have them."""
    for word in {word for text in texts for word in text.lower().split()}:
        for seed in range(3):
            _word(word, seed)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def use_toys() -> None:
    """Let every model of a folder be a toy."""
    ENGINES["torch"] = f"{__name__}:ToyModel.load"


def make_toy(folder: Path, seed: int) -> str:
    """Write the folder of a toy; return its name for `--model`."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": {"embed_dim": DIM, "vision_cfg": {}, "text_cfg": {}}}
    (folder / _CONFIG).write_text(json.dumps(config), "utf-8")
    (folder / _WEIGHTS).write_text(str(seed), "utf-8")
    return f"local-dir:{folder}"
