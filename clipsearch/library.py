"""The facade: a library is a folder that pictures are indexed into, searched and classified in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import platformdirs
from filelock import FileLock, Timeout

from clipsearch import filters, terms
from clipsearch.catalog import Catalog
from clipsearch.decode import open_image
from clipsearch.encoders import Encoder, load_encoder
from clipsearch.encoders.models import resolve
from clipsearch.errors import (
    EmptyQuery,
    LibraryLocked,
    LibraryNotFound,
    ModelMismatch,
    UnknownModel,
)
from clipsearch.head import Head
from clipsearch.indexing import BATCH_SIZE, Indexer, encode_files
from clipsearch.scan import CATALOG_FILE, Walk
from clipsearch.schema import FORMAT
from clipsearch.snapshot import Searcher, Snapshots
from clipsearch.templates import prompts as prompts_of
from clipsearch.types import (
    Failure,
    Finding,
    Hit,
    ImageRecord,
    IndexReport,
    LabelScore,
    ModelInfo,
    Prediction,
    Progress,
    Results,
    Status,
    Term,
)

StrPath = str | os.PathLike[str]
Query = str | Term | Sequence[str | Term] | Head | np.ndarray
Labels = Sequence[str] | Mapping[str, Sequence[str]]

ENVIRONMENT = "CLIPSEARCH_LIBRARY"
DEFAULT_MODEL = "default"
LABEL_SOURCE = "classify"
_LOCK = "index.lock"


class Library:
    """A searchable collection of pictures.

    >>> with Library.open_or_create("index", model="mini") as library:
    ...     library.index(["~/Pictures"])
    ...     for hit in library.search("orange boy riding a blue horse", k=3):
    ...         print(hit.score, hit.path)
    """

    def __init__(self, catalog: Catalog, *, encoder: Encoder | None = None) -> None:
        """Wrap an open catalog; `open` and `create` are the usual ways in."""
        self._catalog = catalog
        self._encoder = encoder
        self._searcher: tuple[int, Searcher] | None = None

    # --- opening ---------------------------------------------------------------------------

    @staticmethod
    def locate(path: StrPath | None = None) -> Path:
        """Say which folder is meant.

        The one given, else $CLIPSEARCH_LIBRARY, else ./index if it holds a library, else one in
        the user's data folder.
        """
        given = path if path is not None else os.environ.get(ENVIRONMENT)
        if given:
            return Path(given).expanduser().absolute()
        here = Path("index").absolute()
        if (here / CATALOG_FILE).is_file():
            return here
        return Path(platformdirs.user_data_path("clipsearch")) / "library"

    @classmethod
    def open(cls, path: StrPath | None = None, *, encoder: Encoder | None = None) -> Self:
        """Open a library. Raises LibraryNotFound, LibraryTooNew or LibraryCorrupt.

        encoder: use this one; by default the library's model is loaded when it is first needed.
        """
        return cls(Catalog.open(cls.locate(path)), encoder=encoder)

    @classmethod
    def create(
        cls,
        path: StrPath | None = None,
        *,
        model: str | None = None,
        encoder: Encoder | None = None,
    ) -> Self:
        """Make a library for a model (a preset or any name that `load_encoder` takes).

        The model is loaded first: without it no library is left behind. Raises UnknownModel or
        ModelUnavailable.
        """
        encoder = encoder or load_encoder(model or DEFAULT_MODEL)
        library = cls(Catalog.create(cls.locate(path)), encoder=encoder)
        library._catalog.add_model(encoder.info)
        return library

    @classmethod
    def open_or_create(
        cls,
        path: StrPath | None = None,
        *,
        model: str | None = None,
        encoder: Encoder | None = None,
    ) -> Self:
        """Open the library, or make it with this model if there is none."""
        try:
            library = cls.open(path, encoder=encoder)
        except LibraryNotFound:
            return cls.create(path, model=model, encoder=encoder)
        if library._catalog.current_model() is None:  # made, but killed before its model was stored
            library._encoder = encoder or load_encoder(model or DEFAULT_MODEL)
            library._catalog.add_model(library._encoder.info)
        return library

    def close(self) -> None:
        """Close the catalog."""
        self._catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- what it is ------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The library's folder."""
        return self._catalog.folder

    @property
    def encoder(self) -> Encoder:
        """The library's current model, loaded on first use. Raises ModelMismatch, ModelUnavailable."""
        _, info = self._model()
        if self._encoder is None or self._encoder.info.fingerprint != info.fingerprint:
            self._encoder = _load(info)
        return self._encoder

    def models(self) -> list[ModelInfo]:
        """Return the models that the library has vectors of, the current one first."""
        current, _ = self._model()
        found = self._catalog.models()
        return [found[current], *(info for number, info in found.items() if number != current)]

    def use(self, name: str) -> ModelInfo:
        """Make another of the library's models the current one. Raises UnknownModel."""
        self._catalog.use_model(self._stored_name(name) or name)
        return self._model()[1]

    # --- indexing --------------------------------------------------------------------------

    def index(
        self,
        paths: Iterable[StrPath],
        *,
        model: str | None = None,
        exclude: Sequence[str] = (),
        hidden: bool = False,
        dry_run: bool = False,
        retry_failed: bool = False,
        batch_size: int = BATCH_SIZE,
        workers: int | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> IndexReport:
        """Add pictures, and bring the library up to date with files and folders.

        What is unchanged costs a stat; equal bytes are embedded once; what is gone from a folder
        that could be read is forgotten. model: embed with this one, beside the current one.
        dry_run: count what would be done, write nothing. Raises LibraryLocked if another process
        is indexing, UnknownModel, ModelUnavailable. One bad file never raises: see `failures`.
        """
        model_id, encoder = self._model_for(model)
        indexer = Indexer(
            self._catalog,
            model_id,
            encoder,
            Snapshots(self.path, self._catalog, model_id),
            on_progress or _no_progress,
            workers or os.cpu_count() or 2,
            batch_size,
        )
        with self._only_writer(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = indexer.run(
                Walk([_expanded(path) for path in paths], exclude=exclude, hidden=hidden),
                retry_failed=retry_failed,
                dry_run=dry_run,
            )
        own = tuple(str(w.message) for w in caught if _is_ours(w))
        return replace(report, warnings=own)

    def remove(self, paths: Iterable[StrPath]) -> int:
        """Forget files, or all files below folders; return how many. The files themselves stay."""
        found: set[str] = set()
        for path in paths:
            found |= self._catalog.files_under(os.path.abspath(_expanded(path))).keys()
        return self._catalog.remove_paths(found) if found else 0

    def rebuild(self, *, kind: str | None = None) -> None:
        """Write the vector index anew from the catalog. Raises UnknownVectorIndex."""
        with self._only_writer():
            for model_id in self._catalog.models():
                Snapshots(self.path, self._catalog, model_id, kind=kind).publish()
        self._searcher = None

    # --- searching -------------------------------------------------------------------------

    def search(
        self,
        query: Query = (),
        *,
        images: Sequence[str | Term] = (),
        exclude: Sequence[str | Term] = (),
        k: int = 10,
        where: str | filters.Where | None = None,
        under: StrPath | None = None,
        min_score: float | None = None,
    ) -> Results:
        """Find the `k` pictures nearest to words, pictures, a head or a vector; best first.

        query: terms of the grammar in `clipsearch.terms` (`"2:horse"` counts double), a Head, or a
        vector (dim,). images: picture files as further terms. exclude: texts to keep away from.
        where, under: only pictures that fulfil a filter, or lie below a folder: applied before the
        search, so that `k` hits come back whenever `k` match. min_score: smallest cosine.
        Raises EmptyQuery, BadTerm, BadFilter, ModelMismatch.
        """
        head = self._query_head(query, images, exclude)
        hits = self._nearest(head.vectors, k, where, under)
        if min_score is not None:
            hits = [hit for hit in hits if hit.score >= min_score]
        return Results(tuple(hits), title=head.labels[0] if len(head.labels) == 1 else "")

    def similar(
        self,
        path: StrPath,
        *,
        k: int = 10,
        where: str | filters.Where | None = None,
        under: StrPath | None = None,
    ) -> Results:
        """Find the pictures nearest to a picture, in the library or not; itself left out."""
        file = os.path.abspath(_expanded(path))
        hits = self._nearest(self._vector_of(file)[None], k + 1, where, under)
        others = tuple(hit for hit in hits if hit.path != file)[:k]
        return Results(others, title=f"like {os.path.basename(file)}")

    def _nearest(
        self,
        vectors: np.ndarray,
        k: int,
        where: str | filters.Where | None,
        under: StrPath | None,
    ) -> list[Hit]:
        model_id, _ = self._model()
        chosen = _chosen(where, under)
        among = self._catalog.allowed_ids(model_id, **chosen) if any(chosen.values()) else None
        ids, scores = self._opened(model_id).search(vectors, k, among=among)
        best: dict[int, float] = {}
        for row_ids, row_scores in zip(ids.tolist(), scores.tolist(), strict=True):
            for number, score in zip(row_ids, row_scores, strict=True):
                best[number] = max(score, best.get(number, -1.0))
        records = self._catalog.hits(list(best), **chosen)
        # The same bytes at several paths are several hits.
        hits = [
            Hit(record.path, score, record)
            for number, score in best.items()
            for record in records.get(number, ())
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.path))[: max(k, 0)]

    def _query_head(
        self, query: Query, images: Sequence[str | Term], exclude: Sequence[str | Term]
    ) -> Head:
        _, info = self._model()
        if isinstance(query, Head | np.ndarray):
            if images or exclude:
                raise EmptyQuery("a head or a vector does not combine with terms: put them in it.")
            if isinstance(query, np.ndarray):
                return _head_of_vector(query, info)
            query.check(info)
            return query
        texts = [query] if isinstance(query, str | Term) else query
        parsed = terms.parse_terms(texts, images=images, exclude=exclude)
        vectors = {t.value: self._vector_of(t.value) for t in parsed if t.kind == "image"}
        return Head.from_terms(self.encoder, parsed, images=vectors)

    def _vector_of(self, path: StrPath) -> np.ndarray:
        """Return the vector of a picture: the stored one if the library knows the file."""
        file = os.path.abspath(_expanded(path))
        stored = self._catalog.vector_of(file, self._model()[0])
        if stored is not None:
            return stored
        image, _ = open_image(file)
        vector: np.ndarray = self.encoder.encode_images(self.encoder.preprocess(image)[None])[0]
        return vector

    # --- classifying -----------------------------------------------------------------------

    def head(self, labels: Labels, *, templates: Sequence[str] | None = None) -> Head:
        """Make a zero-shot head of labels; a mapping gives each label its own prompts.

        templates: prompts with `{}` for the labels without prompts; by default a small sensible
        set. Raises TooFewLabels, BadTemplate.
        """
        return Head.from_prompts(self.encoder, prompts_of(labels, templates))

    def classify(
        self,
        head: Head | Labels,
        *,
        images: Iterable[StrPath] | None = None,
        top: int | None = None,
        where: str | filters.Where | None = None,
        under: StrPath | None = None,
        min_probability: float | None = None,
        save: bool = False,
    ) -> Results:
        """Label every picture of the library (or the filtered part, or loose `images`), by path.

        top: keep this many labels a picture; None keeps all. min_probability: leave out pictures
        whose best label is below. save: write the best labels into the catalog.
        """
        head = head if isinstance(head, Head) else self.head(head)
        head.check(self._model()[1])
        failures: list[str] = []
        classified: dict[int, None] = {}
        if images is not None:
            found = self._predict_files(head, images, top, failures)
        else:
            found = self._predict_library(head, top, _chosen(where, under), classified)
        kept = [p for p in found if min_probability is None or p.probability >= min_probability]
        if save and images is None:
            self._save(kept, among=classified)
        return Results(
            tuple(sorted(kept, key=lambda prediction: prediction.path)),
            title=", ".join(head.labels),
            warnings=tuple(failures),
        )

    def _predict_library(
        self, head: Head, top: int | None, chosen: dict[str, Any], classified: dict[int, None]
    ) -> Iterator[Prediction]:
        model_id, _ = self._model()
        filtered = any(chosen.values())
        allowed = self._catalog.allowed_ids(model_id, **chosen) if filtered else None
        for ids, vectors in self._catalog.iter_vectors(model_id):
            if allowed is not None:
                inside = np.isin(ids, allowed)
                ids, vectors = ids[inside], vectors[inside]
            records = self._catalog.hits(ids.tolist(), **chosen)
            for number, labels in zip(ids.tolist(), _labelled(head, vectors, top), strict=True):
                for record in records.get(number, ()):
                    classified[record.content_id] = None
                    yield Prediction(record.path, labels, record)

    def _predict_files(
        self, head: Head, images: Iterable[StrPath], top: int | None, failures: list[str]
    ) -> Iterator[Prediction]:
        walk = Walk([_expanded(path) for path in images])
        for file, found in encode_files(walk, self.encoder, workers=os.cpu_count() or 2):
            if isinstance(found, Exception):
                failures.append(str(found))
            else:
                yield Prediction(file.path, _labelled(head, found[None], top)[0])
        failures += [f"{problem.path}: {problem.reason}" for problem in walk.problems]

    def save_labels(self, predictions: Iterable[Prediction], *, source: str = LABEL_SOURCE) -> int:
        """Write the best label of each prediction of an indexed picture into the catalog.

        The labels that the same source gave those pictures before are replaced.
        """
        return self._save(list(predictions), source=source)

    def _save(
        self,
        predictions: Sequence[Prediction],
        *,
        source: str = LABEL_SOURCE,
        among: Iterable[int] | None = None,
    ) -> int:
        rows = {p.record.content_id: (p.label, p.score) for p in predictions if p.record}
        return self._catalog.save_labels(
            [(content, label, source, score) for content, (label, score) in rows.items()],
            among=list(rows if among is None else among),
        )

    # --- care ------------------------------------------------------------------------------

    def status(self) -> Status:
        """Say what the library holds."""
        current = self._catalog.current_model()
        counts = self._catalog.status_counts()
        kind, tail, stale, indexed = None, 0, 0, 0
        if current is not None:
            snapshots = Snapshots(self.path, self._catalog, current[0])
            kind = next((row.kind for row in snapshots.rows()), None)
            tail, stale, indexed = snapshots.drift()
        return Status(
            path=str(self.path),
            format=FORMAT,
            model=current[1].name if current else None,
            models=counts.vectors,
            files=counts.files,
            contents=counts.contents,
            failed=counts.failed,
            bytes_on_disk=sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file()),
            roots=self._catalog.roots(),
            labels=self._catalog.label_counts(),
            index_kind=kind,
            indexed=indexed,
            tail=tail,
            stale=stale,
            last_scan=self._catalog.last_scan(),
        )

    def check(self, *, repair: bool = False, deep: bool = True) -> list[Finding]:
        """Look for damage in the catalog and the snapshots, and for files that are not there.

        deep: compare whole snapshot files with their checksums. repair: put right what can be.
        """
        findings = self._catalog.check(repair=repair)
        for model_id in self._catalog.models():
            snapshots = Snapshots(self.path, self._catalog, model_id)
            findings += snapshots.check(deep=deep, repair=repair)
        self._searcher = None
        missing = [r.path for r in self._catalog.records() if not os.path.lexists(r.path)]
        if missing:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            findings.append(
                Finding(
                    "file-missing",
                    f"{missing[0]}{more}: no longer there",
                    "Run `clipsearch index` on the folder, or `clipsearch remove` the path.",
                )
            )
        return findings

    def errors(self) -> list[Failure]:
        """Return the files that could not be indexed, and why."""
        return self._catalog.errors()

    def record(self, path: StrPath) -> ImageRecord | None:
        """Return what the catalog knows of a file; None if it does not know it."""
        return self._catalog.record(os.path.abspath(_expanded(path)))

    # --- inside ----------------------------------------------------------------------------

    def _model(self) -> tuple[int, ModelInfo]:
        current = self._catalog.current_model()
        if current is None:
            raise UnknownModel(
                "", hint="The library has no model yet: `clipsearch index` a folder."
            )
        return current

    def _model_for(self, name: str | None) -> tuple[int, Callable[[], Encoder]]:
        """Return the id of a model and how to get its encoder; loads only what is not stored yet."""
        current, info = self._model()
        stored = info.name if name is None else self._stored_name(name)
        if stored == info.name:
            return current, lambda: self.encoder
        for number, other in self._catalog.models().items():
            if other.name == stored:
                return number, partial(_load, other)
        encoder = load_encoder(name or DEFAULT_MODEL)
        return self._catalog.add_model(encoder.info), lambda: encoder

    def _stored_name(self, name: str) -> str | None:
        """Return the name under which a model is stored; None if it is not."""
        names = {info.name for info in self._catalog.models().values()}
        return name if name in names else next(iter({resolve(name).name} & names), None)

    def _opened(self, model_id: int) -> Searcher:
        if self._searcher is None or self._searcher[0] != model_id:
            self._searcher = (model_id, Snapshots(self.path, self._catalog, model_id).open())
        return self._searcher[1]

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        """Hold the library against other indexing processes. Raises LibraryLocked at once."""
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise LibraryLocked(self.path, "another `clipsearch index`") from error
        try:
            yield
        finally:
            lock.release()


def _load(info: ModelInfo) -> Encoder:
    encoder = load_encoder(info.spec or info.name)
    if encoder.info.fingerprint != info.fingerprint:
        raise ModelMismatch(
            f"the weights of {info.name} are not those that the library was made with: their "
            "vectors do not mix. Index again into a new library (-L), or bring the weights back."
        )
    return encoder


def _labelled(head: Head, vectors: np.ndarray, top: int | None) -> list[tuple[LabelScore, ...]]:
    """Return the labels of each vector (n, dim), best first."""
    scores = head.scores(vectors)
    probabilities = head.probabilities(scores)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [
        tuple(LabelScore(head.labels[j], float(p[j]), float(s[j])) for j in best)
        for best, p, s in zip(order.tolist(), probabilities, scores, strict=True)
    ]


def _head_of_vector(vector: np.ndarray, info: ModelInfo) -> Head:
    rows = np.atleast_2d(np.asarray(vector, dtype=np.float32))
    if rows.shape != (1, info.dim):
        raise EmptyQuery(f"a query vector of {info.name} has {info.dim} numbers, not {rows.shape}.")
    unit = rows / max(float(np.linalg.norm(rows)), 1e-12)
    return Head(
        ("vector",), unit, ((),), info.name, info.fingerprint, info.logit_scale, info.logit_bias
    )


def _chosen(where: str | filters.Where | None, under: StrPath | None) -> dict[str, Any]:
    parsed = filters.parse(where) if isinstance(where, str) else where
    return {"where": parsed, "under": None if under is None else os.path.abspath(_expanded(under))}


def _expanded(path: StrPath) -> str:
    return os.path.expanduser(os.fspath(path))


def _no_progress(progress: Progress) -> None:
    """Take a report of progress that nobody asked for."""


def _is_ours(warning: warnings.WarningMessage) -> bool:
    return Path(__file__).parent in Path(warning.filename).parents
