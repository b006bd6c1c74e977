"""Inputs of users, made by grammars and by mutation: a value, or an error of one printable line."""

from __future__ import annotations

import json
import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from clipsearch.catalog import Catalog
from clipsearch.errors import BadFilter, ClipsearchError
from clipsearch.evaluation.ground_truth import read_ground_truth
from clipsearch.filters import parse
from clipsearch.filters.fields import FIELDS
from clipsearch.heads.head import Head
from clipsearch.heads.label_file import labels_from_file
from clipsearch.heads.query import parse_term
from torturing.attack import Attack, Tally
from torturing.process import note, run_child
from torturing.world import World

_LONGEST = 5.0
"""Seconds of one input."""
_SIZE = 700
"""Characters of a message; that of a filter shows the place, on lines of its own."""

Check = Callable[[], Any]


class Inputs(Attack):
    """Tries inputs in one child; errors of clipsearch are answers, others are defects."""

    what: ClassVar[str]
    """What one input is."""

    @abstractmethod
    def _inputs(self, random: Random) -> Iterator[tuple[str, Check]]:
        """Make the inputs of one try: how each is shown, and what reads it."""

    def _attack(self, random: Random, tally: Tally) -> str:
        what = self.what

        def work() -> None:
            count = 0
            for shown, check in self._inputs(random):
                count += 1
                if fault := _fault_of(check):
                    print(json.dumps(f"{fault}: {shown[:300]!r}"))
            note(count)

        outcome = run_child(work)
        tally.note_outcome(outcome, what)
        for answer in outcome.answers:
            tally.inputs += answer.code
            for line in answer.out.splitlines():
                fault = json.loads(line)
                if fault.startswith("defect"):
                    tally.tracebacks += 1
                    tally.said.append(f"traceback: {what}: {fault}")
                elif fault.startswith("slow"):
                    tally.hangs += 1
                    tally.said.append(f"hang: {what}: {fault}")
                else:
                    tally.note_wrong(f"{what}: {fault}")
        if not outcome.answers and not tally.failures:
            tally.tracebacks += 1
            tally.said.append(f"traceback: {what}: the process ended: {outcome.err[-800:]}")
        elif outcome.err and not tally.failures:
            tally.note_wrong(f"{what}: written to stderr: {outcome.err[:300]!r}")
        return ""


def _fault_of(check: Check) -> str:
    """Return what is wrong with what an input gives; empty if nothing is."""
    start = time.monotonic()
    fault = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            if check() is False:
                fault = "not what it means"
        except ClipsearchError as error:
            lines = str(error).split("\n")
            if len(lines) > 3 or any(len(x) > _SIZE or not x.isprintable() for x in lines):
                fault = f"a message of {len(str(error))} characters {str(error)[:200]!r}"
            elif isinstance(error, BadFilter) and error.position < 0:
                fault = "an error without a place"
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            fault = f"defect {type(error).__name__}: {str(error)[:200]}"
    if any(len(str(one.message)) > 2 * _SIZE for one in caught):
        fault = fault or "a warning that is too long"
    seconds = time.monotonic() - start
    return fault or (f"slow: {seconds:.1f} s" if seconds > _LONGEST else "")


# --- queries and filters --------------------------------------------------------------------------

_TEXTS = ["", "cat", "it's", "%", "a_b", "\\", "é", "猫", "\x1b[31m", "\0", "\u202e", "x" * 3000]
_NUMBERS = ["0", "1", "-2.5", "1e400", "40", "9" * 400, "0x10", "1_000", "nan", "-inf", "."]
_DATES = ["2024", "2024-08", "2024-08-11", "2024-08-11T12:30", "2024-13", "0000", "9999-12-31"]
_NOISE = [
    "(",
    ")",
    "'",
    '"',
    ";",
    "--",
    ",",
    "and",
    "or",
    "not",
    "null",
    "\n",
    "\ud800",
    ":w0",
    "?",
]


class Filters(Inputs):
    """Writes where-clauses and terms by their grammars, some of them damaged, and reads them."""

    name = "queries and filters"
    share = 0.6
    what = "a filter or a term"
    _count = 250

    def _attack(self, random: Random, tally: Tally) -> str:
        self._world.restore()
        return super()._attack(random, tally)

    def _inputs(self, random: Random) -> Iterator[tuple[str, Check]]:
        with Catalog.open(self._world.library) as catalog:
            total = len(catalog.records())
            for _ in range(self._count):
                text = _damaged(_expression(random, 3), random)
                yield text, partial(_holds, catalog, text, total)
                term = _damaged(_term(random), random)
                yield term, partial(parse_term, term, random.choice(("text", "image")))


def _holds(catalog: Catalog, text: str, total: int) -> bool:
    """Tell whether a filter and its negation share the images out."""
    found = len(catalog.records(where=parse(text)))
    return found + len(catalog.records(where=parse(f"not ({text})"))) == total


def _expression(random: Random, depth: int) -> str:
    if depth and random.random() < 0.5:
        kind = random.randrange(3)
        if not kind:
            return f"not ({_expression(random, depth - 1)})"
        parts = [_expression(random, depth - 1) for _ in range(random.randint(2, 3))]
        return f"({(' and ', ' or ')[kind - 1].join(parts)})"
    if random.random() < 0.03:
        return "(" * random.choice((5, 500, 5000)) + "width > 1"
    return _condition(random)


def _condition(random: Random) -> str:
    name = random.choice(list(FIELDS))
    values = {
        "text": [_quoted(text) for text in _TEXTS],
        "number": _NUMBERS,
        "date": [*_DATES, *map(_quoted, _DATES)],
    }[FIELDS[name].kind]
    kind = random.randrange(8)
    if kind == 0:
        return f"{name} is {random.choice(('', 'not '))}null"
    if kind == 1:
        listed = ", ".join(random.choices(values, k=random.choice((1, 2, 40))))
        return f"{name} {random.choice(('', 'not '))}in ({listed})"
    if kind == 2:
        return f"{name} like {_quoted(random.choice(_TEXTS) + '%')}"
    if kind == 3:
        return f"near({', '.join(random.choices(_NUMBERS, k=random.randint(2, 4)))})"
    operator = random.choice(("=", "!=", "<>", "<", "<=", ">", ">=", "=="))
    return f"{name} {operator} {random.choice(values)}"


def _term(random: Random) -> str:
    weight = random.choice(("", *(f"{number}:" for number in _NUMBERS), "\\2:", "-", "+1:"))
    return weight + random.choice(_TEXTS) + random.choice(("", " ", " and a dog"))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _damaged(text: str, random: Random) -> str:
    """Return a text with a piece left out, doubled or put in, or as it is."""
    kind = random.randrange(6)
    start, end = sorted(random.randrange(len(text) + 1) for _ in range(2))
    if kind == 0:
        return text[:start] + text[end:]
    if kind == 1:
        return text[:end] + text[start:end] + text[end:]
    if kind == 2:
        return text[:start] + random.choice(_NOISE) + text[start:]
    return text


# --- documents ------------------------------------------------------------------------------------

_SEEDS = {
    "labels.txt": "cat: a cat; a kitten\ndog\n# a comment\nboat: image:a.png\n",
    "labels.csv": "label,prompt\ncat,a cat\ncat,a kitten\ndog,a dog\n",
    "labels.json": '{"cat": ["a cat", "a kitten"], "dog": "a dog"}',
    "labels.yaml": "cat:\n  - a cat\n  - a kitten\ndog: a dog\n",
    "truth.csv": "path,label\na/000.png,cat\nb/012.png,dog\n",
    "truth.json": '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": '
    '[{"image_id": 1, "caption": "a cat"}]}',
}
_PIECES = [
    *("[", "{", "}", "]", ",", ";", ":", "\t", '"', "'", "\n", "\r", "\ufeff", "&a ", "*a", "- "),
    *("!!python/object:os.system ", "NaN", "1e999", "9" * 6000, "\x1b[31m", "\u202e", "\0", "null"),
    *("[" * 3000, "{a: " * 300, "x" * 100_000, "~nouser/x", "sep=;", "image:", "label", "path"),
    "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b,*b,*b]\n",
]
_READERS = (labels_from_file, read_ground_truth, Head.load)


class Documents(Inputs):
    """Mutates label files, ground truth and heads, in text, CSV, JSON and YAML, and reads them."""

    name = "label, truth and head files"
    share = 0.5
    what = "a document"
    _count = 60

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._folder = world.folder / "documents"
        self._folder.mkdir(exist_ok=True)

    def _inputs(self, random: Random) -> Iterator[tuple[str, Check]]:
        for _ in range(self._count):
            name, text = random.choice(list(_SEEDS.items()))
            path = self._folder / name
            path.write_bytes(mutate(text.encode(), random))
            for read in _READERS:
                shown = f"{read.__qualname__} of {path.read_bytes()[:150]!r}"
                yield shown, partial(_used, read, path)


def _used(read: Callable[[Path], Any], path: Path) -> bool:
    read(path)
    return True


def mutate(data: bytes, random: Random) -> bytes:
    """Return bytes of a text with pieces put in, taken out and damaged, maybe in another encoding."""
    text = data.decode()
    for _ in range(random.choice((0, 1, 1, 2, 5))):
        start, end = sorted(random.randrange(len(text) + 1) for _ in range(2))
        if random.random() < 0.5:
            text = text[:start] + random.choice(_PIECES) + text[start:]
        else:
            text = text[:start] + text[end:]
    encoding = random.choice(("utf-8",) * 4 + ("utf-8-sig", "utf-16", "utf-16-le", "cp1252"))
    changed = bytearray(text.encode(encoding, "replace"))
    for _ in range(random.choice((0, 0, 1, 5))):
        if changed:
            changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)
