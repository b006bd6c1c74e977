"""Embed a unit of images and write its part: the same on one machine and in each actor of a cluster."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from clipsearch._util.atomic import delete_quietly
from clipsearch._util.parallel import cores
from clipsearch.distributed.contents import Brought, UnitReader
from clipsearch.distributed.sources import Unit
from clipsearch.distributed.written import PartRow, write_part
from clipsearch.encoders import Encoder, load_encoder
from clipsearch.images import FoundFile
from clipsearch.indexing.loader import Loader
from clipsearch.indexing.pipeline import encode_stream
from clipsearch.types import Failure


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """How images are embedded; what an actor needs to know.

    Attributes
    ----------
    model, device, engine, precision
        As for `load_encoder`.
    fast
        Decode with as much detail as the model sees.
    fetch
        Fetch images of tables by their addresses.
    workers
        Threads that read and decode; None for one per processor.
    """

    model: str = "default"
    device: str | None = None
    engine: str = "auto"
    precision: str = "auto"
    fast: bool = False
    fetch: bool = False
    workers: int | None = None

    def load(self) -> Encoder:
        """Load the encoder."""
        return load_encoder(
            self.model, device=self.device, engine=self.engine, precision=self.precision
        )


class Written(NamedTuple):
    """What became of a unit."""

    unit: Unit
    embedded: int
    failures: tuple[Failure, ...]


class UnitEmbedder:
    """Embeds units and writes their parts; one for each process.

    Parameters
    ----------
    options
        How.
    encoder
        By default the one of the options is loaded.
    """

    def __init__(self, options: EmbedOptions, encoder: Encoder | None = None) -> None:
        self._options = options
        self._encoder = encoder or options.load()

    def write(
        self, unit: Unit, to: str, run: int, on_image: Callable[[str], object] = lambda path: None
    ) -> Written:
        """Embed the images of a unit and write them as one part.

        Parameters
        ----------
        unit
            The images.
        to
            Folder or address of the parts.
        run
            Number of the run.
        on_image
            Is told of each image.

        Raises
        ------
        CannotPlace
            The part cannot be written.
        """
        rows = []
        for row in self._embed(unit):
            rows.append(row)
            on_image(row.member.path)
        write_part(to, run, unit, rows, self._encoder.info)
        failures = tuple(Failure(row.member.path, row.error) for row in rows if row.error)
        return Written(unit, len(rows) - len(failures), failures)

    def _embed(self, unit: Unit) -> Iterator[PartRow]:
        brought: dict[str, Brought] = {}
        failed: list[Brought] = []

        def files(reader: UnitReader) -> Iterator[FoundFile]:
            for one in reader.read(unit):
                if one.error:
                    failed.append(one)
                    continue
                brought[one.file] = one
                yield FoundFile(one.file, one.member.size, one.member.mtime_ns, "")

        loader = Loader(self._encoder, fast=self._options.fast)
        workers = self._options.workers or cores()
        with tempfile.TemporaryDirectory(prefix="clipsearch-") as folder:
            reader = UnitReader(Path(folder), self._options.fetch)
            for group in encode_stream(files(reader), loader, workers=workers):
                for item in group:
                    member, file, _ = brought.pop(item.file.path)
                    if file != member.path:
                        delete_quietly(Path(file))
                    yield PartRow(member, item, item.error.reason if item.error else "")
        yield from (PartRow(one.member, None, one.error) for one in failed)
