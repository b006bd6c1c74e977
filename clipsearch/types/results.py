"""What queries, classifications and checks return, and what long runs tell while they run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, Literal, TypeAlias, TypeVar, overload

from clipsearch._util import presenter
from clipsearch.types.facts import ImageRecord


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


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label of a prediction."""

    label: str
    probability: float
    score: float


NONE = "none of these"
"""What a prediction says where no label holds. It is never saved as a label."""


Mode = Literal["open", "multi", "closed"]
"""How labels are judged: one of them or none; each by itself; one of them in any case."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The labels of one image, best first, and whether any of them holds."""

    path: str
    labels: tuple[LabelScore, ...]
    """All labels, as far as they were kept; in the mode `multi` only those that hold."""
    record: ImageRecord | None = None
    none: float | None = None
    """How likely it is that no label holds; None in the mode `closed`, which does not ask."""
    mode: Mode = "closed"

    @property
    def holding(self) -> tuple[LabelScore, ...]:
        """The labels that hold, best first; empty for none of these.

        In the mode `open` it is the best one, unless "none" is more likely than all together.
        """
        if self.mode == "multi":
            return self.labels
        return () if self.none is not None and self.none > 0.5 else self.labels[:1]

    @property
    def label(self) -> str:
        """The best label that holds, or NONE."""
        return self.holding[0].label if self.holding else NONE

    @property
    def probability(self) -> float:
        """The probability of what `label` says."""
        return self.holding[0].probability if self.holding else self.none or 0.0

    @property
    def score(self) -> float | None:
        """The cosine of the best label that holds; None for none of these, which has no vector."""
        return self.holding[0].score if self.holding else None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON contract of `clipsearch classify`."""
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "score": self.score,
            "none": self.none,
            "labels": [asdict(label) for label in self.labels],
        }


Item_co = TypeVar("Item_co", bound="Hit | Prediction", covariant=True)


@dataclass(frozen=True)
class Results(Sequence[Item_co], Generic[Item_co]):
    """A list of hits or predictions; a notebook shows it as a contact sheet."""

    items: tuple[Item_co, ...]
    title: str = ""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    relevant: int | None = None
    """Of a search: how many of all images searched are relevant; None where it was not counted."""
    searched: int | None = None
    """Of a search: how many images passed the filters."""
    kind: Literal["hits", "predictions"] | None = field(default=None, compare=False)
    """What the items are, also where there are none; None: what the first one is."""

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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the results to a file, in the format of its suffix.

        Parameters
        ----------
        path
            A file that ends in `.csv`, `.json`, `.jsonl`, `.html`, `.parquet`, `.npz`, `.geojson` or
            `.txt`; one that exists is replaced.

        Raises
        ------
        BadOutputFile
            Results have no format of this suffix; then nothing is written.

        Examples
        --------
        >>> library.search("a blue horse").save("horses.csv")
        """
        presenter().save(self, path, title=self.title)

    def _repr_html_(self) -> str:
        return presenter().html(self)


# --- runs, checks and models -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be indexed, and why."""

    path: str
    reason: str


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
class Finding:
    """One thing that `Library.check` found wrong."""

    kind: str
    """A stable word: `catalog-damaged`, `snapshot-damaged`, `vector-damaged`, `file-missing`, ..."""
    message: str
    remedy: str
    repaired: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON types."""
        return asdict(self)


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
