"""What searches return, and what long runs tell while they run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, overload

from clipsearch._util import LazyModule, presenter
from clipsearch.types.facts import ImageRecord

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import polars

    from clipsearch.types.operations import Prediction
else:
    np = LazyModule("numpy")

FrameEngine: TypeAlias = Literal["pandas", "polars"]
"""The packages whose frames results can become."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One image found: its record and its score (float32 cosine, higher is better)."""

    path: str
    score: float
    record: ImageRecord | None = None
    """None for an image that is not in a library."""
    relevance: float | None = None
    """How likely it is that the image is what was asked for; None where that was not judged."""
    part: int = 0
    """The part of the image that is nearest: 0 is the whole, else a frame, a page or a crop."""
    at: str | None = None
    """Which part that is: seconds, a page or a box."""

    def to_dict(self) -> dict[str, Any]:
        """Return `{"path", "score", "relevance", ...facts}`: the JSON contract of `query`.

        A hit that is a part of its image has `part` and `at` too.
        """
        return {
            "path": self.path,
            "score": self.score,
            "relevance": self.relevance,
            **({"part": self.part, "at": self.at} if self.part else {}),
            **(
                {k: v for k, v in self.record.to_dict().items() if k != "path"}
                if self.record
                else {}
            ),
        }


Item_co = TypeVar("Item_co", bound="Hit | Prediction", covariant=True)


@dataclass(frozen=True)
class Results(Sequence[Item_co], Generic[Item_co]):
    """A list of hits or predictions; a notebook shows it as a contact sheet."""

    items: tuple[Item_co, ...]
    title: str = ""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    relevant: int | None = None
    """Of a search: how many of all images searched are relevant; None where that is not known."""
    searched: int | None = None
    """Of a search: how many images passed the filters."""
    kind: Literal["hits", "predictions"] | None = field(default=None, compare=False)
    """What the items are, also where there are none; None: what the first one is."""
    estimated: bool = False
    """Whether `relevant` is an estimate, as in a library of very many images."""
    labels: tuple[str, ...] = field(default=(), compare=False)
    """Of predictions: all labels that there were to choose from."""

    @overload
    def __getitem__(self, index: int) -> Item_co: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Item_co, ...]: ...
    def __getitem__(self, index: int | slice) -> Item_co | tuple[Item_co, ...]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def with_warnings(self, messages: Sequence[str]) -> Results[Item_co]:
        """Return the same results with more warnings, before their own."""
        return replace(self, warnings=(*messages, *self.warnings)) if messages else self

    def __iter__(self) -> Iterator[Item_co]:
        return iter(self.items)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        urls: tuple[str, str] | None = None,
    ) -> None:
        """Write the results to a file, in the format of its suffix, or to a folder.

        Parameters
        ----------
        path
            A file that ends in `.csv`, `.json`, `.jsonl`, `.html`, `.parquet`, `.npz`, `.geojson`
            or `.txt`; one that exists is replaced. The folder of `format` must be new or empty.
        format
            The name of another format: of predictions also `fiftyone` and `label-studio`, folders.
        urls
            Of `label-studio`: a folder, and the URL under which the images in it are served. By
            default Label Studio serves all files of this machine.

        Raises
        ------
        BadOutputFile
            Results have no format of this suffix; then nothing is written.
        QueryError
            They have none of this name.
        CannotPlace
            The folder is not empty.

        Examples
        --------
        >>> library.search("a blue horse").save("horses.csv")
        """
        presenter().save(self, path, format=format, title=self.title, urls=urls)

    @overload
    def to_frame(self, engine: Literal["pandas"] = "pandas") -> pandas.DataFrame: ...
    @overload
    def to_frame(self, engine: Literal["polars"]) -> polars.DataFrame: ...
    def to_frame(self, engine: FrameEngine = "pandas") -> Any:
        """Return the results as a frame, one row each, in the columns of a saved `.parquet`.

        Parameters
        ----------
        engine
            `pandas`, or `polars`.

        Returns
        -------
        pandas.DataFrame or polars.DataFrame
            Integers, floats, texts and lists of texts; `taken_at` as a time without a zone, empty
            where less than a whole date is known, and as text in `taken_text`. Without results the
            columns are the same.

        Raises
        ------
        MissingDependency
            The package is not installed.
        QueryError
            There is no engine of this name.

        Examples
        --------
        >>> library.search("a blue horse").to_frame()[["path", "relevance"]].head()
        """
        return presenter().frame(self, engine)

    def _repr_html_(self) -> str:
        return presenter().html(self)


# --- images of a library ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Images and their unit vectors, float32 (n, dim), row for row."""

    records: tuple[ImageRecord, ...]
    vectors: np.ndarray
    ids: np.ndarray | None = None
    """Ids of the vectors in the library, int64 (n,), in pages of it; None where they are not known."""

    def __len__(self) -> int:
        return len(self.records)


class ImagePages:
    """Images of a library, read in pages while they are iterated over, and again each time.

    Parameters
    ----------
    read
        Begins to read: returns pages of images, all or none of them with vectors.
    vectors
        Whether they have them.
    """

    def __init__(
        self,
        read: Callable[[], Iterator[Sequence[ImageRecord] | Embeddings]],
        *,
        vectors: bool = False,
    ) -> None:
        self.read = read
        self.vectors = vectors

    def __iter__(self) -> Iterator[ImageRecord]:
        for page in self.read():
            yield from page.records if isinstance(page, Embeddings) else page

    @overload
    def to_frame(self, engine: Literal["pandas"] = "pandas") -> pandas.DataFrame: ...
    @overload
    def to_frame(self, engine: Literal["polars"]) -> polars.DataFrame: ...
    def to_frame(self, engine: FrameEngine = "pandas") -> Any:
        """Return all images as a frame, as `Results.to_frame`, their vectors in a column `vector`.

        Parameters
        ----------
        engine
            `pandas`, or `polars`.

        Returns
        -------
        pandas.DataFrame or polars.DataFrame
            One row per image; a vector is float32 (dim,).

        Raises
        ------
        MissingDependency, QueryError
            As of `Results.to_frame`.
        """
        return presenter().frame(self, engine)


# --- runs and models -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long run is. `total` is None until it is known."""

    phase: str
    """`scan`, `embed`, `publish`, `hash`, ..."""
    done: int
    total: int | None
    path: str | None = None


OnProgress: TypeAlias = Callable[[Progress], None]
"""Is called with the progress of a long run, in the thread that started it."""
OnWarning: TypeAlias = Callable[[str], None]
"""Is called with what the user should know and no error is raised for."""


def ignore_progress(progress: Progress) -> None:
    """Do nothing: the `OnProgress` of a caller who does not watch."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model as a library stores it. `logit_bias` is None for models without one (CLIP)."""

    name: str
    dim: int
    logit_scale: float
    logit_bias: float | None
    fingerprint: str
    spec: str = ""
    """What `load_encoder` needs to load it again: a preset, NAME/TAG, hf-hub:..., local-dir:..., JSON."""
