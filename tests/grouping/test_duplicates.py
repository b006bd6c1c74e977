"""What is the same and which copy is best: values in, values out."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from clipsearch.grouping.duplicates import (
    Duplicates,
    cells,
    coarsen,
    group_around_best,
    layout_likeness,
    quality,
    same_image,
)
from clipsearch.types import Facts, ImageRecord


def record(path: str, *, size: tuple[int, int] = (400, 300), **facts: object) -> ImageRecord:
    count = facts.pop("bytes", 1000)
    sha256 = facts.pop("sha256", path)
    known = {"format": "JPEG", **facts}
    return ImageRecord(path, 0, str(sha256), int(str(count)), Facts(*size, **known))  # type: ignore[arg-type]


# --- the best copy -------------------------------------------------------------------------


def test_the_best_copy_comes_first() -> None:
    best_first = [
        record("/a/large.jpg", size=(800, 600)),
        record("/a/camera.jpg", camera="Pixel"),
        record("/a/dated.jpg", taken_at=datetime(2024, 1, 1), bytes=900),
        record("/a/lossless.png", format="PNG"),
        record("/a/phone.heic", format="HEIF", bytes=1100),
        record("/a/heavy.jpg", bytes=2000),
        record("/a/x.jpg"),
        record("/a/y.jpg"),
        record("/a/longer name.jpg"),
        record("/a/palette.gif", format="GIF", bytes=5000),
        record("/a/small.png", size=(100, 75), format="PNG", bytes=9000),
    ]
    assert sorted(best_first[::2] + best_first[1::2], key=quality) == best_first


def test_a_group_says_what_could_be_saved() -> None:
    records = (record("/best.png", bytes=50), record("/b.jpg", bytes=20), record("/c.jpg", bytes=7))
    group = Duplicates("same-image", records, (1.0, 0.9, 0.95))
    assert group.to_dict() == {
        "tier": "same-image",
        "best": "/best.png",
        "paths": ["/best.png", "/b.jpg", "/c.jpg"],
        "similarity": 0.9,
        "bytes_saved": 27,
    }
    assert group.others == ("/b.jpg", "/c.jpg") and group.safe
    assert not replace(group, tier="same-scene").safe


# --- groups --------------------------------------------------------------------------------


def test_likeness_does_not_pass_on_from_copy_to_copy() -> None:
    # A chain 0-1-2-3-4, each like the next only.
    pairs = np.array([[0, 1], [1, 2], [2, 3], [3, 4]])
    assert group_around_best(range(5), pairs, lambda a, b: True) == [[0, 1], [2, 3]]
    assert group_around_best([2, 0, 1, 3, 4], pairs, lambda a, b: True) == [[2, 1, 3]]


def test_every_member_was_compared_with_the_best() -> None:
    rng = np.random.default_rng(0)
    like = rng.random((30, 30)) < 0.3
    pairs = np.argwhere(np.triu(np.ones((30, 30)), 1))
    asked: list[tuple[int, int]] = []

    def alike(best: int, other: int) -> bool:
        asked.append((best, other))
        return bool(like[min(best, other), max(best, other)])

    order = rng.permutation(30).tolist()
    groups = group_around_best(order, pairs, alike)
    members = [item for group in groups for item in group]
    assert len(members) == len(set(members)) > 20
    for best, *others in groups:
        assert all(
            (best, other) in asked and order.index(best) < order.index(other) for other in others
        )
        assert all(like[min(best, other), max(best, other)] for other in others)


def test_only_pairs_that_may_be_alike_are_compared() -> None:
    assert group_around_best(range(3), np.empty((0, 2), int), lambda a, b: True) == []
    assert group_around_best(range(3), np.array([[1, 2]]), lambda a, b: True) == [[1, 2]]


# --- pixels --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((4000, 3000), (2000, 1500), 256),
        ((4000, 3000), (320, 240), 48),
        ((4000, 3000), (180, 135), 16),
        ((400, 300), (400, 300), 60),
        ((4000, 3000), (54, 40), 8),
        ((4000, 3000), (53, 39), 0),  # too small to tell
        ((4000, 3000), (3000, 4000), 0),
        ((1000, 1000), (1000, 960), 0),
        ((1000, 1000), (500, 490), 98),
        ((1029, 1000), (1000, 1000), 200),  # proportions differ by less than 3 %
        ((1031, 1000), (1000, 1000), 0),
        ((165, 165), (165, 165), 32),  # up to 32 cells a power of two
        ((170, 170), (170, 170), 34),
    ],
)
def test_how_closely_two_sizes_can_be_compared(
    one: tuple[int, int], other: tuple[int, int], expected: int
) -> None:
    facts = [Facts(*size, "JPEG") for size in (one, other)]
    assert cells(*facts) == cells(*reversed(facts)) == expected


def test_coarser_looks_are_means_of_blocks() -> None:
    look = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)
    found = coarsen(look, 4)
    assert found.shape == (2, 4, 4, 3)
    assert found[1, 2, 3, 0] == pytest.approx(look[1, 4:6, 6:8, 0].astype(float).mean())
    assert np.array_equal(coarsen(look, 8), look.astype(np.float32))


def test_compression_is_overlooked_and_changes_are_not() -> None:
    rng = np.random.default_rng(0)
    look = rng.integers(40, 200, (64, 64, 3)).astype(np.uint8)
    noise = rng.integers(-3, 4, look.shape)
    assert same_image(look, (look + noise).astype(np.uint8))
    spot = look.copy()
    spot[10, 20] += 14
    assert not same_image(look, spot)
    spot[10, 20] = look[10, 20] + 10
    assert same_image(look, spot)
    spot[10:12, 20:22] = look[10:12, 20:22] + np.array([22.0, 0, -16.0])
    assert not same_image(look, spot)
    tinted = look + np.array([10.0, 0, -10.0])
    assert abs(tinted.mean() - look.mean()) < 0.1
    assert not same_image(look, tinted)


def test_many_pairs_are_compared_at_once() -> None:
    looks = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    other = looks.copy()
    other[[1, 3], 5:9, 5:9] = 255 - other[[1, 3], 5:9, 5:9]
    assert same_image(looks, other).tolist() == [True, False, True, False, True]


def test_layout_likeness_is_the_best_correlation_over_shifts() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    expected = -1.0
    for y in range(-2, 3):
        for x in range(-2, 3):
            a = one[max(0, y) : 16 + min(0, y), max(0, x) : 16 + min(0, x)].astype(float)
            b = other[max(0, -y) : 16 + min(0, -y), max(0, -x) : 16 + min(0, -x)].astype(float)
            a, b = (p - p.mean(axis=(0, 1)) for p in (a, b))
            expected = max(expected, float(np.corrcoef(a.ravel(), b.ravel())[0, 1]))
    assert layout_likeness(one, other) == pytest.approx(expected, abs=1e-4)


def test_a_moved_or_brighter_image_is_laid_out_alike() -> None:
    rng = np.random.default_rng(1)
    scene = np.kron(rng.integers(0, 256, (20, 20, 3)), np.ones((2, 2, 1))).astype(np.uint8)
    here, moved = scene[4:36, 4:36], scene[4:36, 8:40]
    assert layout_likeness(here, moved) == pytest.approx(1, abs=1e-4)
    assert layout_likeness(here, here // 2 + 60) > 0.99
    assert layout_likeness(here, scene[4:36, 8:40][::-1]) < 0.5


def test_a_plain_surface_is_like_nothing() -> None:
    plain = np.full((32, 32, 3), 200, dtype=np.uint8)
    assert layout_likeness(plain, plain) == 0


# --- thresholds ----------------------------------------------------------------------------------

GREY = np.full((64, 64, 3), 100.0)


@pytest.mark.parametrize(
    ("difference", "same"), [(3.9, True), (4.1, False), (-3.9, True), (-4.1, False)]
)
def test_the_mean_colour_may_differ_by_4_of_255(difference: float, same: bool) -> None:
    assert bool(same_image(GREY, GREY + difference)) is same


@pytest.mark.parametrize(
    ("difference", "same"), [(11.9, True), (12.1, False), (-11.9, True), (-12.1, False)]
)
def test_the_luma_of_a_cell_may_differ_by_12_of_255(difference: float, same: bool) -> None:
    other = GREY.copy()
    other[20, 30] += difference
    assert bool(same_image(GREY, other)) is same


@pytest.mark.parametrize(("difference", "same"), [(15.9, True), (16.1, False)])
def test_the_chroma_of_two_by_two_cells_may_differ_by_16_of_255(
    difference: float, same: bool
) -> None:
    """Blue up and red down, so that luma (ITU-R BT.601) stays as it is."""
    other = GREY.copy()
    other[20:22, 30:32] += np.array([-0.114 / 0.299 * difference, 0, difference])
    assert bool(same_image(GREY, other)) is same
    # One cell alone is averaged with its neighbours.
    other = GREY.copy()
    other[20, 30] += np.array([-0.114 / 0.299 * 60, 0, 60])
    assert bool(same_image(GREY, other))


@pytest.mark.parametrize(("shift", "alike"), [(2, True), (3, False)])
def test_the_camera_may_move_by_2_of_16_cells(shift: int, alike: bool) -> None:
    scene = np.random.default_rng(4).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    found = layout_likeness(scene[:, :16], scene[:, shift : shift + 16])
    assert bool(found > 0.99) is alike


@pytest.mark.parametrize(
    ("format", "worth"),
    [("WEBP", 1.4), ("JPEG2000", 1.2), ("HEIF", 2.0), ("AVIF", 2.0), ("GIF", 0.1)],
)
def test_a_byte_of_a_format_is_worth_so_many_of_jpeg(format: str, worth: float) -> None:
    other = record("/a/x.img", format=format, bytes=1000)
    assert quality(other) < quality(record("/a/x.jpg", bytes=int(1000 * worth) - 1))
    assert quality(other) > quality(record("/a/x.jpg", bytes=int(1000 * worth) + 1))


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM"])
def test_a_format_without_loss_is_better_than_more_bytes(format: str) -> None:
    assert quality(record("/a/x", format=format, bytes=1)) < quality(
        record("/a/x.jpg", bytes=10**6)
    )
