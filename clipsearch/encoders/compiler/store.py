"""Compiled models on disk: their places, manifests, completeness, and the files they were made from.

    <cache>/compiled/names/<hash of a model's name>.json     its fingerprint, its files, their state
    <cache>/compiled/<fingerprint>/<precision>/              graphs, weights, tokens, model.json

A folder is written under another name and renamed when it is complete; model.json has the size and
the checksum of each file, and its own. An incomplete folder, or one made from files that have changed
since, is not found; checksums are compared when a part is opened (`damaged_files`). A query only
reads: what only writing needs is imported where it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

from clipsearch._util.atomic import file_digest, replace_text
from clipsearch._util.verified import cache_root, note_verified, read_bounded, verify_once
from clipsearch.encoders.registry import ModelSpec, resolve

_MOST_BYTES = 10_000_000  # of model.json and of a note
_FORMAT = 1  # of model.json; a folder of another format is not used
MANIFEST_FILE = "model.json"
_COMPILERS = ("clipsearch", "onnx", "onnxruntime", "open_clip_torch", "timm", "torch")
_PASSING = (
    *("no space left", "disk is full", "disk i/o error", "input/output error", "quota exceeded"),
    *("bad_alloc", "out of memory", "not enough memory", "cannot allocate", "memoryerror"),
    *("permission denied", "read-only file system", "too many open files", "interrupted system"),
)
_ABANDONED_SECONDS = 24 * 3600.0

Precision = Literal["fp32", "int8"]
Cut = Literal["highest"] | int | None  # see `Manifest.cut`


class Gate(NamedTuple):
    """How near int8 is to fp32 on images; measured by `gate.measure_gate`."""

    images: int
    cosine: float
    worst: float
    """Mean and least cosine of an image's two vectors."""
    passed: bool
    error: float | None = None
    deviation: float | None = None
    """Of scores, relative to how these differ between images, and its standard error."""


class Manifest(NamedTuple):
    """The content of model.json."""

    fingerprint: str
    dim: int
    logit_scale: float
    logit_bias: float | None
    context_length: int
    precision: Precision
    preprocess: dict[str, Any]
    """What `Preprocess` is made with."""
    tokenizer: dict[str, Any]
    """`kind`, and what that kind of tokenizer is made with."""
    cut: Cut
    """Rows of tokens end after the first of this number, or after their highest one."""
    ways: dict[str, str]
    """How each tower was compiled: `written` by hand, or `exported` by torch."""
    proof: dict[str, list[float]]
    """The vectors of a fixed image and a fixed text, to know a damaged tower by."""
    gate: Gate | None = None
    fills: bool = False  # few texts of several lengths are one batch, see `filled`
    files: Mapping[str, int] = {}
    """The size of each file in bytes."""
    digests: Mapping[str, str] = {}  # `file_digest` of each file; empty of an earlier version

    def to_json(self) -> str:
        """Return the text of model.json."""
        content = self._asdict() | {"gate": self.gate and self.gate._asdict()}
        return json.dumps({"format": _FORMAT, **content, "seal": _seal(content)}, indent=1)

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """Read the manifest of a folder; None if it is not there, damaged, or of another format."""
        try:
            found = json.loads(read_bounded(folder / MANIFEST_FILE, _MOST_BYTES))
            if found.pop("format") != _FORMAT:
                return None
            if "seal" in found and found.pop("seal") != _seal(found):
                return None
            found["preprocess"]["size"] = tuple(found["preprocess"]["size"])
            gate = found.pop("gate")
            gate = gate and Gate(**{name: gate.get(name) for name in Gate._fields})
            return cls(gate=gate, **found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None


def _seal(content: dict[str, Any]) -> str:
    text = json.dumps(json.loads(json.dumps(content)), sort_keys=True)  # as it will be read
    return hashlib.sha256(text.encode()).hexdigest()


def cache_folder() -> Path:
    """Return where compiled models are kept: below $CLIPSEARCH_CACHE, else the user's cache."""
    return cache_root() / "compiled"


def folder_of(fingerprint: str, precision: str) -> Path:
    """Return the place of a model of this fingerprint."""
    return cache_folder() / fingerprint[:32] / precision


def is_whole(folder: Path) -> bool:
    """Tell whether a folder holds all files of a compiled model, each of its size."""
    manifest = Manifest.read(folder)
    return manifest is not None and all(
        _state(folder / name)[:1] == [size] for name, size in manifest.files.items()
    )


def damaged_files(
    folder: Path, manifest: Manifest, names: Iterable[str] | None = None, *, deep: bool = False
) -> list[str]:
    """Return the files of a compiled model that are not as they were written.

    Parameters
    ----------
    folder, manifest
        The model.
    names
        Which of its files; by default all.
    deep
        Read them all, also those that have not changed since they were compared.

    Raises
    ------
    OSError
        A file cannot be read, which may pass.
    """
    damaged = []
    for name in manifest.digests if names is None else names:
        digest = manifest.digests.get(name)
        path = folder / name
        if digest is None:
            continue
        sound = file_digest(path) == digest if deep else verify_once(path, digest, file_digest)
        if not sound:
            damaged.append(name)
    return damaged


def find_compiled(spec: ModelSpec, precision: str = "auto") -> Path | None:
    """Return the folder of a compiled model.

    Parameters
    ----------
    spec
        The model.
    precision
        `fp32`, `int8`, or `auto`: as the model was last compiled.

    Returns
    -------
    The folder; None if it is missing or incomplete, or made from files that have changed since.
    """
    try:
        note = _read_note(spec)
        made_from = note["made_from"]
        # Files that are gone say nothing: a compiled model outlives the weights it was made from.
        if any((now := _state(Path(path))) and now != then for path, then in made_from.items()):
            return None
        wanted = note["precision"] if precision == "auto" else precision
        folder = folder_of(note["fingerprint"], wanted)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return folder if is_whole(folder) else None


def find_finished(spec: ModelSpec, precision: str = "auto") -> Path | None:
    """Return the folder that compiling a model would reuse; None if there is none.

    That of `find_compiled`, or the one in fp32 where int8 did not pass the gate.
    """
    if folder := find_compiled(spec, precision):
        return folder
    if precision == "int8" and (folder := find_compiled(spec, "fp32")):
        manifest = Manifest.read(folder)
        if manifest and manifest.gate and not manifest.gate.passed:
            return folder
    return None


def manifest_of(name: str) -> Manifest | None:
    """Return the manifest of a compiled model by name; None if it is not compiled."""
    folder = find_compiled(resolve(name))
    return Manifest.read(folder) if folder else None


def remember(
    spec: ModelSpec, fingerprint: str, precision: Precision, made_from: Iterable[Path]
) -> None:
    """Note which fingerprint and precision a model has, and the files that it was made from."""
    states = {str(path): _state(path) for path in made_from}
    note = {
        "name": spec.name,
        "fingerprint": fingerprint,
        "precision": precision,
        "made_from": {path: state for path, state in states.items() if state},
    }
    _write_note(spec, note)


def prefer(spec: ModelSpec, precision: Precision) -> None:
    """Note in which of its precisions a model was compiled last."""
    if (note := _read_note(spec))["precision"] != precision:
        _write_note(spec, {**note, "precision": precision})


def note_refusal(spec: ModelSpec, reason: str) -> None:
    """Note that a model cannot be compiled, so that it is not tried at each index.

    With another version of a package that takes part it is tried again.
    """
    _write_note(spec, {"name": spec.name, "refused": reason, "with": _versions()})


def refusal(spec: ModelSpec) -> str:
    """Return why a model cannot be compiled; "" if nothing is noted."""
    try:
        note = _read_note(spec)
        reason = str(note["refused"])
        return reason if note["with"] == _versions() and not is_passing(reason) else ""
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return ""


def is_passing(error: Exception | str) -> bool:
    """Tell whether a fault says nothing of a model: a full disk, no memory, no permission."""
    if isinstance(error, (OSError, MemoryError)):
        return True
    said = str(error).lower()  # onnxruntime and torch have one type of error for all faults
    return any(phrase in said for phrase in _PASSING)


def _read_note(spec: ModelSpec) -> dict[str, Any]:
    return dict(json.loads(read_bounded(_note(spec), _MOST_BYTES)))


def _write_note(spec: ModelSpec, note: dict[str, Any]) -> None:
    path = _note(spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps(note, indent=1))


def _versions() -> dict[str, str]:
    """Return the versions of the packages that decide whether a model can be compiled."""
    from importlib.metadata import version  # which takes longer than all else here

    return {name: version(name) for name in _COMPILERS}


@contextmanager
def new_folder() -> Iterator[Path]:
    """Yield an empty folder to compile into; it is deleted unless `publish` moved it."""
    root = cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob("tmp-*"):  # by runs that were killed
        if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
            _delete(left)
    folder = _temporary_folder()
    try:
        yield folder
    finally:
        _delete(folder)


def publish(folder: Path, manifest: Manifest) -> tuple[Path, Manifest]:
    """Write the manifest into a folder and move it into its place.

    All is on the disk before the folder has its name, so that no crash leaves half of one.

    Returns
    -------
    The place, and the manifest with the sizes and checksums of the files.
    """
    files = sorted(folder.iterdir())
    sizes = {path.name: path.stat().st_size for path in files}
    digests = {path.name: file_digest(path) for path in files}
    manifest = manifest._replace(files=sizes, digests=digests)
    (folder / MANIFEST_FILE).write_text(manifest.to_json(), "utf-8")
    for path in folder.iterdir():
        _flush(path)
    place = folder_of(manifest.fingerprint, manifest.precision)
    place.parent.mkdir(parents=True, exist_ok=True)
    discard(place)
    with suppress(OSError):  # another process was faster: its folder is as good
        folder.rename(place)
        for name, digest in digests.items():
            note_verified(place / name, digest)
    return place, manifest


def discard(folder: Path) -> None:
    """Delete a compiled model; it leaves its place at once."""
    if folder.exists():
        away = _temporary_folder()
        with suppress(OSError):
            folder.rename(away / folder.name)
        _delete(away)


def _temporary_folder() -> Path:
    folder = cache_folder() / f"tmp-{os.urandom(6).hex()}"
    folder.mkdir()
    return folder


def _delete(folder: Path) -> None:
    import shutil  # a query does without it

    shutil.rmtree(folder, ignore_errors=True)


def _note(spec: ModelSpec) -> Path:
    name = hashlib.sha256(spec.name.encode()).hexdigest()[:32]
    return cache_folder() / "names" / f"{name}.json"


def _state(path: Path) -> list[int]:
    """Return a file's size and time of change; empty if it is not there."""
    try:
        state = path.stat()
    except OSError:
        return []
    return [state.st_size, state.st_mtime_ns]


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
