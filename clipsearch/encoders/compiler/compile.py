"""Compile a model: from open_clip's weights to ONNX files that run several times faster on a CPU.

Towers that are plain transformers get a hand-built graph (`towers`), others are exported by torch.
A tower is kept only if its vectors are those of the model; int8 only if it passes the gate: its
vectors of real images are near enough to those in float32.
"""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clipsearch._util import warn
from clipsearch._util.arrays import FloatArray
from clipsearch.encoders import hub
from clipsearch.encoders.compiler import store
from clipsearch.encoders.compiler.export import Original, Towers
from clipsearch.encoders.compiler.gate import (
    describe_failure,
    gate_captions,
    gate_images,
    measure_gate,
)
from clipsearch.encoders.compiler.plain import PlainModel, open_plain
from clipsearch.encoders.compiler.store import Manifest
from clipsearch.encoders.onnx import OnnxEncoder
from clipsearch.encoders.registry import ModelSpec, check_files, resolve
from clipsearch.encoders.tokenizers import save_tokenizer
from clipsearch.errors import EncoderError, NotCompilable
from clipsearch.types import OnProgress, Progress, StrPath

_STEPS = 3  # text tower, image tower, the rest
_BATCH = 32
# Bytes of an image tower in fp32 below which `auto` keeps it: to decode an image takes longer.
_SMALL = 50_000_000
_MODEL_FILES = {".bin", ".json", ".model", ".pt", ".pth", ".safetensors", ".txt"}


@dataclass(frozen=True, slots=True)
class Compilation:
    """A compiled model, made by `compile_model` or found in the cache."""

    name: str
    folder: Path
    manifest: Manifest
    fresh: bool
    """False if it was compiled already."""
    reason: str = ""
    """Why it is not int8, where that was asked for or left open."""

    @property
    def bytes(self) -> int:
        """Its size on disk."""
        return sum(self.manifest.files.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch compile`."""
        gate = self.manifest.gate
        return {
            "model": self.name,
            "folder": str(self.folder),
            "fresh": self.fresh,
            "precision": self.manifest.precision,
            "reason": self.reason or None,
            "towers": self.manifest.ways,
            "gate": gate._asdict() if gate else None,
            "bytes": self.bytes,
        }


def compile_model(
    name: str = "default",
    *,
    checkpoint: StrPath | None = None,
    precision: str = "auto",
    images: Iterable[StrPath] = (),
    force: bool = False,
    progress: OnProgress | None = None,
) -> Compilation:
    """Compile a model for the CPU into the cache, unless it is there already.

    Parameters
    ----------
    name, checkpoint
        As for `load_encoder`.
    precision
        `fp32`; `int8`: that if it passes the gate, else fp32; `auto`: as int8, but a small image
        tower stays in fp32.
    images
        Files and folders, up to 32 images of which the gate compares besides the bundled ones.
    force
        Compile again.
    progress
        Called after each step.

    Raises
    ------
    NotCompilable
        A tower cannot be written so that it gives the vectors of the model.
    UnknownModel, ModelUnavailable, EncoderError
        As `load_encoder` does.
    """
    if precision not in ("auto", "fp32", "int8"):
        raise EncoderError(f"unknown precision {precision!r}: choose auto, fp32 or int8.")
    spec = resolve(name, checkpoint=checkpoint)
    check_files(spec)
    if not force and (found := _find_sound(spec, precision)):
        made = _reuse(spec, found)
        store.prefer(spec, made.manifest.precision)
        return made
    original, weights = _open_original(spec)
    if not force and (found := _find_same_weights(original.info.fingerprint, precision)):
        made = _reuse(spec, found)
    else:
        report = progress or (lambda step: None)
        try:
            made = _compile(spec, original, precision, images, report)
        except NotCompilable:
            if not isinstance(original, PlainModel):
                raise
            from clipsearch.encoders.compiler.original import TorchModel

            made = _compile(spec, TorchModel.load(spec), precision, images, report)
    store.remember(
        spec, made.manifest.fingerprint, made.manifest.precision, _model_files(spec, weights)
    )
    return made


def _open_original(spec: ModelSpec) -> tuple[Original, Path]:
    """Open the model, without torch where that goes; and return the file of its weights."""
    if plain := open_plain(spec):
        return plain, plain.weights
    from clipsearch.encoders.compiler.original import TorchModel, find_weights  # seconds, 800 MB

    return TorchModel.load(spec), Path(find_weights(spec))


def _compile(
    spec: ModelSpec,
    original: Original,
    precision: str,
    images: Iterable[StrPath],
    report: OnProgress,
) -> Compilation:
    """Compile a model into a folder of its own, and publish it."""
    with store.new_folder() as folder:
        return _compile_into(folder, spec, original, precision, images, report)


def _compile_into(
    folder: Path,
    spec: ModelSpec,
    original: Original,
    precision: str,
    images: Iterable[StrPath],
    report: OnProgress,
) -> Compilation:
    """Write all files of a model into an empty folder, and publish it."""
    report(Progress("compile", 0, _STEPS))
    tokens = save_tokenizer(original.tokenizer, folder)
    towers = Towers(original, folder)
    towers.write_text()
    _return_memory()
    report(Progress("compile", 1, _STEPS))
    towers.write_image()
    _return_memory()
    report(Progress("compile", 2, _STEPS))
    manifest = Manifest(
        fingerprint=original.info.fingerprint,
        dim=original.info.dim,
        logit_scale=original.info.logit_scale,
        logit_bias=original.info.logit_bias,
        context_length=original.context_length,
        precision="fp32",
        preprocess=asdict(towers.preprocess),
        tokenizer=tokens,
        cut=towers.cut,
        fills=towers.fills,
        ways=towers.ways,
        proof=towers.proof,
    )
    reason = ""
    plain = towers.ways["image"] == "written"
    if precision == "auto" and plain and _is_small(folder):
        reason = "its image tower is so small that decoding images takes longer"
    elif precision != "fp32":
        manifest, reason = _try_int8(spec, towers, folder, manifest, images, report)
    place, manifest = store.publish(folder, manifest)
    report(Progress("compile", _STEPS, _STEPS))
    return Compilation(spec.name, place, manifest, True, reason)


def _is_small(folder: Path) -> bool:
    """Tell whether int8 would hardly be noticed."""
    return sum(file.stat().st_size for file in folder.glob("image.*")) < _SMALL


def _try_int8(
    spec: ModelSpec,
    towers: Towers,
    folder: Path,
    manifest: Manifest,
    images: Iterable[StrPath],
    report: OnProgress,
) -> tuple[Manifest, str]:
    """Replace the image tower by one in int8 if that passes the gate; else return why not."""
    if manifest.ways["image"] != "written":
        return manifest, "its image tower is no plain transformer, which int8 would hardly speed up"
    pixels = list(gate_images(towers.preprocess, images))
    total = 2 * len(pixels)
    # Each encoder is gone when its vectors are there: open files cannot be replaced everywhere.
    exact = _vectors(OnnxEncoder(folder, manifest, spec), pixels, report, 0, total)
    texts = OnnxEncoder(folder, manifest, spec).encode_texts(gate_captions())
    _return_memory()
    with tempfile.TemporaryDirectory(dir=folder) as trial:
        proof = {**manifest.proof, "image": towers.write_rounded_image(Path(trial))}
        candidate = manifest._replace(precision="int8", proof=proof)
        encoder = OnnxEncoder(Path(trial), candidate, spec)
        rounded = _vectors(encoder, pixels, report, len(pixels), total)
        del encoder
        measured = measure_gate(exact, rounded, texts)
        if measured.passed:
            for file in Path(trial).iterdir():
                file.replace(folder / file.name)
            return candidate._replace(gate=measured), ""
    manifest = manifest._replace(gate=measured)
    return manifest, describe_failure(measured)


def _return_memory() -> None:
    """Give the system the memory of closed sessions, which glibc keeps: hundreds of megabytes."""
    with suppress(OSError, AttributeError, TypeError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)


def _vectors(
    encoder: OnnxEncoder, pixels: Sequence[FloatArray], report: OnProgress, done: int, total: int
) -> FloatArray:
    rows = []
    for start in range(0, len(pixels), _BATCH):
        part = pixels[start : start + _BATCH]
        rows.append(encoder.encode_images(np.stack(part)))
        report(Progress("gate", done + start + len(part), total))
    return np.concatenate(rows)


# --- reuse ---------------------------------------------------------------------------------


def _reuse(spec: ModelSpec, folder: Path) -> Compilation:
    manifest = Manifest.read(folder)
    assert manifest is not None  # or it would not have been found
    return Compilation(spec.name, folder, manifest, False, describe_failure(manifest.gate))


def _find_sound(spec: ModelSpec, precision: str) -> Path | None:
    """Return the folder of a finished model; one that is damaged is deleted, with a warning."""
    found = store.find_finished(spec, precision)
    manifest = Manifest.read(found) if found else None
    if found is None or manifest is None:
        return None
    if damaged := store.damaged_files(found, manifest, deep=True):
        warn(
            f"the compiled {spec.name} in {found} is damaged ({damaged[0]}): it is compiled again."
        )
        store.discard(found)
        return None
    return found


def _find_same_weights(fingerprint: str, precision: str) -> Path | None:
    """Return a folder that was compiled from the same weights."""
    for kind in ("int8", "fp32") if precision == "auto" else (precision,):
        folder = store.folder_of(fingerprint, kind)
        manifest = Manifest.read(folder)
        whole = manifest is not None and store.is_whole(folder)
        if manifest is None or not whole or store.damaged_files(folder, manifest, deep=True):
            continue
        # One compiled as fp32 on request does not say whether int8 would have passed.
        decided = manifest.gate or manifest.ways["image"] != "written" or _is_small(folder)
        if kind == precision or decided:
            return folder
    return None


def _model_files(spec: ModelSpec, weights: Path) -> list[Path]:
    """Return the files that decide what a model is: when one changes, it is compiled again."""
    if spec.folder:
        return [f for f in sorted(Path(spec.folder).iterdir()) if f.suffix in _MODEL_FILES]
    files = [weights, weights.parent / hub.CONFIG]
    # A new version of a repository on the hub is another folder; this file says which is current.
    versions = weights.parent.parent
    return [*files, versions.parent / "refs" / "main"] if versions.name == "snapshots" else files
