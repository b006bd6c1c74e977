"""What queries and classifications return."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar, overload

from clipsearch._util.presenting import presenter
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

    def _repr_html_(self) -> str:
        return presenter().html(self)
