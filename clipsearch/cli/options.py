"""The options that several commands share: name, help text and type, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from clipsearch.output.render import Format

LibraryOption = Annotated[
    Path | None,
    typer.Option(
        "--library",
        "-L",
        metavar="DIR",
        help="The library: default $CLIPSEARCH_LIBRARY, else ./index if it is one, "
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
CountOption = Annotated[
    int, typer.Option("-k", "--count", metavar="N", min=1, help="How many images.")
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
FormatOption = Annotated[
    Format | None,
    typer.Option(
        "--format",
        "-f",
        help="How to write the results: by the name of -o, else table.",
        show_default=False,
    ),
]
NullOption = Annotated[
    bool, typer.Option("-0", "--null", help="Paths, each ended by NUL: for `xargs -0`.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write to FILE.", show_default=False),
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
PlainFormat = Literal["table", "json"]
PlainFormatOption = Annotated[
    PlainFormat, typer.Option("--format", "-f", help="How to write the result.")
]
