"""Files that users wrote, mutated: a value or one printable line, at once."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clipsearch.errors import ClipsearchError
from clipsearch.evaluation.ground_truth import read_ground_truth
from clipsearch.heads.head import Head
from clipsearch.heads.label_file import labels_from_file

_PIECES = [
    *(
        "label",
        "path",
        "prompt",
        "id",
        "Klasse",
        "class",
        "caption",
        "cat",
        "dog",
        "a cat",
        "a.jpg",
    ),
    *(
        "b.PNG",
        "sub/c.webp",
        "Käse",
        "ka\u0308se",
        "猫",
        "image:",
        "image:a.jpg",
        "~nouser/x",
        "sep=;",
    ),
    *(",", ";", "\t", "|", ":", ": ", '"', "'", "\n", "\r\n", "\r", " ", "#", "\\", "..", "\ufeff"),
    *(
        "[",
        "]",
        "{",
        "}",
        "&a ",
        "*a",
        "- ",
        "? ",
        "!!python/object:os.system ",
        "null",
        "NaN",
        "~",
    ),
    *(
        "1e999",
        "-1",
        "9" * 500,
        "\x1b[31m",
        "\u202e",
        "\0",
        "\x85",
        "\u2028",
        "\x07",
        "images",
        "texts",
    ),
    *(
        '{"images": [',
        '"annotations": [',
        '"file_name": "a.jpg"',
        '"id": 1',
        '"format": "clipsearch-head"',
    ),
]
_SUFFIXES = ["", ".txt", ".csv", ".tsv", ".json", ".yaml", ".CSV"]
_SEEDS = 600


def make(random_: random.Random) -> bytes:
    """Make the bytes of a file: pieces in random order, some of them damaged."""
    text = "".join(random_.choices(_PIECES, k=random_.randint(0, 40))) * random_.choice(
        (1, 1, 1, 30)
    )
    encoding = random_.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"))
    data = bytearray(text.encode(encoding, "replace"))
    for _ in range(random_.choice((0, 0, 1, 5))):
        if data:
            data[random_.randrange(len(data))] = random_.randrange(256)
    return bytes(data[: random_.choice((None, None, len(data) // 2))])


@pytest.mark.parametrize("read", [labels_from_file, read_ground_truth, Head.load])
def test_a_mutated_file_is_a_value_or_one_line(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    random_ = random.Random(12)
    refused = 0
    for number in range(_SEEDS):
        file = tmp_path / f"{number}{random_.choice(_SUFFIXES)}"
        file.write_bytes(make(random_))
        start = time.monotonic()
        try:
            with warnings.catch_warnings(record=True):
                warnings.simplefilter("always")
                found = read(file)
        except ClipsearchError as error:
            refused += 1
            message = str(error)
            assert message.isprintable() and len(message) <= 600, (number, message)
        else:
            assert found
        assert time.monotonic() - start < 5, number
        file.unlink()
    assert refused > 0
