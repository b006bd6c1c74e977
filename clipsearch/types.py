"""The values that clipsearch hands around and returns: frozen, plain, without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True)
class Facts:
    """What an image says of itself: pixel size as shown (EXIF orientation applied) and EXIF facts."""

    width: int
    height: int
    format: str
    """Pillow's name of the format: JPEG, PNG, HEIF, ..."""
    taken_at: datetime | None = None
    """Local wall-clock time of the camera, without a zone."""
    camera: str | None = None
    lens: str | None = None
    lat: float | None = None
    """Degrees, north positive."""
    lon: float | None = None
    """Degrees, east positive."""


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What the catalog knows of one image file."""

    path: str
    content_id: int
    sha256: str
    bytes: int
    facts: Facts
    labels: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON types, flat; times in ISO 8601."""
        facts = asdict(self.facts)
        taken = facts.pop("taken_at")
        return {
            "path": self.path,
            "bytes": self.bytes,
            "sha256": self.sha256,
            **facts,
            "taken_at": taken.isoformat() if taken else None,
            "labels": list(self.labels),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Images and their unit vectors, float32 (n, dim), row for row."""

    records: tuple[ImageRecord, ...]
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a query: a text, or the path of an image, and how much it counts.

    A negative weight asks for the opposite. `clipsearch.heads.query` reads terms from text.
    """

    kind: Literal["text", "image"]
    value: str
    weight: float = 1.0

    @classmethod
    def text(cls, value: str, weight: float = 1.0) -> Term:
        """Make a term of words."""
        return cls("text", value, weight)

    @classmethod
    def image(cls, path: str, weight: float = 1.0) -> Term:
        """Make a term of an image file."""
        return cls("image", path, weight)


Prompt = str | Term
"""What a label is described with: a text, or a term that is an image or has a weight."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One image found: its record and its score (float32 cosine, higher is better)."""

    path: str
    score: float
    record: ImageRecord | None = None
    """None for an image that is not in a library."""
    relevance: float | None = None
    """How likely it is that the image is what was asked for; None where that was not judged."""

    def to_dict(self) -> dict[str, Any]:
        """Return `{"path", "score", "relevance", ...facts}`: the JSON contract of `query`."""
        return {
            "path": self.path,
            "score": self.score,
            "relevance": self.relevance,
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


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What one run of `Library.index` did, in files (`embedded`: in images encoded)."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    renamed: int = 0
    removed: int = 0
    failed: int = 0
    embedded: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    interrupted: bool = False
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


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


@dataclass(frozen=True, slots=True)
class Status:
    """What a library holds."""

    path: str
    format: int
    model: str | None
    models: dict[str, int]
    """Model name -> number of vectors."""
    files: int
    contents: int
    failed: int
    bytes_on_disk: int
    roots: tuple[str, ...]
    labels: dict[str, int]
    """Saved label -> number of images."""
    index_kind: str | None
    """Kind of the newest snapshot."""
    indexed: int
    """Vectors in the newest snapshot; the rest is searched from the catalog (the tail)."""
    tail: int
    stale: int
    last_scan: datetime | None = None
    index_bytes: int = 0
    """On disk, of the newest snapshot."""
    index_memory: int = 0
    """Bytes that it holds in memory while the library is open, without what is mapped."""
    index_recall: float | None = None
    """Share of the ten nearest that it finds, as measured when it was made."""
    index_queries: str = ""
    """What that was measured with: "texts" or "simulated"; empty for a kind that is exact."""
    index_tuned: dict[str, int] = field(default_factory=dict)
    """What tuning chose: `depth` (vectors compared in full), `probes` of `cells`."""

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON types."""
        out = asdict(self)
        out["last_scan"] = self.last_scan.isoformat() if self.last_scan else None
        return out


@dataclass(frozen=True)
class Results(Sequence[Any]):
    """A list of hits or predictions that shows itself as a contact sheet in a notebook."""

    items: tuple[Any, ...]
    title: str = ""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    relevant: int | None = None
    """Of a search: how many of all images searched are relevant; None where it was not counted."""
    searched: int | None = None
    """Of a search: how many images passed the filters."""

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def _repr_html_(self) -> str:
        from clipsearch.output.html import contact_sheet

        return contact_sheet(self, title=self.title)
