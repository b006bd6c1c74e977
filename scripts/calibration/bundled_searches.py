"""Measure orders of hits on the bundled images, with the bundled model: `python bundled_searches.py`.

The captions of these images say what they show. Each word that names a thing is asked for, then
each image: others that show a thing of the same name are relevant.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
from pathlib import Path

import numpy as np
from cases import COLOURS
from hits import COLUMNS, Judge, Query, rows_of, table, weigh_log_mean_exp

from clipsearch import Library
from clipsearch.cli.demo import samples

_NO_THINGS = """
a an the in on at of to and with by next left right above under riding two three four five face small big
sky night grass beach sea snow desert room forest sunset
"""
NO_THINGS = {*COLOURS, *_NO_THINGS.split()}
"""Words of captions that name no thing."""
FEWEST, MOST = 2, 40
"""How many images show a word that is asked for."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    with (samples() / "captions.csv").open(newline="") as file:
        captions = {row["path"]: row["caption"] for row in csv.DictReader(file)}
    with (
        tempfile.TemporaryDirectory() as made,
        Library.create(Path(made) / "bundled", model="mini") as library,
    ):
        library.index(samples())
        paths, vectors, _ = library.embed([str(samples() / path) for path in captions])
        shown = [_things(captions[Path(path).name]) for path in paths]
        for title, rows in (
            ("Searches for words", words(library, paths, vectors, shown)),
            ("Searches for images", examples(library, paths, vectors, shown)),
        ):
            print(f"{title} in {len(paths)} bundled images:\n")
            print(f"{table(('order', *COLUMNS), rows)}\n")


def _things(caption: str) -> set[str]:
    said = set(re.findall("[a-z]+", caption)) - NO_THINGS
    return {word.removesuffix("s") for word in said}


def words(
    library: Library, paths: list[str], vectors: np.ndarray, shown: list[set[str]]
) -> list[list[str]]:
    """Compare orders of hits of words."""
    asked = {
        f"a {word}": np.array([word in things for things in shown])
        for word in sorted(set().union(*shown))
    }
    texts = [text for text, so in asked.items() if FEWEST <= so.sum() <= MOST]
    rows = library.head(texts, templates=["{}"]).vectors
    queries = [Query(row, asked[text], text=text) for text, row in zip(texts, rows, strict=True)]

    def judge(query: Query) -> np.ndarray:
        found = {hit.path: hit.relevance or 0.0 for hit in library.search(query.text, k=len(paths))}
        return np.array([found[path] - 0.5 for path in paths])

    log_mean_exps = library._session.background().log_mean_exp(vectors)
    judges = weigh_log_mean_exp(vectors, log_mean_exps, library._session.info.logit_scale)
    return rows_of(queries, {**judges, "**relevance, as shipped**": (judge, True)})


def examples(
    library: Library, paths: list[str], vectors: np.ndarray, shown: list[set[str]]
) -> list[list[str]]:
    """Compare orders of hits of images."""
    alike = np.array([[bool(one & other) for other in shown] for one in shown])
    queries = [
        Query(vectors[i], relevant, i, paths[i])
        for i, relevant in enumerate(alike)
        if relevant.sum() > 1
    ]

    def judge(query: Query) -> np.ndarray:
        found = {
            hit.path: hit.relevance or 0.0 for hit in library.similar(query.text, k=len(paths))
        }
        return np.array([found.get(path, 0.0) - 0.5 for path in paths])

    judges: dict[str, tuple[Judge, bool]] = {
        "cosine": (lambda query: vectors @ query.row, False),
        "**relevance, as shipped**": (judge, True),
    }
    return rows_of(queries, judges)


if __name__ == "__main__":
    main()
