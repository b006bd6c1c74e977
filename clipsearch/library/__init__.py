"""The facade: a library is a folder that images are indexed into, searched and classified in.

`Library` is made of parts, a file for each kind of thing one does with it; all stand on `base`.
It is imported when it is asked for: a search needs one part alone, and is over sooner than all
others are imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipsearch.library.facade import Library
    from clipsearch.library.session import ENVIRONMENT

__all__ = ["ENVIRONMENT", "Library"]


def __getattr__(name: str) -> Any:
    """Import a name of `__all__` on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "facade" if name == "Library" else "session"
    found = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found
