"""`OpenLibrary`: a library as a collection of images, which is opened, filled and looked after."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from clipsearch._util.arrays import FloatArray
from clipsearch.catalog import Catalog
from clipsearch.encoders import Encoder, Tokenizer
from clipsearch.encoders.compiler.store import cache_folder
from clipsearch.encoders.registry import resolve
from clipsearch.errors import LibraryNotFound, ModelMismatch
from clipsearch.library import parts
from clipsearch.library.session import (
    DEFAULT_MODEL,
    Filter,
    Session,
    load_model,
    locate_library,
    select,
)
from clipsearch.types import (
    Embeddings,
    ImageRecord,
    ModelInfo,
    OnProgress,
    Paths,
    StrPath,
    as_path,
    ignore_progress,
)


class OpenLibrary:
    """An open library: its images, its models, and its upkeep. Users meet it as `Library`."""

    def __init__(self, session: Session) -> None:
        """Wrap the state of an open library; `open` and `create` are the usual ways in."""
        self._session = session

    # --- opening ---------------------------------------------------------------------------

    @staticmethod
    def locate(path: StrPath | None = None) -> Path:
        """Return the folder of the library that is meant; there need not be one yet.

        Parameters
        ----------
        path
            A folder; by default $CLIPSEARCH_LIBRARY, else ./index if it holds a library, else one
            in the user's data folder.
        """
        return locate_library(path)

    @classmethod
    def open(
        cls,
        path: StrPath | None = None,
        *,
        encoder: Encoder | None = None,
        device: str | None = None,
    ) -> Self:
        """Open a library.

        Parameters
        ----------
        path
            Its folder, see `locate`.
        encoder
            Use this one; by default the library's model is loaded when it is first needed.
        device
            What models run on: `cpu`, `cuda`, `cuda:1`, `mps`; by default $CLIPSEARCH_DEVICE, else
            the fastest there is.

        Raises
        ------
        LibraryNotFound, LibraryTooNew, LibraryCorrupt
        """
        return cls(Session(Catalog.open(locate_library(path)), encoder=encoder, device=device))

    @classmethod
    def create(
        cls,
        path: StrPath | None = None,
        *,
        model: str | None = None,
        encoder: Encoder | None = None,
        device: str | None = None,
    ) -> Self:
        """Make a library; the model is loaded first, and without it no library is left behind.

        Parameters
        ----------
        path, encoder, device
            As for `open`.
        model
            A preset or any name that `load_encoder` takes.

        Raises
        ------
        UnknownModel, ModelUnavailable
        """
        folder = locate_library(path)
        if encoder is None:
            encoder = load_model(model or DEFAULT_MODEL, device)
        session = Session(Catalog.create(folder), encoder=encoder, device=device)
        session.catalog.add_model(encoder.info)
        return cls(session)

    @classmethod
    def open_or_create(
        cls,
        path: StrPath | None = None,
        *,
        model: str | None = None,
        encoder: Encoder | None = None,
        device: str | None = None,
    ) -> Self:
        """Open a library, or make it if there is none. The parameters are those of `create`."""
        try:
            library = cls.open(path, encoder=encoder, device=device)
        except LibraryNotFound:
            return cls.create(path, model=model, encoder=encoder, device=device)
        library._session.ensure_model(model)
        return library

    @classmethod
    def loose(cls, model: str | None = None, *, device: str | None = None) -> Self:
        """Open a library without images, for `classify(images=)`, `matrix` and `explain`.

        There is one for each model, in the user's cache, so that its background is encoded once.

        Parameters
        ----------
        model, device
            As for `create`.

        Raises
        ------
        UnknownModel, ModelUnavailable

        Examples
        --------
        >>> with Library.loose("mini") as library:
        ...     [prediction] = library.classify(["cat", "dog"], images="scene.webp")
        """
        name = resolve(model or DEFAULT_MODEL).name
        folder = cache_folder().parent / "loose" / hashlib.sha256(name.encode()).hexdigest()[:16]
        library = cls.open_or_create(folder, model=model, device=device)
        try:
            _ = library.encoder
        except ModelMismatch:  # the same name, and other weights than last time
            library.close()
            shutil.rmtree(folder)
            library = cls.create(folder, model=model, device=device)
        return library

    def close(self) -> None:
        """Close the library; what `for_model` returns shares it and closes nothing."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- models ----------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The library's folder."""
        return self._session.path

    @property
    def encoder(self) -> Encoder:
        """The current model, loaded on first use. Raises ModelMismatch or ModelUnavailable."""
        return self._session.encoder

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the current model; its weights are not loaded for it."""
        return self._session.tokenizer

    def models(self) -> list[ModelInfo]:
        """Return the models that the library has vectors of, the current one first."""
        return self._session.models()

    def use(self, name: str) -> ModelInfo:
        """Make another of the library's models the current one. Raises UnknownModel."""
        return self._session.use(name)

    def for_model(self, name: str) -> Self:
        """Return this library with another of its models as the current one. Raises UnknownModel."""
        return type(self)(self._session.for_model(name))

    def tokens(self, texts: str | Sequence[str]) -> list[parts.TokenTable]:
        """Return the tokens that the current model reads of a text, or of each of several.

        Examples
        --------
        >>> [table] = library.tokens("a blue horse")
        >>> table.count, table.left
        (5, 72)
        """
        tokenizer, name = self.tokenizer, self._session.info.name
        given = [texts] if isinstance(texts, str) else texts
        return [parts.TokenTable.of(text, tokenizer, name) for text in given]

    # --- images ----------------------------------------------------------------------------

    def index(
        self,
        paths: Paths,
        *,
        model: str | None = None,
        exclude: str | Sequence[str] = (),
        hidden: bool = False,
        dry_run: bool = False,
        retry_failed: bool = False,
        fast: bool = False,
        engine: str = "auto",
        precision: str = "auto",
        batch_size: int = 32,
        workers: int | None = None,
        on_progress: OnProgress | None = None,
    ) -> parts.IndexReport:
        """Add images, and bring the library up to date with files and folders.

        What is unchanged costs a stat; equal bytes are embedded once; what is gone from a folder
        that could be read is forgotten. One bad file never raises: see `IndexReport.failures`.

        Parameters
        ----------
        paths
            A file or a folder, or several.
        model
            Embed with this one, beside the current one.
        exclude, hidden, dry_run, retry_failed, fast, engine, precision, batch_size, workers
            See `IndexOptions`.
        on_progress
            Is told of the progress.

        Raises
        ------
        LibraryLocked, UnknownModel, ModelUnavailable, QueryError
        """
        patterns = (exclude,) if isinstance(exclude, str) else tuple(exclude)
        options = parts.IndexOptions(
            patterns, hidden, dry_run, retry_failed, fast, engine, precision, batch_size, workers
        )
        return parts.collection.index_files(
            self._session, paths, options, model=model, on_progress=on_progress or ignore_progress
        )

    def remove(self, paths: Paths) -> int:
        """Forget files, or all files below folders; return how many. The files themselves stay."""
        return parts.collection.forget_files(self._session, paths)

    def record(self, path: StrPath) -> ImageRecord | None:
        """Return what the catalog knows of a file; None if it does not know it."""
        return self._session.catalog.record(os.path.abspath(as_path(path)))

    def records(
        self, *, where: Filter | None = None, under: StrPath | None = None
    ) -> list[ImageRecord]:
        """Return what the catalog knows of the images of the library, by path.

        Parameters
        ----------
        where, under
            Only images that match a filter, or lie below a folder.
        """
        chosen = select(where, under)
        return self._session.catalog.records(where=chosen.where, under=chosen.under)

    def embeddings(
        self,
        *,
        where: Filter | None = None,
        under: StrPath | None = None,
        paths: Paths | None = None,
    ) -> Embeddings:
        """Return images of the library, by path, each with its stored unit vector.

        Parameters
        ----------
        where, under
            Only images that match a filter, or lie below a folder.
        paths
            Only these files.
        """
        return parts.collection.stored_embeddings(self._session, select(where, under), paths)

    def embed(self, paths: Paths) -> tuple[list[str], FloatArray, list[parts.Failure]]:
        """Return files, their unit vectors float32 (n, dim), and what could not be read; by path.

        Parameters
        ----------
        paths
            Files and folders, in the library or not; what the library knows is not encoded again.
        """
        return parts.collection.encode_paths(self._session, paths)

    # --- upkeep ----------------------------------------------------------------------------

    def status(self) -> parts.Status:
        """Return what the library holds, and the state of its vector index."""
        return parts.collection.library_status(self._session)

    def errors(self) -> list[parts.Failure]:
        """Return the files that could not be indexed, and why."""
        return self._session.catalog.errors()

    def check(self, *, repair: bool = False, deep: bool = True) -> list[parts.Finding]:
        """Look for damage in the catalog and the snapshots, and for files that are not there.

        Parameters
        ----------
        repair
            Repair what can be repaired, without losing anything.
        deep
            Compare whole snapshot files with their checksums.
        """
        return parts.collection.check_library(self._session, repair=repair, deep=deep)

    def rebuild(self, *, kind: str | None = None, recall: float | None = None) -> parts.Status:
        """Rebuild the vector index of every model from the catalog, and return the status.

        Parameters
        ----------
        kind
            `exact`, `compressed`, `ivf`, or `auto` by size; None keeps what was last asked for.
        recall
            The share of the ten nearest that an approximate index is to find for texts, between 0
            and 1; it is tuned for that. None keeps what was last asked for, at first 0.99.

        Raises
        ------
        UnknownVectorIndex, VectorIndexError, LibraryLocked
        """
        return parts.collection.rebuild_index(self._session, kind, recall)
