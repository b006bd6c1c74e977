"""Files through threads to vectors: in order, bounded, and none waiting for the slow ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import ToyEncoder

from clipsearch.encoders.base import SharedEncoder
from clipsearch.errors import UnreadableImage
from clipsearch.images import FoundFile
from clipsearch.images.walk import Walk
from clipsearch.indexing import pipeline
from clipsearch.indexing.loader import LoadedFile, Loader
from clipsearch.indexing.pipeline import encode_files, encode_stream, group_until_due

Make = Callable[..., list[Path]]


class Watched(ToyEncoder):
    """An encoder that notes which threads call it, with how many images."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, int]] = []

    def encode_images(self, batch: np.ndarray) -> np.ndarray:
        self.calls.append((threading.current_thread().name, len(batch)))
        return super().encode_images(batch)


class Shared(Watched):
    """One that runs in the workers."""

    worker_chunk = 3


def walked(paths: list[Path]) -> list[FoundFile]:
    return list(Walk([paths[0].parent]))


def exact(paths: list[Path]) -> np.ndarray:
    encoder = ToyEncoder()
    pixels = [encoder.preprocess(PIL.Image.open(path).convert("RGB")) for path in paths]
    return encoder.encode_images(np.stack(pixels))


def run(
    encoder: ToyEncoder, files: list[FoundFile], *, batch_size: int = 8
) -> list[list[LoadedFile]]:
    return list(encode_stream(files, Loader(encoder), workers=3, batch_size=batch_size))


@pytest.mark.parametrize("kind", [Watched, Shared])
def test_every_file_comes_out_once_in_order_with_its_vector(
    kind: type[Watched], make_images: Make
) -> None:
    paths = make_images(29)
    encoder = kind()
    found = [item for group in run(encoder, walked(paths)) for item in group]
    assert [item.file.path for item in found] == [str(path) for path in paths]
    vectors = np.stack([item.vector for item in found if item.vector is not None])
    np.testing.assert_allclose(vectors, exact(paths), atol=1e-6)
    assert all(item.pixels is None and item.facts is not None for item in found)


def test_workers_encode_a_few_at_a_time_where_the_encoder_is_shared(make_images: Make) -> None:
    encoder = Shared()
    assert isinstance(encoder, SharedEncoder)
    run(encoder, walked(make_images(20)))
    assert [size for _, size in encoder.calls].count(3) == 6 and encoder.images_encoded == 20
    assert all(name.startswith("clipsearch-load") for name, _ in encoder.calls)


def test_one_thread_encodes_batches_where_it_is_not(make_images: Make) -> None:
    encoder = Watched()
    assert not isinstance(encoder, SharedEncoder)
    sizes = [len(group) for group in run(encoder, walked(make_images(20)))]
    assert encoder.calls == [("clipsearch-encode", 8), ("clipsearch-encode", 8), *encoder.calls[2:]]
    assert sizes == [8, 8, 4]


def test_a_chunk_is_no_larger_than_a_batch(make_images: Make) -> None:
    encoder = Shared()
    assert [len(group) for group in run(encoder, walked(make_images(5)), batch_size=2)] == [
        2,
        2,
        1,
    ]


@pytest.mark.parametrize("kind", [Watched, Shared])
def test_bad_files_and_known_bytes_need_no_encoding(kind: type[Watched], make_images: Make) -> None:
    paths = make_images(7)
    paths[2].write_bytes(b"no image")
    copy = paths[4].read_bytes()
    paths[5].write_bytes(copy)
    encoder = kind()
    known = Loader(encoder).load(walked(paths)[0]).sha256
    load = Loader(encoder, lambda sha256: sha256 == known)
    [items] = encode_stream(walked(paths), load, workers=2)
    assert isinstance(items[2].error, UnreadableImage)
    assert items[0].vector is None and items[0].sha256 == known and items[0].error is None
    assert np.array_equal(items[4].vector, items[5].vector)  # type: ignore[arg-type]
    assert [i.vector is not None for i in items] == [False, True, False, True, True, True, True]


def test_a_vector_that_is_not_finite_is_an_error_of_its_file(make_images: Make) -> None:
    class Broken(ToyEncoder):
        def encode_images(self, batch: np.ndarray) -> np.ndarray:
            rows = super().encode_images(batch)
            rows[1] = np.nan
            return rows

    files = walked(make_images(3))
    found = [vector for _, vector in encode_files(files, Broken(), workers=2)]
    assert [isinstance(vector, UnreadableImage) for vector in found] == [False, True, False]
    assert "no finite vector" in str(found[1])


@pytest.mark.parametrize("kind", [Watched, Shared])
def test_what_is_done_does_not_wait_for_what_is_not(
    kind: type[Watched], make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sixth file hangs, as on a network, until the first ones have come out."""
    monkeypatch.setattr(pipeline, "_COMMIT_SECONDS", 0.0)
    files, came_out = walked(make_images(12)), threading.Event()

    class Slow(kind):  # type: ignore[misc, valid-type]
        def preprocess(self, image: PIL.Image.Image) -> np.ndarray:
            if image.info["number"] == "6":
                assert came_out.wait(60)
            return super().preprocess(image)  # type: ignore[no-any-return]

    for number, file in enumerate(files):
        note = PIL.PngImagePlugin.PngInfo()
        note.add_text("number", str(number))
        PIL.Image.open(file.path).save(file.path, pnginfo=note)
    arriving = encode_stream(files, Loader(Slow()), workers=2, batch_size=100)
    first = next(arriving)
    came_out.set()
    rest = [item for group in arriving for item in group]
    assert 0 < len(first) <= 6 and len(first) + len(rest) == 12


@pytest.mark.parametrize("kind", [Watched, Shared])
def test_workers_run_ahead_by_so_much_and_no_more(kind: type[Watched], make_images: Make) -> None:
    begun = 0

    def endless() -> Iterator[FoundFile]:
        nonlocal begun
        files = walked(make_images(5))
        while True:
            begun += 1
            yield files[begun % 5]

    arriving = encode_stream(endless(), Loader(kind()), workers=2, batch_size=4)
    for _ in range(5):
        next(arriving)
    # What came out, a group that waits, one that is made, and what the workers hold.
    assert begun <= 6 * 4 + 2 * 4 + 4 * 2 * 3 + 3
    arriving.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("clipsearch-")]


def test_an_error_of_the_encoder_is_raised_where_it_was_asked(make_images: Make) -> None:
    class Refusing(Shared):
        def encode_images(self, batch: np.ndarray) -> np.ndarray:
            raise RuntimeError("out of order")

    for kind in (Refusing, type("Alone", (Refusing,), {"worker_chunk": property()})):
        with pytest.raises(RuntimeError, match="out of order"):
            run(kind(), walked(make_images(9)))


# --- groups and threads --------------------------------------------------------------------


def test_groups_are_full_or_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("clipsearch.indexing.pipeline.time.monotonic", lambda: now)

    def arriving() -> Iterator[list[int] | None]:
        nonlocal now
        yield [1, 2]
        yield [3, 4, 5]
        yield None
        yield [6]
        now += 2.0
        yield None
        now += 0.1
        yield None
        now += 60
        yield [7]
        yield [8]

    assert list(group_until_due(arriving(), 4)) == [[1, 2, 3, 4, 5], [6], [7, 8]]


def test_damaged_images_outside_of_a_library_are_named_once(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        PIL.Image.new("RGB", (32, 24), "teal").save(tmp_path / name)
    for name in ("a.jpg", "c.jpg"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-2])
    files = walked([tmp_path / "a.jpg"])
    with pytest.warns(UserWarning, match="end marker") as caught:
        found = list(encode_files(files, ToyEncoder(), workers=2))
    assert all(isinstance(vector, np.ndarray) for _, vector in found) and len(found) == 3
    (said,) = [str(one.message) for one in caught]
    assert "a.jpg: its end marker is missing" in said
    assert said.endswith("(and 1 more images with a note)")
