"""Compute at the end of `index` what the first query would have to compute."""

from __future__ import annotations

from clipsearch.library.label_scores import image_cohort, image_log_mean_exps
from clipsearch.library.search import COUNTED
from clipsearch.library.session import Session


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
    except Exception as error:  # noqa: BLE001 - whatever it is, the images are indexed
        return [f"the first query will be slower: it could not be prepared ({error})."]
    return []
