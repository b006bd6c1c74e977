"""Check a library for damage, and repair what can be read again from images, models and catalog."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from clipsearch._util import is_remote
from clipsearch.catalog import integrity
from clipsearch.encoders import compile_once
from clipsearch.encoders.compiler.store import (
    Manifest,
    damaged_files,
    discard,
    folder_of,
    is_whole,
)
from clipsearch.errors import ClipsearchError, ImageError
from clipsearch.library.session import Session
from clipsearch.types import Facts, Finding
from clipsearch.vectors.snapshots import Snapshots

_COMPILE = "`clipsearch check --repair` or `clipsearch compile` makes it again."
_PATHS_AT_ONCE = 10_000
_REPAIRED = "`clipsearch check --repair` does this."


def check_library(session: Session, *, repair: bool, deep: bool) -> list[Finding]:
    """Look for damage in the catalog, the snapshots and compiled models, and for files that are gone.

    Parameters
    ----------
    session
        Of the library.
    repair
        Repair what can be repaired.
    deep
        Compare whole snapshot files with their checksums.
    """
    findings = [*_reread_contents(session), *_reread_models(session)] if repair else []
    found = session.catalog.check(repair=repair)
    findings += found
    if repair and any(finding.kind == "snapshot-damaged" for finding in found):
        for model_id in session.catalog.models():
            session.snapshots(model_id).publish()
    for model_id in session.catalog.models():
        snapshots = Snapshots(session.path, session.catalog, model_id)
        findings += snapshots.check(deep=deep, repair=repair)
    session.caches.searchers.clear()
    return [*findings, *_check_compiled(session, repair=repair), *_missing_files(session)]


def _check_compiled(session: Session, *, repair: bool) -> list[Finding]:
    """Compare the compiled files of the library's models with their checksums."""
    findings = []
    for info in session.catalog.models().values():
        for folder, fault in _damaged_folders(info.fingerprint):
            message = f"the compiled {info.name} in {folder} is damaged: {fault}"
            if repair:
                discard(folder)
                message += f"; {_compile_again(info.spec or info.name, folder.name)}"
            findings.append(Finding("compiled-damaged", message, _COMPILE, repaired=repair))
    return findings


def _damaged_folders(fingerprint: str) -> Iterator[tuple[Path, str]]:
    """Read the compiled files of a model, and yield each folder that is damaged, with the fault."""
    for folder in (folder_of(fingerprint, precision) for precision in ("fp32", "int8")):
        with suppress(OSError):  # cannot be read just now, which says nothing of it
            if not folder.is_dir():
                continue
            manifest = Manifest.read(folder)
            if manifest is None or not is_whole(folder):
                yield folder, "files are missing, cut short, or of another version"
            elif damaged := damaged_files(folder, manifest, deep=True):
                yield folder, f"{damaged[0]} is not as it was written"


def _compile_again(name: str, precision: str) -> str:
    try:
        reason = compile_once(name, precision=precision)
    except ClipsearchError as error:
        reason = " ".join(str(error).split())[:200]
    return f"it was deleted ({reason})" if reason else "it was made again"


def _missing_files(session: Session) -> list[Finding]:
    first, count = "", 0
    for path in _indexed_paths(session):
        if not is_remote(path) and not os.path.lexists(path):
            first, count = first or path, count + 1
    if not count:
        return []
    more = f" and {count - 1:,} more" if count > 1 else ""
    return [
        Finding(
            "file-missing",
            f"{first}{more}: no longer there",
            "Run `clipsearch index` on the folder, or `clipsearch remove` the path.",
        )
    ]


def _indexed_paths(session: Session) -> Iterator[str]:
    """Yield the paths of the files that hold an image, in order, a page of them in memory."""
    after: str | None = ""
    while after is not None:
        page = session.catalog.run(integrity.image_paths, after=after, limit=_PATHS_AT_ONCE)
        yield from page
        # An index that is damaged, which was found before, may lead back.
        after = page[-1] if page and page[-1] > after else None


# --- read again ------------------------------------------------------------------------------


def _reread_contents(session: Session) -> list[Finding]:
    """Read hash and facts of images again whose rows are damaged, from files that are unchanged."""
    restored = []
    for content in session.catalog.run(integrity.damaged_contents):
        for path, size, mtime_ns in content.files:
            try:
                state = None if is_remote(path) else os.stat(path)
                sha256, length, facts, note = _read_facts(path)
            except (OSError, ImageError):
                continue
            unchanged = state is not None and (state.st_size, state.st_mtime_ns) == (size, mtime_ns)
            if (unchanged or sha256 == content.sha256) and session.catalog.change(
                integrity.restore_content, content.id, sha256, length, facts, note
            ):
                restored.append(path)
                break
    return _restored("facts-damaged", restored, "the record of this image was damaged")


def _read_facts(path: str) -> tuple[str, int, Facts, str | None]:
    from clipsearch.images.decode import decode_file

    size, sha256, found = decode_file(path, lambda image: (image.facts, image.note), at_least=1)
    assert found is not None
    return sha256, size, found[0], found[1] or None


def _reread_models(session: Session) -> list[Finding]:
    """Take the entries of models that are damaged from the models themselves."""
    restored = []
    models = session.catalog.models()
    for number in session.catalog.run(integrity.damaged_models):
        stored = models[number]
        for name in dict.fromkeys((stored.spec, stored.name)):
            with suppress(ClipsearchError, OSError, ValueError):
                found = session.load(name).info
                if session.catalog.change(integrity.restore_model, number, found):
                    restored.append(found.name)
                    break
    return _restored("model-damaged", restored, "the entry of this model was damaged")


def _restored(kind: str, names: list[str], fault: str) -> list[Finding]:
    return [
        Finding(kind, f"{name}: {fault}; it was read again", _REPAIRED, repaired=True)
        for name in names
    ]
