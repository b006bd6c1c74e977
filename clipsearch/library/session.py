"""The state of an open library: catalog, current model, encoder, searcher, caches, writer lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from clipsearch._util import LazyModule, in_shell, log_fault, report_first_step
from clipsearch._util.arrays import FloatArray, IdArray
from clipsearch.calibration.background import Background, StoredLogMeanExps
from clipsearch.calibration.image_cohort import ImageCohort
from clipsearch.catalog import Catalog
from clipsearch.encoders import Encoder, Tokenizer, load_encoder, load_tokenizer
from clipsearch.encoders.registry import resolve
from clipsearch.errors import (
    EncoderError,
    LibraryError,
    ModelMismatch,
    UnknownModel,
    VectorIndexError,
)
from clipsearch.text.encode import ProgressReader
from clipsearch.types import (
    ModelInfo,
    OnProgress,
    OnWarning,
    Selection,
    Where,
    ignore_progress,
)
from clipsearch.vectors.live import LiveVectors
from clipsearch.vectors.searcher import Searcher
from clipsearch.vectors.snapshots import Snapshots

if TYPE_CHECKING:
    from clipsearch.library import locks
else:  # who only asks holds nothing
    locks = LazyModule("clipsearch.library.locks")

Filter: TypeAlias = str | Where
"""A where-clause, as text or parsed."""

DEFAULT_MODEL = "default"


@dataclass(slots=True)
class Caches:
    """What an open library keeps in memory, by fingerprint or id of a model; all sessions share it."""

    backgrounds: dict[str, Background] = field(default_factory=dict)
    log_mean_exps: dict[str, StoredLogMeanExps] = field(default_factory=dict)
    live: dict[int, LiveVectors] = field(default_factory=dict)
    searchers: dict[int, Searcher] = field(default_factory=dict)
    cohorts: dict[int, tuple[int, ImageCohort]] = field(default_factory=dict)
    """Each with the revision of the catalog that it was made of."""
    selections: dict[Any, tuple[IdArray, IdArray]] = field(default_factory=dict)
    """The last filters, each with the ids of the vectors that pass and the files of each."""
    catalog_keys: dict[str, str] = field(default_factory=dict)
    """What names this catalog beside the log-mean-exps of its images; it never changes."""
    uncounted: int = 0
    """Searches in a row whose estimates did not tell the relevant images."""


class Session:
    """An open library. Every operation of `Library` is a function over a session.

    Parameters
    ----------
    catalog
        The open catalog; `open_session` and `create_session` are the usual ways in.
    encoder
        The encoder to use; by default the library's model is loaded when it is first needed.
    device
        What models run on, as for `load_encoder`; None for its default.
    """

    def __init__(
        self, catalog: Catalog, *, encoder: Encoder | None = None, device: str | None = None
    ) -> None:
        self.catalog = catalog
        self.device = device
        self.caches = Caches()
        self.on_progress: OnProgress = report_first_step
        self._encoder = encoder
        self._fixed: tuple[int, ModelInfo] | None = None
        self._parent: Session | None = None

    @property
    def path(self) -> Path:
        """The folder of all that is derived from the catalog: the library's, where it has one."""
        return self.catalog.folder

    def close(self) -> None:
        """Close the catalog, which a session made by `for_model` only shares."""
        if self._fixed is None:
            self.catalog.close()

    # --- models ----------------------------------------------------------------------------

    def model(self) -> tuple[int, ModelInfo]:
        """Return the id of the current model in the catalog, and the model.

        Raises
        ------
        UnknownModel
            The library has no model yet.
        """
        current = self._fixed or self.catalog.current_model()
        if current is None:
            raise UnknownModel(
                "", hint="The library has no model yet: `clipsearch index` a folder."
            )
        return current

    def at_current_model(self) -> Session:
        """Return a session that keeps to the current model, and does not read it again for each step."""
        if self._fixed is not None:
            return self
        view = Session(self.catalog, encoder=self._encoder, device=self.device)
        view.caches, view.on_progress = self.caches, self.on_progress
        view._fixed, view._parent = self.model(), self
        return view

    @property
    def info(self) -> ModelInfo:
        """The current model."""
        return self.model()[1]

    @property
    def encoder(self) -> Encoder:
        """The encoder of the current model, loaded on first use.

        Raises
        ------
        ModelMismatch
            The weights are not those that the library was made with.
        ModelUnavailable
            The weights are not on this machine and cannot be fetched.
        """
        info = self.info
        if self._parent is not None and self._parent.info.fingerprint == info.fingerprint:
            return self._parent.encoder  # which keeps what it loads
        if self._encoder is None or self._encoder.info.fingerprint != info.fingerprint:
            self._encoder = load_stored(info, self.load)
        return self._encoder

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the current model; its weights are not loaded for it."""
        info = self.info
        if self._encoder is not None and self._encoder.info.fingerprint == info.fingerprint:
            return self._encoder.tokenizer
        return load_tokenizer(info.spec or info.name)

    def load(self, name: str) -> Encoder:
        """Load a model on this session's device."""
        return load_model(name, self.device)

    def models(self) -> list[ModelInfo]:
        """Return the models that the library has vectors of, the current one first."""
        current, _ = self.model()
        stored = self.catalog.models()
        return [stored[current], *(info for number, info in stored.items() if number != current)]

    def use(self, name: str) -> ModelInfo:
        """Make another of the library's models the current one, and return it."""
        self.catalog.use_model(self._find_stored_name(name) or name)
        return self.info

    def for_model(self, name: str, encoder: Encoder | None = None) -> Session:
        """Return a session of another model that shares the catalog and the caches.

        Parameters
        ----------
        name
            Of the model.
        encoder
            Of the model, where it is loaded already.

        Raises
        ------
        UnknownModel
            The library has no vectors of this model.
        """
        stored = self._find_stored_name(name)
        models = self.catalog.models()
        view = Session(self.catalog, encoder=encoder or self._encoder, device=self.device)
        view.caches, view.on_progress = self.caches, self.on_progress
        view._fixed = next(((n, info) for n, info in models.items() if info.name == stored), None)
        if view._fixed is None:
            held = ", ".join(info.name for info in models.values())
            raise UnknownModel(
                name,
                hint=f"This library has vectors of {held}: add those of another with "
                f"`clipsearch index FOLDER -L {in_shell(self.catalog.name)} --model MODEL`.",
            )
        return view

    def add_model(self, name: str | None) -> tuple[int, Callable[[], Encoder]]:
        """Return the id of a model and how to get its encoder; a new model is loaded and stored.

        Parameters
        ----------
        name
            As for `load_encoder`; None for the current model.
        """
        current, info = self.model()
        stored = info.name if name is None else self._find_stored_name(name)
        if stored == info.name:
            return current, lambda: self.encoder
        for number, other in self.catalog.models().items():
            if other.name == stored:
                return number, partial(load_stored, other, self.load)
        encoder = self.load(name or DEFAULT_MODEL)
        return self.catalog.add_model(encoder.info), lambda: encoder

    def ensure_model(self, name: str | None) -> None:
        """Store a model in a library that has none: its making was interrupted."""
        if self.catalog.current_model() is None:
            self._encoder = self._encoder or self.load(name or DEFAULT_MODEL)
            self.catalog.add_model(self._encoder.info)

    def _find_stored_name(self, name: str) -> str | None:
        """Return the name under which a model is stored; None if it is not."""
        names = {info.name for info in self.catalog.models().values()}
        known = isinstance(name, str) and name in names
        return name if known else next(iter({resolve(name).name} & names), None)

    # --- the searcher ----------------------------------------------------------------------

    def searcher(self) -> Searcher:
        """Return the open vectors of the current model."""
        model_id, _ = self.model()
        if model_id not in self.caches.searchers:
            if self.catalog.shared:
                self._catch_up(model_id)
            opened = Snapshots(self.path, self.catalog, model_id).open()
            self.caches.searchers[model_id] = opened
        return self.caches.searchers[model_id]

    def _catch_up(self, model_id: int) -> None:
        """Write a snapshot here, if others have added too much to read it with each search."""
        snapshots = self.snapshots(model_id)
        if not snapshots.needs_publish():
            return
        try:
            with locks.hold_folder(self.path, self.catalog.name):
                snapshots.publish()
        except (LibraryError, VectorIndexError) as error:  # all is found without it, too
            log_fault(f"could not write a snapshot; searching is slower until then: {error}")

    def live(self) -> LiveVectors:
        """Return which vectors of the current model have files now."""
        model_id, _ = self.model()
        known = self.caches.live.get(model_id)
        if known is None or not known.revision or known.revision != self.catalog.revision():
            self.catalog.confirm()
            known = self.caches.live[model_id] = LiveVectors.load(self.path, self.catalog, model_id)
        return known

    def background(self) -> Background:
        """Return the background of the current model; encoded the first time, then stored."""
        info, kept = self.info, self.caches.backgrounds
        if info.fingerprint not in kept:
            kept[info.fingerprint] = Background.open(self.path, info, self._encode_captions)
        return kept[info.fingerprint]

    def _encode_captions(self, captions: Sequence[str]) -> FloatArray:
        reader = ProgressReader(self.encoder, "captions", self.on_progress)
        return reader.encode_texts(captions)

    @contextmanager
    def telling(self, on_progress: OnProgress) -> Iterator[None]:
        """Tell the `on_progress` of an operation of first steps of a model meanwhile."""
        before = self.on_progress
        if on_progress is not ignore_progress:
            self.on_progress = on_progress
        try:
            yield
        finally:
            self.on_progress = before

    def snapshots(
        self,
        model_id: int,
        *,
        kind: str | None = None,
        recall: float | None = None,
        on_fault: OnWarning = log_fault,
    ) -> Snapshots:
        """Return a model's snapshots, which tune themselves with the texts of the background."""
        name = self.catalog.models()[model_id].name

        def texts() -> FloatArray | None:
            try:
                return self.for_model(name).background().vectors
            except EncoderError:  # the model is not at hand: simulated texts are used
                return None

        wanted: dict[str, Any] = {
            "kind": kind,
            "recall": recall,
            "queries": texts,
            "on_fault": on_fault,
        }
        return Snapshots(self.path, self.catalog, model_id, **wanted)

    def write_lock(self) -> AbstractContextManager[None]:
        """Hold the library against others that index, where these do not share. Raises LibraryLocked."""
        return (
            nullcontext()
            if self.catalog.shared
            else locks.hold_folder(self.path, self.catalog.name)
        )


# --- models -------------------------------------------------------------------------------


def load_model(name: str, device: str | None) -> Encoder:
    """Load a model on a device; None for the default of `load_encoder`."""
    return load_encoder(name) if device is None else load_encoder(name, device=device)


def load_stored(info: ModelInfo, load: Callable[[str], Encoder]) -> Encoder:
    """Load a library's model. Raises ModelMismatch if its weights are others than they were."""
    encoder = load(info.spec or info.name)
    if encoder.info.fingerprint != info.fingerprint:
        raise ModelMismatch(
            f"the weights of {info.name} are not those that the library was made with: their "
            "vectors do not mix. Index again into a new library (-L), or bring the weights back."
        )
    return encoder


# --- small things that all parts use ---------------------------------------------------------


def filters_of(selection: Selection) -> dict[str, Any]:
    """Return a selection as the keyword arguments of the catalog's methods."""
    return {"where": selection.where, "under": selection.under}


def ignore(message: str) -> None:
    """Take a message that is of no use to the user."""
