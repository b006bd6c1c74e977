"""What the crash tests kill: `victim.py JOB FOLDER ...`, in a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from itertools import count
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any

import numpy as np
from conftest import ToyEncoder
from postgres_server import SERVER_OF_FOLDERS, copies_of_schema, engine_of_folder
from vector_library import VectorLibrary, batch_names, batch_rows

import clipsearch.catalog
import clipsearch.vectors.segments
from clipsearch.catalog import Catalog
from clipsearch.library import Library
from clipsearch.types import Progress
from clipsearch.vectors import vector_index
from clipsearch.vectors.snapshots import Snapshots

PACKAGE = Path(clipsearch.__file__).parent
_LONG_ENOUGH = 30.0  # what is encoded is committed, and said, within 2 seconds
TRACED = {
    *map(str, (PACKAGE / "vectors").rglob("*.py")),
    *map(str, (PACKAGE / "_util").glob("*.py")),
}


def segments(template: Path, out: Path, _: str) -> None:
    """Do what `lines` does where a hundred vectors are many, and their snapshot grows by segments."""
    clipsearch.vectors.segments._SEGMENTED_ROWS = 100
    lines(template, out, None, step=3)


def lines(template: Path, out: Path, kind: str | None, *, step: int = 1) -> None:
    """Publish in a copy `out/N` of the library for N = 1, 2, ..., killed before the N-th line."""
    vector_index(kind or "exact")  # imported once, before the forks
    copy_catalog = copies_of_schema(template) if SERVER_OF_FOLDERS in os.environ else None
    for number in count(1, step):
        folder = out / str(number)
        shutil.copytree(template, folder)
        if copy_catalog:
            copy_catalog(folder)
        if (child := os.fork()) == 0:
            catalog = Catalog.open(folder)
            snapshots = Snapshots(folder, catalog, next(iter(catalog.models())), kind=kind)
            kill_before_line(number)
            snapshots.publish()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(number, "killed" if os.WIFSIGNALED(status) else "finished", flush=True)
        if not os.WIFSIGNALED(status):
            return


def kill_before_line(number: int) -> None:
    """End this process by SIGKILL when it is about to run the N-th line of publishing."""
    left = number

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal left
        if frame.f_code.co_filename not in TRACED:
            return None
        left -= event == "line"
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]


def publish(folder: Path, kind: str) -> None:
    """Publish over and over, saying so, until killed."""
    catalog = Catalog.open(folder)
    for number in count(1):
        Snapshots(folder, catalog, next(iter(catalog.models())), kind=kind).publish()
        print(number, flush=True)


def commit(folder: Path, kind: str) -> None:
    """Commit batch after batch, saying so, and publish now and then, until killed."""
    library = VectorLibrary(folder)
    for number in count():
        library.add(batch_names(number), rows=batch_rows(number))
        print(number, flush=True)
        if number % 4 == 3:
            library.snapshots(kind).publish()


def index(folder: Path, images: Path, kind: str) -> None:
    """Index images, saying how many are committed; after 2 commits encoding hangs, until killed.

    Or until `_LONG_ENOUGH` has passed: whoever waits for more lines then sees their end, not nothing.
    """
    commits = Event()  # not a number of encoded images: of two workers one may be far ahead
    said = count(1)

    class Alone(ToyEncoder):
        def encode_images(self, batch: np.ndarray) -> np.ndarray:
            if commits.is_set():
                time.sleep(_LONG_ENOUGH)
                os._exit(1)  # not by an exception: the pool would wait for the other threads
            return super().encode_images(batch)

    class Shared(Alone):
        worker_chunk = 3

    def say(progress: Progress) -> None:
        if progress.phase == "embed" and progress.done:
            if next(said) == 2:
                commits.set()
            print(progress.done, flush=True)

    encoder = {"alone": Alone, "shared": Shared}[kind]()
    library = Library.open_or_create(folder, encoder=encoder)
    library.index([images], batch_size=6, workers=2, on_progress=say)


if __name__ == "__main__":
    if SERVER_OF_FOLDERS in os.environ:
        clipsearch.catalog.engine_of = engine_of_folder  # type: ignore[assignment]
    job, *arguments = sys.argv[1:]
    *folders, wanted = arguments
    jobs: dict[str, Any] = {
        "lines": lines,
        "segments": segments,
        "publish": publish,
        "commit": commit,
        "index": index,
    }
    jobs[job](*map(Path, folders), wanted)
