"""Weights and tables of open_clip, read from their files without torch and open_clip."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from clipsearch._util.arrays import FloatArray
from clipsearch.encoders import hub
from clipsearch.encoders.compiler.graph import Unsupported
from clipsearch.encoders.registry import FOLDER_PREFIX, open_clip_folder

_DTYPES = {"F32": "<f4", "F16": "<f2"}
_MOST_HEADER = 100_000_000  # bytes, the limit of safetensors itself

Shapes = dict[str, tuple[int, ...]]
"""The shape of each weight by its name."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a weight stands in its file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


class WeightsFile:
    """The weights of a file of safetensors.

    Parameters
    ----------
    file
        The file; its header is read.

    Raises
    ------
    Unsupported, OSError, ValueError, KeyError
        It is no file of weights in 32 or 16 bits.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > _MOST_HEADER:
                raise Unsupported("a header of this length")
            header = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        self._places = {
            name: _Place(
                _DTYPES[entry["dtype"]],
                tuple(entry["shape"]),
                8 + length + entry["data_offsets"][0],
            )
            for name, entry in header.items()
        }

    def require(self, shapes: Shapes) -> None:
        """Raise Unsupported unless these are exactly the weights."""
        found = {name: place.shape for name, place in self._places.items()}
        scale = found.get("logit_scale")
        if scale == (1,):  # as some are stored
            found["logit_scale"] = ()
        if found != shapes:
            raise Unsupported("other weights than those of a plain model")

    def read(self, name: str) -> FloatArray:
        """Read one weight: float32."""
        place = self._places[name]
        shape = () if name == "logit_scale" else place.shape
        flat = np.fromfile(self._file, place.dtype, prod(shape), offset=place.offset)
        return flat.astype(np.float32, copy=False).reshape(shape)

    def items(self) -> Iterator[tuple[str, FloatArray]]:
        """Yield names and weights in the order of the names, one in memory at a time."""
        return ((name, self.read(name)) for name in sorted(self._places))

    def map(self, *, images: bool) -> dict[str, FloatArray]:
        """Return the weights of one tower, float32; those that are stored so are mapped."""
        return {
            name: np.asarray(
                np.memmap(self._file, place.dtype, "r", place.offset, place.shape), np.float32
            )
            for name, place in self._places.items()
            if name.startswith("visual.") == images
        }


class PlainTables:
    """The tables of open_clip, read from its files without importing it; see `sources.Tables`."""

    def get_model_config(self, model_name: str) -> dict[str, Any] | None:
        """Return embed_dim, vision_cfg and text_cfg of an architecture or `local-dir:`."""
        if model_name.startswith(FOLDER_PREFIX):
            folder = Path(model_name.removeprefix(FOLDER_PREFIX))
            found = json.loads((folder / hub.CONFIG).read_text("utf-8"))["model_cfg"]
        else:
            path = open_clip_folder() / "model_configs" / f"{model_name}.json"
            found = json.loads(path.read_text("utf-8"))
        return dict(found)

    def list_pretrained_tags_by_model(self, model: str) -> list[str]:
        """Return the tags of an architecture."""
        return list(_tags().list_pretrained_tags_by_model(model))

    def get_pretrained_cfg(self, model: str, tag: str) -> dict[str, Any]:
        """Return where the weights of a tag are and how it prepares images; empty if unknown."""
        return dict(_tags().get_pretrained_cfg(model, tag))

    def download_pretrained(self, cfg: dict[str, Any]) -> str:
        """Return the weights of a tag that is not on the hub."""
        return str(_tags().download_pretrained(cfg))


@cache
def _tags() -> Any:
    """Return open_clip's module of pretrained tags; the package around it would import torch."""
    name = "_open_clip_tables"
    package = ModuleType(name)
    package.__path__ = [str(open_clip_folder())]
    sys.modules[name] = package
    # It does without safetensors.torch, which imports torch too.
    absent = "safetensors.torch" not in sys.modules
    if absent:
        sys.modules["safetensors.torch"] = None  # type: ignore[assignment]
    try:
        return import_module(f"{name}.pretrained")
    finally:
        if absent:
            del sys.modules["safetensors.torch"]
