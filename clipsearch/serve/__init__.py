"""A warm library for other programs: over HTTP with a web page (`http`), and as tools (`mcp`).

`service` says what can be asked, `asked` in which words; the two fronts only carry it.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Literal

from clipsearch.errors import MissingDependency


def front(name: Literal["http", "mcp"]) -> ModuleType:
    """Import a front. Raises MissingDependency if its packages are not installed."""
    extra = {"http": "serve", "mcp": "mcp"}[name]
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "clipsearch":
            raise
        raise MissingDependency(package, extra) from error
