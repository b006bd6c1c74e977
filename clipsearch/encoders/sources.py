"""Find the parts of a model: its configuration, weights and preprocessing; fingerprint it.

open_clip's tables come as an argument, because loading a tokenizer alone needs no open_clip.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from clipsearch._util import describe_error
from clipsearch.encoders import hub
from clipsearch.encoders.registry import FOLDER_PREFIX, ModelSpec
from clipsearch.errors import ModelUnavailable, UnknownModel

_PREPROCESS = ("mean", "std", "interpolation", "resize_mode")  # the size is the architecture's

_AT_ONCE = 8  # weights in memory while they are hashed
PROBES = (
    "a photo of a cat",
    "The  QUICK brown-fox's 3.14 &amp; <b>",
    "naïve café, Straße; Ünïcödé",
    "赤い馬に乗る少年 конь собака 🐎",
    "word " * 200,
)
"""Texts whose tokens are part of the fingerprint: weights do not say how texts become tokens."""


class Tables(Protocol):
    """The part of open_clip that knows architectures and pretrained tags."""

    def get_model_config(self, model_name: str) -> dict[str, Any] | None:
        """Return embed_dim, vision_cfg and text_cfg of an architecture or `local-dir:`."""
        ...

    def list_pretrained_tags_by_model(self, model: str) -> list[str]:
        """Return the tags of an architecture."""
        ...

    def get_pretrained_cfg(self, model: str, tag: str) -> dict[str, Any]:
        """Return where the weights of a tag are and how it prepares images; empty if unknown."""
        ...

    def download_pretrained(self, cfg: dict[str, Any]) -> str:
        """Return the weights of a tag that is not on the hub."""
        ...


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The parts of a model, all of them on this machine."""

    name: str
    """For open_clip: an architecture, or `local-dir:` with a folder."""
    config: dict[str, Any]
    weights: str | None = None
    """None for a folder, where open_clip finds them."""
    preprocess: dict[str, Any] = field(default_factory=dict)
    quick_gelu: bool = False

    @property
    def text(self) -> dict[str, Any]:
        """The configuration of the text tower."""
        return dict(self.config["text_cfg"])


def find_source(spec: ModelSpec, tables: Tables) -> ModelSource:
    """Find the parts of a model, downloading those that the hub's cache does not hold.

    Parameters
    ----------
    spec
        The model.
    tables
        The module open_clip.

    Raises
    ------
    UnknownModel
        open_clip does not know the tag, or an architecture stands without one.
    ModelUnavailable
        A part cannot be downloaded or read.
    """
    if spec.repo:
        weights = hub.fetch(spec.repo, *hub.WEIGHTS, model=spec.title)
        config = hub.fetch(spec.repo, hub.CONFIG, model=spec.title)
        # The repository may have changed since the cache took the weights: both from one version.
        if Path(weights).parent != Path(config).parent:
            hub.fetch(spec.repo, *hub.WEIGHTS, model=spec.title)
        return _folder(spec, str(Path(config).parent), tables)
    if spec.folder:
        return _folder(spec, spec.folder, tables)
    tag = _tag(spec, tables) if spec.tag or not spec.checkpoint else {}
    preprocess = _preprocess(tag) if tag else _preprocess_of_checkpoint(spec, tables)
    return ModelSource(
        spec.arch,
        tables.get_model_config(spec.arch) or {},
        spec.checkpoint or _weights_of_tag(spec, tag, tables),
        preprocess,
        # Many tags, openai's above all, were trained with QuickGELU but are listed under
        # architectures without it; open_clip warns and runs them wrongly. The tag is right.
        bool(tag.get("quick_gelu")),
    )


def find_configuration(spec: ModelSpec, tables: Tables) -> ModelSource:
    """Find the configuration of a model; weights are neither read nor downloaded.

    Parameters and errors are those of `find_source`; an architecture alone is enough.
    """
    if spec.repo:
        config = hub.fetch(spec.repo, hub.CONFIG, model=spec.title)
        return _folder(spec, str(Path(config).parent), tables)
    if spec.folder:
        return _folder(spec, spec.folder, tables)
    if spec.tag:
        _tag(spec, tables)
    return ModelSource(spec.arch, tables.get_model_config(spec.arch) or {})


def explain_unreadable(spec: ModelSpec, what: str, error: Exception) -> ModelUnavailable:
    """Return the error that says in one line why a file or folder is not a model.

    Parameters
    ----------
    spec
        The model.
    what
        The file, folder or part that cannot be read.
    error
        What reading it raised.
    """
    kind = f"as weights of {spec.arch}" if spec.arch else "as an open_clip model"
    return ModelUnavailable(
        spec.title,
        f"{what} cannot be read {kind}: {describe_error(error)}",
        "Check that it is complete, and that weights and architecture belong together.",
    )


def _folder(spec: ModelSpec, folder: str, tables: Tables) -> ModelSource:
    try:
        config = tables.get_model_config(FOLDER_PREFIX + folder) or {}
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys():
            raise ValueError(f"{hub.CONFIG} lacks embed_dim, vision_cfg or text_cfg in model_cfg")
    except (ValueError, OSError, AttributeError) as error:
        raise explain_unreadable(spec, folder, error) from error
    return ModelSource(FOLDER_PREFIX + folder, config)


def _tag(spec: ModelSpec, tables: Tables) -> dict[str, Any]:
    """Return open_clip's entry of the tag."""
    if spec.tag and (entry := tables.get_pretrained_cfg(spec.arch, spec.tag)):
        return entry
    tags = tables.list_pretrained_tags_by_model(spec.arch)
    known = f"its tags are {', '.join(tags)}" if tags else "open_clip has no weights of it"
    if spec.tag:
        close = difflib.get_close_matches(spec.tag, tags, n=3)
        hint = f"Of {spec.arch}, {known}."
        raise UnknownModel(spec.name, [f"{spec.arch}/{tag}" for tag in close], hint)
    raise UnknownModel(
        spec.name,
        hint="It is an architecture without weights: "
        f"write {spec.arch}/TAG ({known}), or add a checkpoint file.",
    )


def _weights_of_tag(spec: ModelSpec, tag: dict[str, Any], tables: Tables) -> str:
    if place := tag.get("hf_hub"):
        # ORG/REPO/FILE, or ORG/REPO/ for the usual names; safetensors first where there are both.
        repo, file = os.path.split(place)
        stem, suffix = os.path.splitext(file)
        files = [f"{stem}.safetensors", file] if suffix in (".bin", ".pth") else [file]
        return hub.fetch(repo, *(files if file else hub.WEIGHTS), model=spec.title)
    try:
        return str(tables.download_pretrained(tag))
    except Exception as error:  # urllib, checksums, the disk
        place = tag.get("url") or tag.get("file")
        reason = f"{place} could not be downloaded: {describe_error(error)}"
        raise ModelUnavailable(
            spec.title, reason, "Try again with a network, or use --checkpoint FILE."
        ) from error


def _preprocess(config: dict[str, Any]) -> dict[str, Any]:
    return {key: config[key] for key in _PREPROCESS if config.get(key) is not None}


def _preprocess_of_checkpoint(spec: ModelSpec, tables: Tables) -> dict[str, Any]:
    """Return how images are prepared for a checkpoint, which does not say it itself.

    From an open_clip_config.json beside it; else what all tags of the architecture agree on; for
    an architecture without tags, open_clip's defaults, with which it trains.
    """
    beside = Path(spec.checkpoint).parent / hub.CONFIG
    if beside.is_file():
        try:
            return _preprocess(json.loads(beside.read_text("utf-8"))["preprocess_cfg"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise explain_unreadable(spec, str(beside), error) from error
    tags = tables.list_pretrained_tags_by_model(spec.arch)
    ways = [_preprocess(tables.get_pretrained_cfg(spec.arch, tag)) for tag in tags]
    if any(way != ways[0] for way in ways):
        raise ModelUnavailable(
            spec.title,
            f"the weights of {spec.arch} do not all want their images prepared in one way.",
            f"Say which these began from: --model {spec.arch}/TAG, with TAG of {', '.join(tags)}.",
        )
    return ways[0] if ways else {}


# --- fingerprint ---------------------------------------------------------------------------


def fingerprint(tensors: Iterable[tuple[str, np.ndarray]], structure: Mapping[str, object]) -> str:
    """Return the hash of all that decides the vectors of a model, to keep two models apart.

    Parameters
    ----------
    tensors
        Names and weights: float32, in the same order on every device, whatever precision the
        model computes in and whatever file it came from.
    structure
        All else that decides vectors, as JSON types.

    Returns
    -------
    SHA-256 in hexadecimal.
    """
    digest = hashlib.sha256(json.dumps(structure, sort_keys=True).encode())
    remaining = iter(tensors)
    with ThreadPoolExecutor() as pool:  # hashing releases the lock: seconds less for large models
        while few := list(islice(remaining, _AT_ONCE)):  # they may be read from a file as they come
            for line in pool.map(_line, few):
                digest.update(line)
    return digest.hexdigest()


def _line(named: tuple[str, np.ndarray]) -> bytes:
    name, array = named
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return f"{name} {array.shape} {hashlib.sha256(content.data).hexdigest()}\n".encode()
