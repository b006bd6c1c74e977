"""The operations that `growth` measures: what is run, how fast it was before, what is required.

`before` was measured on 2026-11-28, on two cores of an AMD EPYC (avx512_vnni) with a ViT-B-32-256, in
libraries that were fabricated as those of today: see issue 13 of the repository. A dictionary of
numbers is by size of the library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

K, TEN, HUNDRED, MILLION = 1_000, 10_000, 100_000, 1_000_000
SIZES = (K, TEN, HUNDRED, MILLION)
TEXT = "a photo of a black cat sleeping on a chair"
LABELS = "{labels}"
"""In arguments: a file of labels."""
OUT = "{out}"
"""In arguments: a file for what is written."""
IMAGES = "{images}"
"""In arguments: the folder of the images."""
BySize = Mapping[int, float]

# Half, a hundredth and a thousandth of all images: sizes alternate, latitudes are anywhere between
# -60 and 60. The second form is SQL, by which what is allowed is found without clipsearch.
HALF = ("width > 4000", "content.width > 4000")
HUNDREDTH = ("lat < -58.8", "content.lat < -58.8")
THOUSANDTH = ("lat < -59.88", "content.lat < -59.88")


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that a library is asked for."""

    name: str
    arguments: tuple[str, ...] = ()
    """Of the command, which runs in a new process; the library is added."""
    search: Mapping[str, Any] = field(default_factory=dict)
    """Instead, arguments of `Library.search` in an open library."""
    before: BySize = field(default_factory=dict)
    """Seconds."""
    before_mb: BySize = field(default_factory=dict)
    goals: BySize = field(default_factory=dict)
    """The most seconds."""
    goals_mb: BySize = field(default_factory=dict)
    growth: tuple[int, int, float] | None = None
    """Two sizes: the second may take so many times the seconds of the first."""
    steady: bool = False
    """Whether memory must not grow with the library."""
    largest: int = MILLION
    timeout: float = 150.0

    @property
    def is_warm(self) -> bool:
        """Whether it is asked of an open library."""
        return not self.arguments


def _sizes(*values: float | None) -> BySize:
    """Name the values of SIZES, in their order; None for what was not measured."""
    return {size: value for size, value in zip(SIZES, values, strict=False) if value is not None}


def _filtered(name: str, search: Mapping[str, Any], hundred: float, million: float) -> Operation:
    goals = {HUNDRED: 0.015, MILLION: 0.06}
    return Operation(name, search=search, before=_sizes(None, None, hundred, million), goals=goals)


SEARCHES = (
    Operation(
        "search",
        search={},
        before=_sizes(None, 0.004, 0.0353, 0.009),
        goals=_sizes(0.004, 0.004, 0.004, 0.004),
    ),
    Operation(
        "search, relevant=True",
        search={"relevant": True},
        before=_sizes(None, None, 0.249, 0.0074),
        goals={HUNDRED: 0.02},
    ),
    _filtered("search, where 50 %", {"where": HALF[0]}, 0.0966, 0.682),
    _filtered("search, where 1 %", {"where": HUNDREDTH[0]}, 0.0428, 0.596),
    _filtered("search, where 0.1 %", {"where": THOUSANDTH[0]}, 0.0419, 0.613),
    _filtered("search, under a folder", {"under": "{folder}"}, 0.0554, 0.711),
)
"""In an open library, k=10, by a vector that lies as those of texts do; with the relevance of each
hit and the number of all that are relevant. {folder} holds a thousand images."""

COMMANDS = (
    Operation(
        "query",
        ("query", TEXT),
        before=_sizes(0.25, 0.30, 0.29, 0.53),
        before_mb=_sizes(233, 566, 353, 402),
        goals=_sizes(0.2, None, 0.25, 0.35),
        goals_mb={TEN: 260},
    ),
    Operation(
        "query --relevant",
        ("query", TEXT, "--relevant", "-f", "paths"),
        before=_sizes(0.33, 0.40, 0.68, 23.0),
        before_mb=_sizes(235, 289, 429, 528),
        goals={MILLION: 1.5},
    ),
    Operation(
        "query --where 1 %",
        ("query", TEXT, "--where", HUNDREDTH[0]),
        before=_sizes(0.33, 0.35, 0.42, 0.97),
        before_mb=_sizes(233, 245, 349, 448),
    ),
    Operation(
        "classify 30 labels",
        ("classify", "--labels", LABELS, "-f", "csv", "-o", OUT),
        # The million with --top 1.
        before=_sizes(1.35, 2.66, 18.2, 52.1),
        before_mb=_sizes(270, 365, 1046, 1651),
        goals={HUNDRED: 5.0, MILLION: 45.0},
        steady=True,
        timeout=600.0,
    ),
    Operation(
        "topics --events",
        ("topics", "--events", "-f", "json", "-o", OUT),
        before=_sizes(2.68, 17.7, 150.0),
        before_mb=_sizes(262, 1371),
        goals={HUNDRED: 10.0},
    ),
    Operation(
        "topics -n 10",
        ("topics", "-n", "10", "-f", "json", "-o", OUT),
        before=_sizes(1.36, 3.50, 8.67),
        before_mb=_sizes(169, 464, 1085),
    ),
    Operation(
        "topics",
        ("topics", "-f", "json", "-o", OUT),
        before=_sizes(None, None, 21.1),
        before_mb=_sizes(None, None, 882),
        goals={HUNDRED: 20.0},
    ),
    Operation(
        "dupes",
        ("dupes", "-f", "json", "-o", OUT),
        before=_sizes(0.51, 2.40, 102.0),
        before_mb=_sizes(86, 150, 835),
        goals={HUNDRED: 15.0},
        growth=(HUNDRED, MILLION, 15.0),
        timeout=300.0,
    ),
    Operation(
        "learn --suggest 20",
        ("learn", "--suggest", "20", "--labels", LABELS, "-f", "json", "-o", OUT),
        before=_sizes(2.85, 2.23, 5.33),
        before_mb=_sizes(362, 416, 1006),
        steady=True,
    ),
    Operation(
        "check",
        ("check",),
        before=_sizes(0.26, 0.47, 2.21, 18.8),
        before_mb=_sizes(53, 91, 177, 1114),
        goals_mb={MILLION: 300},
    ),
    Operation(
        "status",
        ("status",),
        before=_sizes(0.23, 0.22, 0.36, 1.25),
        before_mb=_sizes(39, 40, 73, 199),
        goals={MILLION: 0.4},
    ),
    Operation("index, nothing changed", ("index", IMAGES)),
)
OPERATIONS = (*SEARCHES, *COMMANDS)

NAMES = (
    *("cat", "dog", "horse", "cow", "bird", "fish", "car", "bus", "train", "bicycle", "boat"),
    *("airplane", "house", "church", "bridge", "tower", "beach", "mountain", "forest", "river"),
    *("lake", "flower", "tree", "pizza", "cake", "chair", "table", "book", "person", "child"),
)
"""The labels of `classify` and `learn`."""

# A process that imports what each query does, and multiplies: 17.2 billion operations.
YARDSTICK = """
import numpy, onnxruntime
a = numpy.full((1024, 1024), 0.5, numpy.float32)
for _ in range(8):
    a @ a
"""
YARDSTICK_BEFORE = 0.136 + 17.2 / 179
"""Seconds when `before` was measured: the imports, and the products at 179 billion a second."""
