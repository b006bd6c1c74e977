"""The models: what they are called (`models`), and what runs them (one engine a file)."""

from __future__ import annotations

import os
import platform
import sys
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Protocol, cast

from clipsearch.encoders.base import Encoder, Tokenizer
from clipsearch.encoders.compiler.store import compiled, refuse, refused, settled
from clipsearch.encoders.registry import ModelSpec, check_files, resolve
from clipsearch.errors import EncoderError, NotCompilable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.metadata import EntryPoint

    from clipsearch.types import Progress

__all__ = [
    "ENGINES",
    "Encoder",
    "Engine",
    "Tokenizer",
    "compile_once",
    "compiled",
    "engine_names",
    "load_encoder",
    "load_tokenizer",
    "runs_on_cpu",
]

ENGINES = {
    "onnx": "clipsearch.encoders.onnx:OnnxEncoder.load",
    "torch": "clipsearch.encoders.torch:OpenClipEncoder.load",
}
"""What executes models, by name. Other packages add theirs as entry points of ENTRY_POINTS."""

ENTRY_POINTS = "clipsearch.encoders"
DEVICE = "CLIPSEARCH_DEVICE"
"""Environment variable that names the device where none is asked for."""
# What drivers leave behind: NVIDIA's, NVIDIA's under WSL, AMD's.
GPU_TRACES = ("/proc/driver/nvidia/version", "/dev/dxg", "/dev/kfd")


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
    engine: str = "auto",
) -> Encoder:
    """Load a model by any of the names that `encoders.models` explains.

    device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`: $CLIPSEARCH_DEVICE, else the fastest there is.
    engine: `torch`, `onnx` (compiled models), or `auto`: onnx on a CPU if the model is compiled.
    precision: `fp32`; `fp16`, `bf16` (torch); `int8` (onnx); `auto`: for torch fp16 on CUDA and fp32
    elsewhere, for onnx as the model was compiled. Raises UnknownModel, or ModelUnavailable with
    what to do; it never returns another model or untrained weights.

    >>> encoder = load_encoder("mini")
    >>> encoder.encode_texts(["a blue horse"]).shape
    (1, 256)
    """
    spec = resolve(name, checkpoint=checkpoint)
    check_files(spec)
    if device == "auto":
        device = os.environ.get(DEVICE) or "auto"
    if engine == "auto":
        fits = runs_on_cpu(device) and (precision == "int8" or compiled(spec, precision))
        engine = "onnx" if fits else "torch"
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
    from clipsearch.encoders.tokenizers.clip import clip_tokenizer  # a query's texts do without it

    if found := clip_tokenizer(spec):
        return found
    # The compiled one, on any device: it opens without torch.
    engine = "onnx" if compiled(spec) else "torch"
    home = import_module(f"clipsearch.encoders.{engine}")
    return cast("Tokenizer", home.load_tokenizer(spec))


def compile_once(
    name: str = "default",
    *,
    precision: str = "auto",
    images: Iterable[str | PathLike[str]] = (),
    progress: Callable[[Progress], None] | None = None,
) -> str:
    """Compile a model that is to run on the CPU here, unless it is; return why it runs on torch.

    Returns "" where it is compiled now, or another device runs it. precision, images, progress:
    see `compile_model`. Raises UnknownModel and ModelUnavailable.
    """
    spec = resolve(name)
    check_files(spec)
    if settled(spec, precision) or not runs_on_cpu(os.environ.get(DEVICE) or "auto"):
        return ""
    if reason := refused(spec):
        return reason
    from clipsearch.encoders.compiler.compile import compile_model  # which imports torch

    try:
        compile_model(name, precision=precision, images=images, progress=progress)
    except NotCompilable as error:
        refuse(spec, str(error))
        return str(error)
    except OSError as error:  # no room, or no right to write: indexing goes on without
        return f"{spec.name} could not be compiled ({error}). It runs on torch all the same."
    return ""


def runs_on_cpu(device: str = "auto") -> bool:
    """Say whether models run on the CPU here, without asking torch, which takes seconds.

    For `auto` ($CLIPSEARCH_DEVICE is the caller's to look up) no graphics card that torch knows may
    show; if one does, torch decides.
    """
    if device != "auto":
        return device == "cpu"
    if sys.platform == "darwin":
        return platform.machine() != "arm64"
    if sys.platform == "win32":
        return not os.path.exists(os.path.expandvars(r"%SystemRoot%\System32\nvcuda.dll"))
    return not any(map(os.path.exists, GPU_TRACES))


def engine_names() -> tuple[str, ...]:
    """Return the names of all engines that are installed."""
    return tuple(sorted({*ENGINES, *_others()}))


def _engine(name: str) -> Engine:
    if home := ENGINES.get(name):
        module, _, attribute = home.partition(":")
        found: object = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
        return cast("Engine", found)
    if entry := _others().get(name):
        return cast("Engine", entry.load())
    raise EncoderError(f"unknown engine {name!r}: choose from {', '.join(engine_names())}.")


def _others() -> dict[str, EntryPoint]:
    """Return the engines of other packages by name."""
    from importlib.metadata import entry_points  # which takes longer than all else here

    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
