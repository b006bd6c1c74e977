"""The list of mutations fits the code: what would be broken is there, and so are its tests."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LISTED = tomllib.loads((ROOT / "scripts/mutations/mutations.toml").read_text("utf-8"))["mutation"]


def package_of(path: str) -> str:
    """Return the package that a module or a test belongs to: `heads` of `tests/heads/test_head.py`."""
    return path.split("/")[1]


def test_there_are_thirty_mutations_of_twelve_packages() -> None:
    assert len(LISTED) >= 30
    assert len({package_of(one["file"]) for one in LISTED}) >= 12
    assert len({one["name"] for one in LISTED}) == len(LISTED)


@pytest.mark.parametrize("one", LISTED, ids=lambda one: one["name"])
def test_a_mutation_changes_one_place_of_its_file(one: dict[str, str]) -> None:
    assert set(one) == {"name", "file", "old", "new", "tests"}
    assert one["file"].startswith("clipsearch/") and one["file"].endswith(".py")
    text = (ROOT / one["file"]).read_text("utf-8")
    assert text.count(one["old"]) == 1, "choose its text again"
    assert one["new"] != one["old"]
    compile(text.replace(one["old"], one["new"]), one["file"], "exec")


@pytest.mark.parametrize("one", LISTED, ids=lambda one: one["name"])
def test_a_mutation_is_tried_with_tests_of_its_own_package(one: dict[str, str]) -> None:
    tests = one["tests"].split()
    assert tests
    for test in tests:
        assert (ROOT / test).is_file(), test
        assert package_of(test) == package_of(one["file"]), test
