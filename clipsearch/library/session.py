"""An open library: its folder, its catalog, its current model, and the vectors of images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np

from clipsearch._util.parallel import cores
from clipsearch.calibration.background import Background, Levels
from clipsearch.catalog import Catalog
from clipsearch.catalog.engine import FILE_NAME
from clipsearch.encoders import Encoder, load_encoder
from clipsearch.encoders.registry import resolve
from clipsearch.errors import (
    ImageError,
    LibraryLocked,
    LibraryNotFound,
    ModelMismatch,
    UnknownModel,
)
from clipsearch.types import Embeddings, Failure, ImageRecord, ModelInfo
from clipsearch.types import Where as ParsedWhere
from clipsearch.vectors.live_vectors import Census
from clipsearch.vectors.searcher import Searcher
from clipsearch.vectors.snapshots import Snapshots

StrPath = str | os.PathLike[str]
Where: TypeAlias = str | ParsedWhere

ENVIRONMENT = "CLIPSEARCH_LIBRARY"
DEFAULT_MODEL = "default"
_LOCK = "index.lock"


class Opened:
    """What every part of a library stands on. Users meet it as `Library`."""

    def __init__(self, catalog: Catalog, *, encoder: Encoder | None = None) -> None:
        """Wrap an open catalog; `open` and `create` are the usual ways in."""
        self._catalog = catalog
        self._encoder = encoder
        self._searcher: tuple[int, Searcher] | None = None
        self._viewed: tuple[int, ModelInfo] | None = None
        # By fingerprint, so that views of other models share them.
        self._backgrounds: dict[str, Background] = {}
        self._levels: dict[str, Levels] = {}
        self._censuses: dict[int, Census] = {}

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
        if (here / FILE_NAME).is_file():
            return here
        import platformdirs

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
            self._encoder = load_stored(info)
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

    def viewed(self, model: str) -> Self:
        """Return this library with another of its models in place of the current one, to read from.

        `use` is what changes it for all. Raises UnknownModel for a model without vectors here.
        """
        stored = self._stored_name(model)
        view = copy(self)
        view._viewed = next(
            ((number, i) for number, i in self._catalog.models().items() if i.name == stored), None
        )
        if view._viewed is None:
            held = ", ".join(info.name for info in self._catalog.models().values())
            raise UnknownModel(
                model,
                hint=f"This library has vectors of {held}: add those of another with "
                f"`clipsearch index FOLDER -L {self.path} --model MODEL`.",
            )
        return view

    # --- images and their vectors ----------------------------------------------------------

    def record(self, path: StrPath) -> ImageRecord | None:
        """Return what the catalog knows of a file; None if it does not know it."""
        return self._catalog.record(os.path.abspath(expanded(path)))

    def embeddings(
        self,
        *,
        where: Where | None = None,
        under: StrPath | None = None,
        paths: Iterable[StrPath] | None = None,
    ) -> Embeddings:
        """Return the images of the library, by path, each with its stored unit vector.

        where, under: only those that fulfil a filter or lie below a folder. paths: only these
        files, in the library. Nothing is read but the catalog.
        """
        model_id, info = self._model()
        chosen = chosen_by(where, under)
        allowed = self._catalog.allowed_ids(model_id, **chosen) if any(chosen.values()) else None
        wanted = None if paths is None else {os.path.abspath(expanded(path)) for path in paths}
        found: list[tuple[ImageRecord, np.ndarray]] = []
        for ids, vectors in self._catalog.iter_vectors(model_id):
            if allowed is not None:
                inside = np.isin(ids, allowed)
                ids, vectors = ids[inside], vectors[inside]
            records = self._catalog.hits(ids.tolist(), **chosen)
            found += [
                (record, vector)
                for number, vector in zip(ids.tolist(), vectors, strict=True)
                for record in records.get(number, ())
                if wanted is None or record.path in wanted
            ]
        found.sort(key=lambda pair: pair[0].path)
        rows = [vector for _, vector in found]
        vectors = np.stack(rows) if rows else np.empty((0, info.dim), np.float32)
        return Embeddings(tuple(record for record, _ in found), vectors.astype(np.float32))

    def embed(self, paths: Iterable[StrPath]) -> tuple[list[str], np.ndarray, list[Failure]]:
        """Return files, their unit vectors float32 (n, dim), and what could not be read; by path.

        paths: files and folders, in the library or not; what the library knows is not encoded
        anew. Raises what `encoder` raises if an image has to be encoded.
        """
        from clipsearch.images.walk import Walk
        from clipsearch.indexing.pipeline import encode_files  # and with it Pillow

        model_id, info = self._model()
        vectors: dict[str, np.ndarray] = {}
        unknown: list[str] = []
        failures: list[Failure] = []
        walk = Walk([expanded(path) for path in paths])
        for file in walk:
            stored = self._catalog.vector_of(file.path, model_id)
            if stored is None:
                unknown.append(file.path)
            else:
                vectors[file.path] = stored
        failures += [Failure(problem.path, problem.reason) for problem in walk.problems]
        if unknown:
            for file, found in encode_files(Walk(unknown), self.encoder, workers=cores()):
                if isinstance(found, Exception):
                    # An error of an image names its path, which is in the failure already.
                    reason = found.reason if isinstance(found, ImageError) else str(found)
                    failures.append(Failure(file.path, reason))
                else:
                    vectors[file.path] = found
        files = sorted(vectors)
        rows = [vectors[file] for file in files]
        stacked = np.stack(rows) if rows else np.empty((0, info.dim), np.float32)
        return files, stacked.astype(np.float32), failures

    # --- inside ----------------------------------------------------------------------------

    def _model(self) -> tuple[int, ModelInfo]:
        current = self._viewed or self._catalog.current_model()
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
                return number, partial(load_stored, other)
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

    def _census(self, model_id: int) -> Census:
        """Return which vectors have files now."""
        known = self._censuses.get(model_id)
        if known is None or not known.revision or known.revision != self._catalog.revision():
            known = self._censuses[model_id] = Census.take(self.path, self._catalog, model_id)
        return known

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        """Hold the library against other indexing processes. Raises LibraryLocked at once."""
        from filelock import FileLock, Timeout

        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise LibraryLocked(self.path, "another `clipsearch index`") from error
        try:
            yield
        finally:
            lock.release()


def load_stored(info: ModelInfo, load: Callable[[str], Encoder] | None = None) -> Encoder:
    """Load a library's model. Raises ModelMismatch if its weights are others than they were."""
    encoder = (load or load_encoder)(info.spec or info.name)
    if encoder.info.fingerprint != info.fingerprint:
        raise ModelMismatch(
            f"the weights of {info.name} are not those that the library was made with: their "
            "vectors do not mix. Index again into a new library (-L), or bring the weights back."
        )
    return encoder


def chosen_by(where: Where | None, under: StrPath | None) -> dict[str, Any]:
    """Parse what chooses images, as the catalog takes it. Raises BadFilter."""
    parsed = where
    if isinstance(where, str):
        from clipsearch.filters import parse

        parsed = parse(where)
    return {"where": parsed, "under": None if under is None else os.path.abspath(expanded(under))}


def expanded(path: StrPath) -> str:
    """Replace a leading `~`."""
    return os.path.expanduser(os.fspath(path))
