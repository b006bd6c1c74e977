"""Check a library for damage, and repair what can be read again from images, models and catalog."""

from __future__ import annotations

import os
from contextlib import suppress

from clipsearch.errors import ClipsearchError, ImageError
from clipsearch.library.session import Session
from clipsearch.types import Facts, Finding
from clipsearch.vectors.snapshots import Snapshots

_REPAIRED = "`clipsearch check --repair` does this."


def check_library(session: Session, *, repair: bool, deep: bool) -> list[Finding]:
    """Look for damage in the catalog and the snapshots, and for files that are not there.

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
    return [*findings, *_missing_files(session)]


def _missing_files(session: Session) -> list[Finding]:
    missing = [r.path for r in session.catalog.records() if not os.path.lexists(r.path)]
    if not missing:
        return []
    more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
    return [
        Finding(
            "file-missing",
            f"{missing[0]}{more}: no longer there",
            "Run `clipsearch index` on the folder, or `clipsearch remove` the path.",
        )
    ]


# --- read again ------------------------------------------------------------------------------


def _reread_contents(session: Session) -> list[Finding]:
    """Read hash and facts of images again whose rows are damaged, from files that are unchanged."""
    restored = []
    for content in session.catalog.damaged_contents():
        for path, size, mtime_ns in content.files:
            try:
                state = os.stat(path)
                sha256, length, facts, note = _read_facts(path)
            except (OSError, ImageError):
                continue
            unchanged = (state.st_size, state.st_mtime_ns) == (size, mtime_ns)
            if (unchanged or sha256 == content.sha256) and session.catalog.restore_content(
                content.id, sha256, length, facts, note
            ):
                restored.append(path)
                break
    return _restored("facts-damaged", restored, "the record of this image was damaged")


def _read_facts(path: str) -> tuple[str, int, Facts, str | None]:
    from clipsearch.images.decode import EncodedImage, read_file

    data, sha256 = read_file(path)
    image = EncodedImage(data, path, at_least=1).decode()
    return sha256, len(data), image.facts, image.note or None


def _reread_models(session: Session) -> list[Finding]:
    """Take the entries of models that are damaged from the models themselves."""
    restored = []
    models = session.catalog.models()
    for number in session.catalog.damaged_models():
        stored = models[number]
        for name in dict.fromkeys((stored.spec, stored.name)):
            with suppress(ClipsearchError, OSError, ValueError):
                found = session.load(name).info
                if session.catalog.restore_model(number, found):
                    restored.append(found.name)
                    break
    return _restored("model-damaged", restored, "the entry of this model was damaged")


def _restored(kind: str, names: list[str], fault: str) -> list[Finding]:
    return [
        Finding(kind, f"{name}: {fault}; it was read again", _REPAIRED, repaired=True)
        for name in names
    ]
