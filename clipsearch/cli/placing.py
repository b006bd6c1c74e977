"""What the commands that put images into folders have in common: options, and what they say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from clipsearch._util import plural, quote
from clipsearch.cli.console import SOME_FILES_FAILED, UsageError, here_only, progress, say
from clipsearch.cli.options import Output
from clipsearch.library import Library
from clipsearch.output.text import Items, shorten_path
from clipsearch.types import PlaceMethod, ignore_progress

if TYPE_CHECKING:
    from clipsearch.types import PlacementReport

_FAILURES_SHOWN = 5
_VERBS = {"copy": "copied", "hardlink": "linked", "symlink": "linked"}

SortIntoOption = Annotated[
    Path | None,
    typer.Option(
        callback=here_only,
        metavar="DIR",
        help="Put the images into folders DIR/LABEL; nothing is overwritten.",
        show_default=False,
    ),
]
AsOption = Annotated[
    PlaceMethod | None,
    typer.Option(
        "--as", help="With --sort-into: as copies (default) or links.", show_default=False
    ),
]
SortRestOption = Annotated[
    bool,
    typer.Option(
        "--sort-rest",
        help="With --sort-into: also into DIR/uncertain and DIR/none of these.",
    ),
]
UrlsOption = Annotated[
    str | None,
    typer.Option(
        metavar="DIR=URL",
        help="Of label-studio: the URL under which the images in DIR are served; default: Label "
        "Studio serves the files of this machine.",
        show_default=False,
    ),
]
CopyToOption = Annotated[
    Path | None,
    typer.Option(
        callback=here_only,
        metavar="DIR",
        help="Copy the images into DIR; nothing is overwritten.",
        show_default=False,
    ),
]
LinkToOption = Annotated[
    Path | None,
    typer.Option(
        callback=here_only,
        metavar="DIR",
        help="The same with symbolic links instead of copies.",
        show_default=False,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="List which files would be put where, without doing it."),
]
StrictOption = Annotated[
    bool, typer.Option("--strict", help="Exit with 3 if some files could not be put there.")
]


def with_urls(target: Output, urls: str | None) -> Output:
    """Return where results go, with the `DIR=URL` of --urls. Raises UsageError."""
    if urls is None:
        return target
    folder, _, url = urls.partition("=")
    if not (folder and url):
        raise UsageError(f"--urls {urls}: give a folder and its URL, as DIR=URL.")
    if target.format != "label-studio":
        raise UsageError("--urls is for `-f label-studio`.")
    return target._replace(urls=(folder, url))


class Placing(NamedTuple):
    """Where images go, and how."""

    folder: Path
    method: PlaceMethod = "copy"
    rest: bool = False
    dry_run: bool = False
    strict: bool = False

    @classmethod
    def sort(
        cls, into: Path | None, method: PlaceMethod | None, rest: bool, dry_run: bool, strict: bool
    ) -> Placing | None:
        """Read the options of `classify`. Raises UsageError for those that need --sort-into."""
        if into is None:
            _refuse_alone(
                "--sort-into DIR",
                {"--as": method, "--sort-rest": rest, "--dry-run": dry_run, "--strict": strict},
            )
            return None
        return cls(into, method or "copy", rest, dry_run, strict)

    @classmethod
    def put(
        cls, copy_to: Path | None, link_to: Path | None, dry_run: bool, strict: bool
    ) -> Placing | None:
        """Read the options of `query` and `similar`. Raises UsageError."""
        if copy_to and link_to:
            raise UsageError("--copy-to makes copies, --link-to links: name one of the two.")
        folder = copy_to or link_to
        if folder is None:
            needed = "--copy-to DIR or --link-to DIR"
            _refuse_alone(needed, {"--dry-run": dry_run, "--strict": strict})
            return None
        return cls(folder, "symlink" if link_to else "copy", False, dry_run, strict)

    def place(self, items: Items, lib: Library, target: Output, *, k: int | None = None) -> None:
        """Put images, k of each label, into the folder, and say what was done.

        A dry run writes what would be done as its result.
        """
        from clipsearch.output.placing import place_images  # a query alone has no time for it

        _warn_of_indexing(self.folder, lib)
        with progress() as on_progress:
            report = place_images(
                items,
                self.folder,
                method=self.method,
                k=k,
                rest=self.rest,
                dry_run=self.dry_run,
                on_progress=on_progress or ignore_progress,
            )
        if self.dry_run:
            target.write(report)
        self._tell(report)
        if report.failures and not report.files:
            raise typer.Exit(1)
        if report.failures and self.strict:
            raise typer.Exit(SOME_FILES_FAILED)

    def _tell(self, report: PlacementReport) -> None:
        verb = f"would be {_VERBS[self.method]}" if self.dry_run else _VERBS[self.method]
        there = f"; {report.unchanged:,} there already" if report.unchanged else ""
        say(f"{plural(report.added, 'image')} {verb} into {self.folder}{there}.")
        if report.left_out:
            rest = ", ".join(f"{number:,} {name}" for name, number in report.left_out.items())
            say(f"left out: {rest} (--sort-rest puts them into folders too).")
        for label, name in [*report.folders.items()][:_FAILURES_SHOWN]:
            say(f"the images of {quote(label)} are in the folder {quote(name)}.")
        for failure in report.failures[:_FAILURES_SHOWN]:
            say(f"failed: {shorten_path(failure.path)}: {failure.reason}")
        if len(report.failures) > _FAILURES_SHOWN:
            say(f"and {len(report.failures) - _FAILURES_SHOWN:,} more failed.")


def _refuse_alone(needed: str, options: dict[str, object]) -> None:
    for option, value in options.items():
        if value:
            raise UsageError(f"{option} needs {needed}.")


def _warn_of_indexing(folder: Path, lib: Library) -> None:
    """Warn if the next index run of the library will find the files too."""
    path = Path(os.path.abspath(folder))
    for root in lib.status().roots:
        if path.is_relative_to(root):
            say(
                f"warning: {folder} is in the indexed folder {root}: the next `clipsearch index` "
                f"adds these files too. A file {folder / '.clipsearchignore'} with the line `*` "
                "leaves them out."
            )
            return
