"""CLIP's tokenizer opens without torch for every model that has it, and is open_clip's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import tiny_models
from open_clip.tokenizer import SimpleTokenizer

from clipsearch.encoders import load_tokenizer
from clipsearch.encoders.registry import resolve
from clipsearch.encoders.tokenizers import clip
from clipsearch.encoders.tokenizers.bpe import BytePairTokenizer
from clipsearch.encoders.tokenizers.clip import clip_tokenizer, clip_vocabulary, read_merges
from clipsearch.errors import UnknownModel

TEXTS = ["A photo of a cat, 3.14!", "naïve café & 🐎", "word " * 99, ""]


@pytest.fixture(scope="module")
def simple() -> SimpleTokenizer:
    return SimpleTokenizer()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_folder(folder: Path, **text: Any) -> str:
    """Make a model's folder whose text tower is configured like this; return its name."""
    config = {**tiny_models.CLIP, "text_cfg": {**tiny_models.CLIP["text_cfg"], **text}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}), "utf-8")
    (folder / "open_clip_model.safetensors").write_bytes(b"")
    return f"local-dir:{folder}"


def test_the_vocabulary_is_that_of_open_clip(simple: SimpleTokenizer) -> None:
    ids, ranks = read_merges(Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz")
    assert ids == simple.encoder
    assert ranks == simple.bpe_ranks


@pytest.mark.parametrize(
    "name", ["mini", "default", "ViT-B-32", "RN50/openai", "coca_ViT-B-32", "MobileCLIP-S1"]
)
def test_models_with_the_tokens_of_clip_need_no_open_clip(
    name: str, simple: SimpleTokenizer
) -> None:
    spec = resolve(name)
    tokenizer = load_tokenizer(name)
    assert isinstance(tokenizer, BytePairTokenizer)
    assert tokenizer.ids(TEXTS) == [simple.encode(text) for text in TEXTS]
    arch = spec.arch or f"local-dir:{spec.folder}"
    assert tokenizer.context_length == open_clip.get_tokenizer(arch).context_length


def test_a_configuration_decides_how_texts_are_cleaned_and_how_long_they_are(
    tmp_path: Path,
) -> None:
    options = {"context_length": 20, "tokenizer_kwargs": {"clean": "canonicalize"}}
    tokenizer = load_tokenizer(write_folder(tmp_path, **options))
    assert isinstance(tokenizer, BytePairTokenizer)
    assert tokenizer.context_length == 20
    assert tokenizer.ids(TEXTS) == list(map(SimpleTokenizer(clean="canonicalize").encode, TEXTS))


@pytest.mark.parametrize(
    "text",
    [
        {"hf_tokenizer_name": "some/one"},
        {"tokenizer_kwargs": {"additional_special_tokens": ["<x>"]}},
        {"tokenizer_kwargs": {"clean": "thoroughly"}},
        {"tokenizer_kwargs": 3},
        {"context_length": "long"},
    ],
)
def test_other_tokenizers_are_left_to_open_clip(tmp_path: Path, text: dict[str, Any]) -> None:
    assert clip_tokenizer(resolve(write_folder(tmp_path, **text))) is None


def test_the_table_of_tags_is_that_of_open_clip() -> None:
    tags = {
        arch: sorted(open_clip.list_pretrained_tags_by_model(arch))
        for arch in open_clip.list_models()
        if not open_clip.get_model_config(arch)["text_cfg"].get("hf_tokenizer_name")
    }
    table = json.loads(clip._TAGS.read_text("utf-8"))
    assert table == {arch: known for arch, known in tags.items() if known}


def test_a_tag_that_is_none_is_an_error() -> None:
    with pytest.raises(UnknownModel, match="openai"):
        load_tokenizer("ViT-B-32/openay")


@pytest.mark.slow
def test_a_vocabulary_is_written_once_and_again_if_it_is_damaged(cache: Path) -> None:
    path = clip_vocabulary()
    whole = path.read_bytes()
    written = path.stat().st_mtime_ns
    assert clip_vocabulary() == path
    assert path.stat().st_mtime_ns == written
    for damaged in (b"", whole[:4096], whole[: len(whole) // 2], bytes(len(whole))):
        path.write_bytes(damaged)
        assert clip_vocabulary().read_bytes() == whole
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_where_nothing_can_be_written_the_vocabulary_is_kept_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CLIPSEARCH_CACHE", str(tmp_path / "file"))
    tokenizer = clip_tokenizer(resolve("mini"))
    assert tokenizer is not None
    assert tokenizer.ids(["a horse"]) == [[320, 4558]]


def test_tokens_are_shown_without_heavy_imports() -> None:
    code = """
import sys
from clipsearch.cli import main
done = main(["tokens", "a blue horse", "--model", "ViT-B-32", "-f", "json"])
heavy = ("torch", "open_clip", "onnxruntime", "sqlalchemy", "faiss", "tokenizers", "transformers")
print(done, [name for name in heavy if name in sys.modules], file=sys.stderr)
"""
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    (table,) = json.loads(done.stdout)
    assert [token["id"] for token in table["tokens"]] == [49406, 320, 1746, 4558, 49407]
    assert done.stderr == "0 []\n"
