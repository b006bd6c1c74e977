"""Claims on files, by which several machines index a shared library without doing work twice.

A claim ends with its lease, so that a machine which was killed keeps nothing from the others. What
two machines do all the same, when a lease has ended too early, is done twice and stored once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from clipsearch.catalog.connection import Connection, column


def claim_files(
    connection: Connection, paths: Iterable[str], model_id: int, *, owner: str, seconds: float
) -> set[str]:
    """Claim files for a model, and renew what the owner has claimed.

    Parameters
    ----------
    paths
        Of the files.
    model_id
        The model whose vectors are computed.
    owner
        Names the run that claims.
    seconds
        The lease, from now.

    Returns
    -------
    The paths that are the owner's now; the others are claimed by others.
    """
    # One after the other: two that claim overlapping files in another order would wait for each other.
    connection.execute(_LOCK)
    values = {"model": model_id, "owner": owner, "seconds": seconds}
    connection.execute(f"UPDATE claim SET expires = {_END} WHERE owner = :owner", values)
    return set(
        column(
            connection.execute(
                "INSERT INTO claim (model_id, path, owner, expires) "
                f"SELECT :model, value, :owner, {_END} FROM json_each(:paths) ORDER BY value "
                "ON CONFLICT (model_id, path) DO UPDATE "
                "SET owner = excluded.owner, expires = excluded.expires "
                "WHERE claim.owner = excluded.owner OR claim.expires < clock_timestamp() "
                "RETURNING path",
                {**values, "paths": json.dumps(sorted(set(paths)))},
            )
        )
    )


def release_claims(connection: Connection, owner: str) -> None:
    """Give up what an owner has claimed, and forget leases that have ended."""
    connection.execute(
        "DELETE FROM claim WHERE owner = :owner OR expires < clock_timestamp()", {"owner": owner}
    )


def release_dead_claims(connection: Connection, here: str, is_alive: Callable[[int], bool]) -> None:
    """Give up what processes of a machine have claimed that do not run any more.

    Parameters
    ----------
    here
        What owners of this machine begin with; the number of the process follows, between colons.
    is_alive
        Tells whether a process runs.
    """
    for owner in column(connection.execute("SELECT DISTINCT owner FROM claim")):
        begin, _, rest = owner.rpartition(":")[0].rpartition(":")
        if begin == here and rest.isdecimal() and not is_alive(int(rest)):
            connection.execute("DELETE FROM claim WHERE owner = :owner", {"owner": owner})


_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('claims of ' || current_schema(), 0))"
_END = "clock_timestamp() + :seconds * interval '1 second'"
