"""The only door to the model hub: what its cache holds, and what has to be downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clipsearch.errors import ModelUnavailable, UnknownModel

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""What open_clip calls the weights in a repository or folder, the best first."""
VOCABULARY = (
    "tokenizer.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "vocab.txt",
)
"""What a tokenizer cannot do without: the first of these that there is."""
SETTINGS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
)


def cached(repo: str, *files: str) -> str | None:
    """Return where the cache keeps the first of `files` that it has; never asks the hub."""
    from huggingface_hub import try_to_load_from_cache

    for file in files:
        if isinstance(path := try_to_load_from_cache(repo, file), str):
            return path
    return None


def fetch(repo: str, *files: str, model: str) -> str:
    """Return the path of the first of `files` that `repo` has, downloading it if it must.

    What is in the cache is taken without asking the hub: a query stays on this machine. `model`
    is what messages call it. Raises UnknownModel if the hub has no such repository, and
    ModelUnavailable, with what was tried and what to do, for any other reason.
    """
    if path := cached(repo, *files) or _download(repo, files, model):
        return path
    raise ModelUnavailable(
        model,
        f"{_endpoint()}/{repo} has no {' or '.join(files)}.",
        "Name a repository that holds an open_clip model.",
    )


def fetch_tokenizer(repo: str, *, model: str) -> str:
    """Return a folder with the tokenizer of `repo`; raises as `fetch` does.

    The files are fetched here since transformers, given the name of a repository, asks the hub
    a dozen questions, and for minutes if there is no network.
    """
    if not cached(repo, *VOCABULARY):
        for file in SETTINGS:
            cached(repo, file) or _download(repo, (file,), model)
    # Last, so that where it is, the rest is too.
    return str(Path(fetch(repo, *VOCABULARY, model=model)).parent)


def _download(repo: str, files: Sequence[str], model: str) -> str | None:
    """Download the first of `files` that `repo` has; None if it has none of them."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    for file in files:
        try:
            # One question first: hf_hub_download alone retries for 23 s where there is no network.
            get_hf_file_metadata(hf_hub_url(repo, file))
            return hf_hub_download(repo, file)
        except LocalEntryNotFoundError as error:
            raise _unavailable(repo, model, error) from error
        except EntryNotFoundError:
            continue
        except GatedRepoError as error:
            raise ModelUnavailable(
                model,
                f"{repo} is open only to those who accept its licence.",
                f"Accept it on {_endpoint()}/{repo}, then set HF_TOKEN to a token of yours.",
            ) from error
        except RepositoryNotFoundError as error:
            hint = f"{_endpoint()} has no repository {repo}, or it is private: then set HF_TOKEN."
            raise UnknownModel(model, hint=hint) from error
        except Exception as error:  # whatever the http library of this version or the disk say
            raise _unavailable(repo, model, error) from error
    return None


def _unavailable(repo: str, model: str, error: Exception) -> ModelUnavailable:
    from huggingface_hub import constants

    tried = f"{repo} is not in the cache {constants.HF_HUB_CACHE}, and "
    if constants.HF_HUB_OFFLINE:
        tried += "HF_HUB_OFFLINE forbids to download it."
    else:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
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
    from huggingface_hub import constants

    return str(constants.ENDPOINT)
