"""`OpenLibrary`: a library is opened and closed, with its models. Users meet it as `Library`."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from clipsearch.catalog import Catalog
from clipsearch.encoders import Encoder, Tokenizer
from clipsearch.encoders.compiler.store import cache_folder
from clipsearch.encoders.registry import resolve
from clipsearch.errors import LibraryError, LibraryNotFound, ModelMismatch
from clipsearch.library import parts
from clipsearch.library.locate import locate_library, open_catalog
from clipsearch.library.session import (
    DEFAULT_MODEL,
    Session,
    load_model,
)
from clipsearch.types import ModelInfo, StrPath
from clipsearch.types.options import as_texts

_HINT = (
    "the probabilities of {model} rest on constants of another model. To fit them to your images "
    "takes a minute: `clipsearch calibrate --ask 20`, or `clipsearch calibrate labels.csv` with 20 "
    "labelled images. (This is said once.)"
)


class OpenLibrary:
    """An open library: its folder and its models."""

    def __init__(self, session: Session) -> None:
        """Wrap the state of an open library; `open` and `create` are the usual ways in."""
        self._session = session

    # --- opening ---------------------------------------------------------------------------

    @staticmethod
    def locate(path: StrPath | None = None) -> Path | str:
        """Return where the library that is meant lies.

        Parameters
        ----------
        path
            A folder, or `postgresql://user@host/database`; by default $CLIPSEARCH_LIBRARY, else
            ./index if it holds a library, else one in the user's data folder.

        Returns
        -------
        Its path, or its address without a password; there need not be a library yet.
        """
        place = locate_library(path)
        return place if isinstance(place, Path) else place.name

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
            Its folder or its address, see `locate`.
        encoder
            Use this one; by default the library's model is loaded when it is first needed.
        device
            What models run on: `cpu`, `cuda`, `cuda:1`, `mps`; by default $CLIPSEARCH_DEVICE, else
            the fastest there is.

        Returns
        -------
        The open library.

        Raises
        ------
        LibraryNotFound, LibraryTooNew, LibraryCorrupt
        """
        return cls(Session(open_catalog(path), encoder=encoder, device=device))

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

        Returns
        -------
        The new library, open.

        Raises
        ------
        UnknownModel, ModelUnavailable
        """
        place = locate_library(path)
        if encoder is None:
            encoder = load_model(model or DEFAULT_MODEL, device)
        session = Session(Catalog.create(place), encoder=encoder, device=device)
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
        """Open a library, or make it if there is none.

        Parameters
        ----------
        path, model, encoder, device
            As for `create`; a library that has a model keeps it.

        Returns
        -------
        The open library.

        Raises
        ------
        LibraryTooNew, LibraryCorrupt, UnknownModel, ModelUnavailable
        """
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

        Returns
        -------
        The open library.

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

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Close the library; an error that comes of a damaged catalog becomes LibraryCorrupt."""
        try:
            if (
                isinstance(error, Exception)
                and (damage := self._session.catalog.explain(error)) is not error
            ):
                raise damage from error
        finally:
            self.close()

    # --- models ----------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The library's folder; of one in PostgreSQL, that of what this machine derives from it."""
        return self._session.path

    @property
    def name(self) -> str:
        """The library's folder or address, as messages name it."""
        return self._session.catalog.name

    @property
    def encoder(self) -> Encoder:
        """The current model, loaded on first use. Raises ModelMismatch or ModelUnavailable."""
        return self._session.encoder

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the current model; its weights are not loaded for it."""
        return self._session.tokenizer

    def models(self) -> list[ModelInfo]:
        """Return the models that the library has vectors of, the current one first.

        Returns
        -------
        Their names and properties.
        """
        return self._session.models()

    def use(self, name: str) -> ModelInfo:
        """Make another of the library's models the current one.

        Parameters
        ----------
        name
            Its name, or that of a preset.

        Returns
        -------
        Its entry in the catalog.

        Raises
        ------
        UnknownModel
        """
        return self._session.use(name)

    def for_model(self, name: str) -> Self:
        """Return this library with another of its models as the current one.

        Parameters
        ----------
        name
            As for `use`.

        Returns
        -------
        A library that shares the catalog with this one, which closes it.

        Raises
        ------
        UnknownModel
        """
        return type(self)(self._session.for_model(name))

    def tokens(self, texts: str | Sequence[str]) -> list[parts.TokenTable]:
        """Return the tokens that the current model reads of a text, or of each of several.

        Parameters
        ----------
        texts
            A text, or several.

        Returns
        -------
        A table for each text.

        Examples
        --------
        >>> [table] = library.tokens("a blue horse")
        >>> table.count, table.left
        (5, 72)
        """
        tokenizer, name = self.tokenizer, self._session.info.name
        given = as_texts(texts, "texts")
        return [parts.TokenTable.of(text, tokenizer, name) for text in given]

    # --- calibration -----------------------------------------------------------------------

    def calibration(self, head: parts.Head | None = None) -> parts.Calibration:
        """Return the calibration in use for a head.

        Parameters
        ----------
        head
            A head; by default the model.

        Returns
        -------
        The head's own, else the model's, else the one that comes with clipsearch.
        """
        return parts.label_scores.calibration_of(self._session, head)

    def reset_calibration(self, head: parts.Head | None = None) -> bool:
        """Drop what `calibrate` stored.

        Parameters
        ----------
        head
            For this head; by default for the model.

        Returns
        -------
        Whether there was any.
        """
        return parts.label_scores.drop_calibration(self._session, head)

    def calibration_hint(self, head: parts.Head | None = None) -> str:
        """Return, the first time, that probabilities rest on assumed constants, and what to do.

        Parameters
        ----------
        head
            As for `calibration`.

        Returns
        -------
        A text for people. Empty for a calibration that is shipped or fitted, for a library without
        images, where it was returned before, and where that cannot be noted: a library that cannot
        be written to could not be calibrated either.
        """
        catalog, info = self._session.catalog, self._session.info
        key = f"calibration-hint:{info.fingerprint}"
        if self.calibration(head).source != "assumed" or catalog.get_meta(key):
            return ""
        try:
            if len(self._session.live().ids):
                catalog.set_meta(key, "given")
                return _HINT.format(model=info.name)
        except LibraryError:  # read-only, or another process is writing
            pass
        return ""
