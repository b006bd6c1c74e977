"""Helpers below every package: arrays, files that are replaced in one step, threads."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class LazyModule:
    """A package that is imported when one of its names is used: for annotations of heavy types.

    Type checkers see the real import; `typing.get_type_hints` imports it when it is called.

    >>> if TYPE_CHECKING:
    ...     import PIL.Image
    ... else:
    ...     PIL = LazyModule("PIL")
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        try:
            return import_module(f"{self._name}.{attribute}")
        except ModuleNotFoundError:
            return getattr(import_module(self._name), attribute)
