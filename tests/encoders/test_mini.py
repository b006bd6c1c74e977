"""The bundled model and images: open_clip loads the one, and finds the others by their captions."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

import clipsearch
from clipsearch import Library, load_encoder
from clipsearch.encoders.base import Encoder

pytestmark = pytest.mark.slow

PACKAGE = Path(clipsearch.__file__).parent
STAR = "orange boy riding a blue horse"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("mini")


@pytest.fixture(scope="module")
def library(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    with Library.create(tmp_path_factory.mktemp("samples"), encoder=encoder) as made:
        made.index([PACKAGE / "samples"])
        yield made


@pytest.fixture(scope="module")
def captions() -> dict[str, str]:
    with (PACKAGE / "samples" / "captions.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row["caption"] for row in csv.DictReader(file)}


def test_open_clip_itself_loads_the_folder_and_gives_the_same_numbers(encoder: Encoder) -> None:
    folder = f"local-dir:{PACKAGE / 'encoders' / 'mini'}"
    model, _, preprocess = open_clip.create_model_and_transforms(folder)
    tokenizer = open_clip.get_tokenizer(folder)
    model.eval()
    texts = [STAR, "a cat", "three green turtles in the snow"]
    opened = [
        Image.open(p).convert("RGB") for p in sorted((PACKAGE / "samples").glob("*.webp"))[:20]
    ]
    with torch.inference_mode():
        images = model.encode_image(torch.stack([preprocess(p) for p in opened]), normalize=True)
        rows = model.encode_text(tokenizer(texts), normalize=True)
    ours = encoder.encode_images(np.stack([encoder.preprocess(p) for p in opened]))
    np.testing.assert_allclose(ours @ encoder.encode_texts(texts).T, images @ rows.T, atol=1e-4)


def test_captions_find_their_images(library: Library, captions: dict[str, str]) -> None:
    ranks = []
    for name, caption in captions.items():
        found = [captions[Path(hit.path).name] for hit in library.search(caption, k=10)]
        ranks.append(found.index(caption) if caption in found else 10)
        assert name
    assert np.mean([rank < 10 for rank in ranks]) >= 0.97
    assert np.mean([rank == 0 for rank in ranks]) >= 0.9


def test_the_first_hits_of_the_demo_are_what_it_asks_for(
    library: Library, captions: dict[str, str]
) -> None:
    found = [captions[Path(hit.path).name] for hit in library.search(STAR, k=3)]
    assert found == ["an orange boy riding a blue horse"] * 3


def test_swapped_colours_are_told_apart(library: Library) -> None:
    right, wrong = (
        {Path(h.path).name: h.score for h in library.search(text, k=300)}
        for text in ("an orange boy riding a blue horse", "a blue boy riding an orange horse")
    )
    for name in ("scene-000.webp", "scene-001.webp", "scene-002.webp", "scene-003.webp"):
        assert right[name] > wrong[name]
    for name in ("scene-004.webp", "scene-009.webp"):
        assert wrong[name] > right[name]
