"""What int8 costs in results, and how surely the gate of the compiler tells it.

    python scripts/bench/gate.py [MODEL ...]

By default of `mini`, the only trained model that is bundled. Its vectors of the bundled scenes are
measured in fp32 and int8, by samples of several sizes; then with random errors of several sizes
added to those in fp32, to see what ranking loses by each. Prints two tables for
docs/explanation/compile.md.
"""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipsearch import load_encoder
from clipsearch.encoders.compiler import gate as gating
from clipsearch.encoders.compiler.compile import compile_model
from clipsearch.images.decode import decode_file

SCENES = Path(gating.__file__).parents[2] / "samples"
COUNTS = (16, 32, 64, 128)
ERRORS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
ROUNDS = 200


def main(models: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as cache:
        os.environ["CLIPSEARCH_CACHE"] = cache
        for model in models or ["mini"]:
            compare(model)
    return 0


def compare(model: str) -> None:
    """Print what the gate measures of a model, and what errors of some sizes would do to it."""
    captions = _captions()
    exact, texts = _vectors(model, "fp32", list(captions))
    rounded, _ = _vectors(model, "int8", [])
    rng = np.random.default_rng(0)
    print(f"{model}: {len(exact)} scenes, {len(texts)} captions")
    print("| images | error, % | its standard error | over the samples |")
    for count in COUNTS:
        gates = []
        for _ in range(ROUNDS):
            some = rng.choice(len(exact), count, replace=False)
            asked = rng.choice(len(texts), len(gating.gate_captions()), replace=False)
            gates.append(gating.measure_gate(exact[some], rounded[some], texts[asked]))
        errors = np.array([gate.error for gate in gates])
        said = np.mean([gate.deviation for gate in gates])
        print(f"| {count} | {errors.mean():.2%} | {said:.2%} | {errors.std():.2%} |")
    own = np.array(
        [[place in places for place in range(len(exact))] for places in captions.values()]
    )
    print("| error | same nearest ten | captions that find their scene first | among five |")
    print(_row("int8", exact, rounded, texts, own))
    for size in ERRORS:
        noisy = _with_error(exact, size, rng)
        gate = gating.measure_gate(exact, noisy, texts)
        print(_row(f"{gate.error:.1%}", exact, noisy, texts, own))
    print(_row("0", exact, exact, texts, own))


def _captions() -> dict[str, set[int]]:
    """Return the captions and the places of the scenes of each."""
    places = {file.name: place for place, file in enumerate(sorted(SCENES.glob("scene-*")))}
    found: dict[str, set[int]] = {}
    with (SCENES / "captions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["path"] in places:
                found.setdefault(row["caption"], set()).add(places[row["path"]])
    return found


def _vectors(model: str, precision: str, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    compile_model(model, precision=precision, force=True)
    encoder = load_encoder(model, device="cpu", precision=precision, engine="onnx")
    prepared: list[np.ndarray] = []
    for file in sorted(SCENES.glob("scene-*")):
        *_, pixels = decode_file(str(file), encoder.prepare.of_decoded)  # type: ignore[attr-defined]
        assert pixels is not None
        prepared.append(pixels)
    return encoder.encode_images(np.stack(prepared)), encoder.encode_texts(texts)


def _with_error(exact: np.ndarray, size: float, rng: np.random.Generator) -> np.ndarray:
    """Add errors that are spread as the images are, of a size relative to these."""
    away = exact - exact.mean(axis=0)
    mixed = rng.normal(size=(len(exact), len(exact))) @ away / np.sqrt(len(exact))
    rows = exact + size * mixed
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _row(
    name: str, exact: np.ndarray, other: np.ndarray, texts: np.ndarray, own: np.ndarray
) -> str:
    first, second = (np.argsort(-(texts @ rows.T), axis=1)[:, :10] for rows in (exact, other))
    shared = np.mean([len({*a} & {*b}) / 10 for a, b in zip(first, second, strict=True)])
    places = np.take_along_axis(own, second, axis=1)
    return f"| {name} | {shared:.1%} | {places[:, 0].mean():.1%} | {places[:, :5].any(axis=1).mean():.1%} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
