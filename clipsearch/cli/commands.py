"""Load commands on demand, and read their options without importing pydantic.

In Typer 0.29 every value, also one with `parser=`, passes through `build_runtime_param`, which
imports pydantic. That import alone costs 80 to 120 ms of CPU, of about 0.3 s for a whole query, and
there is no public way around it: Typer no longer takes a `click_type=`. So `take_plain_values`
converts values that are valid without doubt, such as a text for a text option, and leaves all
others, with their error messages, to Typer.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import typer.main
from typer.core import TyperCommand, TyperGroup

from clipsearch._util import printable
from clipsearch.cli.console import UsageError

Function = TypeVar("Function", bound=Callable[..., None])
Convert = Callable[[Any], Any]
"""Returns the value that an option's text stands for. Raises ValueError if that is not plain."""

_SYNONYMS = {
    **dict.fromkeys(("search", "find", "text", "grep"), "query"),
    **dict.fromkeys(("add", "scan", "update", "sync", "import"), "index"),
    **dict.fromkeys(("like", "nearest", "neighbours", "neighbors"), "similar"),
    **dict.fromkeys(("tag", "label", "predict", "sort"), "classify"),
    **dict.fromkeys(("compare", "heatmap"), "matrix"),
    **dict.fromkeys(("train", "teach", "fit", "few-shot"), "learn"),
    **dict.fromkeys(("evaluate", "test", "benchmark"), "eval"),
    **dict.fromkeys(("cluster", "group", "events"), "topics"),
    **dict.fromkeys(("dedupe", "dedup", "duplicates", "doubles"), "dupes"),
    **dict.fromkeys(("info", "stats", "stat", "show"), "status"),
    **dict.fromkeys(("ls", "list", "dump", "save"), "export"),
    **dict.fromkeys(("rm", "delete", "forget"), "remove"),
    **dict.fromkeys(("verify", "fsck", "repair", "doctor"), "check"),
    **dict.fromkeys(("reindex", "optimize", "vacuum"), "rebuild"),
    **dict.fromkeys(("switch", "model"), "use"),
    **dict.fromkeys(("server", "web", "api", "ui", "mcp"), "serve"),
    **dict.fromkeys(("tokenize", "token"), "tokens"),
}
"""What people type for a command that has another name -> that command."""
_DIGITS = re.compile(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?")


_PARSERS: dict[Callable[..., None], type[TyperCommand]] = {}
"""Function of a command -> the class that parses its arguments, where it is not typer's own."""


def parse_by(kind: type[TyperCommand]) -> Callable[[Function], Function]:
    """Return a decorator: the arguments of this command are parsed by a class of its own."""

    def mark(function: Function) -> Function:
        _PARSERS[function] = kind
        return function

    return mark


class Commands(Mapping[str, Any]):
    """Commands by name, each imported when it is looked up.

    A home is `module:function`; without a function, the one that has the command's name.
    """

    def __init__(self, homes: Mapping[str, str], settings: Mapping[str, Any]) -> None:
        """Prepare. homes: name -> home; settings: of `typer.Typer`, the same for all."""
        self._homes = homes
        self._settings = settings
        self._found: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._found:
            module, _, function = self._homes[name].partition(":")
            callback = getattr(import_module(module), function or name)
            one = typer.Typer(**self._settings, add_completion=False)
            one.command(name, cls=_PARSERS.get(callback))(callback)
            self._found[name] = typer.main.get_command(one)
            take_plain_values(self._found[name])
            _name_arguments_plainly(self._found[name])
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)


def group_of(commands: Commands) -> type[TyperGroup]:
    """Return the class of a group that has these commands."""

    class Group(TyperGroup):
        """Asks for commands when they are called."""

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.commands = cast("MutableMapping[str, Any]", commands)
            take_plain_values(self)

        def make_context(self, *args: Any, **extra: Any) -> Any:
            """Parse what stands before the command."""
            with _printable_errors():
                return super().make_context(*args, **extra)

        def invoke(self, ctx: Any) -> Any:
            """Parse the options of the command, and call it."""
            with _printable_errors():
                return super().invoke(ctx)

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            """Name the command for a synonym; typer suggests near misses by itself."""
            meant = _SYNONYMS.get(args[0]) if args and args[0] not in self.commands else None
            if meant:
                raise UsageError(f"No such command {args[0]!r}. Did you mean {meant!r}?", ctx)
            return super().resolve_command(ctx, args)

    return Group


@contextmanager
def _printable_errors() -> Iterator[None]:
    """Make the messages of typer printable: they quote what was typed, whatever it is."""
    try:
        yield
    except typer.TyperException as error:
        error.message = printable(error.message)
        raise


# --- values --------------------------------------------------------------------------------


def take_plain_values(command: Any) -> None:
    """Have the options of a command take plainly right values without asking typer."""
    parse = command.parse_args

    def parse_args(context: Any, args: list[str]) -> Any:
        hints = get_type_hints(command.callback, include_extras=True)
        for param in command.get_params(context):  # with --help, and what typer added late
            if "process_value" not in vars(param):
                convert = converter(hints.get(param.name))
                param.process_value = _processing(param, convert, param.process_value)
        return parse(context, args)

    command.parse_args = parse_args


def _processing(
    param: Any, convert: Convert, judged: Callable[[Any, Any], Any]
) -> Callable[[Any, Any], Any]:
    several = param.multiple or param.nargs == -1

    def process(context: Any, value: Any) -> Any:
        if convert is _path and "" in (value if several and value else (value,)):
            # pathlib takes it for the current folder; in a script it is a variable without value.
            name = param.opts[-1] if param.param_type_name == "option" else param.metavar
            raise UsageError(f"{name} needs the name of a file or a folder: it is empty.", context)
        try:
            if value is None:
                found: Any = () if several else None
            else:
                found = tuple(map(convert, value)) if several else convert(value)
        except (TypeError, ValueError):
            return judged(context, value)
        if param.required and found in (None, ()):
            return judged(context, value)
        return found if param.callback is None else param.callback(context, param, found)

    return process


def converter(hint: Any) -> Convert:
    """Return what converts values of this annotation, of each item for a list."""
    hint, limits = _unwrap(hint)
    if get_origin(hint) is list:
        hint, _ = _unwrap(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return _one_of(get_args(hint))
    if hint in (int, float):
        return _number(hint, limits)
    return {str: _text, Path: _path, bool: _flag}.get(hint, _refuse)


def _unwrap(hint: Any) -> tuple[Any, tuple[float, float]]:
    """Take Annotated and None off an annotation; return it with the least and the largest value."""
    least, most = float("-inf"), float("inf")
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        for note in notes:
            least = least if getattr(note, "min", None) is None else note.min
            most = most if getattr(note, "max", None) is None else note.max
    if get_origin(hint) in (Union, types.UnionType):
        others = [one for one in get_args(hint) if one is not types.NoneType]
        hint = others[0] if len(others) == 1 else None
    return hint, (least, most)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _path(value: Any) -> Path:
    if not value:
        raise ValueError  # Path("") is the folder that one is in
    return Path(_text(value))


def _refuse(value: Any) -> Any:
    raise TypeError


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _one_of(choices: tuple[Any, ...]) -> Convert:
    def choose(value: Any) -> Any:
        if value not in choices:
            raise ValueError
        return value

    return choose


def _number(kind: type, limits: tuple[float, float]) -> Convert:
    def convert(value: Any) -> Any:
        text = value if isinstance(value, str) else str(value)
        found = _DIGITS.fullmatch(text)
        if not found or (kind is int and found[2]) or not limits[0] <= kind(text) <= limits[1]:
            raise ValueError
        return kind(text)

    return convert


def _name_arguments_plainly(command: Any) -> None:
    """Have the help show `PATH` for an argument, not `PATH <list[Path]>`."""
    for param in command.params:
        if param.param_type_name == "argument" and param.metavar:
            param.display_type_rich = lambda ctx: None


# --- options with many values ----------------------------------------------------------------


def take_many(**names: str) -> type[TyperCommand]:
    """Make a kind of command whose options of these names take many values (a shell's `*.jpg`).

    names: the option without its dashes, and what it needs, for the message if it gets nothing.
    """
    options = {f"--{name.replace('_', '-')}": needs for name, needs in names.items()}

    class TakingMany(TyperCommand):
        """Repeats the option before each value, which is the form that typer reads."""

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, _spread(args, options, ctx))

    return TakingMany


def _spread(args: list[str], options: dict[str, str], ctx: Any) -> list[str]:
    spread: list[str] = []
    taking = empty = ""
    for place, arg in enumerate(args):
        if arg != "--" and not arg.startswith("-"):
            spread += [taking, arg] if taking else [arg]
            empty = ""
            continue
        if empty:
            break
        if arg == "--":
            spread += args[place:]
            break
        taking = empty = arg if arg in options else ""
        spread += [] if taking else [arg]
    if empty:
        raise UsageError(f"{empty} needs {options[empty]}.", ctx)
    return spread
