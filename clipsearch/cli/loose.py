"""Commands that take images by name do without a library where there is none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.cli.console import UsageError, get_device, say
from clipsearch.errors import LibraryNotFound

if TYPE_CHECKING:
    from clipsearch.library import Library


def library_for(
    images: Sequence[Path] | None,
    library: Path | None,
    model: str | None,
    *,
    option: str,
    otherwise: str = "default",
) -> Library:
    """Open the library; if images are named, one without images where there is none.

    model: ask this one, and no library. option: how the command names images. otherwise: the
    model to ask where there is no library. Raises UsageError.
    """
    from clipsearch.library import ENVIRONMENT, Library

    if model and library:
        raise UsageError("a --library has its model: name one of the two.")
    if model and not images:
        raise UsageError(f"--model is for images that are named, by {option}.")
    if model:
        return Library.loose(model, device=get_device())
    try:
        return Library.open(library, device=get_device())
    except LibraryNotFound:
        if not images or library or os.environ.get(ENVIRONMENT):
            raise
    say(f"there is no library here: the model `{otherwise}` is asked (--model takes another).")
    return Library.loose(otherwise, device=get_device())
