"""What is searched for: words, images, heads and vectors become one head."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Thread

import numpy as np

from clipsearch.errors import EmptyQuery
from clipsearch.heads import query as terms
from clipsearch.heads.head import Head
from clipsearch.library.judging import Judging
from clipsearch.library.session import StrPath, expanded
from clipsearch.text.encode import reading
from clipsearch.types import ModelInfo, Term

Query = str | Term | Sequence[str | Term] | Head | np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What is searched for: a head, and what it was made of where that is known."""

    head: Head
    own: Head | None = None
    """The user's whole head, which may have a calibration of its own."""
    terms: Sequence[Term] = ()
    images: Mapping[str, np.ndarray] = field(default_factory=dict)
    """The vector (dim,) of each image among the terms."""
    truncate: bool = False


class Asking(Judging):
    """Make a head of what is asked."""

    def _asked(
        self,
        query: Query,
        images: Sequence[str | Term],
        exclude: Sequence[str | Term],
        label: str | None,
        truncate: bool,
        notes: list[str],
    ) -> Asked:
        _, info = self._model()
        if label and not isinstance(query, Head):
            raise EmptyQuery("a label is that of a head: give the head as the query.")
        if isinstance(query, Head | np.ndarray):
            if images or exclude:
                raise EmptyQuery("a head or a vector does not combine with terms: put them in it.")
            if isinstance(query, np.ndarray):
                return Asked(head_of_vector(query, info))
            query.check(info)
            return Asked(query.only(label) if label else query, own=query)
        texts = [query] if isinstance(query, str | Term) else query
        parsed = terms.parse_terms(texts, images=images, exclude=exclude)
        vectors = {t.value: self._vector_of(t.value) for t in parsed if t.kind == "image"}
        encoder = self.encoder
        with self._opening(), reading(encoder, truncate=truncate, on_warning=notes.append) as read:
            head = Head.from_terms(read, parsed, images=vectors)
        return Asked(head, terms=parsed, images=vectors, truncate=truncate)

    @contextmanager
    def _opening(self) -> Iterator[None]:
        """Open what is searched the first time in another thread, while this one encodes."""
        model_id, _ = self._model()
        if self._searcher is not None and self._searcher[0] == model_id:
            yield
            return
        thread = Thread(target=self._open_all, args=(model_id,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _open_all(self, model_id: int) -> None:
        # What goes wrong here goes wrong again where it is asked for, and is told there.
        with suppress(Exception):
            self._census(model_id)
            self._opened(model_id)
            self._levels_of(np.empty(0, np.int64))

    def _vector_of(self, path: StrPath) -> np.ndarray:
        """Return the vector of an image: the stored one if the library knows the file."""
        file = os.path.abspath(expanded(path))
        stored = self._catalog.vector_of(file, self._model()[0])
        if stored is not None:
            return stored
        from clipsearch.images.decode import read_file  # and with it Pillow
        from clipsearch.indexing.loader import Loader

        data, _ = read_file(file)
        pixels, _ = Loader(self.encoder).decode(data, file)
        vector: np.ndarray = self.encoder.encode_images(pixels[None])[0]
        return vector


def head_of_vector(vector: np.ndarray, info: ModelInfo) -> Head:
    """Return a head of one vector (dim,), of any length. Raises EmptyQuery for another shape."""
    rows = np.atleast_2d(np.asarray(vector, dtype=np.float32))
    if rows.shape != (1, info.dim):
        raise EmptyQuery(f"a query vector of {info.name} has {info.dim} numbers, not {rows.shape}.")
    unit = rows / max(float(np.linalg.norm(rows)), 1e-12)
    return Head(
        ("vector",), unit, ((),), info.name, info.fingerprint, info.logit_scale, info.logit_bias
    )
