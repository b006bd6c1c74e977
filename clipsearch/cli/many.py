"""Options that take several values, up to the next option: `--images a.jpg b.jpg`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from clipsearch.cli.console import UsageError


def taking_many(**names: str) -> type[TyperCommand]:
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
