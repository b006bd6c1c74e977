"""Long captions find their images better whole than cut: what `scripts/long_texts.py` measures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from clipsearch.encoders import Encoder, load_encoder, load_tokenizer
from clipsearch.text.encode import encode_texts
from clipsearch.text.tokens import TokenTable

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "long-texts.md").read_text("utf-8")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = spec_from_file_location("long_texts", ROOT / "scripts" / "long_texts.py")
    assert spec is not None and spec.loader is not None
    sys.modules["long_texts"] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["long_texts"]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("mini")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*has 2.. tokens")
def test_captions_of_200_tokens_are_found_better_whole_than_cut(
    script: ModuleType, encoder: Encoder
) -> None:
    made = script.described(encoder, 100)
    assert min(map(len, encoder.tokenizer.ids(made.captions))) >= 200
    images = script.encode(encoder, made.images)
    cut = script.figures(encode_texts(encoder, made.captions, truncate=True), images)
    whole = script.figures(encode_texts(encoder, made.captions), images)
    # R@1, R@10 and median rank, of images for captions and of captions for images.
    assert whole[1] > cut[1] + 0.05 and whole[2] < cut[2]
    assert whole[4] > cut[4] + 0.15 and whole[5] < cut[5]
    assert whole[0] + whole[3] > cut[0] + cut[3]


@pytest.mark.slow
def test_words_in_the_order_of_their_frequency_say_less(
    script: ModuleType, encoder: Encoder
) -> None:
    right, wrong = "an orange boy riding a blue horse", "a blue boy riding an orange horse"
    # Sorted, what rides what and which colour it has is gone: both are one text.
    both = script.by_frequency([right, wrong])
    assert both[0] == both[1]
    scenes = script.samples()
    captions = [caption for _, caption in scenes]
    images = script.encode(encoder, [image for image, _ in scenes])
    same = np.array([[a == b for b in captions] for a in captions])
    ordered, shuffled = (
        script.figures(encode_texts(encoder, texts), images, same)
        for texts in (captions, script.by_frequency(captions))
    )
    # R@1 both ways: a tenth on average.
    assert ordered[0] + ordered[3] > shuffled[0] + shuffled[3] + 0.2


def test_the_sentence_of_the_tree_man_has_70_tokens_with_start_and_end() -> None:
    (text,) = (line.strip("> ") for line in PAGE.splitlines() if line.startswith("> Tree Man"))
    assert f"'{text}' > tree-man.txt" in PAGE
    table = TokenTable.of(text, load_tokenizer("mini"), "mini")
    assert (table.count, table.left, len(table.pieces)) == (70, 7, 1)
    # Counted anew, by the tokenizer that CLIP models come with.
    assert len(load_tokenizer("ViT-B-32").ids([text])[0]) == 68
