"""The model: open_clip's own CLIP in a small size, with what makes it train quickly on a CPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import ResidualAttentionBlock

SIZE = 112
CONFIG = {
    "embed_dim": 256,
    "vision_cfg": {
        "image_size": SIZE,
        "layers": 6,
        "width": 256,
        "head_width": 64,
        "patch_size": 16,
        "pool_type": "avg",
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 4},
}
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
START, END = 49406, 49407


def build() -> CLIP:
    """Make the model with fresh weights and the fast attention."""
    ResidualAttentionBlock.attention = _attention
    return CLIP(**CONFIG)


def _attention(
    self: ResidualAttentionBlock, q_x: torch.Tensor, k_x=None, v_x=None, attn_mask=None
) -> torch.Tensor:
    """Compute multi-head self-attention with plain batched products.

    On sequences of a few dozen tokens torch's fused kernel spends half of a training step in its
    backward pass on a CPU; two `bmm` are twice as fast overall and give the same numbers.
    """
    n, length, width = q_x.shape
    heads = self.attn.num_heads
    qkv = F.linear(q_x, self.attn.in_proj_weight, self.attn.in_proj_bias)
    qkv = (
        qkv.view(n, length, 3, heads, width // heads)
        .permute(2, 0, 3, 1, 4)
        .reshape(3, n * heads, length, width // heads)
    )
    q, k, v = qkv.unbind(0)
    logits = torch.bmm(q, k.transpose(1, 2)).float() / math.sqrt(width // heads)
    if attn_mask is not None:
        logits = logits + attn_mask[:length, :length].float()
    mixed = torch.bmm(logits.softmax(-1).to(v.dtype), v)
    return self.attn.out_proj(
        mixed.view(n, heads, length, width // heads).transpose(1, 2).reshape(n, length, width)
    )


def encode_images(model: CLIP, images: np.ndarray) -> torch.Tensor:
    """Encode uint8 (n, H, W, 3) to unit rows."""
    return encode_patches(model, images)[0]


def encode_patches(model: CLIP, images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode uint8 (n, H, W, 3) to unit rows and to what the patches say: (n, patches, width)."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
    visual = model.visual
    pooled, patches = visual._pool(visual.transformer(visual._embeds(pixels)))
    return F.normalize((pooled @ visual.proj).float(), dim=-1), patches


class Regions(torch.nn.Module):
    """What training asks of each thing in an image: its name and its colour, where it lies.

    A caption says little about an image; the scene is known in full. The patches under a thing,
    averaged, must tell its name among all names and its colour. `holds` is the scale (its
    logarithm) and the bias that make a probability of the cosine of an image and the name of
    one thing, as in SigLIP (Zhai et al. 2023). Used in training only.
    """

    def __init__(self, width: int, things: int, colours: int) -> None:
        super().__init__()
        self.thing, self.colour = (
            torch.nn.Linear(width, things),
            torch.nn.Linear(width, colours),
        )
        self.holds = torch.nn.Parameter(torch.tensor([3.0, -8.0]))

    @staticmethod
    def pool(patches: torch.Tensor, images: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Average the patches (n, p, width) of `images` (r,) by `weights` (r, p): (r, width)."""
        return torch.bmm(weights[:, None].to(patches.dtype), patches[images])[:, 0]


def encode_tokens(model: CLIP, tokens: Sequence[Sequence[int]], *, groups: int = 3) -> torch.Tensor:
    """Encode token lists to unit rows, reading only the real tokens.

    The mask is causal and the pooled token is the last, so that padding changes nothing: texts are
    sorted by length and encoded in a few groups, each as long as its longest.
    """
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    rows = [torch.empty(0)] * len(tokens)
    cuts = np.linspace(0, len(order), groups + 1).astype(int)
    for low, high in pairwise(cuts):
        part = [tokens[i] for i in order[low:high]]
        if not part:
            continue
        length = max(map(len, part))
        padded = torch.tensor([list(t) + [0] * (length - len(t)) for t in part])
        x = model.token_embedding(padded) + model.positional_embedding[:length]
        x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
        x = model.ln_final(x)[torch.arange(len(part)), torch.tensor([len(t) - 1 for t in part])]
        encoded = F.normalize((x @ model.text_projection).float(), dim=-1)
        for i, row in zip(order[low:high], encoded, strict=True):
            rows[i] = row
    return torch.stack(rows)


class Tokens:
    """The standard CLIP tokenizer, with a memory."""

    def __init__(self) -> None:
        self._tokenizer = SimpleTokenizer()
        self._known: dict[str, list[int]] = {}

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        if len(self._known) > 400_000:
            self._known.clear()
        for text in texts:
            if text not in self._known:
                self._known[text] = [START, *self._tokenizer.encode(text)[:75], END]
        return [self._known[text] for text in texts]
