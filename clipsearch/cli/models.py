"""`clipsearch models`: the presets, their licences, and whether they are on disk."""

from __future__ import annotations

import sys

from clipsearch.cli.console import say
from clipsearch.cli.options import PlainFormatOption
from clipsearch.render import table, write_json

FACTS = ("name", "spec", "size_mb", "languages", "licence", "dim", "about", "on_disk")


def models(format: PlainFormatOption = "table") -> None:
    """List models: size, languages, licence.

    Also whether they are on disk, so that they load without the network.
    """
    from clipsearch.encoders.models import PRESETS

    if format == "json":
        found = [{fact: getattr(preset, fact) for fact in FACTS} for preset in PRESETS.values()]
        write_json(found, sys.stdout)
        return
    rows = [
        (
            *(preset.name, preset.spec, f"{preset.size_mb:,} MB", preset.languages, preset.licence),
            *("yes" if preset.on_disk else "no", preset.about),
        )
        for preset in PRESETS.values()
    ]
    heads = ("preset", "model", ">size", "languages", "licence", "on disk", "")
    table(heads, rows, sys.stdout)
    say(
        "\nOthers: ARCH/TAG of open_clip, hf-hub:ORG/REPO, local-dir:FOLDER, "
        "or ARCH with --checkpoint FILE."
    )
