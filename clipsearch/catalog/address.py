"""Addresses of libraries in PostgreSQL: how they are read, and how messages name them."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from clipsearch._util import LazyModule
from clipsearch.errors import LibraryError

if TYPE_CHECKING:
    from urllib import parse
else:  # a library in a folder has no address
    parse = LazyModule("urllib.parse")

DEFAULT_SCHEMA = "clipsearch"
"""Of a database that holds one library."""
# One slash is left of two where somebody made a path of it.
_SCHEME = re.compile(r"postgres(?:ql)?(?:\+psycopg)?:/{1,2}", re.IGNORECASE)
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SHOWN = ("host", "port", "user", "dbname", "service")
"""Parameters that say which database it is; others may be secret."""


def is_address(given: object) -> bool:
    """Tell whether a library is named by an address of PostgreSQL and not by a folder."""
    return isinstance(given, str | os.PathLike) and bool(_SCHEME.match(str(os.fspath(given))))


@dataclass(frozen=True, slots=True)
class Address:
    """Where a library is in PostgreSQL: a schema of a database.

    Attributes
    ----------
    uri : str
        As libpq reads it, a password included.
    schema : str
        The schema that holds the tables of the library.
    name : str
        The address without what may be secret, for messages.
    """

    uri: str = field(repr=False)
    schema: str
    name: str

    @classmethod
    def parse(cls, given: str | os.PathLike[str]) -> Self:
        """Read an address, `postgresql://user@host:port/database?schema=NAME&sslmode=...`.

        Parameters
        ----------
        given
            The address; all but `schema` is for libpq, which also reads its usual variables and files.

        Raises
        ------
        LibraryError
            It cannot be read.
        """
        text = str(os.fspath(given))
        rest = _SCHEME.sub("", text, count=1)
        try:
            parts = parse.urlsplit(f"postgresql://{rest}")
            query = parse.parse_qsl(
                parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)
            )
        except ValueError as error:
            raise LibraryError(
                "postgresql:", f"cannot read the address of the library: {error}."
            ) from error
        schema = dict(query).get("schema", DEFAULT_SCHEMA)
        user, at, hosts = parts.netloc.rpartition("@")
        user = user.partition(":")[0]
        place = f"postgresql://{user}{at}{hosts}{parts.path}"
        shown = [(key, value) for key, value in query if key in _SHOWN]
        if schema != DEFAULT_SCHEMA:
            shown.append(("schema", schema))
        name = place + (f"?{parse.urlencode(shown, safe='/')}" if shown else "")
        if not _SCHEMA.fullmatch(schema):
            raise LibraryError(
                name,
                f"the schema of {name} has to be a name in lower-case letters, digits and `_`.",
            )
        others = parse.urlencode([(key, value) for key, value in query if key != "schema"])
        uri = f"postgresql://{parts.netloc}{parts.path}" + (f"?{others}" if others else "")
        return cls(uri, schema, name)

    @property
    def has_password(self) -> bool:
        """Whether it holds a password, which who sees the address can read."""
        parts = parse.urlsplit(self.uri)
        keys = {key for key, _ in parse.parse_qsl(parts.query)}
        return ":" in parts.netloc.rpartition("@")[0] or "password" in keys

    def without_secrets(self, text: str) -> str:
        """Return a text, as a driver's message, without the password of the address."""
        parts = parse.urlsplit(self.uri)
        secrets = {parts.netloc.rpartition("@")[0].partition(":")[2]}
        secrets |= {value for key, value in parse.parse_qsl(parts.query) if key == "password"}
        for secret in filter(None, secrets):
            for form in {secret, parse.unquote(secret), parse.quote(secret, safe="")}:
                text = text.replace(form, "***")
        return text

    @property
    def key(self) -> str:
        """Letters that differ between libraries, for the name of a folder."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]
