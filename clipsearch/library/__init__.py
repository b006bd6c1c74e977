"""A library: a folder that images are indexed into, searched and classified in."""

from __future__ import annotations

from clipsearch.library.library import Library
from clipsearch.library.session import ENVIRONMENT

__all__ = ["ENVIRONMENT", "Library"]
