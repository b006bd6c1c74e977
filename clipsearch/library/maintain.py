"""Say what a library holds, look for damage, and make its vector index anew."""

from __future__ import annotations

import os

from clipsearch.catalog.engine import FORMAT
from clipsearch.errors import VectorIndexError
from clipsearch.library.judging import Judging
from clipsearch.types import Failure, Finding, Status
from clipsearch.vectors.snapshots import Snapshots


class Care(Judging):
    """Status, check, and the files that failed."""

    def status(self) -> Status:
        """Say what the library holds."""
        current = self._catalog.current_model()
        counts = self._catalog.status_counts()
        newest, facts, tail, stale, indexed = None, None, 0, 0, 0
        if current is not None:
            snapshots = Snapshots(self.path, self._catalog, current[0])
            newest, facts = next(iter(snapshots.rows()), None), snapshots.facts()
            tail, stale, indexed = snapshots.drift()
        return Status(
            path=str(self.path),
            format=FORMAT,
            model=current[1].name if current else None,
            models=counts.vectors,
            files=counts.files,
            contents=counts.contents,
            failed=counts.failed,
            bytes_on_disk=sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file()),
            roots=self._catalog.roots(),
            labels=self._catalog.label_counts(),
            index_kind=newest.kind if newest else None,
            indexed=indexed,
            tail=tail,
            stale=stale,
            last_scan=self._catalog.last_scan(),
            index_bytes=newest.bytes if newest else 0,
            index_memory=facts.resident if facts else 0,
            index_recall=facts.recall if facts else None,
            index_queries=facts.queries if facts else "",
            index_tuned=facts.tuned if facts else {},
        )

    def rebuild(self, *, kind: str | None = None, recall: float | None = None) -> Status:
        """Write the vector index of every model anew from the catalog, and return the status.

        kind: `exact`, `compressed`, `ivf`, or `auto` by size. recall: the share of the ten nearest
        that a kind which approximates is to find for texts; it is tuned for that, and the status
        says what was reached. None of either keeps what was last asked for, at first `auto` and
        0.99. Raises UnknownVectorIndex, VectorIndexError, LibraryLocked.
        """
        if recall is not None and not 0 < recall < 1:
            raise VectorIndexError(f"recall is a share between 0 and 1, as 0.99: not {recall}.")
        with self._only_writer():
            for model_id in self._catalog.models():
                self._snapshots(model_id, kind=kind, recall=recall).publish()
        self._searcher = None
        return self.status()

    def check(self, *, repair: bool = False, deep: bool = True) -> list[Finding]:
        """Look for damage in the catalog and the snapshots, and for files that are not there.

        deep: compare whole snapshot files with their checksums. repair: put right what can be.
        """
        findings = self._catalog.check(repair=repair)
        for model_id in self._catalog.models():
            snapshots = Snapshots(self.path, self._catalog, model_id)
            findings += snapshots.check(deep=deep, repair=repair)
        self._searcher = None
        missing = [r.path for r in self._catalog.records() if not os.path.lexists(r.path)]
        if missing:
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            findings.append(
                Finding(
                    "file-missing",
                    f"{missing[0]}{more}: no longer there",
                    "Run `clipsearch index` on the folder, or `clipsearch remove` the path.",
                )
            )
        return findings

    def errors(self) -> list[Failure]:
        """Return the files that could not be indexed, and why."""
        return self._catalog.errors()
