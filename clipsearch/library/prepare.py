"""What a run of `index` does for the first query: what is computed once is computed then."""

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
    What the user should know. It is never an error: what is missing is computed when it is used.
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
