"""The list of models: presets, what is on disk, and what is compiled."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from clipsearch.encoders.compiler.store import Manifest, manifest_of
from clipsearch.encoders.registry import PRESETS

FACTS = ("name", "spec", "size_mb", "languages", "licence", "dim", "about", "on_disk")


def listed() -> list[dict[str, Any]]:
    """Return the presets as JSON types: the JSON contract of `clipsearch models`."""
    return [
        {
            **{fact: getattr(preset, fact) for fact in FACTS},
            "compiled": _how(manifest_of(preset.name)),
        }
        for preset in PRESETS.values()
    ]


def _how(compiled: Manifest | None) -> dict[str, Any] | None:
    if compiled is None:
        return None
    gate = asdict(compiled.gate) if compiled.gate else None
    return {"precision": compiled.precision, "gate": gate}
