"""Model names: presets, how names resolve to models, and which files of them are on this machine.

A model is named in one of these ways:

    mini                         a preset, see PRESETS
    ViT-B-32-256/datacomp_s34b_b86k      one of open_clip's architectures and pretrained tags
    hf-hub:ORG/REPO              an open_clip model on the hub
    local-dir:FOLDER_PREFIX             a folder with open_clip_config.json and weights
    ViT-B-32@weights.pt          an architecture and a checkpoint file; ARCH/TAG@FILE prepares
                                 images as TAG does, where the tags of ARCH differ in that

Nothing here imports torch, so that a wrong name or missing weights are reported at once.
"""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from clipsearch._util import quote
from clipsearch.encoders import hub
from clipsearch.errors import ModelUnavailable, UnknownModel

FOLDER_PREFIX = "local-dir:"
_HUB_PREFIX = "hf-hub:"
_PREFIXES = (_HUB_PREFIX, FOLDER_PREFIX)

_MINI = Path(__file__).parent / "mini"
_FOLDER_WEIGHTS = (".safetensors", ".bin", ".pth")  # what open_clip looks for


class Preset(NamedTuple):
    """A model with a short name, and what `clipsearch models` shows of it."""

    name: str
    spec: str
    """The model's own name; the same as `name` for the bundled one."""
    repo: str
    """Where the hub keeps it; empty for the bundled one."""
    size_mb: int
    languages: str
    licence: str
    dim: int
    about: str
    hub_tokenizer: bool = False
    """Its tokenizer is a file of the repository too (CLIP's own comes with open_clip)."""

    @property
    def on_disk(self) -> bool:
        """Whether it loads without the network."""
        if not self.repo:
            return _weights_in(_MINI) is not None
        return hub.find_cached(self.repo, *hub.WEIGHTS) is not None and (
            not self.hub_tokenizer or hub.find_cached(self.repo, *hub.TOKENIZER_FILES) is not None
        )


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "mini", "mini", "", 25, "English", "Apache-2.0", 256,
            "comes with clipsearch; knows drawn scenes, not photographs",
        ),
        Preset(
            "default", "ViT-B-32-256/datacomp_s34b_b86k",
            "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K", 605, "English", "MIT", 512,
            "fast, good at photographs",
        ),
        Preset(
            "multilingual", "ViT-B-32-SigLIP2-256/webli", "timm/ViT-B-32-SigLIP2-256",
            1507, "over 100", "Apache-2.0", 768, "as fast, in many languages", True,
        ),
        Preset(
            "quality", "ViT-B-16-SigLIP2/webli", "timm/ViT-B-16-SigLIP2",
            1501, "over 100", "Apache-2.0", 768, "better, about three times slower", True,
        ),
        Preset(
            "max", "ViT-SO400M-16-SigLIP2-384/webli", "timm/ViT-SO400M-16-SigLIP2-384",
            4544, "over 100", "Apache-2.0", 1152, "the best here; wants a GPU", True,
        ),
    )
}  # fmt: skip


class ModelSpec(NamedTuple):
    """A resolved name. `name` is canonical and resolves to the same spec again."""

    name: str
    arch: str = ""
    tag: str = ""
    repo: str = ""
    """Repository on the hub, of names that begin with hf-hub:."""
    folder: str = ""
    checkpoint: str = ""

    @property
    def title(self) -> str:
        """The name for messages, with what a preset stands for."""
        for preset in PRESETS.values():
            if preset.repo and preset.spec == self.name:
                return f"{preset.name} ({preset.spec}, {preset.size_mb} MB)"
        return self.name


_CONFIG = ".json"  # of architectures

# Vocabularies for English have 30 to 65 thousand tokens; those of mBERT, XLM-R, mT5, NLLB and
# Gemma, made for many languages, 120 thousand and more.
_MANY_TOKENS = 100_000

_OTHER_LANGUAGES = re.compile(
    r"multilingual|arabic|chinese|dutch|french|german|hindi|italian|japanese|korean|polish"
    r"|portuguese|russian|spanish|turkish"
)


def multilingual(spec: ModelSpec, vocabulary: int) -> bool:
    """Tell whether a model was trained on other languages than English.

    Parameters
    ----------
    spec
        The model.
    vocabulary
        Number of tokens in the vocabulary of its tokenizer.
    """
    for preset in PRESETS.values():
        if preset.spec == spec.name:
            return preset.languages != "English"
    # Of a path its end alone: a folder may belong to somebody called German.
    own_name = spec.name.rpartition("/")[2].lower()
    return vocabulary >= _MANY_TOKENS or bool(_OTHER_LANGUAGES.search(own_name))


# --- names ---------------------------------------------------------------------------------


def resolve(name: str, *, checkpoint: str | os.PathLike[str] | None = None) -> ModelSpec:
    """Resolve the name of a model; touches neither the network nor the weights.

    Parameters
    ----------
    name
        Any form that the module's docstring lists.
    checkpoint
        File of weights for an architecture; the same as ARCH@FILE.

    Returns
    -------
    The model with its canonical name, which resolves to the same again.

    Raises
    ------
    UnknownModel
        No model has this name; names the closest ones.
    """
    if not isinstance(name, str):
        raise UnknownModel(quote(name))
    if not checkpoint and not name.startswith(_PREFIXES) and "@" in name:
        name, _, checkpoint = name.partition("@")
    preset = PRESETS.get(name)
    own_name = preset.spec if preset and preset.repo else name
    if checkpoint:
        return _with_checkpoint(name, own_name, checkpoint)
    if own_name == "mini":
        return ModelSpec(own_name, folder=str(_MINI))
    if own_name.startswith(_HUB_PREFIX):
        repo = own_name.removeprefix(_HUB_PREFIX)
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
            raise UnknownModel(name, hint="Write hf-hub:ORG/REPO.")
        return ModelSpec(own_name, repo=repo)
    if own_name.startswith(FOLDER_PREFIX):
        folder = os.path.abspath(os.path.expanduser(own_name.removeprefix(FOLDER_PREFIX)))
        return ModelSpec(FOLDER_PREFIX + folder, folder=folder)
    arch, tag = _arch_and_tag(own_name)
    return ModelSpec(f"{arch}/{tag}" if tag else arch, arch, tag)


def _with_checkpoint(name: str, own_name: str, checkpoint: str | os.PathLike[str]) -> ModelSpec:
    if own_name in PRESETS or own_name.startswith(_PREFIXES):
        hint = "A checkpoint goes with an architecture: ARCH or ARCH/TAG."
        raise UnknownModel(f"{name}@{checkpoint}", hint=hint)
    arch, tag = _arch_and_tag(own_name)
    file = os.path.abspath(os.path.expanduser(checkpoint))
    return ModelSpec(f"{f'{arch}/{tag}' if tag else arch}@{file}", arch, tag, checkpoint=file)


def _arch_and_tag(name: str) -> tuple[str, str]:
    arches = architectures()
    # open_clip also takes the papers' spelling, ViT-B/32.
    for arch, tag in ((name, ""), tuple(name.rpartition("/")[::2])):
        if (arch := arch.replace("/", "-")) in arches:
            return arch, tag.lower().replace("-", "_")
    if os.path.isdir(name):
        raise UnknownModel(name, hint=f"To load a folder, write {FOLDER_PREFIX}{name}.")
    import difflib  # a name that is right does without it

    before = name.rpartition("/")[0] or name
    close = difflib.get_close_matches(before, [*PRESETS, *arches], n=3)
    raise UnknownModel(name, close)


@cache
def architectures() -> frozenset[str]:
    """Return the names of open_clip's architectures, read from its files without importing it."""
    try:  # a query comes here: names alone, without a Path each
        names = os.listdir(open_clip_folder() / "model_configs")
    except OSError:
        return frozenset()
    return frozenset(name[: -len(_CONFIG)] for name in names if name.endswith(_CONFIG))


def open_clip_folder() -> Path:
    """Return the folder of the package open_clip without importing it, which takes seconds.

    Raises
    ------
    FileNotFoundError
        open_clip is not installed.
    """
    found = find_spec("open_clip")
    for folder in (found and found.submodule_search_locations) or ():
        return Path(folder)
    raise FileNotFoundError("open_clip is not installed")


# --- files ---------------------------------------------------------------------------------


def check_files(spec: ModelSpec) -> None:
    """Check that the files on this machine that `spec` names exist.

    Raises
    ------
    ModelUnavailable
        One is missing; the message says which, and what to do.
    """
    if spec.checkpoint and not os.path.isfile(spec.checkpoint):
        raise ModelUnavailable(
            spec.name, f"there is no file {spec.checkpoint}.", "Check the path of the checkpoint."
        )
    if not spec.folder:
        return
    folder = Path(spec.folder)
    if spec.name == "mini" and _weights_in(folder) is None:
        raise ModelUnavailable(
            "mini",
            f"its weights are missing from {folder}.",
            "They are part of the package: reinstall clipsearch, or choose another model.",
        )
    if not (folder / hub.CONFIG).is_file() or _weights_in(folder) is None:
        what = (
            hub.CONFIG
            if not (folder / hub.CONFIG).is_file()
            else f"weights such as {hub.WEIGHTS[0]}"
        )
        where = f"{folder} has no {what}." if folder.is_dir() else f"there is no folder {folder}."
        raise ModelUnavailable(
            spec.name, where, f"Name a folder that holds {hub.CONFIG} and the weights."
        )


def _weights_in(folder: Path) -> Path | None:
    files = sorted(folder.glob("*")) if folder.is_dir() else []
    return next((f for f in files if f.suffix in _FOLDER_WEIGHTS), None)
