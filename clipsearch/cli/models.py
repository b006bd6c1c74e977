"""`clipsearch models`: the presets, their licences, what is on disk, and what is compiled."""

from __future__ import annotations

import sys
from typing import Any

from clipsearch.cli.console import say
from clipsearch.cli.options import PlainFormatOption
from clipsearch.output.render import table, write_json


def models(format: PlainFormatOption = "table") -> None:
    """List models: size, languages, licence.

    Also whether they are on disk, so that they load without the network, and whether they are
    compiled: with int8, how near its vectors are to those of the model (mean cosine).
    """
    from clipsearch.encoders.listing import listed

    found = listed()
    if format == "json":
        write_json(found, sys.stdout)
        return
    rows = [
        (
            *(one["name"], one["spec"], f"{one['size_mb']:,} MB", one["languages"], one["licence"]),
            *("yes" if one["on_disk"] else "no", _shown(one["compiled"]), one["about"]),
        )
        for one in found
    ]
    heads = ("preset", "model", ">size", "languages", "licence", "on disk", "compiled", "")
    table(heads, rows, sys.stdout)
    say(
        "\nOthers: ARCH/TAG of open_clip, hf-hub:ORG/REPO, local-dir:FOLDER, "
        "or ARCH with --checkpoint FILE."
    )


def _shown(compiled: dict[str, Any] | None) -> str:
    if compiled is None:
        return "no"
    near = compiled["precision"] == "int8" and compiled["gate"]
    return f"int8 ({near['cosine']:.5f})" if near else str(compiled["precision"])
