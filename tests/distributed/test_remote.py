"""Images in S3 are embedded into S3, as those on this machine are, and a run that breaks off goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from conftest import ToyEncoder
from distributed_rows import rows_of

from clipsearch.distributed.embed import embed_images
from clipsearch.errors import BadSource
from clipsearch.library import Library


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A service like S3 on this machine; credentials come from the environment, as everywhere."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    fsspec.filesystem("s3").clear_instance_cache()
    files = fsspec.filesystem("s3")
    files.mkdir("bucket")
    yield files
    files.clear_instance_cache()
    server.stop()


@pytest.mark.slow
def test_images_in_s3_are_embedded_once(
    tmp_path: Path, s3: Any, make_images: Callable[..., list[Path]]
) -> None:
    images = make_images(30)
    for image in images:
        s3.pipe_file(f"bucket/photos/{int(image.stem) % 3}/{image.name}", image.read_bytes())
    s3.pipe_file("bucket/photos/broken.jpg", b"no image")

    def embed() -> tuple[int, int, int]:
        report = embed_images(
            "s3://bucket/photos", "s3://bucket/parts", encoder=ToyEncoder(), rows=9
        )
        return report.added, report.unchanged, report.failed

    assert embed() == (30, 0, 1)
    assert embed() == (0, 31, 0)
    lost = sorted(s3.find("bucket/parts"))[1]
    s3.rm(lost)  # as if the run had been killed before
    added, known, failed = embed()
    assert 0 < added <= 9 and added + known + failed == 31
    s3.pipe_file("bucket/photos/1/0001.png", images[2].read_bytes())
    assert embed() == (1, 30, 0)
    s3.get("bucket/parts", str(tmp_path / "parts"), recursive=True)
    with Library.create(tmp_path / "library", encoder=ToyEncoder()) as library:
        assert library.ingest(tmp_path / "parts").added == 30
        assert library.ingest(tmp_path / "parts").added == 0
        paths = {record.path for record in library.records()}
    names = (f"s3://bucket/photos/{int(image.stem) % 3}/{image.name}" for image in images)
    assert paths == set(names)
    changed = [row for row in rows_of(tmp_path / "parts") if row["path"].endswith("1/0001.png")]
    assert len({row["state"] for row in changed}) == 2
    with pytest.raises(BadSource, match="it is not there"):
        embed_images("s3://bucket/nothing", tmp_path / "parts", encoder=ToyEncoder())
