"""What the protocols of encoders accept."""

from __future__ import annotations

from conftest import ToyEncoder, ToyTokenizer

from clipsearch.encoders.base import Encoder, SharedEncoder, Tokenizer


class Shared(ToyEncoder):
    """A toy that the threads which decode call too."""

    worker_chunk = 4


def test_an_encoder_has_images_texts_and_a_tokenizer() -> None:
    assert isinstance(ToyEncoder(), Encoder)
    assert isinstance(ToyTokenizer(), Tokenizer)
    assert not isinstance(ToyTokenizer(), Encoder)


def test_an_encoder_is_shared_if_it_tells_the_size_of_a_chunk() -> None:
    assert isinstance(Shared(), SharedEncoder)
    assert not isinstance(ToyEncoder(), SharedEncoder)
