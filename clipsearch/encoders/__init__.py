"""Load encoders and tokenizers of models by name; each engine (torch, onnx) is one module."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol, cast

from clipsearch._util import LazyModule, describe_error
from clipsearch.encoders.base import Encoder, Tokenizer, compile_with
from clipsearch.encoders.compiler.store import (
    Manifest,
    damaged_files,
    find_compiled,
    find_finished,
    manifest_of,
    note_refusal,
    refusal,
)
from clipsearch.encoders.registry import PRESETS, ModelSpec, check_files, resolve
from clipsearch.errors import ClipsearchError, EncoderError, NotCompilable
from clipsearch.types import OnProgress

if TYPE_CHECKING:
    from importlib import metadata
else:
    metadata = LazyModule("importlib.metadata")  # it takes longer than all else here

# onnxruntime sends measurements, and leaves an identifier in the user's cache folder, as soon as it
# is imported, unless its environment says otherwise by then. Who sets these decides.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_TELEMETRY_DISABLED", "1")  # its name in other versions

__all__ = [
    "ENGINES",
    "Encoder",
    "EngineLoader",
    "Tokenizer",
    "compile_once",
    "default_device",
    "engine_names",
    "list_models",
    "load_encoder",
    "load_tokenizer",
    "runs_on_cpu",
]

ENGINES = {
    "onnx": "clipsearch.encoders.onnx:OnnxEncoder.load",
    "torch": "clipsearch.encoders.torch:OpenClipEncoder.load",
}
"""Engines by name. Other packages add theirs as entry points `clipsearch.encoders`."""

_ENTRY_POINTS = "clipsearch.encoders"
_DEVICE = "CLIPSEARCH_DEVICE"
# Files of drivers: NVIDIA's, NVIDIA's under WSL, AMD's.
_GPU_TRACES = ("/proc/driver/nvidia/version", "/dev/dxg", "/dev/kfd")


class EngineLoader(Protocol):
    """Loads a model."""

    def __call__(self, spec: ModelSpec, *, device: str, precision: str) -> Encoder:
        """Load the weights of `spec`. Raises UnknownModel, ModelUnavailable or EncoderError."""
        ...


def load_encoder(
    name: str = "default",
    *,
    checkpoint: str | PathLike[str] | None = None,
    device: str | None = None,
    precision: str = "auto",
    engine: str = "auto",
) -> Encoder:
    """Load a model. Never returns another model or untrained weights.

    Parameters
    ----------
    name
        A preset, ARCH/TAG, `hf-hub:ORG/REPO`, `local-dir:FOLDER`, ARCH@FILE; see `registry`.
    checkpoint
        File of weights for an architecture.
    device
        `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`: the fastest one. By default the environment
        variable CLIPSEARCH_DEVICE, else `auto`.
    precision
        `fp32`; `fp16`, `bf16` (torch); `int8` (onnx); `auto`: fp16 for torch on CUDA, fp32 for
        torch elsewhere, and for onnx the precision that the model was compiled in.
    engine
        `torch`, `onnx` (compiled models), or `auto`: onnx on a CPU if the model is compiled.

    Returns
    -------
    An encoder of images and texts into unit vectors of one space.

    Raises
    ------
    UnknownModel
        No model has this name.
    ModelUnavailable
        A part of the model is not on this machine and cannot be downloaded, or is damaged.
    EncoderError
        The device, precision or engine does not exist here.

    Examples
    --------
    >>> encoder = load_encoder("mini")
    >>> encoder.encode_texts(["a blue horse"]).shape
    (1, 256)
    """
    spec = resolve(name, checkpoint=checkpoint)
    check_files(spec)
    device = default_device() if device is None else device
    if engine == "auto":
        fits = runs_on_cpu(device) and (precision == "int8" or find_compiled(spec, precision))
        engine = "onnx" if fits else "torch"
    return _engine(engine)(spec, device=device, precision=precision)


def load_tokenizer(name: str = "default") -> Tokenizer:
    """Load the tokenizer of a model, without its weights.

    Parameters
    ----------
    name
        As for `load_encoder`; an architecture without a tag or checkpoint is enough.

    Returns
    -------
    The tokenizer, which gives all tokens of a text however long.

    Raises
    ------
    UnknownModel, ModelUnavailable
        As `load_encoder` does.

    Examples
    --------
    >>> tokenizer = load_tokenizer("mini")
    >>> tokenizer.ids(["a blue horse"])
    [[320, 1746, 4558]]
    """
    spec = resolve(name)
    check_files(spec)
    # A query of a compiled model needs neither this module nor those below, which are heavy.
    from clipsearch.encoders.tokenizers.clip import clip_tokenizer

    if tokenizer := clip_tokenizer(spec):
        return tokenizer
    if find_compiled(spec):  # on any device: it opens without torch
        from clipsearch.encoders.onnx import OnnxEncoder

        return OnnxEncoder.load(spec).tokenizer
    from clipsearch.encoders.torch import open_clip_tokenizer

    return open_clip_tokenizer(spec)


def compile_once(
    name: str = "default",
    *,
    device: str | None = None,
    precision: str = "auto",
    images: Iterable[str | PathLike[str]] = (),
    progress: OnProgress | None = None,
    apart: bool = False,
) -> str:
    """Compile a model that will run on the CPU, unless it is compiled already.

    Parameters
    ----------
    name, device
        As for `load_encoder`; on another device than a CPU nothing is compiled.
    precision, images, progress
        As for `compile_model`.
    apart
        Do it in another process: this one does without the memory that compiling takes.

    Returns
    -------
    Why the model runs on torch instead; "" if it is compiled, or runs on another device.

    Raises
    ------
    UnknownModel, ModelUnavailable
        As `load_encoder` does.
    """
    spec = resolve(name)
    check_files(spec)
    device = default_device() if device is None else device
    if not runs_on_cpu(device) or _is_finished(spec, precision):
        return ""
    if reason := refusal(spec):
        return reason
    images = [os.path.abspath(os.path.expanduser(image)) for image in images]
    from clipsearch._util.processes import call_apart, can_start  # a query does without

    if apart and can_start():
        report = progress or (lambda step: None)
        options = {"device": device, "precision": precision, "images": images}
        try:
            done = call_apart("encoders", "compile_once", name, on_progress=report, **options)
        except ClipsearchError as error:
            raise EncoderError(str(error)) from None
        return str(done or "")
    from clipsearch.encoders.compiler.compile import compile_model  # which imports torch

    try:
        compile_model(name, precision=precision, images=images, progress=progress)
    except NotCompilable as error:
        note_refusal(spec, str(error))
        return str(error)
    except (
        OSError,
        MemoryError,
    ) as error:  # no room, or no right to write: indexing goes on without
        return f"{spec.name} could not be compiled ({describe_error(error)}). It runs on torch all the same."
    return ""


def _compile_damaged(name: str, precision: str) -> None:
    from clipsearch.encoders.compiler.compile import compile_model  # which imports torch

    compile_model(name, precision=precision)


compile_with(_compile_damaged)


def _is_finished(spec: ModelSpec, precision: str) -> bool:
    """Tell whether a model is compiled, and its files are as they were written."""
    folder = find_finished(spec, precision)
    manifest = Manifest.read(folder) if folder else None
    if folder is None or manifest is None:
        return False
    try:
        return not damaged_files(folder, manifest)
    except OSError:  # it cannot be read now, which says nothing of it
        return True


def default_device() -> str:
    """Return the device of models where none is given: $CLIPSEARCH_DEVICE, else `auto`."""
    return os.environ.get(_DEVICE) or "auto"


def runs_on_cpu(device: str = "auto") -> bool:
    """Tell whether models run on the CPU, without importing torch, which takes seconds.

    For `auto`, True if no driver of a graphics card that torch supports is installed; if one is,
    torch decides.
    """
    if device != "auto":
        return device == "cpu"
    if sys.platform == "darwin":
        return platform.machine() != "arm64"
    if sys.platform == "win32":
        return not os.path.exists(os.path.expandvars(r"%SystemRoot%\System32\nvcuda.dll"))
    return not any(map(os.path.exists, _GPU_TRACES))


def list_models() -> list[dict[str, Any]]:
    """Return the presets, and which are on disk and compiled: the JSON of `clipsearch models`."""
    facts = ("name", "spec", "size_mb", "languages", "licence", "dim", "about", "on_disk")
    return [
        {
            **{fact: getattr(preset, fact) for fact in facts},
            "compiled": _describe_compiled(preset.name),
        }
        for preset in PRESETS.values()
    ]


def _describe_compiled(name: str) -> dict[str, Any] | None:
    manifest = manifest_of(name)
    if manifest is None:
        return None
    gate = manifest.gate._asdict() if manifest.gate else None
    return {"precision": manifest.precision, "gate": gate}


def engine_names() -> tuple[str, ...]:
    """Return the names of all engines that are installed."""
    return tuple(sorted({*ENGINES, *_entry_points()}))


def _engine(name: str) -> EngineLoader:
    if home := ENGINES.get(name):
        module, _, attribute = home.partition(":")
        engine: object = import_module(module)
        for part in attribute.split("."):
            engine = getattr(engine, part)
        return cast("EngineLoader", engine)
    if entry := _entry_points().get(name):
        return cast("EngineLoader", entry.load())
    raise EncoderError(f"unknown engine {name!r}: choose from {', '.join(engine_names())}.")


def _entry_points() -> dict[str, metadata.EntryPoint]:
    """Return the engines of other packages by name."""
    return {entry.name: entry for entry in metadata.entry_points(group=_ENTRY_POINTS)}
