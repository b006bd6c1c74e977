"""Matrix: the scores of images with texts, each with each; and explanations of predictions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from clipsearch._util import LazyModule, absolute, presenter, quote, warn
from clipsearch._util.arrays import FloatArray
from clipsearch.errors import EmptyQuery, QueryError, UnreadableImage
from clipsearch.heads.explain import Explanation, LabelParts, explain
from clipsearch.heads.head import Head
from clipsearch.heads.prompts import encode_prompts
from clipsearch.library.classify import example_rows, locate_prompts, make_head
from clipsearch.library.collection import encode_paths, stored_embeddings
from clipsearch.library.label_scores import LabelJudge
from clipsearch.library.query_heads import Query, Terms, query_head
from clipsearch.library.search import find_hits
from clipsearch.library.session import Session, ignore
from clipsearch.text.encode import reading
from clipsearch.types import (
    ALL_IMAGES,
    Failure,
    Labels,
    Normalisation,
    OnWarning,
    Paths,
    Prediction,
    SearchOptions,
    Selection,
    as_paths,
)

if TYPE_CHECKING:
    import matplotlib.figure
else:
    matplotlib = LazyModule("matplotlib")

SAME_ROW = 0.02
"""How far a label's row may be from the one its prompts give: stored vectors are rounded."""
_AT_ONCE = 8_192
"""Images that are compared with all captions of the background at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """Images in rows, texts in columns, a cosine and a probability in each cell.

    >>> matrix = library.matrix(["a.jpg", "b.jpg"], ["a cat", "a dog"])
    >>> matrix.scores                   # float32 (2, 2)
    >>> matrix.best_text["/home/me/a.jpg"]
    >>> matrix.save("matrix.png")
    """

    paths: tuple[str, ...]
    texts: tuple[str, ...]
    """The texts, or the labels where these have prompts of their own."""
    scores: FloatArray
    """float32 (images, texts): cosines."""
    probabilities: FloatArray
    """float32 (images, texts): of each cell by itself, as in the mode `multi` of `classify`."""
    normalisation: Normalisation
    """calibrated; or sigmoid, the model's own, for one with a bias that nobody calibrated."""
    model: str
    failures: tuple[Failure, ...] = ()
    """Images that were asked for and could not be read."""

    @property
    def best_text(self) -> dict[str, str]:
        """The text with the highest cosine for each image."""
        best = self.scores.argmax(axis=1).tolist()
        return {path: self.texts[j] for path, j in zip(self.paths, best, strict=True)}

    @property
    def best_image(self) -> dict[str, str]:
        """The path of the image with the highest cosine for each text."""
        best = self.scores.argmax(axis=0).tolist()
        return {text: self.paths[i] for text, i in zip(self.texts, best, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch matrix`."""
        best = self.best_text
        return {
            "model": self.model,
            "normalisation": self.normalisation,
            "texts": list(self.texts),
            "images": [
                {
                    "path": path,
                    "best_text": best[path],
                    "scores": scores.tolist(),
                    "probabilities": probabilities.tolist(),
                }
                for path, scores, probabilities in zip(
                    self.paths, self.scores, self.probabilities, strict=True
                )
            ],
            "best_images": self.best_image,
            "failures": [{"path": f.path, "reason": f.reason} for f in self.failures],
        }

    # --- shown -----------------------------------------------------------------------------

    def figure(self, *, probabilities: bool = False) -> matplotlib.figure.Figure:
        """Draw the matrix: thumbnails above, captions at the left, values in the cells.

        Parameters
        ----------
        probabilities
            Show these instead of cosines.

        Raises
        ------
        FigureTooLarge
            There are more rows or columns than a person can read.
        """
        return cast(
            "matplotlib.figure.Figure", presenter().figure(self, probabilities=probabilities)
        )

    def save(self, path: str | os.PathLike[str], *, probabilities: bool = False) -> None:
        """Write the figure to a file.

        Parameters
        ----------
        path
            Its suffix says the format: .png, .svg or .pdf.
        probabilities
            Show these instead of cosines.

        Raises
        ------
        BadOutputFile
            For another suffix.
        """
        presenter().save(self, path, probabilities=probabilities)

    def _repr_png_(self) -> bytes | None:
        return presenter().png(self)


# --- comparing -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compared:
    """Which images a matrix compares: those given, those of a query, or those selected."""

    images: Paths | None = None
    query: Query | None = None
    k: int = 8
    """How many images of the query."""
    selection: Selection = ALL_IMAGES


def compare_images(
    session: Session, compared: Compared, head: Head, *, on_warning: OnWarning
) -> Matrix:
    """Compare images with the labels of a head, each with each.

    Parameters
    ----------
    session
        Of the library.
    compared
        Which images.
    head
        Of the session's model.
    on_warning
        Is told the warnings of the query.

    Raises
    ------
    EmptyQuery
        There is no image to compare.
    """
    session = session.at_current_model()
    paths, vectors, failures = _vectors_of(session, compared, on_warning)
    if not paths:
        reasons = [f"{failure.path}: {failure.reason}" for failure in failures]
        more = f" (and {len(reasons) - 1:,} more)" if len(reasons) > 1 else ""
        raise EmptyQuery(": ".join(["there is no image to compare", *reasons[:1]]) + more + ".")
    scores, judge = head.scores(vectors), LabelJudge(session, head)
    parts = (slice(i, i + _AT_ONCE) for i in range(0, len(vectors), _AT_ONCE))
    probabilities = [judge.probabilities(scores[part], vectors[part]) for part in parts]
    return Matrix(
        paths=tuple(paths),
        texts=head.labels,
        scores=scores,
        probabilities=np.concatenate(probabilities).astype(np.float32),
        normalisation=judge.normalisation,
        model=head.model,
        failures=tuple(failures),
    )


def head_of_texts(
    session: Session,
    texts: Head | Labels,
    templates: str | Sequence[str] | None,
    *,
    truncate: bool,
    on_warning: OnWarning,
) -> Head:
    """Return the head of texts, which are taken as they are unless there are templates."""
    if isinstance(texts, Head):
        texts.check(session.info)
        return texts
    if isinstance(texts, str):
        texts = [texts]
    if templates is None and not isinstance(texts, Mapping):
        templates = ["{}"]
    return make_head(
        session,
        texts,
        templates=templates,
        truncate=truncate,
        on_warning=on_warning,
        unite=isinstance(texts, Mapping),
    )


def _vectors_of(
    session: Session, compared: Compared, on_warning: OnWarning
) -> tuple[list[str], FloatArray, list[Failure]]:
    """Return the paths asked for, in the order asked for, their vectors, and what failed."""
    if compared.images is not None:
        given = [absolute(path) for path in as_paths(compared.images, "images")]
        paths, vectors, failures = encode_paths(session, given)
        order = sorted(range(len(paths)), key=lambda i: (_place(paths[i], given), paths[i]))
        return [paths[i] for i in order], vectors[order], failures
    if compared.query is None:
        found = stored_embeddings(session, compared.selection)
        return [record.path for record in found.records], found.vectors, []
    options = SearchOptions(k=compared.k, selection=compared.selection)
    hits = find_hits(session, query_head(session, Terms(compared.query)), options)
    for message in hits.warnings:
        on_warning(message)
    paths = [hit.path for hit in hits]
    found = stored_embeddings(session, Selection(), paths)
    rows = {record.path: row for row, record in enumerate(found.records)}
    return paths, found.vectors[[rows[path] for path in paths]], []


def _place(path: str, given: Sequence[str]) -> int:
    """Return the place of the first of the files and folders given that a path belongs to."""
    belongs = (path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in given)
    return next((place for place, here in enumerate(belongs) if here), len(given))


# --- explaining ------------------------------------------------------------------------------


def explain_predictions(
    session: Session, head: Head, predictions: Iterable[Prediction], *, truncate: bool = False
) -> list[Explanation]:
    """Score the single prompts of each label of predictions.

    Parameters
    ----------
    session
        Its model encodes the prompts again: heads do not keep their vectors.
    head
        What the predictions were made with.
    predictions
        Of images in the library, or of image files.
    truncate
        Whether texts were cut for the head.

    Raises
    ------
    UnreadableImage
        An image that is not in the library can no longer be read.
    """
    head.check(session.info)
    if not isinstance(predictions, Iterable):
        raise QueryError(f"predictions are what classify returned: not {quote(predictions)}.")
    predictions = list(predictions)
    if strange := [one for one in predictions if not isinstance(one, Prediction)]:
        raise QueryError(f"predictions are what classify returned: not {quote(strange[0])}.")
    wanted = {found.label for one in predictions for found in one.labels}
    vectors = _vectors_by_path(session, predictions)
    parts = _parts(session, head, wanted, truncate)
    return [explain(one, vectors[one.path], parts) for one in predictions]


def _vectors_by_path(session: Session, predictions: Sequence[Prediction]) -> dict[str, FloatArray]:
    indexed = [one.path for one in predictions if one.record]
    found = stored_embeddings(session, Selection(), indexed) if indexed else None
    pairs = zip(found.records, found.vectors, strict=True) if found else ()
    vectors: dict[str, FloatArray] = {record.path: vector for record, vector in pairs}
    outside = [one.path for one in predictions if one.path not in vectors]
    if outside:
        paths, rows, failures = encode_paths(session, outside)
        if failures:
            raise UnreadableImage(failures[0].path, failures[0].reason)
        vectors |= zip(paths, rows, strict=True)
    return vectors


def _parts(
    session: Session, head: Head, wanted: Iterable[str], truncate: bool
) -> dict[str, LabelParts]:
    made_of = dict(zip(head.labels, head.prompts, strict=True))
    prompts = locate_prompts({k: made_of[k] for k in head.labels if k in wanted and made_of[k]})
    # What there is to say of the prompts was said when the head was made.
    images = example_rows(session, prompts, on_warning=ignore)
    with reading(session.encoder, truncate=truncate, on_warning=ignore) as reader:
        pairs = list(encode_prompts(reader, prompts, images=images))
    parts = {
        label: LabelParts(prompts[label], rows, weights)
        for label, (rows, weights) in zip(prompts, pairs, strict=True)
    }
    own = dict(zip(head.labels, head.vectors, strict=True))
    more = [
        label
        for label, part in parts.items()
        if head.cache or np.abs(part.weights @ part.rows - own[label]).max() > SAME_ROW
    ]
    if more:
        warn(
            f"the label {more[0]!r} is more than its prompts (it was learned, or its example "
            "images have changed): their scores do not add up to its own."
        )
    return parts
