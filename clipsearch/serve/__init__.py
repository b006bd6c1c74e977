"""Serve a library that stays open: over HTTP with a search page, and as tools for assistants (MCP).

`service` answers requests, `schemas` says which there are; `http` and `mcp` are the two front-ends.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Literal

from clipsearch.errors import MissingDependency


def load_front_end(name: Literal["http", "mcp"]) -> ModuleType:
    """Import a front-end.

    Parameters
    ----------
    name
        The module's name.

    Returns
    -------
    The module `clipsearch.serve.http` or `clipsearch.serve.mcp`.

    Raises
    ------
    MissingDependency
        Its packages are not installed.
    """
    extra = {"http": "serve", "mcp": "mcp"}[name]
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package == "clipsearch":
            raise
        raise MissingDependency(package, extra) from error
