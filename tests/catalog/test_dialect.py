"""The statements of SQLite as PostgreSQL takes them."""

from __future__ import annotations

import pytest

from clipsearch.catalog.checksums import is_damaged_sql, stored_sql
from clipsearch.catalog.dialect import for_postgres


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT 1 FROM file WHERE path = :path", "SELECT 1 FROM file WHERE path = %(path)s"),
        ("INSERT INTO t VALUES (?, ?)", "INSERT INTO t VALUES (%s, %s)"),
        ("SELECT '50 %'", "SELECT '50 %%'"),
        ("SELECT x::bigint", "SELECT x::bigint"),
        ("SELECT x LIMIT :limit", "SELECT x LIMIT nullif(%(limit)s, -1)"),
        ("PRAGMA user_version", "SELECT value FROM revision"),
        ("SELECT rowid FROM file NOT INDEXED", "SELECT id FROM file"),
        (f"SELECT {stored_sql('embedding')}", "SELECT NULL::bigint"),
        (f"WHERE NOT {is_damaged_sql('model')}", "WHERE NOT FALSE"),
        (
            "id IN (SELECT value FROM json_each(:ids))",
            (
                "id IN (SELECT value FROM unnest(translate(%(ids)s, '[]', '{}')::bigint[]) "
                "AS numbers(value))"
            ),
        ),
        (
            "FROM json_each(:paths) AS wanted",
            "FROM jsonb_array_elements_text(%(paths)s::jsonb) AS wanted",
        ),
        (
            "content.camera COLLATE NOCASE = :w0",
            'lower(content.camera COLLATE "C") = lower(%(w0)s COLLATE "C")',
        ),
        (
            "content.camera COLLATE NOCASE IN (:w0, :w1)",
            (
                'lower(content.camera COLLATE "C") IN (lower(%(w0)s COLLATE "C"), '
                'lower(%(w1)s COLLATE "C"))'
            ),
        ),
        (
            "content.camera COLLATE NOCASE LIKE :w0 ESCAPE '\\'",
            "content.camera COLLATE \"C\" ILIKE %(w0)s ESCAPE '\\'",
        ),
        ("content.camera COLLATE NOCASE IS NOT NULL", "content.camera IS NOT NULL"),
        ("file.path LIKE :w0", "file.path ILIKE %(w0)s"),
    ],
)
def test_what_differs_is_replaced(statement: str, expected: str) -> None:
    assert for_postgres(statement) == expected
