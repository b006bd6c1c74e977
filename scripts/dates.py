"""Compare the dates and positions that clipsearch reads with those of exiftool.

    python scripts/dates.py FOLDER [--all]

Every file below FOLDER that clipsearch decodes is read by both. Of exiftool's tags that date is
taken which the documented order names first (EXIF, XMP and IPTC dates of creation, then of
digitization, then EXIF's last change), as far as it is a possible one; positions are exiftool's
composite ones, and those of XMP where these are blank. Prints a line for each difference, then equal of total. Needs `exiftool`. Files of other
suffixes are left out unless `--all` is given.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from clipsearch.errors import ImageError
from clipsearch.images import IMAGE_SUFFIXES, file_suffix
from clipsearch.images.decode import open_image

Position = tuple[float, float]

ORDER = (
    ("ExifIFD:DateTimeOriginal", "IFD0:DateTimeOriginal"),
    ("XMP-exif:DateTimeOriginal",),
    ("IPTC:DateCreated",),
    ("XMP-photoshop:DateCreated",),
    ("ExifIFD:CreateDate", "IFD0:CreateDate"),
    ("IPTC:DigitalCreationDate",),
    ("XMP-exif:DateTimeDigitized",),
    ("XMP-xmp:CreateDate",),
    ("IFD0:ModifyDate",),
)
IPTC_TIME = {"IPTC:DateCreated": "TimeCreated", "IPTC:DigitalCreationDate": "DigitalCreationTime"}
WHOLE = re.compile(r"(\d{4})[:.-](\d\d)[:.-](\d\d)(?: (\d\d):(\d\d)(?::(\d\d))?)?")
PARTIAL = re.compile(r"(\d{4})(?::(\d\d))?")


def read_tags(folder: Path) -> dict[str, dict[str, Any]]:
    """Return path -> tag with its group -> value, of all files below a folder."""
    command = [
        "exiftool",
        "-json",
        "-a",
        "-G1",
        "-n",
        "-recurse",
        "-time:all",
        "-gps*",
        str(folder),
    ]
    output = subprocess.run(command, capture_output=True, check=False).stdout
    return {one["SourceFile"]: one for one in json.loads(output or b"[]")}


def expected_date(tags: dict[str, Any]) -> str | None:
    """Return the date of exiftool's tags in ISO 8601, as much of it as makes sense."""
    for names in ORDER:
        for name in names:
            text = str(tags.get(name, ""))
            if time := IPTC_TIME.get(name):
                text += f" {tags.get('IPTC:' + time, '')}"
            if date := as_iso(text):
                return date
    return None


def as_iso(text: str) -> str | None:
    """Return a date of exiftool in ISO 8601; without the time if that is none."""
    if found := WHOLE.match(text):
        numbers = [int(part) for part in found.groups() if part]
        for known in (numbers, numbers[:3]):
            try:
                moment = datetime(*known)  # type: ignore[arg-type]
            except ValueError:
                continue
            return moment.isoformat()[: {3: 10, 5: 16, 6: 19}[len(known)]]
        return None
    if found := PARTIAL.fullmatch(text.strip()):
        year, month = int(found[1]), int(found[2] or 1)
        if year and 1 <= month <= 12:
            return text.strip().replace(":", "-")
    return None


def expected_position(tags: dict[str, Any]) -> Position | None:
    """Return the position that exiftool makes of the tags, else that of XMP, in degrees."""
    for group in ("Composite", "XMP-exif"):
        lat, lon = (tags.get(f"{group}:GPS{name}") for name in ("Latitude", "Longitude"))
        if isinstance(lat, int | float) and isinstance(lon, int | float):
            return None if lat == lon == 0 else (lat, lon)
    return None


def same_position(one: Position | None, other: Position | None) -> bool:
    """Tell whether two positions are the same to ten centimetres."""
    if one is None or other is None:
        return one is other
    return all(abs(a - b) < 1e-6 for a, b in zip(one, other, strict=True))


def main() -> None:
    """Compare, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="files of all suffixes")
    options = parser.parse_args()
    read = 0
    counts: dict[str, list[int]] = {"dates": [0, 0], "positions": [0, 0]}
    for path, tags in sorted(read_tags(options.folder).items()):
        if not options.all and file_suffix(Path(path).name) not in IMAGE_SUFFIXES:
            continue
        try:
            facts = open_image(path)[1]
        except ImageError:
            continue
        read += 1
        date = facts.taken_at.isoformat() if facts.taken_at else None
        position = (
            (facts.lat, facts.lon) if facts.lat is not None and facts.lon is not None else None
        )
        wanted_date, wanted_position = expected_date(tags), expected_position(tags)
        pairs: dict[str, tuple[Any, Any, bool]] = {
            "dates": (date, wanted_date, date == wanted_date),
            "positions": (position, wanted_position, same_position(position, wanted_position)),
        }
        for kind, (ours, theirs, equal) in pairs.items():
            if ours is not None or theirs is not None:
                counts[kind][0] += equal
                counts[kind][1] += 1
                if not equal:
                    print(f"{kind}: {path}: clipsearch {ours}, exiftool {theirs}")
    print(f"{read:,} files read")
    for kind, (same, total) in counts.items():
        print(f"{kind}: {same} of {total} equal ({same / max(total, 1):.1%})")
    sys.exit(any(same < total for same, total in counts.values()))


if __name__ == "__main__":
    main()
