"""`clipsearch models`: the presets, their licences, what is on disk, and what is compiled."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from clipsearch.cli.console import say
from clipsearch.cli.options import PlainFormatOption
from clipsearch.render import table, write_json

if TYPE_CHECKING:
    from clipsearch.encoders.models import Preset
    from clipsearch.encoders.store import Manifest

FACTS = ("name", "spec", "size_mb", "languages", "licence", "dim", "about", "on_disk")


def models(format: PlainFormatOption = "table") -> None:
    """List models: size, languages, licence.

    Also whether they are on disk, so that they load without the network, and whether they are
    compiled: with int8, how near its vectors are to those of the model (mean cosine).
    """
    from clipsearch.encoders.models import PRESETS
    from clipsearch.encoders.store import manifest_of

    compiled = {name: manifest_of(name) for name in PRESETS}
    if format == "json":
        write_json([_facts(p, compiled[p.name]) for p in PRESETS.values()], sys.stdout)
        return
    rows = [
        (
            *(preset.name, preset.spec, f"{preset.size_mb:,} MB", preset.languages, preset.licence),
            *("yes" if preset.on_disk else "no", _shown(compiled[preset.name]), preset.about),
        )
        for preset in PRESETS.values()
    ]
    heads = ("preset", "model", ">size", "languages", "licence", "on disk", "compiled", "")
    table(heads, rows, sys.stdout)
    say(
        "\nOthers: ARCH/TAG of open_clip, hf-hub:ORG/REPO, local-dir:FOLDER, "
        "or ARCH with --checkpoint FILE."
    )


def _facts(preset: Preset, compiled: Manifest | None) -> dict[str, Any]:
    gate = compiled and compiled.gate
    how = compiled and {"precision": compiled.precision, "gate": asdict(gate) if gate else None}
    return {**{fact: getattr(preset, fact) for fact in FACTS}, "compiled": how}


def _shown(compiled: Manifest | None) -> str:
    if compiled is None:
        return "no"
    near = compiled.precision == "int8" and compiled.gate
    return f"int8 ({near.cosine:.5f})" if near else compiled.precision
