"""Where a catalog is, and which engine runs its statements there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from clipsearch._util import warn_once
from clipsearch.catalog.address import MAP_VARIABLE, Address, is_address
from clipsearch.catalog.engine import Engine
from clipsearch.errors import LibraryNotFound
from clipsearch.filters.fields import FUNCTIONS

if TYPE_CHECKING:
    from clipsearch.catalog.postgres import PostgresEngine

BUSY_TIMEOUT = 30.0
"""Seconds that a writer waits for another process before it gives up."""
_DERIVED = "derived.db"
Place: TypeAlias = str | os.PathLike[str] | Address
"""Where a library is: a folder, or an address of PostgreSQL."""


def engine_of(place: Place, busy_timeout: float) -> Engine | PostgresEngine:
    """Return the engine of a catalog; nothing is opened yet."""
    if not isinstance(place, str | os.PathLike) or is_address(place):
        from clipsearch.catalog.postgres import PostgresEngine

        address = place if isinstance(place, Address) else Address.parse(place)
        return PostgresEngine(address, busy_timeout=busy_timeout)
    if os.environ.get(MAP_VARIABLE):
        warn_once(f"--map and ${MAP_VARIABLE} are for shared libraries: {place} is a folder.")
    return Engine(Path(place).absolute(), functions=FUNCTIONS, busy_timeout=busy_timeout)


def derived_of(engine: PostgresEngine) -> Engine:
    """Open what this machine derives from a catalog that others use, too."""
    derived = Engine(engine.folder, functions=FUNCTIONS, busy_timeout=BUSY_TIMEOUT, file=_DERIVED)
    try:
        derived.open()
    except LibraryNotFound:
        derived.create()
    return derived
