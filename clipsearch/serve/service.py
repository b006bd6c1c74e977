"""What a server answers: a library that stays open, its model loaded, asked by any thread.

It only reads: nothing that is asked changes the library. Images are named by paths that the
library knows; no other file is ever opened for a request.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Semaphore
from typing import Any

from clipsearch.encoders.listing import listed
from clipsearch.errors import QueryError, UnknownImage, UnreadableImage
from clipsearch.heads.head import Head
from clipsearch.heads.prompts import resolve_templates
from clipsearch.heads.query import parse_term
from clipsearch.images.decode import read_file
from clipsearch.images.thumbnails import ThumbnailCache
from clipsearch.library import Library
from clipsearch.output.render import label_counts
from clipsearch.text.encode import encode_texts
from clipsearch.types import Hit, ImageRecord, Mode, Results, Term

COUNT, MOST = 10, 1000
"""How many images an answer has if nothing is said, and at most."""
UPLOADS_AT_ONCE = 2
"""Questions with images of their own answered at one time: a large one takes a gigabyte."""
WARM_TEXTS = 16
"""Compiled models arrange their weights for speed once they have been asked for a few texts."""

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Service:
    """One library and the heads that are served with it; safe from several threads.

    >>> service = Service(Library.open("index"))
    >>> service.warm()
    >>> service.search(text=["a blue horse"], k=3)["results"][0]["path"]
    """

    library: Library
    heads: Mapping[str, Head] = field(default_factory=dict)
    """Name -> head, for requests to name."""
    thumbnails: ThumbnailCache = field(default_factory=ThumbnailCache)
    _decoding: Semaphore = field(default_factory=lambda: Semaphore(UPLOADS_AT_ONCE))

    def warm(self) -> None:
        """Load the model and open the vectors. Raises what `Library.encoder` raises."""
        encode_texts(self.library.encoder, ["a photo of a cat"] * WARM_TEXTS)
        self.library.search("a photo of a cat", k=1)
        for head in self.heads.values():
            head.check(self.library.encoder.info)

    # --- questions -------------------------------------------------------------------------

    def search(
        self,
        *,
        text: Sequence[str] = (),
        exclude: Sequence[str] = (),
        image: Sequence[str] = (),
        head: str | None = None,
        label: str | None = None,
        k: int | None = None,
        relevant: bool = False,
        uploads: Sequence[Path] = (),
        **options: Any,
    ) -> Answer:
        """Answer as `Library.search` does; its other arguments are the `options`.

        image: terms of images that the library knows. head: the name of a served one. uploads:
        image files that came with the request. Raises UnknownImage, and what the library does.
        """
        if head and (text or image or exclude or uploads):
            raise QueryError("a head is a query by itself: leave out texts and images.")
        terms = [*map(self._known_term, image), *(Term.image(str(file)) for file in uploads)]
        with self._room_for(uploads):
            found = self.library.search(
                self._head(head) if head else text,
                images=terms,
                exclude=exclude,
                label=label,
                k=_wanted(k, relevant),
                relevant=relevant,
                **options,
            )
        return _hits(found)

    def similar(
        self, path: str, *, k: int | None = None, relevant: bool = False, **options: Any
    ) -> Answer:
        """Answer as `Library.similar` does, for an image that the library knows."""
        known = self.record(path).path
        count = _wanted(k, relevant)
        return _hits(self.library.similar(known, k=count, relevant=relevant, **options))

    def classify(
        self,
        *,
        labels: Sequence[str] | Mapping[str, Sequence[str]] = (),
        template: Sequence[str] = (),
        head: str | None = None,
        path: str | None = None,
        mode: Mode = "open",
        threshold: float | Mapping[str, float] | None = None,
        k: int = MOST,
        truncate: bool = False,
        uploads: Sequence[Path] = (),
        **options: Any,
    ) -> Answer:
        """Answer as `Library.classify` does, for the first `k` images by path, and count them all.

        path: one image that the library knows. uploads: instead of the library's images.
        """
        if bool(labels) == bool(head):
            raise QueryError("name the labels, or a head, and not both.")
        if uploads and (path or options.get("where") or options.get("under")):
            raise QueryError("the images sent are classified, or those of the library, not both.")
        warnings: list[str] = []
        made = self._head(head) if head else None
        if made is None:
            made = self.library.head(
                labels,
                templates=resolve_templates(template),
                truncate=truncate,
                on_warning=warnings.append,
            )
        if path is not None:
            options["under"] = self.record(path).path
        if threshold is not None:
            options["threshold"] = threshold
        with self._room_for(uploads):
            found = self.library.classify(made, images=uploads or None, mode=mode, **options)
        return {
            "results": [one.to_dict() for one in found[:k]],
            "total": len(found),
            "counts": label_counts(found),
            "warnings": [*warnings, *found.warnings],
        }

    def status(self) -> Answer:
        """Answer what `clipsearch status -f json` does, and which heads are served."""
        served = {name: list(head.labels) for name, head in self.heads.items()}
        return {**self.library.status().to_dict(), "heads": served}

    def models(self) -> list[Answer]:
        """Answer what `clipsearch models -f json` does."""
        return listed()

    # --- images --------------------------------------------------------------------------

    def record(self, path: str) -> ImageRecord:
        """Return what the library knows of an image. Raises UnknownImage.

        path: whole, as results have it; what is relative means nothing to who asks from elsewhere.
        """
        found = self.library.record(path) if os.path.isabs(path) and "\0" not in path else None
        if found is None:
            raise UnknownImage(path)
        return found

    def original(self, path: str) -> tuple[bytes, ImageRecord]:
        """Return the bytes of an image's file, if they are still those that were indexed.

        So that no other file is handed out, whatever has come to stand at the path since. Raises
        UnknownImage, UnreadableImage.
        """
        record = self.record(path)
        data, sha256 = read_file(record.path)
        if sha256 != record.sha256:
            raise UnreadableImage(record.path, "it has changed: index its folder again")
        return data, record

    def thumbnail(self, path: str, size: int) -> bytes:
        """Return an image as a JPEG that fits into a square of `size` pixels.

        Raises UnknownImage, UnreadableImage, ImageTooLarge.
        """
        return self.thumbnails.get(self.record(path).path, size)

    # --- inside ----------------------------------------------------------------------------

    def _room_for(self, uploads: Sequence[Path]) -> AbstractContextManager[object]:
        return self._decoding if uploads else nullcontext()

    def _known_term(self, text: str) -> Term:
        term = parse_term(text, "image")
        return replace(term, value=self.record(term.value).path)

    def _head(self, name: str) -> Head:
        if name not in self.heads:
            served = ", ".join(self.heads) or "none: start the server with --head FILE"
            raise QueryError(f"no head {name!r} is served. There are: {served}.")
        return self.heads[name]


def _wanted(k: int | None, relevant: bool) -> int:
    """Return how many images are wanted: as the command line, but never without an end."""
    return min(k or (MOST if relevant else COUNT), MOST)


def _hits(found: Results[Hit]) -> Answer:
    return {
        "results": [hit.to_dict() for hit in found],
        "relevant": found.relevant,
        "searched": found.searched,
        "warnings": list(found.warnings),
    }
