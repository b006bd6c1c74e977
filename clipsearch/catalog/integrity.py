"""Check the pages, indexes and references of `catalog.db`, and repair them where possible."""

from __future__ import annotations

from clipsearch import types
from clipsearch.catalog.engine import Connection, column

BEYOND_REPAIR = (
    "Put a backup of catalog.db in its place, or move it away and index again: "
    "the images themselves are not touched."
)
_REPAIR = "`clipsearch check --repair` repairs it."


def check_pages(connection: Connection, *, repair: bool) -> list[types.Finding]:
    """Have SQLite check every page and index; repair rebuilds the indexes from their rows."""
    problems = _integrity(connection)
    if not problems:
        return []
    only_indexes = all(" index " in problem for problem in problems)
    if repair and only_indexes:
        connection.execute("REINDEX")
    repaired = repair and only_indexes and not _integrity(connection)
    message = f"SQLite found {len(problems)} problems in the catalog: {'; '.join(problems[:3])}"
    remedy = _REPAIR if only_indexes else BEYOND_REPAIR
    return [types.Finding("catalog-damaged", message, remedy, repaired=repaired)]


def check_references(connection: Connection, *, repair: bool) -> list[types.Finding]:
    """Find rows that point at rows which are not there; repair deletes them."""
    broken: dict[tuple[str, str], list[int]] = {}
    for table, row_id, parent, _ in connection.execute("PRAGMA foreign_key_check"):
        broken.setdefault((table, parent), []).append(row_id)
    if repair:
        for (table, _parent), row_ids in broken.items():
            connection.executemany(
                f"DELETE FROM {table} WHERE rowid = ?", [(row_id,) for row_id in row_ids]
            )
    return [
        types.Finding(
            "reference-broken",
            f"{len(row_ids)} rows of `{table}` point at rows of `{parent}` that are not there",
            f"{_REPAIR} Then index again.",
            repaired=repair,
        )
        for (table, parent), row_ids in broken.items()
    ]


def _integrity(connection: Connection) -> list[str]:
    problems = column(connection.execute("PRAGMA integrity_check"))
    return [problem for problem in problems if problem != "ok"]
