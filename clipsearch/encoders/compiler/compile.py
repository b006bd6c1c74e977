"""The compiler: from open_clip's weights to ONNX files that run several times faster on a CPU.

Towers that are plain transformers are written by hand (`drawings`), others exported by torch. A
tower is kept only if its vectors are those of the model; int8 only if it passes the gate (`gate`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip

from clipsearch.encoders import hub
from clipsearch.encoders.compiler import gate, store
from clipsearch.encoders.compiler.assembly import Towers
from clipsearch.encoders.compiler.store import Manifest
from clipsearch.encoders.onnx import OnnxEncoder
from clipsearch.encoders.registry import ModelSpec, check_files, resolve
from clipsearch.encoders.sources import find
from clipsearch.encoders.tokenizers.data import write_tokens
from clipsearch.encoders.torch import OpenClipEncoder
from clipsearch.errors import EncoderError
from clipsearch.types import OnProgress, Progress, StrPath

STEPS = 3  # text tower, image tower, the rest
AT_ONCE = 32
SMALL = 50_000_000
"""Bytes of an image tower in fp32 below which `auto` keeps it: to decode an image takes longer."""
MODEL_FILES = {".bin", ".json", ".model", ".pt", ".pth", ".safetensors", ".txt"}


@dataclass(frozen=True, slots=True)
class Compilation:
    """What `compile_model` made, or found made."""

    name: str
    folder: Path
    manifest: Manifest
    fresh: bool
    """False if it was compiled already."""
    reason: str = ""
    """Why it is not int8, where that was asked for or left open."""

    @property
    def bytes(self) -> int:
        """What it takes on disk."""
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
            "gate": asdict(gate) if gate else None,
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

    precision: `fp32`; `int8`: that if it passes the gate, else fp32; `auto`: the same, but a small
    tower stays fp32. images: files and folders, up to 256 of which are asked by the gate besides
    the bundled scenes. force: compile anew. Raises NotCompilable, and whatever loading the model
    raises.
    """
    if precision not in ("auto", "fp32", "int8"):
        raise EncoderError(f"unknown precision {precision!r}: choose auto, fp32 or int8.")
    spec = resolve(name, checkpoint=checkpoint)
    check_files(spec)
    if not force and (found := store.settled(spec, precision)):
        made = _found(spec, found)
        store.prefer(spec, made.manifest.precision)
        return made
    encoder = OpenClipEncoder.load(spec, device="cpu", precision="fp32")
    made_from = _files(spec)
    if not force and (found := _made_under_another_name(encoder, precision)):
        made = _found(spec, found)
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
    report(Progress("compile", 0, STEPS))
    tokens = write_tokens(encoder.raw_tokenizer, encoder.tokenizer, folder)
    towers = Towers(encoder, folder)
    towers.write_text()
    report(Progress("compile", 1, STEPS))
    towers.write_image()
    report(Progress("compile", 2, STEPS))
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
        manifest, reason = _rounded(spec, towers, folder, manifest, images, report)
    place, manifest = store.publish(folder, manifest)
    report(Progress("compile", STEPS, STEPS))
    return Compilation(spec.name, place, manifest, True, reason)


def _is_small(folder: Path) -> bool:
    """Say whether int8 would hardly be noticed."""
    return sum(file.stat().st_size for file in folder.glob("image.*")) < SMALL


def _rounded(
    spec: ModelSpec,
    towers: Towers,
    folder: Path,
    manifest: Manifest,
    images: Iterable[StrPath],
    report: OnProgress,
) -> tuple[Manifest, str]:
    """Put an int8 image tower in place of the exact one if it passes the gate; else say why not."""
    if manifest.ways["image"] != "written":
        return manifest, "its image tower is no plain transformer, which int8 would hardly speed up"
    pixels = list(gate.pixels(manifest.preprocess, images))
    total = 2 * len(pixels)
    # Each encoder is gone when its vectors are there: open files cannot be replaced everywhere.
    exact = _vectors(OnnxEncoder(folder, manifest, spec), pixels, report, 0, total)
    texts = OnnxEncoder(folder, manifest, spec).encode_texts(gate.captions())
    with tempfile.TemporaryDirectory(dir=folder) as trial:
        proof = {**manifest.proof, "image": towers.write_rounded_image(Path(trial))}
        candidate = replace(manifest, precision="int8", proof=proof)
        encoder = OnnxEncoder(Path(trial), candidate, spec)
        rounded = _vectors(encoder, pixels, report, len(pixels), total)
        del encoder
        measured = gate.measure(exact, rounded, texts)
        if measured.passed:
            for file in Path(trial).iterdir():
                file.replace(folder / file.name)
            return replace(candidate, gate=measured), ""
    manifest = replace(manifest, gate=measured)
    return manifest, _of_the_gate(manifest)


def _of_the_gate(manifest: Manifest) -> str:
    """Say why the gate let no int8 pass; "" if it did, or was not asked."""
    measured = manifest.gate
    if measured is None or measured.passed:
        return ""
    return (
        f"int8 did not pass the gate: mean cosine {measured.cosine:.5f}, "
        f"overlap {measured.overlap:.3f} on {measured.images} images"
    )


def _vectors(
    encoder: OnnxEncoder, pixels: Sequence[np.ndarray], report: OnProgress, done: int, total: int
) -> np.ndarray:
    rows = []
    for start in range(0, len(pixels), AT_ONCE):
        part = pixels[start : start + AT_ONCE]
        rows.append(encoder.encode_images(np.stack(part)))
        report(Progress("gate", done + start + len(part), total))
    return np.concatenate(rows)


# --- what there is -------------------------------------------------------------------------


def _found(spec: ModelSpec, folder: Path) -> Compilation:
    manifest = Manifest.read(folder)
    assert manifest is not None  # or it would not have been found
    return Compilation(spec.name, folder, manifest, False, _of_the_gate(manifest))


def _made_under_another_name(encoder: OpenClipEncoder, precision: str) -> Path | None:
    """Return a folder that was compiled from the same weights."""
    for kind in ("int8", "fp32") if precision == "auto" else (precision,):
        folder = store.folder_of(encoder.info.fingerprint, kind)
        manifest = Manifest.read(folder)
        if manifest is None or not store.is_whole(folder):
            continue
        # One made as fp32 on purpose does not say whether int8 would have passed.
        settled = manifest.gate or manifest.ways["image"] != "written" or _is_small(folder)
        if kind == precision or settled:
            return folder
    return None


def _files(spec: ModelSpec) -> list[Path]:
    """Return the files that decide what a model is: when one changes, it is compiled anew."""
    if spec.folder:
        return [f for f in sorted(Path(spec.folder).iterdir()) if f.suffix in MODEL_FILES]
    weights = Path(find(spec, open_clip).weights or "")
    files = [weights, weights.parent / hub.CONFIG]
    # A new version of a repository on the hub is another folder; this file says which is current.
    versions = weights.parent.parent
    return [*files, versions.parent / "refs" / "main"] if versions.name == "snapshots" else files
