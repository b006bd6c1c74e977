"""Which contents and vectors pass filters: where-clauses over facts, and folders."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from clipsearch._util.arrays import IdArray
from clipsearch.catalog.connection import Connection, as_json, below, column, pairs
from clipsearch.catalog.embeddings import parts
from clipsearch.types import Where


def condition_of(where: Where | None, under: str | None) -> tuple[str, dict[str, Any]]:
    """Return SQL over `file` and `content`, and its values: live files that pass both filters."""
    sql = "TRUE"  # what failed has no content, and every query joins with that
    params: dict[str, Any] = {}
    if under is not None:
        inside, params = below(under)
        sql += f" AND {inside}"
    if where is not None:
        sql += f" AND {where.sql}"
        params |= where.params
    return sql, params


def live_ids(connection: Connection, ids: Iterable[int]) -> IdArray:
    """Return which of the ids of vectors, int64 ascending, belong to an image with a file."""
    rows = connection.execute(
        "SELECT id FROM embedding WHERE id IN (SELECT value FROM json_each(:ids)) AND EXISTS ("
        "SELECT 1 FROM file WHERE file.content_id = embedding.content_id) ORDER BY id",
        {"ids": as_json(ids)},
    )
    return np.array(column(rows), dtype=np.int64)


def allowed_ids(
    connection: Connection, model_id: int, *, where: Where | None = None, under: str | None = None
) -> IdArray:
    """Return the ids of the vectors, int64 ascending, of images with a file that passes.

    Parameters
    ----------
    model_id
        Whose vectors.
    where, under
        Only files that match a filter, and lie below a folder.
    """
    sql, params = condition_of(where, under)
    rows = connection.execute(
        "SELECT id FROM embedding WHERE model_id = :model AND content_id IN ("
        f"SELECT content.id FROM file JOIN content ON content.id = file.content_id WHERE {sql}"
        ") ORDER BY id",
        params | {"model": model_id},
    )
    return np.array(column(rows), dtype=np.int64)


def passing_contents(
    connection: Connection, *, where: Where | None = None, under: str | None = None
) -> tuple[IdArray, IdArray | None]:
    """Return the ids of contents that pass, and how many of the files of each pass.

    Parameters
    ----------
    where, under
        Only files that match a filter, and lie below a folder.

    Returns
    -------
    int64 (n,), ascending, and int64 (n,); None for a filter of facts alone, which all files of a content
    pass, whether it has any or not.
    """
    sql, params = condition_of(where, under)
    if under is None and "file." not in sql:
        rows = connection.execute(f"SELECT id FROM content WHERE {sql} ORDER BY id", params)
        return np.fromiter((row[0] for row in rows), np.int64), None
    joined = "JOIN content ON content.id = file.content_id " if where else ""
    return pairs(
        connection.execute(
            f"SELECT content_id, count(*) FROM file {joined}"
            f"WHERE content_id IS NOT NULL AND {sql} GROUP BY content_id ORDER BY content_id",
            params,
        )
    )


def contents_of(
    connection: Connection, model_id: int, contents: Iterable[int] | None = None
) -> tuple[IdArray, IdArray]:
    """Return the ids of the vectors of some contents, by default of all.

    Parameters
    ----------
    model_id
        Whose vectors.
    contents
        Ids of contents.

    Returns
    -------
    int64 ids (n,), ascending, and the content of each, int64 (n,).
    """
    wanted, values = "", dict[str, int | str](model=model_id)
    if contents is not None:
        wanted = "AND content_id IN (SELECT value FROM json_each(:contents)) "
        values |= {"contents": as_json(contents)}
    rows = connection.execute(
        f"SELECT id, content_id FROM embedding WHERE model_id = :model {wanted}ORDER BY id", values
    )
    return pairs(rows)


def read_searchable(
    connection: Connection, model_id: int, *, where: Where | None = None, under: str | None = None
) -> tuple[IdArray, IdArray]:
    """Return the ids of vectors to search, and how many files each stands for.

    Parameters
    ----------
    model_id
        Whose vectors.
    where, under
        Only files that match a filter, and lie below a folder.

    Returns
    -------
    The ids of `allowed_ids`, and the number of files that pass of each, int64 (n,) both. Of the
    vectors of one image the lowest part has its files and the others have 0, so that their sum
    counts each file once.
    """
    sql, params = condition_of(where, under)
    rows = connection.execute(
        "SELECT embedding.id, count(*) FROM embedding "
        "JOIN file ON file.content_id = embedding.content_id "
        f"{'JOIN content ON content.id = embedding.content_id ' if where else ''}"
        f"WHERE model_id = :model AND {sql} GROUP BY embedding.id ORDER BY embedding.id",
        params | {"model": model_id},
    )
    ids, files = pairs(rows)
    if several := parts(connection, model_id):
        files[several.images_of(ids) != ids] = 0
    return ids, files
