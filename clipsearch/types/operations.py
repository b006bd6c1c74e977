"""The options and results of indexing, checking and classifying.

A search needs none of them: `clipsearch.types` imports them on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from clipsearch.errors import QueryError
from clipsearch.types.facts import ImageRecord
from clipsearch.types.options import (
    ALL_IMAGES,
    HOLDS_FROM,
    NONE,
    Mode,
    Selection,
    Thresholds,
    check_choice,
    check_count,
    check_number,
)

# --- indexing and checking ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """What an indexing run reads, and how."""

    exclude: tuple[str, ...] = ()
    """Patterns, as in .gitignore, of files and folders to leave out."""
    hidden: bool = False
    """Read hidden files and folders too."""
    dry_run: bool = False
    """Count what would be done, and write nothing."""
    retry_failed: bool = False
    """Try unchanged files again that failed before."""
    fast: bool = False
    """Decode JPEG files with as much detail as the model sees, not with twice as much."""
    engine: str = "auto"
    """As for `load_encoder`."""
    precision: str = "auto"
    """As for `load_encoder`."""
    batch_size: int = 32
    """Images in a batch of the encoder, and in a commit."""
    workers: int | None = None
    """Threads that read, and encode where that is best; None for one per core."""
    memory: int | None = None
    """Megabytes for the files and images that are read at the same time; larger ones are refused.
    None for 640, and 64 more for each thread above two."""
    default_ignores: bool = True
    """Leave out the folders that systems and other programs keep for themselves."""

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        check_count("workers", self.workers, optional="one per core")
        check_count("memory", self.memory, optional="640 MB with two threads")


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be indexed, and why."""

    path: str
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the failure as JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MovedFolder:
    """A folder that was moved, or seems to have been: its images are at the same places in another."""

    old: str
    new: str
    files: int
    """How many images the library knows in the old folder."""
    there: int
    """How many of them are in the new one."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)


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
    notes: tuple[Failure, ...] = ()
    """Images that were indexed though they are damaged, or their decoder complained."""
    warnings: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    """Kind -> number of files that were not read: raw, video, unsupported; system: of folders."""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """An image in a folder that `place_images` put it into."""

    source: str
    target: str
    new: bool
    """Whether the run put it there; False for what was there before."""


@dataclass(frozen=True, slots=True)
class PlacementReport:
    """What one run of `place_images` did, or would do."""

    files: tuple[PlacedFile, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)
    """UNCERTAIN and NONE -> number of predictions that were left out because of it."""
    failures: tuple[Failure, ...] = ()
    dry_run: bool = False
    folders: dict[str, str] = field(default_factory=dict)
    """Label -> name of its folder, for labels that no folder can be named by on every system, or
    that differ from another one in case alone."""

    @property
    def added(self) -> int:
        """The number of new files."""
        return sum(file.new for file in self.files)

    @property
    def unchanged(self) -> int:
        """The number of files that were there before."""
        return len(self.files) - self.added

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {"added": self.added, "unchanged": self.unchanged, **asdict(self)}


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
    """Kind of the newest snapshot; of its largest segment, if it has several."""
    indexed: int
    """Vectors in the newest snapshot; the rest is searched from the catalog (the tail)."""
    tail: int
    stale: int
    last_scan: datetime | None = None
    index_bytes: int = 0
    """On disk, of the newest snapshot."""
    index_memory: int = 0
    """Bytes that it holds in memory while the library is open, without mapped files."""
    index_recall: float | None = None
    """Share of the ten nearest that it finds, as measured when it was made."""
    index_queries: str = ""
    """What it was tuned with: "texts" of the model, "simulated" ones, "both"; empty if it is exact."""
    index_texts: int = 0
    """How many texts of the model it was tuned with."""
    index_tuned: dict[str, int] = field(default_factory=dict)
    """What tuning chose: `depth` (vectors compared in full), `probes` of `cells`."""
    index_requested: dict[str, str | float] = field(default_factory=dict)
    """The `kind` and `recall` that `rebuild` was told, and that are kept."""

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON types."""
        out = asdict(self)
        out["last_scan"] = self.last_scan.isoformat() if self.last_scan else None
        return out


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `Library.check` found wrong."""

    kind: str
    """A stable word: `catalog-damaged`, `snapshot-damaged`, `vector-damaged`, `file-missing`, ..."""
    message: str
    remedy: str
    repaired: bool = False

    @property
    def is_damage(self) -> bool:
        """Whether something is damaged: not so for files that are gone until `index` runs."""
        return self.kind != "file-missing"

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as JSON types."""
        return asdict(self)


# --- calibrating -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """Whether a label holds for an image, as somebody judged it."""

    path: str
    label: str
    holds: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LabelQuestion:
    """A pair of an image and a label that is worth judging, to calibrate probabilities."""

    path: str
    label: str
    probability: float
    """How likely it is now that the label holds, given how many images of the library show it."""

    def answer(self, holds: bool) -> LabelAnswer:
        """Return an answer to the question."""
        return LabelAnswer(self.path, self.label, holds)

    def to_dict(self) -> dict[str, Any]:
        """Return the question as JSON types."""
        return asdict(self)


# --- classifying -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClassifyOptions:
    """How labels are judged, of which images, and which predictions are returned."""

    selection: Selection = ALL_IMAGES
    mode: Mode = "open"
    """`open`: one label or none; `multi`: each label by itself; `closed`: one label always."""
    threshold: Thresholds = HOLDS_FROM
    """In the mode `multi`: the probability from which a label holds."""
    top: int | None = None
    """The largest number of labels for an image; None keeps all."""
    min_probability: float | None = None
    """Return only images with a label that holds, and at no less than this."""
    inductive: bool = False
    """Judge each image by itself: not by how it compares with the images of the library, and not by
    what these show of the labels."""

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, ("open", "multi", "closed"))
        check_count("top", self.top, optional="all labels")
        check_number("min_probability", self.min_probability, 0, 1)
        given = self.threshold
        for value in given.values() if isinstance(given, Mapping) else [given]:
            if value is None:
                raise QueryError("threshold is a probability from 0 to 1, not None.")
            check_number("threshold", value, 0, 1)


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label of a prediction."""

    label: str
    probability: float
    score: float


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
    def certain(self) -> tuple[LabelScore, ...]:
        """The labels that hold and are at least as likely as not.

        In the mode `multi` all that hold: their thresholds decide.
        """
        held = self.holding
        return held if self.mode == "multi" or not held or held[0].probability >= 0.5 else ()

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
            "labels": [{n: getattr(one, n) for n in LabelScore.__slots__} for one in self.labels],
        }
