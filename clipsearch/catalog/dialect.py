"""The statements of the catalog for PostgreSQL. They are written once, as SQLite takes them.

What differs is replaced here, and nowhere else: how values are bound, lists of values, how letters
are compared, and the checksums of rows, which PostgreSQL keeps by itself for its pages.
"""

from __future__ import annotations

import re
from functools import lru_cache

from clipsearch.catalog.checksums import SEALED, checksum_sql, is_damaged_sql, stored_sql

_TEXTS = ("paths", "hashes", "sources")
"""Values that are lists of texts; other lists are of numbers."""

_FRAGMENTS = {
    **{is_damaged_sql(table): "FALSE" for table in SEALED},
    **{stored_sql(table): "NULL::bigint" for table in SEALED},
    **{checksum_sql(table): "0::bigint" for table in SEALED},
    "PRAGMA user_version": "SELECT value FROM revision",
    "typeof(path) = 'text' AND ": "",
    " NOT INDEXED": "",
    "rowid": "id",
}
_VALUE = r":\w+"
_LETTERS = re.compile(
    # An expression whose letters are compared without case, what it is compared with, and how.
    r"(?P<left>\(CASE .*? END\)|[a-z]+\.\w+) COLLATE NOCASE"
    rf"(?P<how> (?:=|!=|<=?|>=?) (?={_VALUE})| IN \(| LIKE )?(?P<values>{_VALUE}(?:, {_VALUE})*)?"
)
_LIKE = re.compile(r"\bLIKE (?=:)")
_LIST = re.compile(r"json_each\(:(\w+)\)")
_COLUMN_LIST = re.compile(r"json_each\((\w+\.\w+)\) AS item")
_LIMIT = re.compile(r"\bLIMIT (:\w+)")
_NAMED = re.compile(r"(?<!:):([a-z_]\w*)")


@lru_cache(maxsize=1_024)
def for_postgres(statement: str) -> str:
    """Return a statement of the catalog as psycopg takes it, with `%(name)s` or `%s` for values.

    Letters compare as in SQLite: those of ASCII without case where the statement says NOCASE or
    LIKE. Its columns have the collation "C", so that the order of paths is the same, too.
    """
    for fragment, other in _FRAGMENTS.items():
        statement = statement.replace(fragment, other)
    statement = statement.replace("%", "%%")
    statement = _LETTERS.sub(_fold, statement)
    statement = _LIKE.sub("ILIKE ", statement)
    statement = _LIST.sub(_unnest, statement)
    statement = _COLUMN_LIST.sub(
        r'(SELECT value COLLATE "C" AS value FROM jsonb_array_elements_text(\1::jsonb)) AS item',
        statement,
    )
    statement = _LIMIT.sub(r"LIMIT nullif(\1, -1)", statement)
    return _NAMED.sub(r"%(\1)s", statement).replace("?", "%s")


def _fold(found: re.Match[str]) -> str:
    """Return a comparison of letters without case."""
    left, how, values = found["left"], found["how"], found["values"] or ""
    if how is None:  # as IS NOT NULL
        return left
    if how.strip() == "LIKE":
        return f'{left} COLLATE "C" ILIKE {values}'
    folded = ", ".join(f'lower({value} COLLATE "C")' for value in values.split(", "))
    return f'lower({left} COLLATE "C"){how}{folded}'


def _unnest(found: re.Match[str]) -> str:
    """Return a table with a column `value` of what a bound list in JSON holds."""
    name = found[1]
    if name in _TEXTS:
        return f"jsonb_array_elements_text(:{name}::jsonb)"
    # Numbers are separated by commas: as an array they are read ten times as fast as JSON.
    return f"unnest(translate(:{name}, '[]', '{{}}')::bigint[]) AS numbers(value)"
