"""The models: what they are called (`models`), and what runs them (one engine a file)."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import entry_points
from os import PathLike
from typing import Protocol, cast

from clipsearch.encoders.base import Encoder, Tokenizer
from clipsearch.encoders.models import ModelSpec, check_files, resolve
from clipsearch.errors import EncoderError

__all__ = [
    "ENGINES",
    "Encoder",
    "Engine",
    "Tokenizer",
    "engine_names",
    "load_encoder",
    "load_tokenizer",
]

ENGINES = {"torch": "clipsearch.encoders.openclip:OpenClipEncoder.load"}
"""What executes models, by name. Other packages add theirs as entry points of ENTRY_POINTS."""

ENTRY_POINTS = "clipsearch.encoders"
DEVICE = "CLIPSEARCH_DEVICE"
"""Environment variable that names the device where none is asked for."""


class Engine(Protocol):
    """Loads a model."""

    def __call__(self, spec: ModelSpec, *, device: str, precision: str) -> Encoder:
        """Load the weights of `spec`. Raises UnknownModel, ModelUnavailable or EncoderError."""
        ...


def load_encoder(
    name: str = "default",
    *,
    checkpoint: str | PathLike[str] | None = None,
    device: str = "auto",
    precision: str = "auto",
    engine: str = "torch",
) -> Encoder:
    """Load a model by any of the names that `encoders.models` explains.

    device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`: $CLIPSEARCH_DEVICE, else the fastest there is. precision: `fp32`,
    `fp16`, `bf16`, or `auto`, which is fp16 on CUDA and fp32 elsewhere. Raises UnknownModel, or
    ModelUnavailable with what to do; it never returns another model or untrained weights.

    >>> encoder = load_encoder("mini")
    >>> encoder.encode_texts(["a blue horse"]).shape
    (1, 256)
    """
    spec = resolve(name, checkpoint=checkpoint)
    check_files(spec)
    if device == "auto":
        device = os.environ.get(DEVICE) or "auto"
    return _engine(engine)(spec, device=device, precision=precision)


def load_tokenizer(name: str = "default") -> Tokenizer:
    """Load the tokenizer of a model, without its weights. Raises as `load_encoder` does.

    An architecture without a tag is enough here: a tokenizer belongs to the architecture.

    >>> tokenizer = load_tokenizer("mini")
    >>> tokenizer.ids(["a blue horse"])
    [[320, 1746, 4558]]
    """
    spec = resolve(name)
    check_files(spec)
    home = import_module("clipsearch.encoders.openclip")
    return cast("Tokenizer", home.load_tokenizer(spec))


def engine_names() -> tuple[str, ...]:
    """Return the names of all engines that are installed."""
    return tuple(sorted({*ENGINES, *(e.name for e in entry_points(group=ENTRY_POINTS))}))


def _engine(name: str) -> Engine:
    if home := ENGINES.get(name):
        module, _, attribute = home.partition(":")
        found: object = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return cast("Engine", found)
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        return cast("Engine", entry.load())
    raise EncoderError(f"unknown engine {name!r}: choose from {', '.join(engine_names())}.")
