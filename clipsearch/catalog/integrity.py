"""Whether the pages, indexes and references of `catalog.db` are sound, and what can be mended."""

from __future__ import annotations

from clipsearch.catalog.engine import Connection, column
from clipsearch.types import Finding

BEYOND_REPAIR = (
    "Put a backup of catalog.db in its place, or move it away and index again: "
    "the images themselves are not touched."
)
_MEND = "`clipsearch check --repair` mends it."


def check_pages(connection: Connection, *, repair: bool) -> list[Finding]:
    """Have SQLite check every page and index; repair makes the indexes anew, as their rows are."""
    problems = _integrity(connection)
    if not problems:
        return []
    only_indexes = all(" index " in problem for problem in problems)
    if repair and only_indexes:
        connection.execute("REINDEX")
    mended = repair and only_indexes and not _integrity(connection)
    message = f"SQLite found {len(problems)} problems in the catalog: {'; '.join(problems[:3])}"
    remedy = _MEND if only_indexes else BEYOND_REPAIR
    return [Finding("catalog-damaged", message, remedy, repaired=mended)]


def check_references(connection: Connection, *, repair: bool) -> list[Finding]:
    """Find rows that point at rows which are not there; repair deletes them."""
    found: dict[tuple[str, str], list[int]] = {}
    for table, row_id, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        found.setdefault((table, parent), []).append(row_id)
    if repair:
        for (table, _parent), row_ids in found.items():
            connection.executemany(
                f"DELETE FROM {table} WHERE rowid = ?", [(row_id,) for row_id in row_ids]
            )
    return [
        Finding(
            "reference-broken",
            f"{len(row_ids)} rows of `{table}` point at rows of `{parent}` that are not there",
            f"{_MEND} Then index again.",
            repaired=repair,
        )
        for (table, parent), row_ids in found.items()
    ]


def _integrity(connection: Connection) -> list[str]:
    problems = column(connection.execute("PRAGMA integrity_check"))
    return [problem for problem in problems if problem != "ok"]
