"""The tokens of any text are those of open_clip's SimpleTokenizer."""

from __future__ import annotations

import random
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from open_clip.tokenizer import SimpleTokenizer, canonicalize_text

from clipsearch.encoders.sources import PROBES
from clipsearch.encoders.tokenizers import from_open_clip
from clipsearch.encoders.tokenizers.bpe import (
    BytePairTokenizer,
    Cleaning,
    open_vocabulary,
    write_vocabulary,
)

TEXTS = (
    *PROBES,
    "",
    " ",
    "a photo of a cat",
    "It's we're I'll they'd I'm you've can't 'S 'LL ''s",
    "snake_case and __dunder__ 3.14 x2 2x 1234567 a1b2",
    "tabs\tand\nnew\r\nlines\x0b\x0c\x1c\x1d\x85\u2028\u2029end",
    "controls \x00\x01\x08\x0e\x1b[31mred\x1b[0m\x7f\x80\x9f",
    "&amp; &amp;amp; &amp;lt;b&amp;gt; &eacute; &#233; &#x1F40E; &nbsp;x &notanentity; & a&b &#0; &#128;",
    "<b>bold</b> &lt;i&gt; <&amp;>",
    "naïve café Ünïcödé Straße ﬁne ﬂow ｆｕｌｌｗｉｄｔｈ",
    "cafe\u0301 e\u0301\u0323 a\u200bb\u200dc\ufeffd\u00add",
    "“curly” ‘quotes’ — dashes – … «guillemets»",
    "âœ” No problems schÃ¶n lâ€™humanitÃ© Ã©tÃ©",
    "赤い馬に乗る少年 红马 빨간 말 कुत्ता สุนัข כלב كلب собака ΣΊΣΥΦΟΣ İstanbul ıI",
    "🐎 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ☃️ 1️⃣ 🇫🇷",
    "½ ² ٣ Ⅷ ௧ 一 ൧ 𝟘 𝒜𝓑 ªº",
    "\u00a0no\u2003break\u3000spaces\u1680",
    "<start_of_text> <END_OF_TEXT> <end_of_text>horse <start_of_textx",
    "ſ's 'ſ ﬆ K Å ẞ ŉ ǰ",
    "a" * 500,
    "qqqqzzzzxxxx" * 20,
    "word " * 200,
    "lone \ud800 surrogate \udfff here \udc80",
    "\U0010ffff \ufffe \uffff \U000e0041 \ue000",
)


@pytest.fixture(scope="module")
def simple() -> SimpleTokenizer:
    return SimpleTokenizer()


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory, simple: SimpleTokenizer) -> Path:
    path = tmp_path_factory.mktemp("bpe") / "tokens.db"
    special = ["<start_of_text>", "<end_of_text>"]
    write_vocabulary(path, simple.encoder, simple.bpe_ranks, special).close()
    return path


@pytest.fixture(scope="module")
def tokenizer(vocabulary: Path) -> BytePairTokenizer:
    return opened(vocabulary)


def opened(path: Path, cleaning: Cleaning = "lower") -> BytePairTokenizer:
    file = open_vocabulary(path)
    return BytePairTokenizer(file, context_length=77, start=49406, end=49407, cleaning=cleaning)


def utf8(text: str) -> str:
    """Replace halves of characters, which open_clip does not survive."""
    return text.encode("utf-8", "replace").decode("utf-8")


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_tokens_are_those_of_open_clip(
    tokenizer: BytePairTokenizer, simple: SimpleTokenizer, text: str
) -> None:
    assert tokenizer.ids([text]) == [simple.encode(utf8(text))]


def fuzz_text(rng: random.Random) -> str:
    """Make a text of pieces that are hard: any code point, entities, quotes, white space, words."""

    def piece() -> str:
        kind = rng.randrange(9)
        if kind == 0:
            return chr(rng.randrange(0x110000))
        if kind == 1:
            return chr(rng.randrange(0x250))
        if kind == 2:
            return chr(rng.randrange(0x80))
        if kind == 3:
            return rng.choice(
                ["&amp;", "&lt;", "&#233;", "&#x2014;", "&", "&eacute", "<", ">", ";"]
            )
        if kind == 4:
            return rng.choice(["'s", "'T", "’ll", "'re", "“", "”", "…", "—", "_", "."])
        if kind == 5:
            return rng.choice(" \t\n\r\x0b\x0c\x1c\x85\xa0\u2003\u200b\u2028\ufeff")
        if kind == 6:
            return rng.choice(
                ["Ã©", "â€™", "é", "e\u0301", "ﬁ", "Ａ", "ß", "İ", "Σ", "日本", "🐎", "👍🏽"]
            )
        return rng.choice(["horse", "a photo of", "Blue", "RIDING", "12", "zebra", "x"])

    joint = rng.choice(["", "", " "])
    return joint.join(piece() for _ in range(rng.randrange(1, 14)))


@pytest.mark.parametrize("cleaning", ["lower", "whitespace", "canonicalize"])
def test_tokens_of_random_texts_are_those_of_open_clip(
    vocabulary: Path, cleaning: Cleaning
) -> None:
    tokenizer, reference = opened(vocabulary, cleaning), SimpleTokenizer(clean=cleaning)
    rng = random.Random(cleaning)
    for _ in range(700):
        text = utf8(fuzz_text(rng))
        assert tokenizer.ids([text]) == [reference.encode(text)], ascii(text)


def test_every_letter_and_sign_of_the_first_plane_is_tokenized_as_by_open_clip(
    tokenizer: BytePairTokenizer, simple: SimpleTokenizer
) -> None:
    # One of each 7 code points, a text of 40 each: categories and cases change in runs.
    points = [
        chr(n) for n in range(0, 0x10000, 7) if unicodedata.category(chr(n)) not in ("Cs", "Cn")
    ]
    for start in range(0, len(points), 40):
        text = "a".join(points[start : start + 40])
        assert tokenizer.ids([text]) == [simple.encode(text)], ascii(text)


def test_the_face_is_that_of_open_clips_tokenizer(
    tokenizer: BytePairTokenizer, simple: SimpleTokenizer
) -> None:
    start, *padding = simple([""])[0].tolist()
    assert (tokenizer.start, tokenizer.end, tokenizer.last) == ((start,), (padding[0],), ())
    assert {tokenizer.padding} == {*padding[1:]}
    assert tokenizer.context_length == simple.context_length
    assert tokenizer.size == len(simple.encoder) == 49408
    ids = [number for text in TEXTS for number in tokenizer.ids([text])[0]]
    assert tokenizer.decode(ids) == simple.decode(ids).strip()
    whole = [*tokenizer.start, *tokenizer.ids(["a horse"])[0], *tokenizer.end]
    assert tokenizer.pieces(whole) == ["<start_of_text>", "a</w>", "horse</w>", "<end_of_text>"]
    assert tokenizer.decode(whole) == "<start_of_text>a horse <end_of_text>"


def test_the_tokenizer_made_of_open_clips_gives_its_tokens(simple: SimpleTokenizer) -> None:
    made = from_open_clip(simple)
    assert isinstance(made, BytePairTokenizer)
    assert made.ids([utf8(text) for text in TEXTS]) == [simple.encode(utf8(t)) for t in TEXTS]
    assert (made.start, made.end, made.size) == ((49406,), (49407,), 49408)


def test_a_saved_vocabulary_is_the_same(tokenizer: BytePairTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "copy.db")
    assert opened(tmp_path / "copy.db").ids([*TEXTS]) == tokenizer.ids([*TEXTS])


def test_a_number_without_a_token_is_an_error(tokenizer: BytePairTokenizer) -> None:
    with pytest.raises(KeyError, match="no token 49408"):
        tokenizer.pieces([320, 49408])


def test_a_vocabulary_that_cannot_be_read_is_an_error_of_the_system(
    vocabulary: Path, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match=r"cannot read .*absent\.db"):
        opened(tmp_path / "absent.db")
    cut = tmp_path / "cut.db"
    data = vocabulary.read_bytes()
    cut.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    with pytest.raises(OSError, match="cannot read the vocabulary"):
        for number in range(0, 49408, 97):
            opened(cut).pieces([number])


def test_threads_share_a_tokenizer(vocabulary: Path, simple: SimpleTokenizer) -> None:
    tokenizer = opened(vocabulary)
    texts = [f"horse{n} of a{n % 7} rider" for n in range(200)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: tokenizer.ids([text])[0], texts))
    assert found == [simple.encode(text) for text in texts]


def test_plain_texts_need_neither_ftfy_nor_regex(vocabulary: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from clipsearch.encoders.tokenizers.bpe import *;"
        f"t = BytePairTokenizer(open_vocabulary(Path({str(vocabulary)!r})), context_length=77, start=49406, end=49407);"
        "print(t.ids(['A photo of a cat, 3.14!']), {'ftfy', 'regex', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = [320, 1125, 539, 320, 2368, 267, 274, 269, 272, 275, 256]
    assert done.stdout.strip() == f"{[expected]} set()"


def test_canonical_cleaning_is_the_one_under_test() -> None:
    assert canonicalize_text("A_Horse, riding!") == "a horse riding"
