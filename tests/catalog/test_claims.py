"""Claims on files of a shared library."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from postgres_server import server

from clipsearch.catalog import Catalog
from clipsearch.catalog.claims import claim_files, release_claims, release_dead_claims


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    with Catalog.create(server().new_library()) as made:
        yield made


def claim(catalog: Catalog, owner: str, *paths: str, seconds: float = 60.0) -> set[str]:
    return catalog.note(claim_files, paths, 1, owner=owner, seconds=seconds)


def test_a_file_is_claimed_by_one(catalog: Catalog) -> None:
    assert claim(catalog, "me", "/a", "/b") == {"/a", "/b"}
    assert claim(catalog, "you", "/b", "/c") == {"/c"}
    assert claim(catalog, "me", "/a") == {"/a"}
    assert catalog.note(claim_files, ["/a"], 2, owner="you", seconds=60) == {
        "/a"
    }  # for another model


def test_what_is_given_up_can_be_claimed(catalog: Catalog) -> None:
    claim(catalog, "me", "/a")
    claim(catalog, "other", "/b")
    catalog.note(release_claims, "me")
    assert claim(catalog, "you", "/a", "/b") == {"/a"}


def test_a_lease_ends_unless_it_is_renewed(catalog: Catalog) -> None:
    claim(catalog, "me", "/a", seconds=0.3)
    claim(catalog, "lazy", "/b", seconds=0.3)
    claim(catalog, "me")
    time.sleep(0.4)
    claim(catalog, "me", seconds=60)
    assert claim(catalog, "you", "/a", "/b") >= {"/b"}
    assert claim(catalog, "me", "/a") | claim(catalog, "you", "/a") == {"/a"}


def test_many_that_claim_at_once_share_without_overlap(catalog: Catalog) -> None:
    paths = [f"/{number}" for number in range(200)]
    got: dict[str, set[str]] = {}

    def take(owner: str) -> None:
        for _ in range(3):
            got[owner] = claim(catalog, owner, *paths)

    threads = [threading.Thread(target=take, args=(owner,)) for owner in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path for some in got.values() for path in some) == sorted(paths)


def test_claims_of_processes_that_ended_here_are_given_up(catalog: Catalog) -> None:
    claim(catalog, "here pid:[4]:17:aa", "/a")
    claim(catalog, "here pid:[4]:18:bb", "/b")
    claim(catalog, "there pid:[4]:17:cc", "/c")
    asked: list[int] = []

    def is_alive(number: int) -> bool:
        asked.append(number)
        return number == 18

    catalog.note(release_dead_claims, "here pid:[4]", is_alive)
    assert sorted(asked) == [17, 18]
    assert claim(catalog, "you", "/a", "/b", "/c") == {"/a"}
