"""Say what a library holds, and look for damage."""

from __future__ import annotations

import os

from clipsearch.library.base import Opened
from clipsearch.snapshot import Snapshots
from clipsearch.sql import FORMAT
from clipsearch.types import Failure, Finding, Status


class Care(Opened):
    """Status, check, and the files that failed."""

    def status(self) -> Status:
        """Say what the library holds."""
        current = self._catalog.current_model()
        counts = self._catalog.status_counts()
        kind, tail, stale, indexed = None, 0, 0, 0
        if current is not None:
            snapshots = Snapshots(self.path, self._catalog, current[0])
            kind = next((row.kind for row in snapshots.rows()), None)
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
            index_kind=kind,
            indexed=indexed,
            tail=tail,
            stale=stale,
            last_scan=self._catalog.last_scan(),
        )

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
