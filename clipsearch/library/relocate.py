"""Take a folder as moved: its images keep their contents, vectors and labels under new paths."""

from __future__ import annotations

import os

from clipsearch._util import is_remote
from clipsearch.errors import CannotRelocate
from clipsearch.images.found import is_missing
from clipsearch.indexing.moved import count_there
from clipsearch.library.locate import known_path
from clipsearch.library.session import Session
from clipsearch.types import MovedFolder, StrPath


def relocate_folder(session: Session, old: StrPath, new: StrPath) -> MovedFolder:
    """Give the images of a folder, or one image, the paths that they have in another.

    Parameters
    ----------
    session
        Of the library.
    old
        A folder that the library knows images of; it need not exist on this machine.
    new
        Where they are now.

    Returns
    -------
    How many images the library knew in the old folder, and how many are in the new one.

    Raises
    ------
    CannotRelocate
        The library knows no image in the old folder, it still holds some, or none of them is in
        the new one.
    LibraryLocked
        Another process is indexing.
    """
    before, after = (known_path(session, path) for path in (old, new))
    with session.write_lock():
        known = session.catalog.sizes_under(before)
        if not known or before == os.sep:
            raise CannotRelocate(
                f"the library knows no image in {before}: `clipsearch status` shows its folders."
            )
        if is_missing(after):
            raise CannotRelocate(f"{after} is not there; is its disk connected?")
        here, there = (count_there(known, before, folder) for folder in (before, after))
        same = (
            not (is_remote(before) or is_remote(after))
            and os.path.lexists(before)
            and os.path.samefile(before, after)
        )
        if here and not same:
            raise CannotRelocate(
                f"{before} still holds {here:,} of {len(known):,} images: nothing was moved. To "
                f"know the copies in {after}, too, `clipsearch index` it."
            )
        if not there:
            raise CannotRelocate(
                f"none of the {len(known):,} images known in {before} is in {after}, at the same "
                "relative path and with the same size."
            )
        session.catalog.move_folder(before, after)
    return MovedFolder(before, after, len(known), there)


def was_relocated(session: Session, old: StrPath, new: StrPath) -> bool:
    """Tell whether a folder was taken as moved before: images are known in the new one alone.

    Parameters
    ----------
    session
        Of the library.
    old, new
        As for `relocate_folder`.
    """
    before, after = (known_path(session, path) for path in (old, new))
    known = session.catalog.sizes_under
    return not known(before) and bool(known(after))
