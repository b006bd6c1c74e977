"""The suffixes of image files, and the names of links that may have led to images."""

from __future__ import annotations

import pytest

from clipsearch.images import IMAGE_SUFFIXES, file_suffix, may_lead_to_images


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.JPG", ".jpg"), ("a.b.png", ".png"), ("a", ""), (".jpg", ""), (".hidden.jpg", ".jpg"),
        ("a.", "."), ("..jpg", ""), ("", ""),
    ],
)  # fmt: skip
def test_a_suffix_is_what_follows_the_last_dot(name: str, suffix: str) -> None:
    assert file_suffix(name) == suffix


def test_the_formats_are_those_of_cameras_phones_and_the_web() -> None:
    assert {IMAGE_SUFFIXES[s] for s in (".jpg", ".jpeg", ".jfif")} == {"JPEG"}
    assert IMAGE_SUFFIXES[".heic"] == "HEIC/HEIF"
    assert IMAGE_SUFFIXES[".tif"] == "TIFF"
    assert ".pdf" not in IMAGE_SUFFIXES and ".svg" not in IMAGE_SUFFIXES
    assert all(s == s.lower() and s.startswith(".") for s in IMAGE_SUFFIXES)


@pytest.mark.parametrize("name", ["trip", "a.jpg", "2024.05 Paris", "2024.05", "a.HEIC"])
def test_a_dead_link_of_this_name_may_have_led_to_images(name: str) -> None:
    assert may_lead_to_images(name)


@pytest.mark.parametrize("name", ["notes.txt", "a.pdf", "film.mp4"])
def test_a_dead_link_of_another_kind_did_not(name: str) -> None:
    assert not may_lead_to_images(name)
