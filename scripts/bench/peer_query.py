"""One query in a fresh process, the naive way or rclip's way; see `peers` for what they are.

    python scripts/bench/peer_query.py naive|rclip FOLDER MODEL TEXT

MODEL is a name for `naive`, and for `rclip` the folder that `material.exported` made.
Prints the ten best as JSON, [[path, score], ...]. Each way imports what it needs and no more.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

COUNT = 10


def naive(folder: Path, model: str, text: str) -> list[tuple[str, float]]:
    """Make the model, load its weights, encode, search the flat index, look the paths up."""
    import faiss
    import open_clip
    import sqlalchemy
    import torch
    from peers import INDEX_FILE, PATHS_FILE, for_open_clip

    arch, weights = for_open_clip(model)
    made = open_clip.create_model(arch, pretrained=weights).eval()
    tokens = open_clip.get_tokenizer(arch)([text])
    with torch.inference_mode():
        row = made.encode_text(tokens, normalize=True).numpy()
    scores, found = faiss.read_index(str(folder / INDEX_FILE)).search(row, COUNT)
    engine = sqlalchemy.create_engine(f"sqlite:///{folder / PATHS_FILE}")
    select = sqlalchemy.text("SELECT path FROM images WHERE id = :id")
    with engine.connect() as connection:
        paths = [connection.execute(select, {"id": int(i)}).scalar() for i in found[0]]
    return [(str(path), float(score)) for path, score in zip(paths, scores[0], strict=True)]


def rclip(folder: Path, towers: Path, text: str) -> list[tuple[str, float]]:
    """Encode 77 tokens, read all blobs, multiply, sort all of them in Python."""
    import sqlite3

    import numpy as np
    from peers import BLOBS_FILE, session, unit

    row = unit(session(towers / "text.onnx")(tokens_of(text)))[0]
    paths: list[str] = []
    vectors: list[np.ndarray] = []
    with sqlite3.connect(folder / BLOBS_FILE) as database:
        chosen = "SELECT filepath, vector FROM images WHERE filepath LIKE ? AND deleted IS NULL"
        for path, vector in database.execute(chosen, ("/%",)):
            paths.append(path)
            vectors.append(np.frombuffer(vector, np.float32))
    features = np.stack(vectors)
    # Its terms have weights in float64, so that numpy widens all vectors for the product.
    pairs = zip(row.astype(np.float64) @ features.T, range(len(features)), strict=True)
    best = sorted(pairs, key=lambda pair: pair[0], reverse=True)[:COUNT]
    return [(paths[number], float(score)) for score, number in best]


def tokens_of(text: str, length: int = 77):  # type: ignore[no-untyped-def]
    """Return CLIP's tokens int64 (1, 77), without torch: the vocabulary is read and parsed whole.

    Byte-pair encoding as CLIP's tokenizer does it (Sennrich et al. 2016; Radford et al. 2021).
    """
    import gzip
    import html
    from importlib.util import find_spec
    from itertools import pairwise

    import ftfy
    import numpy as np
    import regex

    package = find_spec("open_clip")
    assert package and package.origin
    vocabulary = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(vocabulary.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain}
    letters |= {byte: chr(256 + number) for number, byte in enumerate(others)}
    words = [*letters.values(), *(letter + "</w>" for letter in letters.values())]
    words += ["".join(pair) for pair in merges] + ["<start_of_text>", "<end_of_text>"]
    numbers = {word: number for number, word in enumerate(words)}
    ranks = {pair: rank for rank, pair in enumerate(merges)}

    cleaned = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    cut = regex.compile(
        r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE
    )
    found = [numbers["<start_of_text>"]]
    for word in cut.findall(" ".join(cleaned.split()).lower()):
        pieces = [letters[byte] for byte in word.encode()]
        pieces[-1] += "</w>"
        while len(pieces) > 1:
            pairs = list(pairwise(pieces))
            place = min(range(len(pairs)), key=lambda at: ranks.get(pairs[at], len(ranks)))
            if pairs[place] not in ranks:
                break
            pieces[place : place + 2] = ["".join(pairs[place])]
        found += [numbers[piece] for piece in pieces]
    found = [*found[: length - 1], numbers["<end_of_text>"]]
    return np.array([found + [0] * (length - len(found))], np.int64)


def main() -> None:
    way, folder, model, text = sys.argv[1:]
    if way == "naive":
        hits = naive(Path(folder), model, text)
    else:
        hits = rclip(Path(folder), Path(model), text)
    print(json.dumps(hits))


if __name__ == "__main__":
    main()
