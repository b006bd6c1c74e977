"""Files of the model hub: looked up in its cache, downloaded if they are not there.

huggingface_hub is imported here only, and only where a function needs it: a query of a compiled
model does without it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clipsearch._util import describe_error
from clipsearch.errors import ModelUnavailable, UnknownModel

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""What open_clip calls the weights in a repository or folder, the best first."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.txt",
)
"""Files with the vocabulary of a tokenizer; a repository has one of them."""
_TOKENIZER_SETTINGS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)


def find_cached(repo: str, *files: str) -> str | None:
    """Return the path of the first of `files` that the cache holds; never asks the hub.

    Parameters
    ----------
    repo
        ORG/REPO on the hub.
    files
        Names of files in it, the best first.

    Returns
    -------
    The path; None if the cache holds none of them.
    """
    look_up = _huggingface_hub().try_to_load_from_cache
    for file in files:
        if isinstance(path := look_up(repo, file), str):
            return path
    return None


def fetch(repo: str, *files: str, model: str) -> str:
    """Return the path of the first of `files` that `repo` has, downloaded if it is not cached.

    A file in the cache is used without asking the hub, so that a query stays on this machine.

    Parameters
    ----------
    repo, files
        As for `find_cached`.
    model
        Name of the model for messages.

    Raises
    ------
    UnknownModel
        The hub has no such repository.
    ModelUnavailable
        For any other reason; says what was tried and what to do.
    """
    if path := find_cached(repo, *files) or _download(repo, files, model):
        return path
    raise ModelUnavailable(
        model,
        f"{_endpoint()}/{repo} has no {' or '.join(files)}.",
        "Name a repository that holds an open_clip model.",
    )


def fetch_tokenizer(repo: str, *, model: str) -> str:
    """Return a folder with the tokenizer of `repo`.

    The files are fetched here, since transformers, given the name of a repository, sends the hub
    a dozen requests, and retries for minutes if there is no network.

    Raises
    ------
    UnknownModel, ModelUnavailable
        As `fetch` does.
    """
    if not find_cached(repo, *TOKENIZER_FILES):
        for file in _TOKENIZER_SETTINGS:
            find_cached(repo, file) or _download(repo, (file,), model)
    # Last, so that where it is, the rest is too.
    return str(Path(fetch(repo, *TOKENIZER_FILES, model=model)).parent)


def _download(repo: str, files: Sequence[str], model: str) -> str | None:
    """Download the first of `files` that `repo` has; None if it has none of them."""
    library = _huggingface_hub()
    errors = library.errors
    for file in files:
        try:
            # One request first: hf_hub_download retries for 23 s where there is no network.
            library.get_hf_file_metadata(library.hf_hub_url(repo, file))
            return str(library.hf_hub_download(repo, file))
        except errors.LocalEntryNotFoundError as error:
            raise _explain_unavailable(repo, model, error) from error
        except errors.EntryNotFoundError:
            continue
        except errors.GatedRepoError as error:
            raise ModelUnavailable(
                model,
                f"{repo} is open only to those who accept its licence.",
                f"Accept it on {_endpoint()}/{repo}, then set HF_TOKEN to a token of yours.",
            ) from error
        except errors.RepositoryNotFoundError as error:
            hint = f"{_endpoint()} has no repository {repo}, or it is private: then set HF_TOKEN."
            raise UnknownModel(model, hint=hint) from error
        except Exception as error:  # whatever the http library of this version or the disk say
            raise _explain_unavailable(repo, model, error) from error
    return None


def _explain_unavailable(repo: str, model: str, error: Exception) -> ModelUnavailable:
    constants = _huggingface_hub().constants
    tried = f"{repo} is not in the cache {constants.HF_HUB_CACHE}, and "
    if constants.HF_HUB_OFFLINE:
        tried += "HF_HUB_OFFLINE forbids to download it."
    else:
        reason = describe_error(error, first_line=True).rstrip(".")
        tried += f"downloading it from {_endpoint()} failed: {reason}."
    return ModelUnavailable(
        model,
        tried,
        "What you can do:\n"
        "  - run this again with a network that reaches the hub; it is downloaded once\n"
        "  - use the model that comes with clipsearch: --model mini "
        "(for drawn scenes, not photographs)\n"
        "  - use weights that you have: --model ARCH --checkpoint FILE, "
        "or --model local-dir:FOLDER\n"
        "  - copy the cache of a machine that has the model, and set HF_HOME to it "
        "and HF_HUB_OFFLINE=1",
    )


def _endpoint() -> str:
    return str(_huggingface_hub().constants.ENDPOINT)


def _huggingface_hub() -> Any:
    """Import huggingface_hub, which takes longer than a whole query of a compiled model."""
    from huggingface_hub import constants, errors  # noqa: F401 - attributes of the module

    return sys.modules["huggingface_hub"]
