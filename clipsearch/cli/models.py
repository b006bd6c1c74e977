"""`clipsearch models`, `compile`, `use` and `tokens`: list, compile and choose models, show tokens."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Annotated, Literal

import typer

from clipsearch._util import is_remote
from clipsearch.cli.console import UsageError, announce, get_device, progress, read_texts, say
from clipsearch.cli.options import LibraryOption, ModelOption, ReportFormat, write_report
from clipsearch.encoders import compile_once, list_models, load_tokenizer
from clipsearch.encoders.registry import resolve
from clipsearch.errors import LibraryNotFound, UnknownModel
from clipsearch.library import Library
from clipsearch.text.tokens import TokenTable
from clipsearch.types import OnProgress

_BUNDLED, _DEFAULT = "mini", "default"


def show_models(format: ReportFormat = None) -> None:
    """List models: size, languages, licence.

    Also whether they are on disk, so that they load without the network, and whether they are
    compiled: with int8, how near its vectors are to those of the model (mean cosine).
    """
    write_report(list_models(), "models", format)
    if format != "json":
        say(
            "",
            "Others: ARCH/TAG of open_clip, hf-hub:ORG/REPO, local-dir:FOLDER, "
            "or ARCH with --checkpoint FILE.",
        )


def compile(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="As for `index --model`: by default that of the library, else `default`.",
            show_default=False,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Weights for an architecture.", show_default=False),
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "int8"],
        typer.Option(help="fp32 is exact; auto and int8: int8 if its vectors are near enough."),
    ] = "auto",
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Compare int8 with fp32 on up to 32 of these images too: by default the "
            "folders of the library. Repeatable.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Even if it is compiled already.")] = False,
    format: ReportFormat = None,
    library: LibraryOption = None,
) -> None:
    """Make a model several times faster on a CPU.

    Queries then need no torch, and start in a fraction of the time. It is done once per model and
    used from then on; the files lie in your cache folder ($CLIPSEARCH_CACHE). On a graphics card
    torch is faster, and stays in use.

    \b
    clipsearch compile
    clipsearch compile mini --precision fp32
    clipsearch compile ViT-B-32/openai --images ~/Pictures
    """
    if checkpoint and not model:
        raise UsageError("--checkpoint needs a MODEL: which architecture is it?")
    # It imports torch and onnx, which takes seconds: `models` and `tokens` need neither.
    from clipsearch.encoders.compiler.compile import compile_model

    own_model, folders = _of_library(library)
    start = monotonic()
    with progress() as draw:
        made = compile_model(
            model or own_model or _DEFAULT,
            checkpoint=checkpoint,
            precision=precision,
            images=folders if images is None else images,
            force=force,
            progress=draw or announce,
        )
    write_report(made, "compilation", format)
    if format != "json":
        say(
            f"compiled in {monotonic() - start:,.0f} s."
            if made.fresh
            else "compiled already; --force compiles it again."
        )


def choose_model(given: str | None, library: Path | None) -> str:
    """Return the model to index with, and say which it is."""
    if given is None:
        # A library that is about to be made has none yet.
        with (
            suppress(LibraryNotFound, UnknownModel),
            Library.open(library, device=get_device()) as found,
        ):
            for own in found.models()[:1]:
                say(f"model: {own.name}")
                return own.spec or own.name
    preset = name = given or _DEFAULT
    with suppress(UnknownModel):  # loading it gives the reason
        name = resolve(preset).name
    say(f"model: {name}" + (f" ({preset})" if preset != name else ""))
    return preset


def compile_at_first(
    model: str, images: Sequence[str], draw: OnProgress | None, precision: str = "auto"
) -> None:
    """Compile the model that indexes these images, if it never was; say so if it cannot be.

    A name that is mistyped does not wait for that; fp16 and bf16 are for torch.
    """
    if precision not in ("auto", "fp32", "int8") or not any(
        is_remote(path) or os.path.exists(path) for path in images
    ):
        return
    reason = compile_once(
        model,
        device=get_device(),
        precision=precision,
        images=images,
        progress=draw or announce,
        apart=True,
    )
    if reason:
        say(*reason.split("\n"))


def _of_library(path: Path | None) -> tuple[str | None, list[Path]]:
    """Return the model and the folders of the library; nothing if there is none."""
    try:
        with Library.open(path, device=get_device()) as found:
            status = found.status()
    except LibraryNotFound:
        if path is not None:  # one that was named has to be there
            raise
        return None, []
    return status.model, [Path(root) for root in status.roots]


def tokens(
    texts: Annotated[
        list[str],
        typer.Argument(metavar="TEXT", help="A text, or several; `-`: the one on standard input."),
    ],
    model: ModelOption = None,
    format: ReportFormat = None,
    library: LibraryOption = None,
) -> None:
    """Show the tokens that a model reads of a text.

    Also how many are left, and what of a long text would be cut. The model is the library's, or
    --model; without either the one that comes with clipsearch, whose tokens are those of CLIP.
    No weights are loaded.

    \b
    clipsearch tokens "an orange boy riding a blue horse"
    clipsearch tokens "$(cat story.txt)" --model multilingual
    """
    if model and library:
        raise UsageError("the tokens of a --model or of the model of a --library: name one.")
    texts = read_texts(texts)
    found = _tokens_of_model(model, texts) if model else _tokens_of_library(library, texts)
    write_report(found, "tokens", format)


def _tokens_of_model(model: str, texts: list[str]) -> list[TokenTable]:
    tokenizer, name = load_tokenizer(model), resolve(model).name
    return [TokenTable.of(text, tokenizer, name) for text in texts]


def _tokens_of_library(library: Path | None, texts: list[str]) -> list[TokenTable]:
    try:
        with Library.open(library, device=get_device()) as lib:
            return lib.tokens(texts)
    except LibraryNotFound:
        if library:
            raise
    say(f"there is no library here: these are the tokens of `{_BUNDLED}`, which are those of CLIP.")
    return _tokens_of_model(_BUNDLED, texts)


def use(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A model that the library has vectors of.")
    ],
    library: LibraryOption = None,
) -> None:
    """Switch to another model of the library.

    Add one with `clipsearch index PATH... --model MODEL`.
    """
    with Library.open(library, device=get_device()) as lib:
        lib.use(model)
        found = lib.status()
    say(f"{found.path} now searches with {found.model}.")
