"""Query heads: words, images, heads and vectors become one head to search with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Thread
from typing import NamedTuple, TypeAlias

import numpy as np

from clipsearch._util import warn
from clipsearch._util.arrays import FloatArray, unit
from clipsearch._util.parallel import map_files
from clipsearch.calibration.cohort import cohort_weights
from clipsearch.errors import QueryError
from clipsearch.heads.head import Head
from clipsearch.heads.query import parse_terms
from clipsearch.library.cohorts import image_log_mean_exps
from clipsearch.library.locate import known_path
from clipsearch.library.session import Session
from clipsearch.text.composition import Composition, compose
from clipsearch.text.encode import encode_texts, reading
from clipsearch.types import ModelInfo, StrPath, Term

Query: TypeAlias = str | Term | Sequence[str | Term] | Head | FloatArray
"""A query: terms, a head, or a vector (dim,)."""


class QueryHead(NamedTuple):
    """A head to search with, and what it was made of where that is known."""

    head: Head
    own: Head | None = None
    """The user's whole head, which may have a calibration of its own."""
    terms: Sequence[Term] = ()
    images: Mapping[str, FloatArray] = {}
    """The vector (dim,) of each image among the terms."""
    texts: Mapping[str, FloatArray] = {}
    """The vector (dim,) of each text among the terms, and in their composition."""
    composition: Composition | None = None
    """Of a query that asks for one text."""
    warnings: tuple[str, ...] = ()
    """Warnings about its texts."""


class Terms(NamedTuple):
    """The terms of a query as they are given: texts, images, and what to keep away from."""

    query: Query = ()
    images: StrPath | Term | Sequence[StrPath | Term] = ()
    exclude: str | Term | Sequence[str | Term] = ()


def query_head(
    session: Session, terms: Terms, *, label: str | None = None, truncate: bool = False
) -> QueryHead:
    """Make the head of a query.

    Parameters
    ----------
    session
        Its model encodes texts and images that are not encoded yet.
    terms
        The query.
    label
        The label of a head to search for; by default the best of all.
    truncate
        Cut texts that are too long for the model instead of reading them in pieces.

    Raises
    ------
    EmptyQuery
        There is nothing to search for.
    QueryError
        These terms are no query, or do not combine.
    BadTerm, ModelMismatch, UnknownLabel
    """
    session = session.at_current_model()
    query, info = terms.query, session.info
    if label and not isinstance(query, Head):
        raise QueryError("a label is that of a head: give the head as the query.")
    if isinstance(query, Head | np.ndarray):
        if terms.images or terms.exclude:
            raise QueryError("a head or a vector does not combine with terms: put them in it.")
        if isinstance(query, np.ndarray):
            return QueryHead(head_of_vector(query, info))
        query.check(info)
        return QueryHead(query.only(label) if label else query, own=query)
    parsed = parse_terms(
        _term_list(query, "query"),
        images=_term_list(terms.images, "images"),
        exclude=_term_list(terms.exclude, "exclude"),
    )
    vectors = {t.value: vector_of_image(session, t.value) for t in parsed if t.kind == "image"}
    encoder, notes = session.encoder, list[str]()
    with (
        _open_meanwhile(session),
        reading(encoder, truncate=truncate, on_warning=notes.append) as reader,
    ):
        composition = _compose(parsed, info)
        wanted = [term.value for term in parsed if term.kind == "text"]
        wanted += composition.texts if composition else ()
        texts = dict(zip(wanted, encode_texts(reader, wanted), strict=True)) if wanted else {}
        head = Head.from_terms(reader, parsed, images=vectors, texts=texts)
    return QueryHead(
        head,
        terms=parsed,
        images=vectors,
        texts=texts,
        composition=composition,
        warnings=tuple(notes),
    )


def _compose(terms: Sequence[Term], info: ModelInfo) -> Composition | None:
    """Return the composition of the one text that a query asks for."""
    shown = [term for term in terms if term.weight > 0]
    if len(shown) != 1 or shown[0].kind != "text":
        return None
    found = compose(shown[0].value)
    if found is None or cohort_weights(info).binding:
        return found
    # To most models both texts are much the same: which fits better is chance.
    return found._replace(exchanged="")


def vector_of_image(session: Session, path: StrPath) -> FloatArray:
    """Return the unit vector (dim,) of an image: the stored one if the library knows the file.

    Raises
    ------
    UnreadableImage, ImageTooLarge
        The library does not know the file and it cannot be decoded, or hangs.
    """
    file = known_path(session, path)
    stored = session.catalog.vector_of(file, session.model()[0])
    if stored is not None:
        return stored
    from clipsearch.images import FoundFile
    from clipsearch.indexing.loader import Loader  # and with it Pillow

    loader = Loader(session.encoder)
    (image,) = map_files(loader.load, [FoundFile(file, 0, 0, "")], loader.give_up)
    if image.error is not None:
        raise image.error
    if image.note:
        warn(f"{file}: {image.note}")
    assert image.pixels is not None  # no bytes are known
    return np.asarray(session.encoder.encode_images(image.pixels[None])[0])


def head_of_vector(vector: FloatArray, info: ModelInfo) -> Head:
    """Return a head of one vector.

    Parameters
    ----------
    vector
        Numbers (dim,) or (1, dim), of any length but 0.
    info
        The model that it is of.

    Raises
    ------
    QueryError
        It has another shape, or is not made of finite real numbers.
    """
    if np.iscomplexobj(vector):  # numpy would drop the imaginary parts, with a warning
        raise QueryError("a query vector is made of real numbers.")
    try:
        rows = np.atleast_2d(np.asarray(vector, dtype=np.float64))
    except (TypeError, ValueError):
        raise QueryError("a query vector is made of numbers.") from None
    if rows.shape != (1, info.dim):
        raise QueryError(
            f"a query vector of {info.name} has {info.dim} numbers: the shape given is "
            f"{np.shape(vector)}."
        )
    if not np.isfinite(rows).all() or not rows.any():
        raise QueryError("a query vector is made of finite numbers that are not all 0.")
    rows = (rows / np.abs(rows).max()).astype(np.float32)  # its length may overflow, or vanish
    return Head(
        ("vector",),
        unit(rows),
        ((),),
        info.name,
        info.fingerprint,
        info.logit_scale,
        info.logit_bias,
    )


def _term_list(given: object, name: str) -> list[str | Term]:
    """Return terms as a list; one text, path or term stands for itself. Raises QueryError."""
    if isinstance(given, str | Term):
        return [given]
    if isinstance(given, os.PathLike):
        return [Term.image(os.fspath(given))]
    if not isinstance(given, Sequence) or isinstance(given, bytes):
        kinds = "a text, a Term, a list of them, a Head or a vector"
        wanted = kinds if name == "query" else "a path or a list of paths and terms"
        raise QueryError(f"{name} is {wanted}: not {given!r:.60}.")
    terms = [Term.image(os.fspath(t)) if isinstance(t, os.PathLike) else t for t in given]
    for term in terms:
        if not isinstance(term, str | Term):
            raise QueryError(f"{name}: a term is a text or a Term, not {term!r:.60}.")
    return terms


# --- opening ---------------------------------------------------------------------------------


@contextmanager
def _open_meanwhile(session: Session) -> Iterator[None]:
    """Open the searcher, the first time, in another thread, while this one encodes."""
    if session.model()[0] in session.caches.searchers:
        yield
        return
    thread = Thread(target=open_all, args=(session,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def open_all(session: Session) -> None:
    """Open everything that a search reads; an error is raised again where it is used."""
    with suppress(Exception):
        session.live()
        session.searcher()
        image_log_mean_exps(session, np.empty(0, np.int64))
