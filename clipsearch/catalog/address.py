"""Addresses of libraries in PostgreSQL: how they are read, and how messages name them."""

from __future__ import annotations

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
MAP_VARIABLE, READ_VARIABLE = "CLIPSEARCH_MAP", "CLIPSEARCH_READ_URL"
"""Environment variables: folders that are elsewhere on this machine, and the address of a replica."""
# One slash is left of two where somebody made a path of it.
_SCHEME = re.compile(r"postgres(?:ql)?(?:\+psycopg)?:/{1,2}", re.IGNORECASE)
_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")
_AMBIGUOUS = re.compile(r"@.*@|/.*@")
_UNREADABLE = (
    "cannot read the address of the library, postgresql://USER@HOST/DATABASE. In a password and in "
    "names, @ is written as %40, / as %2F, ? as %3F, # as %23, : as %3A and % as %25."
)
_SHOWN = (
    "host",
    "port",
    "user",
    "dbname",
    "service",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
)
"""Parameters that say which database it is, and how it is reached; others may be secret."""


def is_address(given: object) -> bool:
    """Tell whether a library is named by an address of PostgreSQL and not by a folder."""
    return isinstance(given, str | os.PathLike) and bool(
        _SCHEME.match(str(os.fspath(given)).strip())
    )


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
    mounts : tuple of str
        `STORED=HERE`: folders of the library that are elsewhere on this machine.
    """

    uri: str = field(repr=False)
    schema: str
    name: str
    mounts: tuple[str, ...] = ()

    @classmethod
    def parse(cls, given: str | os.PathLike[str]) -> Self:
        """Read an address, `postgresql://user@host:port/database?schema=NAME&sslmode=...`.

        Parameters
        ----------
        given
            The address; all but `schema` and `map=STORED=HERE` is for libpq, which also reads its usual
            variables and files. `$CLIPSEARCH_MAP` has more folders, with `;` between two.

        Raises
        ------
        LibraryError
            It cannot be read.
        """
        rest = _SCHEME.sub("", str(os.fspath(given)).strip(), count=1)
        place, _, query = rest.partition("?")
        # Nothing of a refused one is shown: any part may be of a password.
        if _AMBIGUOUS.search(place) or "#" in rest or "@" in query or "?" in query:
            raise LibraryError("postgresql:", _UNREADABLE)
        try:
            parts = parse.urlsplit(f"postgresql://{place}")
        except ValueError as error:
            raise LibraryError("postgresql:", _UNREADABLE) from error
        options = [option for option in query.split("&") if option]
        schema = DEFAULT_SCHEMA
        for option in options:
            if option.startswith("schema="):
                schema = parse.unquote(option.removeprefix("schema="))
        folders = [parse.unquote(o.removeprefix("map=")) for o in options if o.startswith("map=")]
        folders += filter(None, os.environ.get(MAP_VARIABLE, "").split(";"))
        options = [option for option in options if not option.startswith(("schema=", "map="))]
        user, at, hosts = parts.netloc.rpartition("@")
        name = f"postgresql://{user.partition(':')[0]}{at}{hosts}{parts.path}"
        shown = [option for option in options if option.partition("=")[0] in _SHOWN]
        if schema != DEFAULT_SCHEMA:
            shown.append(f"schema={schema}")
        name += "?" * bool(shown) + "&".join(shown)
        if not _SCHEMA.fullmatch(schema):
            raise LibraryError(
                name,
                f"the schema of {name} has to be a name in lower-case letters, digits and `_`.",
            )
        uri = f"postgresql://{place}" + "?" * bool(options) + "&".join(options)
        return cls(uri, schema, name, tuple(folders))

    @property
    def has_password(self) -> bool:
        """Whether it holds a password, which who sees the address can read."""
        return bool(self._secrets())

    def _secrets(self) -> set[str]:
        """Return the passwords that it holds, as they stand there."""
        place, _, query = self.uri.removeprefix("postgresql://").partition("?")
        user, _, _ = place.rpartition("@")
        # Of the names of parameters, those that are misspelt are taken for passwords, too.
        options = [option.partition("=") for option in query.split("&")]
        found = {value for key, _, value in options if "pass" in key and key != "passfile"}
        return {secret for secret in (user.partition(":")[2], *found) if secret}

    def without_secrets(self, text: str) -> str:
        """Return a text, as a driver's message, without the passwords of the address."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            plain = parse.unquote(secret)
            for form in (secret, plain, parse.quote(plain, safe="")):
                text = text.replace(form, "***")
        return text
