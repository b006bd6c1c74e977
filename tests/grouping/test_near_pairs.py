"""Finding duplicates among real files: tiers on known images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageEnhance
import pytest

from clipsearch.grouping.duplicates import Duplicates, Tier
from clipsearch.grouping.near_pairs import group_duplicates
from clipsearch.images.decode import open_image
from clipsearch.images.files import read_file
from clipsearch.types import ImageRecord, Progress


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def scene(seed: int, size: tuple[int, int] = (384, 288)) -> PIL.Image.Image:
    """Draw an image with large and small things in it."""
    rng = np.random.default_rng(seed)
    rough = PIL.Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    image = rough.resize(size, PIL.Image.Resampling.BICUBIC)
    draw = PIL.ImageDraw.Draw(image)
    for x, y, r in rng.integers(10, 280, (12, 3)):
        draw.ellipse((x, y, x + r // 8, y + r // 8), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


class InMemory:
    """Images of which everything is in memory: an `ImageSource`."""

    def __init__(self, records: list[ImageRecord], rows: np.ndarray) -> None:
        self.rows = rows
        self.found: dict[int, list[ImageRecord]] = {}
        first: dict[str, int] = {}
        for number, record in enumerate(records):
            self.found.setdefault(first.setdefault(record.sha256, number), []).append(record)

    def pages(self) -> Iterator[dict[int, list[ImageRecord]]]:
        for number, records in self.found.items():
            yield {number: records}

    def files(self, numbers: np.ndarray) -> dict[int, list[ImageRecord]]:
        return {number: self.found[number] for number in numbers.tolist()}

    def vectors(self, numbers: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.rows[numbers]
        return found


class Files:
    """Images on disk, with the vectors that a model might have given them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: list[ImageRecord] = []
        self.rows: list[np.ndarray] = []

    def add(self, name: str, image: PIL.Image.Image, towards: int, **settings: Any) -> str:
        path = self.folder / name
        image.save(path, **settings)
        data, digest = read_file(path)
        self.records.append(
            ImageRecord(str(path), len(self.rows), digest, len(data), open_image(path)[1])
        )
        row = 0.02 * np.random.default_rng(len(self.rows)).normal(size=16)
        row[towards] += 1
        self.rows.append(row)
        return str(path)

    def find(self, **options: Any) -> list[Duplicates]:
        return group_duplicates(InMemory(self.records, unit(np.stack(self.rows))), **options)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


# --- tiers ---------------------------------------------------------------------------------


def test_no_images_are_no_duplicates() -> None:
    assert group_duplicates(InMemory([], np.empty((0, 4), np.float32))) == []


def test_copies_in_other_formats_sizes_and_qualities_are_the_same_image(files: Files) -> None:
    image = scene(1)
    best = files.add("best.png", image, 0)
    copies = {
        files.add("q30.jpg", image, 0, quality=30),
        files.add("q90.webp", image, 0, quality=90),
        files.add("half.jpg", image.resize((192, 144)), 0, quality=80),
        files.add("small.png", image.resize((96, 72)), 0),
    }
    files.add("other.png", scene(2), 0)
    (group,) = files.find()
    assert group.tier == "same-image"
    assert group.best == best and set(group.others) == copies
    assert group.others[0].endswith((".webp", ".jpg"))  # full size before smaller ones
    assert group.bytes_saved == sum(r.bytes for r in files.records if r.path in copies)
    assert 0.9 < group.similarity < 1


def test_edits_and_bursts_are_the_same_scene_only(files: Files) -> None:
    wide = scene(3, (480, 360))
    first = files.add("first.png", wide.crop((40, 40, 424, 328)), 0)
    moved = files.add("moved.png", wide.crop((56, 40, 440, 328)), 0)
    brighter = PIL.ImageEnhance.Brightness(wide.crop((40, 40, 424, 328))).enhance(1.2)
    bright = files.add("brighter.png", brighter, 0)
    (group,) = files.find()
    assert group.tier == "same-scene"
    assert {group.best, *group.others} == {first, moved, bright}


def test_a_small_change_in_an_image_is_not_overlooked(files: Files) -> None:
    image = scene(4, (1024, 1024))
    changed = image.copy()
    PIL.ImageDraw.Draw(changed).ellipse((500, 500, 520, 520), fill="white", outline="black")
    files.add("eyes open.png", image, 0)
    files.add("eyes closed.png", changed, 0)
    assert [group.tier for group in files.find()] == ["same-scene"]


def test_looks_alike_but_means_something_else(files: Files) -> None:
    image = scene(5)
    files.add("one.png", image, 0)
    files.add("two.png", PIL.ImageEnhance.Brightness(image).enhance(1.2), 1)
    assert files.find() == []


def test_tiers_build_on_each_other_and_no_file_is_named_twice(files: Files) -> None:
    wide = scene(6, (480, 360))
    shot, next_shot = wide.crop((0, 0, 384, 288)), wide.crop((16, 0, 400, 288))
    best = files.add("a.png", shot, 0)
    same_bytes = files.add("a copy.png", shot, 0)
    smaller = files.add("a.jpg", shot, 0, quality=60)
    smaller_too = files.add("a (1).jpg", shot, 0, quality=60)
    burst = files.add("b.png", next_shot, 0)
    found = files.find()
    assert [(g.tier, g.best, g.others) for g in found if g.tier == "same-bytes"] == [
        ("same-bytes", best, (same_bytes,)),
        ("same-bytes", smaller, (smaller_too,)),
    ]
    (copies,) = (g for g in found if g.tier == "same-image")
    assert (copies.best, copies.others) == (best, (smaller,))
    (scenes,) = (g for g in found if g.tier == "same-scene")
    assert {scenes.best, *scenes.others} == {best, burst}
    going = [path for g in found if g.safe for path in g.others]
    assert sorted(going) == sorted([same_bytes, smaller, smaller_too])


def test_one_tier_alone_is_what_it_is_among_all(files: Files) -> None:
    image = scene(7)
    for name, settings in (("a.png", {}), ("b.png", {}), ("c.jpg", {"quality": 50})):
        files.add(name, image, 0, **settings)
    everything = files.find()
    assert [g.tier for g in everything] == ["same-bytes", "same-image"]
    for group in everything:
        assert files.find(tiers=[group.tier]) == [group]
    assert files.find(tiers=["same-scene"]) == []


def test_equal_bytes_need_no_pixels(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    image = scene(8)
    for name in ("a.png", "b.png"):
        files.add(name, image, 0)
    monkeypatch.delattr("clipsearch.grouping.near_pairs.decode_square")
    (group,) = files.find(tiers=["same-bytes"])
    assert group.similarity == pytest.approx(1, abs=0.01)


def test_an_image_that_is_gone_is_left_out_with_a_warning(files: Files) -> None:
    image = scene(9)
    for name, quality in (("a.jpg", 95), ("b.jpg", 60), ("c.jpg", 30)):
        files.add(name, image, 0, quality=quality)
    (files.folder / "b.jpg").unlink()
    with pytest.warns(UserWarning, match=r"not there or have changed: 1, .*b\.jpg among them"):
        (group,) = files.find()
    assert [Path(path).name for path in (group.best, *group.others)] == ["a.jpg", "c.jpg"]


@pytest.mark.parametrize("tier", ["same-bytes", "same-image"])
def test_no_file_is_a_copy_of_one_that_is_gone(files: Files, tier: Tier) -> None:
    for name in ("a.png", "longer.png", "longest.png"):  # the shortest path is best
        files.add(name, scene(8), 0)
    (files.folder / "a.png").unlink()
    with pytest.warns(UserWarning, match=r"a\.png"):
        groups = files.find(tiers=[tier])
    named = [[Path(path).name for path in (group.best, *group.others)] for group in groups]
    assert named == ([["longer.png", "longest.png"]] if tier == "same-bytes" else [])
    (files.folder / "longer.png").unlink()
    with pytest.warns(UserWarning, match=r"2, .*a\.png"):
        assert files.find() == []


@pytest.mark.parametrize("changed", ["a.png", "b.png"])
@pytest.mark.parametrize("same_size", [True, False])
def test_no_file_that_has_changed_is_a_copy_or_has_any(
    files: Files, changed: str, same_size: bool
) -> None:
    for name in ("a.png", "b.png", "c.png"):
        files.add(name, scene(8), 0)
    path = files.folder / changed
    data = path.read_bytes()
    path.write_bytes(data[:-20] + bytes(20) if same_size else data + b"more")
    with pytest.warns(UserWarning, match=changed):
        (group,) = files.find(tiers=["same-bytes"])
    assert changed not in [Path(path).name for path in (group.best, *group.others)]
    assert len(group.others) == 1


def test_a_file_that_vanishes_after_it_was_seen_is_in_no_group(files: Files) -> None:
    image = scene(9)
    for name, quality in (("a.jpg", 95), ("b.jpg", 60), ("c.jpg", 30)):
        files.add(name, image, 0, quality=quality)
    (files.folder / "a.jpg").with_suffix(".old").write_bytes((files.folder / "a.jpg").read_bytes())

    def vanish(progress: Progress) -> None:
        (files.folder / "a.jpg").unlink(missing_ok=True)

    (group,) = files.find(on_progress=vanish)
    assert [Path(path).name for path in (group.best, *group.others)] == ["b.jpg", "c.jpg"]


def test_groups_that_save_most_come_first(files: Files) -> None:
    for seed, quality in ((10, 40), (11, 95)):
        files.add(f"{seed}.png", scene(seed), seed - 10)
        files.add(f"{seed}.jpg", scene(seed), seed - 10, quality=quality)
    groups = files.find()
    assert [Path(group.best).name for group in groups] == ["11.png", "10.png"]
    assert groups[0].bytes_saved > groups[1].bytes_saved


def test_progress_is_told(files: Files) -> None:
    for seed in (12, 13):
        files.add(f"{seed}.png", scene(seed), 0)
    seen: list[Progress] = []
    files.find(on_progress=seen.append)
    assert [(p.phase, p.done, p.total) for p in seen if p.done == p.total] == [
        ("compare", 2, 2),
        ("look", 2, 2),
    ]


# --- thresholds ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("cosine", "found"), [(0.79, False), (0.81, True)])
def test_pixels_are_compared_from_a_cosine_of_four_fifths(
    tmp_path: Path, cosine: float, found: bool
) -> None:
    made = Files(tmp_path)
    made.add("a.png", scene(0), 0)
    made.add("b.jpg", scene(0), 0, quality=95)
    rows = np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]], dtype=np.float32)
    groups = group_duplicates(InMemory(made.records, rows), tiers=["same-image"])
    assert bool(groups) is found


@pytest.mark.parametrize(("cosine", "found"), [(0.84, False), (0.86, True)])
def test_scenes_are_alike_from_a_cosine_of_point_85(
    tmp_path: Path, cosine: float, found: bool
) -> None:
    made = Files(tmp_path)
    made.add("a.png", scene(0), 0)
    made.add("b.png", PIL.ImageEnhance.Brightness(scene(0)).enhance(0.8), 0)
    rows = np.array([[1, 0], [cosine, np.sqrt(1 - cosine**2)]], dtype=np.float32)
    groups = group_duplicates(InMemory(made.records, rows), tiers=["same-scene"])
    assert bool(groups) is found
