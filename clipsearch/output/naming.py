"""Names of files and folders that every system takes, no two alike."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import count

_NAME_BYTES = 255
"""The longest file name of all common file systems; those that count characters take more."""
_LABEL_BYTES = 120
"""The longest folder name that is made of a label, so that a path of Windows has room for more."""
# No system takes control characters and `/`; Windows takes none of the others either.
_NOT_IN_NAMES = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\u2028\u2029\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?", re.IGNORECASE)
"""What Windows takes for a device, with any suffix."""


def name_folders(labels: Sequence[str]) -> list[str]:
    """Return a name for the folder of each label: safe on every system, and no two alike.

    Characters that some system refuses become `_`, as do dots at the ends; a name is at most 120
    bytes long, and differs from the others also where case does not count.

    >>> name_folders(["cat", "Cat", "../../x", "a/b", "CON", ""])
    ['cat', 'Cat (2)', '_._.._x', 'a_b', '_CON', '_']
    """
    taken: set[str] = set()
    names = []
    for label in labels:
        name = next(
            numbered
            for numbered in number_names(_safe_name(label), longest=_LABEL_BYTES)
            if name_key(numbered) not in taken
        )
        taken.add(name_key(name))
        names.append(name)
    return names


def _safe_name(label: str) -> str:
    text = _NOT_IN_NAMES.sub("_", unicodedata.normalize("NFC", label)).strip()
    text = _cut(text, _LABEL_BYTES).strip()
    # A dot in front hides a folder, one at the end is dropped by Windows; `..` is another folder.
    text = re.sub(r"^\.|\.$", "_", text)
    return f"_{text}" if not text or _RESERVED.fullmatch(text) else text


def number_names(name: str, suffix: str = "", *, longest: int = _NAME_BYTES) -> Iterator[str]:
    """Yield a name, then the same with numbers: `cat.jpg`, `cat (2).jpg`, `cat (3).jpg`, ..."""
    yield name + suffix
    for number in count(2):
        tail = f" ({number}){suffix}"
        yield _cut(name, longest - len(os.fsencode(tail))) + tail


def _cut(name: str, size: int) -> str:
    """Cut a name to this many bytes, between characters."""
    name = name[:size]
    while len(os.fsencode(name)) > size:
        name = name[:-1]
    return name


def name_key(name: str) -> str:
    """Return a key that is equal for names that are the same on some system, such as macOS."""
    return unicodedata.normalize("NFC", name).casefold()
