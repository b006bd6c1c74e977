"""Compiled models on disk: where they are, whether they are whole, and what they were made from.

    <cache>/compiled/names/<hash of a model's name>.json     its fingerprint, its files, their state
    <cache>/compiled/<fingerprint>/<precision>/              graphs, weights, tokens, model.json

A folder is written under another name and renamed when it is complete; model.json says how large
each file has to be. What is not whole, or was made from files that have changed since, is not found.
A query reads only: what writing alone needs is imported where it is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from clipsearch._util.atomic import replace_text
from clipsearch.encoders.preprocess import Preprocess
from clipsearch.encoders.registry import ModelSpec, resolve

_FORMAT = 1  # of model.json; a folder of another format is not used
CACHE = "CLIPSEARCH_CACHE"
"""Environment variable that names the cache folder."""
MANIFEST = "model.json"
COMPILERS = ("clipsearch", "onnx", "onnxruntime", "open_clip_torch", "timm", "torch")
ABANDONED_SECONDS = 24 * 3600.0

Precision = Literal["fp32", "int8"]


@dataclass(frozen=True, slots=True)
class Gate:
    """How near int8 came to fp32 on images; what `gate.measure` found."""

    images: int
    cosine: float
    """Mean cosine of an image's two vectors."""
    worst: float
    """The least of them."""
    overlap: float
    """Share of the ten nearest images, to images and to texts, that both have."""
    passed: bool


@dataclass(frozen=True, slots=True)
class Manifest:
    """What model.json says of a compiled model."""

    fingerprint: str
    dim: int
    logit_scale: float
    logit_bias: float | None
    context_length: int
    precision: Precision
    preprocess: Preprocess
    tokenizer: dict[str, Any]
    """`kind`, and what that kind of tokenizer is made with."""
    cut: Literal["highest"] | int | None
    """Rows of tokens end after the first of this number, or after their highest one."""
    ways: dict[str, str]
    """How each tower was compiled: `written` by hand, or `exported` by torch."""
    proof: dict[str, list[float]]
    """The vectors of a fixed image and a fixed text, to know a damaged tower by."""
    gate: Gate | None = None
    files: dict[str, int] = field(default_factory=dict)
    """The size of each file in bytes."""

    def to_json(self) -> str:
        """Return the text of model.json."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, indent=1)

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """Read the manifest of a folder; None if it is not there, damaged, or of another format."""
        try:
            found = json.loads((folder / MANIFEST).read_text("utf-8"))
            if found.pop("format") != _FORMAT:
                return None
            found["preprocess"]["size"] = tuple(found["preprocess"]["size"])
            preprocess = Preprocess(**found.pop("preprocess"))
            gate = found.pop("gate")
            return cls(preprocess=preprocess, gate=gate and Gate(**gate), **found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None


def cache_folder() -> Path:
    """Return where compiled models are kept: below $CLIPSEARCH_CACHE, else the user's cache."""
    given = os.environ.get(CACHE)
    if given:
        return Path(given).expanduser().absolute() / "compiled"
    import platformdirs  # a query that is told where does without it

    return Path(platformdirs.user_cache_path("clipsearch")) / "compiled"


def folder_of(fingerprint: str, precision: str) -> Path:
    """Say where a model of this fingerprint belongs."""
    return cache_folder() / fingerprint[:32] / precision


def is_whole(folder: Path) -> bool:
    """Say whether a folder holds all of a compiled model, each file of its size."""
    manifest = Manifest.read(folder)
    return manifest is not None and all(
        _state(folder / name)[:1] == [size] for name, size in manifest.files.items()
    )


def compiled(spec: ModelSpec, precision: str = "auto") -> Path | None:
    """Return the folder of a compiled model; None if there is none, or none that is whole.

    precision: `fp32`, `int8`, or `auto`: as the model was last compiled. None too if the files
    that the model was made from have changed since.
    """
    try:
        note = json.loads(_note(spec).read_text("utf-8"))
        made_from = note["made_from"]
        # Files that are gone say nothing: a compiled model outlives the weights it was made from.
        if any((now := _state(Path(path))) and now != then for path, then in made_from.items()):
            return None
        wanted = note["precision"] if precision == "auto" else precision
        folder = folder_of(note["fingerprint"], wanted)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return folder if is_whole(folder) else None


def settled(spec: ModelSpec, precision: str = "auto") -> Path | None:
    """Return what compiling a model would find done: `compiled`, or fp32 where int8 did not pass."""
    if found := compiled(spec, precision):
        return found
    if precision == "int8" and (folder := compiled(spec, "fp32")):
        manifest = Manifest.read(folder)
        if manifest and manifest.gate and not manifest.gate.passed:
            return folder
    return None


def manifest_of(name: str) -> Manifest | None:
    """Return what a compiled model of this name is; None if it is not compiled."""
    folder = compiled(resolve(name))
    return Manifest.read(folder) if folder else None


def remember(
    spec: ModelSpec, fingerprint: str, precision: Precision, made_from: Iterable[Path]
) -> None:
    """Note that the model of this name, made from these files, has this fingerprint."""
    states = {str(path): _state(path) for path in made_from}
    note = {
        "name": spec.name,
        "fingerprint": fingerprint,
        "precision": precision,
        "made_from": {path: state for path, state in states.items() if state},
    }
    _write_note(spec, note)


def prefer(spec: ModelSpec, precision: Precision) -> None:
    """Note which of the precisions that a model is compiled in was asked for last."""
    note = json.loads(_note(spec).read_text("utf-8"))
    if note["precision"] != precision:
        _write_note(spec, {**note, "precision": precision})


def refuse(spec: ModelSpec, reason: str) -> None:
    """Note that the model of this name cannot be compiled, so that nobody tries it again and again.

    Another version of what compiles may: it is asked anew.
    """
    _write_note(spec, {"name": spec.name, "refused": reason, "with": _versions()})


def refused(spec: ModelSpec) -> str:
    """Return why the model of this name cannot be compiled; "" if it is not known to be so."""
    try:
        note = json.loads(_note(spec).read_text("utf-8"))
        return str(note["refused"]) if note["with"] == _versions() else ""
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return ""


def _write_note(spec: ModelSpec, note: dict[str, Any]) -> None:
    path = _note(spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(note, indent=1))


def _versions() -> dict[str, str]:
    """Return the versions of all that decides whether a model can be compiled."""
    from importlib.metadata import version  # which takes longer than all else here

    return {name: version(name) for name in COMPILERS}


@contextmanager
def new_folder() -> Iterator[Path]:
    """Yield an empty folder to compile into; whatever `publish` has not taken is deleted."""
    import shutil
    import tempfile

    root = cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob("tmp-*"):  # by runs that were killed
        if time.time() - left.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="tmp-", dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, manifest: Manifest) -> tuple[Path, Manifest]:
    """Complete a folder with its manifest and put it into its place; return both.

    All is on the disk before the folder has its name, so that no crash leaves half of one.
    """
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    manifest = replace(manifest, files=sizes)
    (folder / MANIFEST).write_text(manifest.to_json(), "utf-8")
    for path in folder.iterdir():
        _flush(path)
    place = folder_of(manifest.fingerprint, manifest.precision)
    place.parent.mkdir(parents=True, exist_ok=True)
    discard(place)
    with suppress(OSError):  # another process was faster: its folder is as good
        folder.rename(place)
    return place, manifest


def discard(folder: Path) -> None:
    """Delete a compiled model: at once out of its place, whole or not."""
    import shutil
    import tempfile

    if folder.exists():
        away = Path(tempfile.mkdtemp(prefix="tmp-", dir=cache_folder()))
        with suppress(OSError):
            folder.rename(away / folder.name)
        shutil.rmtree(away, ignore_errors=True)


def _note(spec: ModelSpec) -> Path:
    name = hashlib.sha256(spec.name.encode()).hexdigest()[:32]
    return cache_folder() / "names" / f"{name}.json"


def _state(path: Path) -> list[int]:
    """Return a file's size and time of change; empty if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_size, found.st_mtime_ns]


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
