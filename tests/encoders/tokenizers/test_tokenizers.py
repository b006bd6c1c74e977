"""Tokenizers of every frame that open_clip's models have, compared with open_clip's own rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from clipsearch.encoders import Tokenizer
from clipsearch.encoders.registry import ModelSpec, multilingual, resolve
from clipsearch.encoders.tokenizers import from_open_clip

TEXTS = ["blue horse", "", "Boy, riding; an orange cat!", "a photo of a dog in rain " * 9]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Any]:
    """Make open_clip's tokenizer around a hub's one with this frame around its texts."""

    def make(frame: str, *, specials: dict[str, str], **options: Any) -> Any:
        from tokenizers import processors
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(tiny_models.make_tokenizer(tmp_path))
        tokenizer.add_special_tokens(specials)
        named = [(token, tokenizer.convert_tokens_to_ids(token)) for token in specials.values()]
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=frame, special_tokens=named
        )
        tokenizer.save_pretrained(tmp_path)
        return HFTokenizer(str(tmp_path), context_length=16, **options)

    return make


def rows(tokenizer: Tokenizer) -> list[list[int]]:
    room = 16 - len(tokenizer.start + tokenizer.end + tokenizer.last)
    found = []
    for ids in tokenizer.ids(TEXTS):
        row = [*tokenizer.start, *ids[:room], *tokenizer.end]
        row += [tokenizer.padding] * (16 - len(row) - len(tokenizer.last))
        found.append([*row, *tokenizer.last])
    return found


def test_siglip_has_an_end_and_no_start_and_pads_with_its_end(make: Callable[..., Any]) -> None:
    raw = make("$A </s>", specials={"eos_token": "</s>", "pad_token": "</s>"})
    tokenizer = from_open_clip(raw)
    assert (tokenizer.start, tokenizer.end, tokenizer.padding) == ((), (1,), 1)
    assert rows(tokenizer) == raw(TEXTS).tolist()


def test_calls_of_open_clips_tokenizer_do_not_change_the_tokens(make: Callable[..., Any]) -> None:
    raw = make("$A </s>", specials={"eos_token": "</s>", "pad_token": "</s>"})
    tokenizer = from_open_clip(raw)
    before = tokenizer.ids(TEXTS)
    raw(TEXTS)
    assert tokenizer.ids(TEXTS) == before


def test_xlm_roberta_has_a_start_and_an_end(make: Callable[..., Any]) -> None:
    specials = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    raw = make("<s> $A </s>", specials=specials, clean="whitespace")
    tokenizer = from_open_clip(raw)
    assert len(tokenizer.start) == len(tokenizer.end) == 1
    assert tokenizer.pieces([*tokenizer.start, *tokenizer.end]) == ["<s>", "</s>"]
    assert rows(tokenizer) == raw(TEXTS).tolist()


def test_clipa_has_zeros_for_separators(make: Callable[..., Any]) -> None:
    specials = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    raw = make("[CLS] $A [SEP]", specials=specials, strip_sep_token=True)
    tokenizer = from_open_clip(raw)
    assert tokenizer.end == (0,)
    assert rows(tokenizer) == raw(TEXTS).tolist()


def test_clips_has_a_class_token_after_the_padding(make: Callable[..., Any]) -> None:
    specials = {"cls_token": "[CLS]", "bos_token": "<s>", "eos_token": "</s>"}
    raw = make("$A", specials=specials, tokenizer_mode="clips")
    tokenizer = from_open_clip(raw)
    assert tokenizer.pieces(tokenizer.last) == ["[CLS]"]
    assert tokenizer.padding == 0
    assert rows(tokenizer) == raw(TEXTS).tolist()


def test_pieces_of_clip_are_readable() -> None:
    tokenizer = from_open_clip(SimpleTokenizer())
    (ids,) = tokenizer.ids(["Über 犬 <end_of_text>"])
    # A letter of three tokens is shown as its bytes.
    readable = ["ü", "ber</w>", r"\xe7", r"\x8a", r"\xac</w>", "<end_of_text>"]
    assert tokenizer.pieces(ids) == readable
    assert tokenizer.pieces(tokenizer.start + tokenizer.end) == [
        "<start_of_text>",
        "<end_of_text>",
    ]


@pytest.mark.parametrize(
    ("name", "vocabulary", "expected"),
    [
        ("mini", 49_408, False),
        ("default", 49_408, False),
        ("multilingual", 256_000, True),
        ("quality", 256_000, True),
        ("ViT-B-16-SigLIP/webli", 32_000, False),
        ("ViT-B-16-SigLIP-i18n-256/webli", 250_000, True),
        ("xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k", 250_002, True),
        ("roberta-ViT-B-32/laion2b_s12b_b32k", 50_265, False),
        ("hf-hub:someone/clip-japanese-base", 32_000, True),
        ("hf-hub:german/clip", 49_408, False),
    ],
)
def test_models_of_many_languages_are_told_from_english_ones(
    name: str, vocabulary: int, expected: bool
) -> None:
    assert multilingual(resolve(name), vocabulary) is expected


def test_a_folder_of_somebody_called_german_says_nothing() -> None:
    assert not multilingual(ModelSpec("local-dir:/home/german/model"), 49_408)
