"""`Library`: all parts of a library in one class."""

from __future__ import annotations

from clipsearch.library.calibrate import Calibrating
from clipsearch.library.classify import Classifying
from clipsearch.library.compare import Comparing
from clipsearch.library.evaluate import Measuring
from clipsearch.library.explore import Exploring
from clipsearch.library.ingest import Filling
from clipsearch.library.learn import Learning
from clipsearch.library.loose import Loose
from clipsearch.library.maintain import Care
from clipsearch.library.reading import Reading
from clipsearch.library.search import Searching


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
    """A searchable collection of images.

    >>> with Library.open_or_create("index", model="mini") as library:
    ...     library.index(["~/Pictures"])
    ...     for hit in library.search("orange boy riding a blue horse", k=3):
    ...         print(hit.score, hit.path)
    """
