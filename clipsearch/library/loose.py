"""Images that are in no library: what a library says of them, without one."""

from __future__ import annotations

import hashlib
import shutil
from typing import Self

from clipsearch.encoders.compiler.store import cache_folder
from clipsearch.encoders.registry import resolve
from clipsearch.errors import ModelMismatch
from clipsearch.library.session import DEFAULT_MODEL, Opened


class Loose(Opened):
    """A way in for those who have a model and some images, and have indexed nothing."""

    @classmethod
    def loose(cls, model: str | None = None) -> Self:
        """Open a library without images, for `classify(images=)`, `matrix` and `explain`.

        There is one for each model, in the user's cache, so that the background is encoded once.
        Raises UnknownModel or ModelUnavailable.

        >>> with Library.loose("mini") as library:
        ...     [prediction] = library.classify(["cat", "dog"], images=["scene.webp"])
        """
        name = resolve(model or DEFAULT_MODEL).name
        folder = cache_folder().parent / "loose" / hashlib.sha256(name.encode()).hexdigest()[:16]
        library = cls.open_or_create(folder, model=model)
        try:
            _ = library.encoder
        except ModelMismatch:  # the same name, and other weights than last time
            library.close()
            shutil.rmtree(folder)
            library = cls.create(folder, model=model)
        return library
