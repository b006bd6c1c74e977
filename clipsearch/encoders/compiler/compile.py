"""Compile a model: from open_clip's weights to ONNX files that run several times faster on a CPU.

Towers that are plain transformers get a hand-built graph (`towers`), others are exported by torch.
A tower is kept only if its vectors are those of the model; int8 only if it passes the gate: its
vectors of real images are near enough to those in float32.
"""

from __future__ import annotations

import csv
import os
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import open_clip

from clipsearch._util import warn
from clipsearch._util.arrays import FloatArray
from clipsearch.encoders import hub
from clipsearch.encoders.compiler import store
from clipsearch.encoders.compiler.export import Towers
from clipsearch.encoders.compiler.store import Gate, Manifest
from clipsearch.encoders.onnx import OnnxEncoder
from clipsearch.encoders.preprocess import Preprocess
from clipsearch.encoders.registry import ModelSpec, check_files, resolve
from clipsearch.encoders.sources import find_source
from clipsearch.encoders.tokenizers import save_tokenizer
from clipsearch.encoders.torch import OpenClipEncoder
from clipsearch.errors import EncoderError, ImageError
from clipsearch.images.decode import decode_file
from clipsearch.images.walk import Walk
from clipsearch.types import OnProgress, Progress, StrPath

_STEPS = 3  # text tower, image tower, the rest
_BATCH = 32
# Bytes of an image tower in fp32 below which `auto` keeps it: to decode an image takes longer.
_SMALL = 50_000_000
_LEAST_COSINE, _LEAST_OVERLAP = 0.995, 0.95
_NEAREST = 10
_SAMPLES = Path(__file__).parents[2] / "samples"
# Of the gate: bundled images, user's images at most, and captions.
_SCENES, _IMAGES, _CAPTIONS = 100, 256, 100
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
        Files and folders, up to 256 images of which the gate compares besides the bundled ones.
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
    encoder = OpenClipEncoder.load(spec, device="cpu", precision="fp32")
    made_from = _model_files(spec)
    if not force and (found := _find_same_weights(encoder, precision)):
        made = _reuse(spec, found)
    else:
        with store.new_folder() as folder:
            report = progress or (lambda step: None)
            made = _compile(spec, encoder, folder, precision, images, report)
    store.remember(spec, made.manifest.fingerprint, made.manifest.precision, made_from)
    return made


def _compile(
    spec: ModelSpec,
    encoder: OpenClipEncoder,
    folder: Path,
    precision: str,
    images: Iterable[StrPath],
    report: OnProgress,
) -> Compilation:
    """Write all files of a model into an empty folder, and publish it."""
    report(Progress("compile", 0, _STEPS))
    tokens = save_tokenizer(encoder.tokenizer, folder)
    towers = Towers(encoder, folder)
    towers.write_text()
    report(Progress("compile", 1, _STEPS))
    towers.write_image()
    report(Progress("compile", 2, _STEPS))
    manifest = Manifest(
        fingerprint=encoder.info.fingerprint,
        dim=encoder.info.dim,
        logit_scale=encoder.info.logit_scale,
        logit_bias=encoder.info.logit_bias,
        context_length=encoder.context_length,
        precision="fp32",
        preprocess=towers.preprocess,
        tokenizer=tokens,
        cut=towers.cut,
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
    pixels = list(_gate_images(manifest.preprocess, images))
    total = 2 * len(pixels)
    # Each encoder is gone when its vectors are there: open files cannot be replaced everywhere.
    exact = _vectors(OnnxEncoder(folder, manifest, spec), pixels, report, 0, total)
    texts = OnnxEncoder(folder, manifest, spec).encode_texts(_gate_captions())
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
    return manifest, _gate_failure(manifest)


def _gate_failure(manifest: Manifest) -> str:
    """Return why the gate rejected int8; "" if it did not, or was not asked."""
    measured = manifest.gate
    if measured is None or measured.passed:
        return ""
    return (
        f"int8 did not pass the gate: mean cosine {measured.cosine:.5f}, "
        f"overlap {measured.overlap:.3f} on {measured.images} images"
    )


def _vectors(
    encoder: OnnxEncoder, pixels: Sequence[FloatArray], report: OnProgress, done: int, total: int
) -> FloatArray:
    rows = []
    for start in range(0, len(pixels), _BATCH):
        part = pixels[start : start + _BATCH]
        rows.append(encoder.encode_images(np.stack(part)))
        report(Progress("gate", done + start + len(part), total))
    return np.concatenate(rows)


# --- the gate of int8 ----------------------------------------------------------------------


def measure_gate(exact: FloatArray, rounded: FloatArray, texts: FloatArray) -> Gate:
    """Compare the vectors of images in two precisions, and what they find.

    Parameters
    ----------
    exact, rounded
        Unit rows (n, dim) of the same images in fp32 and int8.
    texts
        Unit rows (m, dim) of queries.

    Returns
    -------
    Mean and least cosine between the two vectors of an image, and the lower one of two overlaps:
    of the images nearest to each image, and of those nearest to each text.
    """
    cosines = np.einsum("nd,nd->n", exact, rounded)
    overlap = min(
        _overlap(exact @ exact.T, rounded @ rounded.T, but_itself=True),
        _overlap(texts @ exact.T, texts @ rounded.T),
    )
    cosine = float(cosines.mean())
    passed = cosine >= _LEAST_COSINE and overlap >= _LEAST_OVERLAP
    return Gate(len(exact), cosine, float(cosines.min()), overlap, passed)


def _overlap(exact: FloatArray, rounded: FloatArray, *, but_itself: bool = False) -> float:
    """Return the mean share of the ten highest columns of each row that both tables have."""
    if but_itself:
        exact, rounded = (scores - 9 * np.eye(len(scores)) for scores in (exact, rounded))
    count = min(_NEAREST, exact.shape[1] - but_itself)
    first, second = (np.argsort(-scores, axis=1)[:, :count] for scores in (exact, rounded))
    shared = [len({*a} & {*b}) / count for a, b in zip(first, second, strict=True)]
    return float(np.mean(shared))


def _gate_images(preprocess: Preprocess, images: Iterable[StrPath]) -> Iterator[FloatArray]:
    """Yield the prepared images of the gate: bundled scenes, then some of the user's images."""
    detail = 2 * max(preprocess.size)
    for file in [*map(str, _scenes()), *_choose_images(images)]:
        with suppress(ImageError):  # indexing reports it
            *_, pixels = decode_file(file, preprocess.of_decoded, at_least=detail)
            if pixels is not None:
                yield pixels


def _gate_captions() -> list[str]:
    """Return captions of the bundled scenes: the queries of the gate."""
    with (_SAMPLES / "captions.csv").open(encoding="utf-8", newline="") as file:
        captions = sorted({row["caption"] for row in csv.DictReader(file)})
    return captions[:: max(1, len(captions) // _CAPTIONS)][:_CAPTIONS]


def _scenes() -> list[Path]:
    files = sorted(_SAMPLES.glob("scene-*"))
    return files[:: max(1, len(files) // _SCENES)][:_SCENES]


def _choose_images(images: Iterable[StrPath]) -> list[str]:
    """Choose up to _IMAGES files at random, the same at each call."""
    paths = [os.path.expanduser(path) for path in images]
    # Of a million, the first thousands do.
    files = [file.path for file in islice(Walk(paths), 64 * _IMAGES)] if paths else []
    return random.Random(0).sample(files, min(len(files), _IMAGES))


# --- reuse ---------------------------------------------------------------------------------


def _reuse(spec: ModelSpec, folder: Path) -> Compilation:
    manifest = Manifest.read(folder)
    assert manifest is not None  # or it would not have been found
    return Compilation(spec.name, folder, manifest, False, _gate_failure(manifest))


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


def _find_same_weights(encoder: OpenClipEncoder, precision: str) -> Path | None:
    """Return a folder that was compiled from the same weights."""
    for kind in ("int8", "fp32") if precision == "auto" else (precision,):
        folder = store.folder_of(encoder.info.fingerprint, kind)
        manifest = Manifest.read(folder)
        whole = manifest is not None and store.is_whole(folder)
        if manifest is None or not whole or store.damaged_files(folder, manifest, deep=True):
            continue
        # One compiled as fp32 on request does not say whether int8 would have passed.
        decided = manifest.gate or manifest.ways["image"] != "written" or _is_small(folder)
        if kind == precision or decided:
            return folder
    return None


def _model_files(spec: ModelSpec) -> list[Path]:
    """Return the files that decide what a model is: when one changes, it is compiled again."""
    if spec.folder:
        return [f for f in sorted(Path(spec.folder).iterdir()) if f.suffix in _MODEL_FILES]
    weights = Path(find_source(spec, open_clip).weights or "")
    files = [weights, weights.parent / hub.CONFIG]
    # A new version of a repository on the hub is another folder; this file says which is current.
    versions = weights.parent.parent
    return [*files, versions.parent / "refs" / "main"] if versions.name == "snapshots" else files
