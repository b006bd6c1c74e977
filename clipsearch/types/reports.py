"""What an indexing run did, and what a library holds: imported on use, a query needs neither."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from clipsearch.types.results import Failure


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
