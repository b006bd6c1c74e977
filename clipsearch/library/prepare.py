"""Compute at the end of `index` what the first query would have to compute."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

from clipsearch import calibration
from clipsearch._util import describe_error
from clipsearch.library.cohorts import image_cohort, image_log_mean_exps
from clipsearch.library.search import COUNTED
from clipsearch.library.session import Session

_PHOTOGRAPHS = Path(calibration.__file__).with_name("photographs.json")
"""Of models that were trained on drawings alone: a direction by which photographs differ from these.

Written by scripts/calibration/tell_photographs.py.
"""
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
        if len(ids) <= COUNTED:  # beyond, a search does not compare with every image
            image_log_mean_exps(session, ids)
            image_cohort(session)
        return warn_of_photographs(session)
    except Exception as error:  # noqa: BLE001 - whatever it is, the images are indexed
        return [
            f"the first query will be slower: it could not be prepared ({describe_error(error)})."
        ]


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
