"""A run of the indexer: what it adds, counts, forgets and publishes, for every way files change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from conftest import ToyEncoder

from clipsearch.catalog import Catalog
from clipsearch.errors import VectorIndexError
from clipsearch.images.walk import Walk
from clipsearch.indexing import indexer as module
from clipsearch.indexing.indexer import Indexer
from clipsearch.types import IndexOptions, IndexReport, Progress
from clipsearch.vectors.snapshots import Snapshots

Make = Callable[..., list[Path]]


@dataclass
class Runs:
    """A catalog, its encoder, and all that runs over the folder said."""

    catalog: Catalog
    folder: Path
    encoder: ToyEncoder = field(default_factory=ToyEncoder)
    loaded: int = 0
    progress: list[Progress] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model_id = self.catalog.add_model(self.encoder.info)
        self.snapshots = Snapshots(self.catalog.folder, self.catalog, self.model_id)

    def run(self, *paths: Path, **options: Any) -> IndexReport:
        return self.indexer(**options).run(Walk(list(paths) or [self.folder]))

    def indexer(self, **options: Any) -> Indexer:
        def load() -> ToyEncoder:
            self.loaded += 1
            return self.encoder

        return Indexer(
            self.catalog,
            self.model_id,
            load,
            self.snapshots,
            IndexOptions(workers=2, batch_size=4, **options),
            self.progress.append,
            self.warnings.append,
        )

    def paths(self) -> set[str]:
        return {record.path for record in self.catalog.records()}


@pytest.fixture
def runs(tmp_path: Path, make_images: Make) -> Iterator[Runs]:
    folder = make_images(9)[0].parent
    with Catalog.create(tmp_path / "library") as catalog:
        yield Runs(catalog, folder)


def counts(report: IndexReport) -> dict[str, int]:
    """Return the counts that are not 0."""
    names = ("added", "updated", "unchanged", "renamed", "removed", "failed", "embedded")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def test_a_first_run_adds_everything_and_a_second_one_reads_nothing(runs: Runs) -> None:
    assert counts(runs.run()) == {"added": 9, "embedded": 9}
    assert runs.paths() == {str(path) for path in runs.folder.iterdir()}
    assert counts(runs.run()) == {"unchanged": 9}
    assert runs.loaded == 1, "the model is loaded when an image has to be encoded, not before"
    assert runs.encoder.images_encoded == 9
    assert runs.warnings == []


def test_the_vectors_in_the_catalog_are_those_of_the_encoder(runs: Runs) -> None:
    from PIL import Image

    runs.run()
    for path in runs.folder.iterdir():
        with Image.open(path) as image:
            pixels = runs.encoder.preprocess(image.convert("RGB"))
        [expected] = runs.encoder.encode_images(pixels[None])
        stored = runs.catalog.vector_of(str(path), runs.model_id)
        assert stored is not None
        np.testing.assert_allclose(stored, expected, atol=1e-3)


def test_what_a_walk_cannot_read_is_listed_until_it_can_be(runs: Runs) -> None:
    (runs.folder / "gone").symlink_to("nowhere")
    (runs.folder / os.fsdecode(b"caf\xe9.png")).touch()
    (runs.folder / "broken.png").write_bytes(b"no image")
    assert runs.run(dry_run=True).failed == 2 and runs.catalog.errors() == []
    report = runs.run()
    assert report.failed == 3 and runs.catalog.errors() == list(report.failures)
    runs.indexer().run(Walk([runs.folder / "0000.png"]))  # sees nothing of these
    assert runs.catalog.errors() == list(report.failures)
    (runs.folder / "gone").unlink()
    left = runs.run().failures
    assert len(left) == 2 and runs.catalog.errors() == list(left)
    runs.catalog.remove_paths(runs.paths())
    runs.catalog.remove_paths([str(runs.folder / "broken.png")])
    assert runs.catalog.errors() == []


def test_known_images_in_folders_left_out_by_default_leave_with_a_word(runs: Runs) -> None:
    junk = runs.folder / "@eaDir"
    junk.mkdir()
    for name in ("0.png", "1.png"):
        (junk / name).write_bytes(next(runs.folder.glob("*.*")).read_bytes())
    everything = Walk([runs.folder], default_ignores=False)
    assert counts(runs.indexer().run(everything)) == {"added": 11, "embedded": 9}
    dry = runs.run(dry_run=True)
    assert counts(dry) == {"unchanged": 9, "removed": 2} and len(runs.paths()) == 11
    assert runs.warnings.pop().startswith("2 images known before would leave the library")
    report = runs.run()
    assert counts(report) == {"unchanged": 9, "removed": 2}
    assert report.left_out == {"system": 1} and len(runs.paths()) == 9
    [warning] = runs.warnings
    assert warning.startswith("2 images known before left the library")
    assert str(junk / "0.png") in warning and "--no-default-ignores" in warning


def test_progress_is_told_in_order_and_ends_at_the_total(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SCAN_STEP", 4)
    runs.run()
    phases = [step.phase for step in runs.progress]
    assert list(dict.fromkeys(phases)) == ["scan", "embed", "publish"]
    embedded = [step for step in runs.progress if step.phase == "embed"]
    assert [step.done for step in embedded] == sorted(step.done for step in embedded)
    assert (embedded[0].done, embedded[-1].done, embedded[-1].total) == (0, 9, 9)
    scans = [step for step in runs.progress if step.phase == "scan"]
    assert [(step.done, step.total) for step in scans] == [(4, None), (8, None)]


def test_a_changed_file_is_updated_and_a_touched_one_is_not(runs: Runs) -> None:
    runs.run()
    first, second, third = sorted(runs.folder.iterdir())[:3]
    shutil.copyfile(third, first)
    second.touch()
    assert counts(runs.run()) == {"updated": 1, "unchanged": 8}
    assert runs.encoder.images_encoded == 9, "its new bytes were known"
    assert counts(runs.run()) == {"unchanged": 9}


def test_a_renamed_file_is_counted_as_one_and_not_encoded_again(runs: Runs) -> None:
    runs.run()
    first, second, *_ = sorted(runs.folder.iterdir())
    first.rename(runs.folder / "renamed.png")
    second.unlink()
    shutil.copyfile(runs.folder / "0005.png", runs.folder / "copy.png")
    report = runs.run()
    assert counts(report) == {"added": 1, "renamed": 1, "removed": 1, "unchanged": 7}
    assert runs.encoder.images_encoded == 9
    assert runs.paths() == {str(path) for path in runs.folder.iterdir()}


def test_files_are_forgotten_only_below_what_was_walked_whole(runs: Runs, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copyfile(runs.folder / "0000.png", other / "a.png")
    runs.run(runs.folder, other)
    (other / "a.png").unlink()
    assert counts(runs.run(runs.folder)) == {"unchanged": 9}
    # A folder without images may be a disk that is not mounted.
    assert counts(runs.run(other)) == {}
    assert str(other / "a.png") in runs.paths()
    assert set(runs.catalog.roots()) == {str(runs.folder), str(other)}


def test_bad_files_are_reported_and_tried_again_when_they_change_or_on_request(runs: Runs) -> None:
    bad = runs.folder / "0003.png"
    whole = bad.read_bytes()
    bad.write_bytes(b"no image")
    report = runs.run()
    assert counts(report) == {"added": 8, "failed": 1, "embedded": 8}
    assert [(f.path, "not an image" in f.reason) for f in report.failures] == [(str(bad), True)]
    again = runs.run()
    assert counts(again) == {"unchanged": 8, "failed": 1}
    assert again.failures == report.failures
    assert counts(runs.run(retry_failed=True)) == {"unchanged": 8, "failed": 1}
    bad.write_bytes(whole)
    assert counts(runs.run()) == {"updated": 1, "unchanged": 8, "embedded": 1}


def test_what_the_walk_cannot_read_is_a_failure_too(runs: Runs, tmp_path: Path) -> None:
    missing = tmp_path / "missing.png"
    report = runs.run(runs.folder, missing)
    assert counts(report) == {"added": 9, "embedded": 9, "failed": 1}
    assert report.failures[0].path == str(missing)


def test_a_dry_run_counts_what_a_run_would_do_and_writes_nothing(runs: Runs) -> None:
    runs.run()
    files = sorted(runs.folder.iterdir())
    shutil.copyfile(files[5], files[0])
    files[1].rename(runs.folder / "renamed.png")
    files[2].unlink()
    files[3].touch()
    (runs.folder / "new.png").write_bytes(files[4].read_bytes() + b"\0")
    revision = runs.catalog.revision()
    dry = runs.run(dry_run=True)
    assert dry.dry_run and runs.catalog.revision() == revision
    assert runs.encoder.images_encoded == 9
    wet = runs.run()
    assert not wet.dry_run
    assert counts(dry) == counts(wet) == {
        "added": 1, "updated": 1, "unchanged": 6, "renamed": 1, "removed": 1, "embedded": 1
    }  # fmt: skip


def test_ctrl_c_keeps_what_was_committed(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = Catalog.commit

    def once(self: Catalog, *args: Any) -> int:
        if self.records():
            raise KeyboardInterrupt
        return commit(self, *args)

    monkeypatch.setattr(Catalog, "commit", once)
    report = runs.run()
    assert report.interrupted
    assert 0 < report.added == report.embedded == len(runs.paths()) < 9
    monkeypatch.undo()
    rest = runs.run()
    assert not rest.interrupted
    assert (rest.added, rest.unchanged) == (9 - report.added, report.added)


def test_ctrl_c_while_scanning_counts_nothing(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Catalog, "pending", interrupt)
    report = runs.run()
    assert report.interrupted and counts(report) == {}


def test_ctrl_c_while_a_lock_is_taken_again_is_no_fault(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python raises it in `Condition.wait`, whose end then fails with another error."""

    class Waiting:
        def __exit__(self, *_: object) -> None:
            raise RuntimeError("release unlocked lock")

        def __enter__(self) -> None: ...

    def wait(*_: object, **__: object) -> None:
        with Waiting():
            raise KeyboardInterrupt

    monkeypatch.setattr(Catalog, "commit", wait)
    assert runs.run().interrupted

    def fail(*_: object, **__: object) -> None:
        with Waiting():
            raise ValueError

    monkeypatch.setattr(Catalog, "commit", fail)
    with pytest.raises(RuntimeError, match="unlocked"):
        runs.run()


def test_a_snapshot_that_cannot_be_written_is_a_warning(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Snapshots) -> None:
        raise VectorIndexError("the disk is full.")

    monkeypatch.setattr(Snapshots, "publish", fail)
    assert counts(runs.run()) == {"added": 9, "embedded": 9}
    assert runs.warnings == ["the disk is full. Searching is slower until then."]


def test_a_snapshot_is_published_where_one_is_due(runs: Runs) -> None:
    runs.run()
    [row] = runs.snapshots.rows()
    runs.run()
    assert [other.file for other in runs.snapshots.rows()] == [row.file]


def test_the_precisions_of_a_model_are_stored_once_each(runs: Runs, make_images: Make) -> None:
    for number, precision in enumerate(["int8", "fp32", "int8", None]):
        runs.encoder.precision = precision  # type: ignore[attr-defined]
        make_images(1, seed=10 + number)
        runs.run()
    assert runs.catalog.get_meta(f"precisions of model {runs.model_id}") == "int8 fp32"


def test_a_damaged_image_is_indexed_with_a_note_until_it_is_replaced(
    runs: Runs, tmp_path: Path
) -> None:
    path = runs.folder / "cut.jpg"
    PIL.Image.effect_noise((256, 256), 50).convert("RGB").save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    report = runs.run()
    ((noted, reason),) = [(one.path, one.reason) for one in report.notes]
    assert noted == str(path) and "of the image is missing: truncated JPEG file" in reason
    assert (report.failed, [one.path for one in runs.catalog.notes()]) == (0, [str(path)])
    assert str(path) in runs.paths()
    again = runs.run()
    assert (again.notes, len(runs.catalog.notes())) == ((), 1)
    path.write_bytes(whole)
    assert runs.run().notes == () and runs.catalog.notes() == []
