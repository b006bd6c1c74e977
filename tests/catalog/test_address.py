"""Addresses of libraries in PostgreSQL, and what messages show of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipsearch.catalog.address import Address, is_address
from clipsearch.errors import LibraryError

SECRET = "p@ss:w/rd"
QUOTED = "p%40ss%3Aw%2Frd"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("postgresql://ann@db/photos", "postgresql://ann@db/photos"),
        ("postgres://db", "postgresql://db"),
        ("postgresql+psycopg://db:5433/x", "postgresql://db:5433/x"),
        (f"postgresql://ann:{QUOTED}@db/x", "postgresql://ann@db/x"),
        (
            f"postgresql://db/x?password={QUOTED}&sslmode=require",
            "postgresql://db/x?sslmode=require",
        ),
        ("postgresql:///x?host=/run/pg", "postgresql:///x?host=/run/pg"),
        ("postgresql://a,b:2/x?schema=cats", "postgresql://a,b:2/x?schema=cats"),
    ],
)
def test_messages_name_the_database_and_no_secret(given: str, name: str) -> None:
    address = Address.parse(given)
    assert address.name == name
    assert QUOTED not in repr(address)


def test_all_but_the_schema_is_for_the_driver() -> None:
    given = f"postgresql://ann:{QUOTED}@db/x?schema=cats&sslmode=verify-full&sslrootcert=/ca.pem"
    address = Address.parse(given)
    assert address.schema == "cats"
    assert address.uri == (
        f"postgresql://ann:{QUOTED}@db/x?sslmode=verify-full&sslrootcert=/ca.pem"
    )


def test_a_path_that_was_made_of_an_address_is_one() -> None:
    path = Path("postgresql://ann@db/photos")
    assert is_address(path)
    assert Address.parse(path) == Address.parse("postgresql://ann@db/photos")


@pytest.mark.parametrize("given", ["index", "/data/postgresql", "s3://bucket", "postgresql"])
def test_a_folder_is_no_address(given: str) -> None:
    assert not is_address(given)


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://db/x?schema=A-b",
        "postgresql://db/x?schema=",
        "postgresql://db/x?schema=pg_x",
        "postgresql://[db/x",
    ],
)
def test_what_cannot_be_read_is_refused(given: str) -> None:
    with pytest.raises(LibraryError):
        Address.parse(given)


@pytest.mark.parametrize(
    "given", [f"postgresql://ann:{QUOTED}@db/x", f"postgresql://db/x?password={QUOTED}"]
)
def test_messages_of_the_driver_are_cleared_of_the_password(given: str) -> None:
    address = Address.parse(given)
    assert address.has_password
    said = address.without_secrets(f"could not connect with {QUOTED} or {SECRET}")
    assert QUOTED not in said and SECRET not in said


@pytest.mark.parametrize(
    "password", ["my@Secret", "my/Secret", "my#Secret", "my?Secret", "p@ss/w?Secret", "%Secret@x"]
)
def test_of_a_password_whose_signs_are_not_quoted_nothing_is_shown(password: str) -> None:
    with pytest.raises(LibraryError) as caught:
        Address.parse(f"postgresql://ann:{password}@127.0.0.1/photos")
    said = str(caught.value)
    assert "Secret" not in said and "%40" in said


@pytest.mark.parametrize("option", ["sslpassword=s3cret", "passwor=s3cret", "password=s3cret"])
def test_all_that_may_be_a_password_is_one(option: str) -> None:
    address = Address.parse(f"postgresql://db/x?{option}")
    assert address.has_password and "s3cret" not in address.name
    assert address.without_secrets("s3cret") == "***"


def test_what_is_quoted_in_an_address_stays_so() -> None:
    given = "postgresql://db/x?options=-c%20statement_timeout%3D50000&passfile=/my%20file"
    address = Address.parse(given)
    assert address.uri == given and not address.has_password
