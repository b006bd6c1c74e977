"""Compute at the end of `index` what the first query would have to compute."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from clipsearch import calibration
from clipsearch._util import describe_error
from clipsearch._util.atomic import read_arrays, write_arrays
from clipsearch._util.processes import is_interrupt
from clipsearch.catalog import Counts
from clipsearch.library.cohorts import image_cohort, image_log_mean_exps
from clipsearch.library.session import Session
from clipsearch.vectors.snapshots import Snapshots

_PHOTOGRAPHS = Path(calibration.__file__).with_name("photographs.json")
"""Of models that were trained on drawings alone: a direction by which photographs differ from these.

Written by scripts/calibration/tell_photographs.py.
"""
_COUNTS = "live-vectors/counts"
_MANY_FILES = 20_000  # from this many on, counting takes longer than reading what was counted
_FEWEST_IMAGES, _SAMPLE = 20, 2_000
_REMEDY = (
    "most of the images look like photographs, and {model} was trained on drawings alone: what it "
    "finds will make little sense. Index them with `--model default`, in a new library (-L)."
)


def prepare_queries(session: Session) -> list[str]:
    """Store what the first query or label needs of the model and the images.

    Parameters
    ----------
    session
        Of the model that images were encoded with, its encoder loaded.

    Returns
    -------
    Warnings. A failure is never an error: the first query computes what it misses.
    """
    try:
        session.background()
        ids = session.live().ids
        image_log_mean_exps(session, ids)
        image_cohort(session)
        return warn_of_photographs(session)
    except Exception as error:  # whatever it is, the images are indexed
        if is_interrupt(error):
            raise
        return [
            f"the first query will be slower: it could not be prepared ({describe_error(error)})."
        ]


def refresh_queries(session: Session) -> None:
    """Store what queries and `status` derive from the state of the catalog, which any run changes.

    A failure is no error: the first query computes it.
    """
    with suppress(Exception):
        image_cohort(session)
    with suppress(Exception):
        count_images(session, Snapshots(session.path, session.catalog, session.model()[0]))


def count_images(
    session: Session, snapshots: Snapshots | None
) -> tuple[Counts, tuple[int, int, int], Sequence[str], dict[str, int]]:
    """Return totals, the drift of the newest snapshot, roots and labels, as the catalog has them now.

    Those of many images are cached in the library's folder, with the revision of the catalog.
    """
    catalog = session.catalog
    revision = catalog.revision()
    path, key = session.path / _COUNTS, f"counts {revision}"
    kept = read_arrays(path, key) if revision else None
    if kept:
        totals, drift, roots, labels = json.loads(kept[0].tobytes())
        return Counts(*totals), tuple(drift), roots, labels
    # Counted after the revision was read: a change in between makes the next call count again.
    counts, drift = catalog.status_counts(), snapshots.drift() if snapshots else (0, 0, 0)
    found = counts, drift, catalog.roots(), catalog.label_counts()
    if revision and counts.files >= _MANY_FILES:
        write_arrays(path, key, np.frombuffer(json.dumps(found).encode(), np.uint8))
    return found


def warn_of_photographs(session: Session) -> list[str]:
    """Return a warning if most images are photographs and the model knows drawings alone.

    Parameters
    ----------
    session
        Of the model. Fewer than 20 images are not judged.

    Returns
    -------
    One message, or none.
    """
    model_id, info = session.model()
    known = json.loads(_PHOTOGRAPHS.read_text("utf-8")).get(info.fingerprint)
    if known is None:
        return []
    ids = session.live().ids
    if len(ids) < _FEWEST_IMAGES:
        return []
    some = ids[np.linspace(0, len(ids) - 1, min(len(ids), _SAMPLE)).astype(int)]
    _, vectors = session.catalog.vectors(model_id, ids=some.tolist())
    direction = np.frombuffer(base64.b64decode(known["direction"]), "<f2").astype(np.float32)
    alike = np.median(vectors @ direction) > known["threshold"]
    return [_REMEDY.format(model=info.name)] if alike else []
