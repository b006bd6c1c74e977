"""What the errors of PostgreSQL mean for a library."""

from __future__ import annotations

from clipsearch.catalog.address import Address
from clipsearch.errors import LibraryError, LibraryLocked, LibraryNotFound

# Codes of PostgreSQL (its appendix A).
_LOCKED, _NO_TABLE = "55P03", ("42P01", "3F000")
_REFUSED = ("42501", "25006", "0A000")
"""No privilege; a transaction that only reads; a replica, on which none can write."""
_FULL = ("53100", "53200", "53300")
_PASSING = ("08", "57P", "40")
"""Of connections; the server is being stopped, or a process of it was killed; another transaction, or
on a replica what it follows, was in the way."""
_AWAY = ("refused", "resolve", "timeout", "unreachable", "No route", "closed", "terminat")
_NO_PGVECTOR = "the server of {} lacks pgvector, 0.7 or later: its administrator has to install it."


class ConnectionLost(LibraryError):
    """The connection broke, or could not be made, or the server asks to try again."""


def explain_postgres(error: BaseException, address: Address, *, lost: bool) -> LibraryError:
    """Return the error that says what one of the driver means for a library.

    Parameters
    ----------
    error
        Of psycopg.
    address
        Of the library.
    lost
        Whether the connection cannot be used any more.
    """
    code = getattr(error, "sqlstate", None) or ""
    said = address.without_secrets(" ".join(str(error).split()))[:300].rstrip(".?")
    if code == _LOCKED:
        return LibraryLocked(address.name)
    if "vector" in said and ("extension" in said or "halfvec" in said) and code != _REFUSED[0]:
        return LibraryError(address.name, _NO_PGVECTOR.format(address.name))
    if code in _REFUSED:
        return LibraryError(
            address.name,
            f"the role that uses {address.name} may not do this: {said}. Ask who runs the database "
            "to grant it, or use an address with another role.",
        )
    if code in _NO_TABLE:
        return LibraryNotFound(address.name)
    if code in _FULL:
        return LibraryError(address.name, f"the server of {address.name} has no room: {said}.")
    if lost or code.startswith(_PASSING) or (not code and _is_operational(error)):
        away = any(word in said for word in _AWAY)
        advice = " Check that the server runs and can be reached." if away else ""
        return ConnectionLost(address.name, f"cannot use {address.name}: {said}.{advice}")
    return LibraryError(address.name, f"cannot use {address.name}: {said}.")


def _is_operational(error: BaseException) -> bool:
    import psycopg

    return isinstance(error, psycopg.OperationalError)
