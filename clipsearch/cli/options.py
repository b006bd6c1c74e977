"""The options that several commands share, and where their results go.

Formats and suffixes in choices and help texts are those of `clipsearch.output.formats`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias

import typer

from clipsearch.cli.console import UsageError, get_device, here_only, say, without_password
from clipsearch.errors import BadOutputFile, LibraryNotFound
from clipsearch.library import ENVIRONMENT, Library
from clipsearch.output.formats import (
    FORMATS,
    Kind,
    WriteOptions,
    format_names,
    format_of_file,
    format_suffixes,
    write_file,
    write_value,
)

LibraryOption = Annotated[
    Path | None,
    typer.Option(
        "--library",
        "-L",
        metavar="DIR",
        callback=without_password,
        help="The library, a folder or postgresql://USER@HOST/DATABASE: default $CLIPSEARCH_LIBRARY, else ./index if it is one, "
        "else the one in your user data folder.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="A preset (see `clipsearch models`), ARCH/TAG of open_clip, hf-hub:ORG/REPO, "
        "local-dir:PATH, or ARCH with --checkpoint. A library remembers its model.",
        show_default=False,
    ),
]
LabelsFileOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="Labels from a .txt (one a line, `label: prompt; prompt; image:PATH`), .csv, .json "
        "or .yaml.",
        show_default=False,
    ),
]
KnownLabelsFileOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="Labels and their prompts, as for classify; default: the labels of the images.",
        show_default=False,
    ),
]
TemplateOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="T",
        help="A prompt with {} in place of the label, or a set: default, openai80. Repeatable.",
        show_default=False,
    ),
]
LooseModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Do without a library: ask this model about the images that are named.",
        show_default=False,
    ),
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        metavar="EXPR",
        help="Only images whose facts fit: 'taken >= 2024-01 and camera like \"%Pixel%\"', "
        "'width > 2000', 'label = \"cat\"', 'near(48.85, 2.35, 10)'.",
        show_default=False,
    ),
]
UnderOption = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Only images in this folder and below.", show_default=False),
]
NullOption = Annotated[
    bool, typer.Option("-0", "--null", help="Paths, each ended by NUL: for `xargs -0`.")
]
OpenOption = Annotated[
    bool, typer.Option("--open", help="Show a contact sheet in the web browser.")
]
HeadOption = Annotated[
    Path | None,
    typer.Option(
        "--head",
        metavar="FILE",
        help="A head of labels, as `clipsearch learn` writes it, instead of words.",
        show_default=False,
    ),
]
TruncateOption = Annotated[
    bool,
    typer.Option(
        "--truncate",
        help="Cut texts that are too long for the model, as CLIP itself does, instead of reading "
        "them in pieces.",
    ),
]


# --- formats and files of results ------------------------------------------------------------


def _format_option(kind: Kind, help: str) -> Any:
    """Return the annotation of -f whose choices are the formats of this kind."""
    literal: Any = Literal
    choice = literal[format_names(kind)]
    return Annotated[choice | None, typer.Option("--format", "-f", help=help, show_default=False)]


def _output_option(kind: Kind, help: str) -> Any:
    """Return the annotation of -o whose help lists the suffixes of this kind."""
    text = f"{help}: {', '.join(format_suffixes(kind))}."
    option = typer.Option(
        "-o", "--output", metavar="FILE", callback=here_only, help=text, show_default=False
    )
    return Annotated[Path | None, option]


_RESULT_FORMAT = "How to write the results: by the suffix of -o, else table."
_REPORT_FORMAT = "How to write the result; default: table."
_RESULT_FILE = "Write to FILE, in the format of its suffix"

if TYPE_CHECKING:  # annotations that are made from the table of formats
    HitsFormat: TypeAlias = str | None
    PredictionsFormat: TypeAlias = str | None
    RecordsFormat: TypeAlias = str | None
    TopicsFormat: TypeAlias = str | None
    DuplicatesFormat: TypeAlias = str | None
    MatrixFormat: TypeAlias = str | None
    EvaluationFormat: TypeAlias = str | None
    ReportFormat: TypeAlias = str | None
    HitsFile: TypeAlias = Path | None
    PredictionsFile: TypeAlias = Path | None
    RecordsFile: TypeAlias = Path | None
    TopicsFile: TypeAlias = Path | None
    DuplicatesFile: TypeAlias = Path | None
    MatrixFile: TypeAlias = Path | None
    EvaluationFile: TypeAlias = Path | None
    CalibrationFile: TypeAlias = Path | None

_FORMAT_OPTIONS: dict[str, tuple[Kind, str]] = {
    "HitsFormat": ("hits", _RESULT_FORMAT),
    "PredictionsFormat": ("predictions", _RESULT_FORMAT),
    "RecordsFormat": ("records", _RESULT_FORMAT),
    "TopicsFormat": ("topics", _RESULT_FORMAT),
    "DuplicatesFormat": (
        "duplicates",
        _RESULT_FORMAT
        + " `paths` lists all but the best copy of the same bytes and of the same image.",
    ),
    "MatrixFormat": ("matrix", _RESULT_FORMAT),
    "EvaluationFormat": ("evaluation", _REPORT_FORMAT),
    "ReportFormat": ("status", _REPORT_FORMAT),
}
_FILE_OPTIONS: dict[str, tuple[Kind, str]] = {
    "HitsFile": ("hits", _RESULT_FILE),
    "PredictionsFile": ("predictions", _RESULT_FILE),
    "RecordsFile": ("records", _RESULT_FILE),
    "TopicsFile": ("topics", _RESULT_FILE),
    "DuplicatesFile": ("duplicates", _RESULT_FILE),
    "MatrixFile": ("matrix", "Write to FILE: a figure, or the numbers"),
    "EvaluationFile": ("evaluation", "Also write a report"),
    "CalibrationFile": ("calibration", "Also draw a reliability diagram"),
}


def __getattr__(name: str) -> Any:
    """Make the annotation of an option when a command imports it: a query needs only two."""
    if name in _FORMAT_OPTIONS:
        value = _format_option(*_FORMAT_OPTIONS[name])
    elif name in _FILE_OPTIONS:
        value = _output_option(*_FILE_OPTIONS[name])
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


class Output(NamedTuple):
    """Where the results of a command go, and in which format: -f, -0, -o and --open together."""

    kind: Kind
    format: str
    file: Path | None = None
    null: bool = False
    open: bool = False
    urls: tuple[str, str] | None = None

    @classmethod
    def choose(
        cls,
        kind: Kind,
        format: str | None,
        file: Path | None = None,
        *,
        null: bool = False,
        open_: bool = False,
    ) -> Output:
        """Settle the format before any work. Raises UsageError if the options disagree."""
        if open_ and format not in (None, "html"):
            raise UsageError(f"--open shows a contact sheet: leave out `-f {format}`.")
        if null and (open_ or format not in (None, "paths")):
            raise UsageError("-0 is for paths: use it alone or with `-f paths`.")
        chosen = format or ("html" if open_ else "paths" if null else None)
        if chosen is None and file is not None and file.suffix:
            chosen = format_of_output(kind, file)
        chosen, names = chosen or "table", format_names(kind)
        if chosen not in names:
            raise UsageError(f"this is written as {', '.join(names)}: not as {chosen}.")
        return cls(kind, chosen, file, null, open_)

    def write(self, value: Any, options: WriteOptions | None = None) -> None:
        """Write a value to the file, else (with --open) to a new page, else to stdout."""
        file = self.file or (_new_page() if self.open else None)
        options = (options or WriteOptions())._replace(null=self.null, urls=self.urls)
        format = FORMATS[self.format]

        def write(stream: Any) -> None:
            write_value(value, self.kind, self.format, stream, options)

        if format.folder:
            if file is None:
                raise UsageError(f"{self.format} is a folder of files: name it with -o.")
            write(file)
        elif file is None:
            _write_to_stdout(write, format.binary)
            return
        elif format.binary:
            with file.open("wb") as content:
                write(content)
        else:
            # newline="": csv writes its own line ends, and paths may be ended by NUL.
            with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
                write(stream)
        say(f"wrote {file}")
        if self.open:
            show_in_browser(file)


def write_report(value: Any, kind: Kind, format: str | None = None) -> None:
    """Write a value to stdout."""
    Output.choose(kind, format).write(value)


def format_of_output(kind: Kind, file: Path, option: str = "-o") -> str:
    """Return the format of the file that an option names. Raises UsageError for another suffix."""
    try:
        return format_of_file(kind, file).name
    except BadOutputFile as error:
        raise UsageError(f"{option} {error}") from None


def write_also(
    value: Any, kind: Kind, file: Path | None, options: WriteOptions | None = None
) -> None:
    """Write a value to a file as well, if one is named."""
    if file:
        write_file(value, kind, file, options)
        say(f"wrote {file}")


def _write_to_stdout(write: Callable[[Any], None], binary: bool) -> None:
    if not binary:
        write(sys.stdout)
        return
    if sys.stdout.isatty():
        raise UsageError("this format is for programs: name a file with -o.")
    write(sys.stdout.buffer)


def _new_page() -> Path:
    import tempfile  # for --open alone: a query has no time for it

    # Not deleted on exit: the browser reads it after this process has ended.
    with tempfile.NamedTemporaryFile(prefix="clipsearch-", suffix=".html", delete=False) as page:
        return Path(page.name)


def show_in_browser(file: Path) -> None:
    """Open a page in the web browser, or say where it is if there is none."""
    import webbrowser  # for --open alone

    if not webbrowser.open(file.absolute().as_uri()):
        say(f"no web browser could be started; open {file.absolute()} in one.")


# --- images in a library or not -------------------------------------------------------------


def open_library_for(
    images: Sequence[Path] | None,
    library: Path | None,
    model: str | None,
    *,
    option: str,
    otherwise: str = "default",
) -> Library:
    """Open the library; if images are named, a model alone will do where there is none.

    Parameters
    ----------
    images
        Named on the command line, as `option` says in messages.
    library, model
        -L and --model; a model takes the place of the library.
    otherwise
        The model to use where there is no library.

    Raises UsageError for both, or a model without images, and LibraryNotFound.
    """
    if model and library:
        raise UsageError("a --library has its model: name one of the two.")
    if model and not images:
        raise UsageError(f"--model is for images that are named, by {option}.")
    if model:
        return Library.loose(model, device=get_device())
    try:
        return Library.open(library, device=get_device())
    except LibraryNotFound:
        if not images or library or os.environ.get(ENVIRONMENT):
            raise
    say(f"there is no library here: using the model `{otherwise}` (--model names another).")
    return Library.loose(otherwise, device=get_device())
