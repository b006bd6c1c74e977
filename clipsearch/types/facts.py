"""Facts of images, and images with their vectors."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from clipsearch._util import LazyModule

if TYPE_CHECKING:
    import numpy as np
else:
    np = LazyModule("numpy")


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
