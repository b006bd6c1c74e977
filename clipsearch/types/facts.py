"""The facts of images, each declared once.

A field of `Facts` is a fact: its metadata says where it is read from (EXIF, IPTC, XMP), how it is
stored, filtered and shown. Catalog columns, filter fields, CSV columns, JSON keys and what the
page shows are derived from `FACTS`, so that a new fact is one entry here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, NamedTuple


def show_date(moment: datetime) -> str:
    """Write a date for people: to the minute, or as much of it as is known."""
    return moment.isoformat(" ")[:16]


FactKind = Literal["integer", "number", "text", "texts", "date"]
"""`texts`: any number of them, none by default."""
FactSource = tuple[str | int, ...]
"""Where a fact is read from: ("exif", tag, ...), ("gps", tag, ...), ("iptc", dataset, ...) of the
application record, or ("xmp", "prefix:name", ...). Several names are read together: date and time,
maker and model, degrees and hemisphere."""


class Fact(NamedTuple):
    """One fact of an image: where it is read from, how it is stored, filtered and shown."""

    kind: FactKind
    label: str
    """Its name for people."""
    sources: tuple[FactSource, ...] = ()
    """The best one first; `texts` come from all of them."""
    reader: str = ""
    """How sources are read (`clipsearch.images.exif`), by default as their kind."""
    limits: tuple[float, float] = (-math.inf, math.inf)
    """Least and largest number; others make no sense and are left out."""
    longest: int = 200
    """Most characters of a text."""
    show: Callable[[Any], str] = str
    """Gives the value as text, with its unit."""
    detail: bool = True
    """Whether it is listed among the details of an image."""
    filter_name: str = ""
    """Its name in filters, by default that of the column."""
    synonyms: tuple[str, ...] = ()
    """What people write for the field: for "did you mean"."""
    aliases: Mapping[str, str] = {}
    """Other spellings of a value in filters, in lower case."""
    name: str = ""
    """The attribute of `Facts`, column of the catalog, JSON key and CSV column."""
    required: bool = False
    """Whether every image has it."""


def _fact(kind: FactKind, label: str, *sources: FactSource, **more: Any) -> dict[str, Fact]:
    """Return the metadata of a field of `Facts`."""
    return {"fact": Fact(kind, label, sources, **more)}


# The moment of the photograph, then of its digitization, then of the last change, each with its
# offset from UTC where the standard has one: XMP and IPTC write it behind the time.
_DATES: tuple[FactSource, ...] = (
    ("exif", 0x9003, 0x9011),
    ("xmp", "exif:DateTimeOriginal"),
    ("iptc", 55, 60),
    ("xmp", "photoshop:DateCreated"),
    ("exif", 0x9004, 0x9012),
    ("iptc", 62, 63),
    ("xmp", "exif:DateTimeDigitized"),
    ("xmp", "xmp:CreateDate"),
    ("exif", 0x0132, 0x9010),
)


def _show_seconds(seconds: float) -> str:
    return f"1/{1 / seconds:.0f} s" if seconds < 0.3 else f"{seconds:g} s"


def _show_stars(rating: int) -> str:
    return "★" * rating + "☆" * (5 - rating)


@dataclass(frozen=True, slots=True)
class Facts:
    """What an image says of itself: its size as shown (EXIF orientation applied) and its metadata."""

    width: int = field(metadata=_fact("integer", "Width", detail=False))
    """Pixels."""
    height: int = field(metadata=_fact("integer", "Height", detail=False))
    """Pixels."""
    format: str = field(
        metadata=_fact(
            "text",
            "Format",
            synonyms=("type",),
            aliases={"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000", "heic": "HEIF"},
        )
    )
    """Pillow's name of the format: JPEG, PNG, HEIF, ..."""
    taken_at: datetime | None = field(
        default=None,
        metadata=_fact(
            "date",
            "Taken",
            *_DATES,
            show=show_date,
            filter_name="taken",
            synonyms=("date", "time", "taken_at", "year"),
        ),
    )
    """Local wall-clock time of the camera, without a zone; a `PartialDate` where less is known."""
    camera: str | None = field(
        default=None,
        metadata=_fact(
            "text",
            "Camera",
            ("exif", 0x010F, 0x0110),
            ("xmp", "tiff:Make", "tiff:Model"),
            reader="camera",
            synonyms=("model",),
        ),
    )
    """Maker and model."""
    lens: str | None = field(
        default=None,
        metadata=_fact(
            "text", "Lens", ("exif", 0xA434), ("xmp", "exifEX:LensModel"), ("xmp", "aux:Lens")
        ),
    )
    lat: float | None = field(
        default=None,
        metadata=_fact(
            "number",
            "Latitude",
            ("gps", 2, 1),
            ("xmp", "exif:GPSLatitude"),
            reader="latitude",
            limits=(-90, 90),
            detail=False,
            synonyms=("latitude",),
        ),
    )
    """Degrees, north positive."""
    lon: float | None = field(
        default=None,
        metadata=_fact(
            "number",
            "Longitude",
            ("gps", 4, 3),
            ("xmp", "exif:GPSLongitude"),
            reader="longitude",
            limits=(-180, 180),
            detail=False,
            synonyms=("longitude", "lng"),
        ),
    )
    """Degrees, east positive."""
    iso: int | None = field(
        default=None,
        metadata=_fact(
            "integer",
            "Sensitivity",
            ("exif", 0x8827, 0x8831, 0x8832, 0x8833),
            ("xmp", "exifEX:PhotographicSensitivity"),
            ("xmp", "exif:ISOSpeedRatings"),
            reader="sensitivity",
            limits=(1, 10_000_000),
            show="ISO {}".format,
            synonyms=("sensitivity",),
        ),
    )
    f_number: float | None = field(
        default=None,
        metadata=_fact(
            "number",
            "Aperture",
            ("exif", 0x829D),
            ("xmp", "exif:FNumber"),
            limits=(0.1, 1000),
            show="f/{:g}".format,
            synonyms=("aperture", "fnumber", "f"),
        ),
    )
    exposure: float | None = field(
        default=None,
        metadata=_fact(
            "number",
            "Exposure time",
            ("exif", 0x829A),
            ("xmp", "exif:ExposureTime"),
            limits=(1e-7, 1e6),
            show=_show_seconds,
            synonyms=("exposure_time", "shutter"),
        ),
    )
    """Seconds."""
    focal_length: float | None = field(
        default=None,
        metadata=_fact(
            "number",
            "Focal length",
            ("exif", 0x920A),
            ("xmp", "exif:FocalLength"),
            limits=(0.1, 1e5),
            show="{:g} mm".format,
            synonyms=("focal",),
        ),
    )
    """Millimetres, of the lens itself."""
    rating: int | None = field(
        default=None,
        metadata=_fact(
            "integer",
            "Rating",
            ("xmp", "xmp:Rating"),
            ("exif", 0x4746),
            limits=(0, 5),
            show=_show_stars,
            synonyms=("stars",),
        ),
    )
    """0 to 5 stars."""
    title: str | None = field(
        default=None,
        metadata=_fact("text", "Title", ("xmp", "dc:title"), ("iptc", 5), ("exif", 0x9C9B)),
    )
    description: str | None = field(
        default=None,
        metadata=_fact(
            "text",
            "Description",
            ("xmp", "dc:description"),
            ("iptc", 120),
            ("exif", 0x010E),
            longest=2000,
            synonyms=("caption", "comment"),
        ),
    )
    keywords: tuple[str, ...] = field(
        default=(),
        metadata=_fact(
            "texts",
            "Keywords",
            ("xmp", "dc:subject"),
            ("iptc", 25),
            ("exif", 0x9C9E),
            show=", ".join,
            synonyms=("keyword", "subject"),
        ),
    )
    taken_offset: str | None = field(
        default=None,
        metadata=_fact(
            "text",
            "Offset from UTC",
            *_DATES,
            reader="offset",
            synonyms=("offset", "timezone", "zone", "utc_offset"),
        ),
    )
    """Of `taken_at`, as `+09:00`; None where it is not said."""

    def to_dict(self) -> dict[str, Any]:
        """Return name -> value of every fact, as JSON types: times in ISO 8601, None if unknown."""
        return {fact.name: fact_as_json(fact, getattr(self, fact.name)) for fact in FACTS}

    def details(self) -> list[tuple[str, str]]:
        """Return the known facts as (label, text with unit), for people; without size and place."""
        known = ((fact, getattr(self, fact.name)) for fact in FACTS if fact.detail)
        return [
            (fact.label, fact.show(value)) for fact, value in known if value not in (None, "", ())
        ]


FACTS: tuple[Fact, ...] = tuple(
    one.metadata["fact"]._replace(name=one.name, required=one.default is MISSING)
    for one in fields(Facts)
)
"""Every fact, in the order of the columns."""


def fact_as_json(fact: Fact, value: Any) -> Any:
    """Return the value of a fact as a JSON type: a time in ISO 8601, texts as a list."""
    if fact.kind == "date":
        return None if value is None else value.isoformat()
    return list(value) if fact.kind == "texts" else value


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What the catalog knows of one image file."""

    path: str
    content_id: int
    sha256: str
    bytes: int
    facts: Facts
    labels: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the facts as JSON types, flat; times in ISO 8601."""
        return {
            "path": self.path,
            "bytes": self.bytes,
            "sha256": self.sha256,
            **self.facts.to_dict(),
            "labels": list(self.labels),
        }
