"""Compare the branch coverage of the last whole run of the tests with what each package owes.

python scripts/coverage_floors.py          # after ./scripts/test
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import coverage

ROOT = Path(__file__).resolve().parent.parent
FLOOR = 90.0
CORE_FLOOR = 95.0
CORE = ("catalog", "vectors", "indexing", "images")
"""What loses or misreads the images of users if it is wrong."""


def main() -> int:
    """Print the coverage of every package and return 1 if one is below its floor."""
    measured = coverage.Coverage(data_file=ROOT / ".coverage", config_file=ROOT / "pyproject.toml")
    measured.load()
    packages = sorted(path.parent.name for path in (ROOT / "clipsearch").glob("*/__init__.py"))
    below = []
    for name in packages:
        pattern = f"{ROOT}/clipsearch/{name}/*"
        share = measured.report(include=[pattern], file=io.StringIO())
        floor = CORE_FLOOR if name in CORE else FLOOR
        below += [name] if share < floor else []
        print(f"{name:<14} {share:5.1f} %  (at least {floor:.0f} %)")
    total = measured.report(file=io.StringIO())
    print(f"{'all':<14} {total:5.1f} %  (at least {FLOOR:.0f} %)")
    below += ["all"] if total < FLOOR else []
    if below:
        print(f"too few branches are tested in: {', '.join(below)}", file=sys.stderr)
    return int(bool(below))


if __name__ == "__main__":
    sys.exit(main())
