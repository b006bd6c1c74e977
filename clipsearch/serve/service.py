"""Answer requests from a library that stays open, with its model loaded, in any thread.

The service only reads, unless it is told that it may keep answers and calibrate: no other request
changes the library. Images are named by paths that the library knows; no other file is ever opened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock, Semaphore
from typing import Any, TypeAlias

from clipsearch._util import is_remote
from clipsearch.encoders import list_models
from clipsearch.errors import NotAllowed, QueryError, UnknownImage, UnreadableImage
from clipsearch.heads.head import Head
from clipsearch.heads.prompts import resolve_templates
from clipsearch.heads.query import parse_term
from clipsearch.images.files import read_file
from clipsearch.images.thumbnails import ThumbnailCache
from clipsearch.library import Library
from clipsearch.output.predictions import count_by_label
from clipsearch.serve.schemas import (
    DEFAULT_RESULTS,
    MAX_RESULTS,
    AnswersRequest,
    ClassifyRequest,
    QuestionsRequest,
    SearchRequest,
    SimilarRequest,
)
from clipsearch.text.encode import encode_texts
from clipsearch.types import HOLDS_FROM, Hit, ImageRecord, LabelAnswer, Results, Term

# Requests with images of their own answered at the same time: a large one takes a gigabyte.
_UPLOADS_AT_ONCE = 2
# Compiled models arrange their weights for speed once they have encoded a few texts.
_WARM_TEXTS = 16


Answer: TypeAlias = dict[str, Any]
"""An answer as JSON types."""


@dataclass(frozen=True, slots=True)
class Service:
    """One library and the heads that are served with it. Safe in threads.

    Parameters
    ----------
    library
        Open.
    heads
        Name -> head, for requests to name.
    thumbnails
        Caches the thumbnails of images.
    calibrates
        Whether requests may keep answers in the library and fit its probabilities to them.

    >>> service = Service(Library.open("index"))
    >>> service.warm()
    >>> service.search(SearchRequest(text=["a blue horse"], k=3))["results"][0]["path"]
    """

    library: Library
    heads: Mapping[str, Head] = field(default_factory=dict)
    thumbnails: ThumbnailCache = field(default_factory=ThumbnailCache)
    calibrates: bool = False
    _decoding: Semaphore = field(default_factory=lambda: Semaphore(_UPLOADS_AT_ONCE))
    _writing: Lock = field(default_factory=Lock)

    def warm(self) -> None:
        """Load the model and open the vectors, so that the first request does not wait.

        Raises
        ------
        EncoderError
            The model cannot be loaded, or a head belongs to another model.
        """
        encode_texts(self.library.encoder, ["a photo of a cat"] * _WARM_TEXTS)
        self.library.search("a photo of a cat", k=1)
        for head in self.heads.values():
            head.check(self.library.encoder.info)

    # --- requests --------------------------------------------------------------------------

    def search(self, request: SearchRequest, *, uploads: Sequence[Path] = ()) -> Answer:
        """Search as `Library.search` does.

        Parameters
        ----------
        request
            Its images are terms that the library knows.
        uploads
            Image files that came with the request: further terms.

        Returns
        -------
        `results` (hits), `relevant`, `searched` and `warnings`.

        Raises
        ------
        UnknownImage
            The library does not know an image.
        QueryError, ImageError
            As `Library.search` does.
        """
        if request.head and (request.text or request.image or request.exclude or uploads):
            raise QueryError("a head is a query by itself: leave out texts and images.")
        terms = [
            *map(self._find_term, request.image),
            *(Term.image(str(file)) for file in uploads),
        ]
        with self._room_for(uploads):
            results = self.library.search(
                self._head(request.head) if request.head else request.text,
                images=terms,
                exclude=request.exclude,
                label=request.label,
                k=_count(request.k, request.relevant),
                where=request.where,
                under=request.under,
                min_score=request.min_score,
                relevant=request.relevant,
                truncate=request.truncate,
            )
        return _answer_hits(results)

    def similar(self, request: SimilarRequest) -> Answer:
        """Find the neighbours of an image as `Library.similar` does.

        Parameters
        ----------
        request
            Names an image that the library knows.

        Returns
        -------
        As of `search`.

        Raises
        ------
        UnknownImage
            The library does not know the image.
        QueryError
            As `Library.similar` does.
        """
        results = self.library.similar(
            self.record(request.path).path,
            k=_count(request.k, request.relevant),
            where=request.where,
            under=request.under,
            relevant=request.relevant,
        )
        return _answer_hits(results)

    def classify(self, request: ClassifyRequest, *, uploads: Sequence[Path] = ()) -> Answer:
        """Classify as `Library.classify` does.

        Parameters
        ----------
        request
            Names labels or a head, and perhaps one image that the library knows.
        uploads
            Image files that came with the request: they are classified instead of the library's.

        Returns
        -------
        `results` (predictions of the first `k` images by path), `total` and `counts` of all of
        them, and `warnings`.

        Raises
        ------
        UnknownImage
            The library does not know the image.
        QueryError, ImageError
            As `Library.classify` does.
        """
        if bool(request.labels) == bool(request.head):
            raise QueryError("name the labels, or a head, and not both.")
        if uploads and (request.path or request.where or request.under):
            raise QueryError("the images sent are classified, or those of the library, not both.")
        warnings: list[str] = []
        head = self._head(request.head) if request.head else self._make_head(request, warnings)
        with self._room_for(uploads):
            results = self.library.classify(
                head,
                images=uploads or None,
                top=request.top,
                where=request.where,
                under=request.under if request.path is None else self.record(request.path).path,
                mode=request.mode,
                inductive=request.inductive,
                threshold=HOLDS_FROM if request.threshold is None else request.threshold,
                min_probability=request.min_probability,
            )
        return {
            "results": [one.to_dict() for one in results[: request.k]],
            "total": len(results),
            "counts": count_by_label(results),
            "warnings": [*warnings, *results.warnings],
        }

    def _make_head(self, request: ClassifyRequest, warnings: list[str]) -> Head:
        templates, said = resolve_templates(request.template), warnings.append
        cut = request.truncate
        return self.library.head(request.labels, templates=templates, truncate=cut, on_warning=said)

    def status(self) -> Answer:
        """Return what `clipsearch status -f json` does, which heads are served, and the calibration."""
        return {
            **self.library.status().to_dict(),
            "heads": {name: list(head.labels) for name, head in self.heads.items()},
            "calibration": self.library.calibration().source,
            "calibrates": self.calibrates,
        }

    def models(self) -> list[Answer]:
        """Return what `clipsearch models -f json` does."""
        return list_models()

    # --- calibration -----------------------------------------------------------------------

    def questions(self, request: QuestionsRequest) -> Answer:
        """Choose questions as `Library.calibration_questions` does."""
        found = self.library.calibration_questions(
            request.labels, request.n, where=request.where, under=request.under, seed=request.seed
        )
        return {"questions": [one.to_dict() for one in found]}

    def save_answers(self, request: AnswersRequest) -> Answer:
        """Keep answers, and answer how many there are now. Raises NotAllowed or UnknownImage."""
        self._check_calibrates()
        with self._writing:
            self.library.save_answers([LabelAnswer(**one.model_dump()) for one in request.answers])
        return {"answers": len(self.library.answers())}

    def calibrate(self) -> Answer:
        """Fit to all answers, as `Library.calibrate` does. Raises NotAllowed or TooFewExamples."""
        self._check_calibrates()
        with self._writing:
            return self.library.calibrate(self.library.answers()).to_dict()

    def _check_calibrates(self) -> None:
        if not self.calibrates:
            raise NotAllowed("this server changes no library: start it with `serve --calibrate`.")

    # --- images ----------------------------------------------------------------------------

    def record(self, path: str) -> ImageRecord:
        """Return what the library knows of an image.

        Parameters
        ----------
        path
            Absolute, as results have it: a relative one means nothing to a client elsewhere.

        Raises
        ------
        UnknownImage
            The library does not know it.
        """
        is_whole = (os.path.isabs(path) or is_remote(path)) and "\0" not in path
        if not is_whole or (record := self.library.record(path)) is None:
            raise UnknownImage(path)
        return record

    def read_original(self, path: str) -> tuple[bytes, ImageRecord]:
        """Read an image's file, if its bytes are still those that were indexed.

        So no other file is handed out, whatever stands at the path now.

        Parameters
        ----------
        path
            As for `record`.

        Returns
        -------
        The bytes of the file, and the record of the image.

        Raises
        ------
        UnknownImage
            The library does not know it.
        UnreadableImage
            The file cannot be read, or it has changed.
        """
        record = self.record(path)
        data, sha256 = read_file(record.path)
        if sha256 != record.sha256:
            raise UnreadableImage(record.path, "it has changed: index its folder again")
        return data, record

    def details(self, path: str) -> Answer:
        """Answer the facts of an image as people read them. Raises UnknownImage."""
        known = self.record(path).facts.details()
        return {"details": [{"label": label, "text": text} for label, text in known]}

    def thumbnail(self, path: str, size: int) -> bytes:
        """Return an image as a JPEG file that fits into a square.

        Parameters
        ----------
        path
            As for `record`.
        size
            Side of the square, in pixels.

        Raises
        ------
        UnknownImage
            The library does not know it.
        UnreadableImage, ImageTooLarge
            As `ThumbnailCache.get` does.
        """
        return self.thumbnails.get(self.record(path).path, size)

    # --- inside ----------------------------------------------------------------------------

    def _room_for(self, uploads: Sequence[Path]) -> AbstractContextManager[object]:
        return self._decoding if uploads else nullcontext()

    def _find_term(self, text: str) -> Term:
        term = parse_term(text, "image")
        return replace(term, value=self.record(term.value).path)

    def _head(self, name: str) -> Head:
        if name not in self.heads:
            served = ", ".join(self.heads) or "none: start the server with --head FILE"
            raise QueryError(f"no head {name!r} is served. There are: {served}.")
        return self.heads[name]


def _count(k: int | None, relevant: bool) -> int:
    """Return the number of images to answer: as the command line, but never without a limit."""
    return min(k or (MAX_RESULTS if relevant else DEFAULT_RESULTS), MAX_RESULTS)


def _answer_hits(results: Results[Hit]) -> Answer:
    return {
        "results": [hit.to_dict() for hit in results],
        "relevant": results.relevant,
        "searched": results.searched,
        "warnings": list(results.warnings),
    } | ({"estimated": True} if results.estimated else {})
