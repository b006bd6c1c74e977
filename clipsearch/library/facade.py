"""`Library`: all parts of a library in one class."""

from __future__ import annotations

from clipsearch.library.calibrating import Calibrating
from clipsearch.library.care import Care
from clipsearch.library.classifying import Classifying
from clipsearch.library.comparing import Comparing
from clipsearch.library.exploring import Exploring
from clipsearch.library.filling import Filling
from clipsearch.library.learning import Learning
from clipsearch.library.loose import Loose
from clipsearch.library.measuring import Measuring
from clipsearch.library.reading import Reading
from clipsearch.library.searching import Searching


class Library(
    Filling,
    Exploring,
    Comparing,
    Searching,
    Learning,
    Measuring,
    Calibrating,
    Classifying,
    Reading,
    Loose,
    Care,
):
    """A searchable collection of pictures.

    >>> with Library.open_or_create("index", model="mini") as library:
    ...     library.index(["~/Pictures"])
    ...     for hit in library.search("orange boy riding a blue horse", k=3):
    ...         print(hit.score, hit.path)
    """
