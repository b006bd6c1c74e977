"""Encoder engine torch: any open_clip model, with its own preprocessing and tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer
from open_clip.transform import PreprocessCfg

from clipsearch._util import LazyModule
from clipsearch.encoders import hub
from clipsearch.encoders.base import Tokenizer
from clipsearch.encoders.preprocess import Preprocess
from clipsearch.encoders.registry import ModelSpec, multilingual
from clipsearch.encoders.sources import (
    PROBES,
    ModelSource,
    explain_unreadable,
    find_configuration,
    find_source,
    fingerprint,
)
from clipsearch.encoders.tokenizers import from_open_clip
from clipsearch.encoders.tokenizers.clip import clip_tokenizer
from clipsearch.errors import ClipsearchError, EncoderError
from clipsearch.types import ModelInfo

if TYPE_CHECKING:
    import PIL.Image
else:
    PIL = LazyModule("PIL")

_TEXT_BATCH, _IMAGE_BATCH = 256, 128
_HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}

Tokenize = Callable[[list[str]], torch.Tensor]
"""open_clip's own tokenizers: texts to rows of `context_length` numbers, cut and padded."""


class OpenClipEncoder:
    """An open_clip model on one device; see `encoders.base.Encoder`."""

    def __init__(
        self,
        model: Any,
        tokenize: Tokenize,
        *,
        info: ModelInfo,
        tokenizer: Tokenizer,
        context_length: int,
        device: torch.device,
        half: torch.dtype | None = None,
    ) -> None:
        config = PreprocessCfg(**model.visual.preprocess_cfg)
        self.info = info
        self.context_length = context_length
        self.device = device
        self.half = half
        self.precision = next((name for name, kind in _HALF.items() if kind == half), "fp32")
        self.tokenizer = tokenizer
        self._model = model.to(device)
        self._tokenize = tokenize
        # Its last two steps, to floats and normalised, are done in `encode_images`, on the device.
        self.prepare = Preprocess.of(asdict(config))
        self._mean, self._std = (
            torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (config.mean, config.std)
        )

    @classmethod
    def load(
        cls, spec: ModelSpec, *, device: str = "auto", precision: str = "auto"
    ) -> OpenClipEncoder:
        """Load the weights of `spec`, downloading them if they are not in the hub's cache.

        Parameters
        ----------
        spec
            The model.
        device
            `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`: the fastest one.
        precision
            `fp32`, `fp16`, `bf16`, or `auto`: fp16 on CUDA, else fp32.

        Raises
        ------
        UnknownModel
            open_clip does not know the tag.
        ModelUnavailable
            A part of the model cannot be downloaded or read.
        EncoderError
            The device or precision does not exist here.
        """
        target = _device(device)
        half = _half(precision, target)
        source = find_source(spec, open_clip)
        model = _model(spec, source)
        tokenize = _open_clip_tokenizer(spec, source)
        bias = getattr(model, "logit_bias", None)
        info = ModelInfo(
            name=spec.name,
            dim=int(source.config["embed_dim"]),
            logit_scale=float(model.logit_scale.exp().max()),
            logit_bias=None if bias is None else float(bias.max()),
            fingerprint=_fingerprint(model, tokenize),
            spec=spec.name,
        )
        length = int(source.text.get("context_length", DEFAULT_CONTEXT_LENGTH))
        return cls(
            model,
            tokenize,
            info=info,
            tokenizer=_own_tokenizer(spec, tokenize),
            context_length=length,
            device=target,
            half=half,
        )

    @property
    def model(self) -> Any:
        """open_clip's own model, for the compiler."""
        return self._model

    @property
    def raw_tokenizer(self) -> Any:
        """open_clip's own tokenizer, for the compiler."""
        return self._tokenize

    def preprocess(self, image: PIL.Image.Image) -> np.ndarray:
        """Resize and crop an RGB image as the model wants it: uint8 (H, W, 3). Thread-safe."""
        return self.prepare(image)

    def encode_images(self, batch: np.ndarray) -> np.ndarray:
        """Encode uint8 (n, H, W, 3) to float32 unit rows (n, dim)."""
        height, width = self.prepare.size
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[1:] != (height, width, 3):
            wanted = f"uint8 (n, {height}, {width}, 3)"
            raise ValueError(f"{self.info.name} takes {wanted}, not {batch.dtype} {batch.shape}")
        return self._rows(batch, _IMAGE_BATCH, self._encode_images)

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Encode n texts to float32 unit rows (n, dim); long texts are cut, as open_clip does."""
        if isinstance(texts, str):
            raise TypeError("encode_texts takes a list of texts, not one text")
        return self._rows(texts, _TEXT_BATCH, self._encode_texts)

    def _encode_images(self, batch: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(np.require(batch, requirements=["C", "W"]))
        if self.device.type == "cuda":  # from memory that stays in its place the copy is faster
            pixels = pixels.pin_memory()
        pixels = pixels.to(self.device, non_blocking=True)
        # The arithmetic of torchvision's ToTensor and Normalize, in their order.
        floats = pixels.permute(0, 3, 1, 2).contiguous().float().div(255)
        features: torch.Tensor = self._model.encode_image(floats.sub_(self._mean).div_(self._std))
        return features

    def _encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        # Command lines can hold bytes that are no UTF-8, which tokenizers do not survive.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        features: torch.Tensor = self._model.encode_text(self._tokenize(clean).to(self.device))
        return features

    def _rows(self, items: Any, at_once: int, encode: Callable[[Any], torch.Tensor]) -> np.ndarray:
        if not len(items):
            return np.empty((0, self.info.dim), dtype=np.float32)
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, self.half, enabled=self.half is not None),
        ):
            # Fetched at the end: while a card computes one part, the next is made ready here.
            parts = [
                torch.nn.functional.normalize(
                    encode(items[start : start + at_once]).float(), dim=-1
                )
                for start in range(0, len(items), at_once)
            ]
            rows: np.ndarray = torch.cat(parts).cpu().numpy()
        if not np.isfinite(rows).all():
            raise EncoderError(
                f"{self.info.name} gave numbers that are not finite: its weights are damaged, "
                "or too large for half precision (then load it with precision 'fp32')."
            )
        return rows


# --- loading -------------------------------------------------------------------------------


def _model(spec: ModelSpec, source: ModelSource) -> Any:
    try:
        model = open_clip.create_model(
            source.name,
            source.weights,
            force_preprocess_cfg=source.preprocess,
            force_quick_gelu=source.quick_gelu,
            pretrained_text=False,  # parts of other models are no substitute
            require_pretrained=True,
        )
    except Exception as error:  # pickle, safetensors, torch and timm each have their own
        raise explain_unreadable(spec, source.weights or source.name, error) from error
    return model.eval().requires_grad_(False)


def open_clip_tokenizer(spec: ModelSpec) -> Tokenizer:
    """Load the tokenizer of a model without its weights.

    Raises
    ------
    UnknownModel, ModelUnavailable
        As `OpenClipEncoder.load` does.
    """
    return _own_tokenizer(spec, _open_clip_tokenizer(spec, find_configuration(spec, open_clip)))


def _own_tokenizer(spec: ModelSpec, raw: Any) -> Tokenizer:
    """Return the tokenizer of this package that gives the tokens of open_clip's."""
    if clip := clip_tokenizer(spec):
        return clip
    try:
        tokenizer = from_open_clip(raw)
    except Exception as error:  # transformers raises whatever its parts raise
        raise explain_unreadable(spec, "its tokenizer", error) from error
    tokenizer.multilingual = multilingual(spec, tokenizer.size)
    return tokenizer


def _open_clip_tokenizer(spec: ModelSpec, source: ModelSource) -> Tokenize:
    wanted = source.text.get("hf_tokenizer_name")
    try:
        if not wanted or spec.folder:
            tokenizer: Tokenize = open_clip.get_tokenizer(source.name)
            return tokenizer
        return _hub_tokenizer(spec, wanted, source.text)
    except ClipsearchError:
        raise
    except Exception as error:  # transformers raises whatever its parts raise
        raise explain_unreadable(spec, f"the tokenizer {wanted or source.name}", error) from error


def _hub_tokenizer(spec: ModelSpec, repo: str, text: dict[str, Any]) -> Tokenize:
    """Load the tokenizer that the model's configuration names, as open_clip would."""
    tokenizer: Tokenize = HFTokenizer(
        hub.fetch_tokenizer(repo, model=spec.title),
        context_length=text.get("context_length", DEFAULT_CONTEXT_LENGTH),
        tokenizer_mode=text.get("tokenizer_mode"),
        **text.get("tokenizer_kwargs", {}),
    )
    return tokenizer


def _device(name: str) -> torch.device:
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise EncoderError(
            f"device {name!r} is not available here. Use 'auto' or 'cpu'."
        ) from error
    return device


def _half(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the type to compute in, None for float32.

    The weights stay float32 and torch.autocast chooses per operation: sums, norms and softmax
    keep their range, which pure half precision loses, and the fingerprint is the same everywhere.
    """
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else None
    if precision != "fp32" and precision not in _HALF:
        raise EncoderError(f"unknown precision {precision!r}: choose auto, fp32, fp16 or bf16.")
    return _HALF.get(precision)


def _fingerprint(model: Any, tokenize: Tokenize) -> str:
    structure = {
        "preprocess": model.visual.preprocess_cfg,
        # Neither shows in the weights.
        "heads": sorted({int(m.num_heads) for m in model.modules() if hasattr(m, "num_heads")}),
        "gelu": sorted({repr(m) for m in model.modules() if "gelu" in type(m).__name__.lower()}),
        "tokens": [tokenize([probe]).tolist() for probe in PROBES],
    }
    state = sorted(model.state_dict().items())
    return fingerprint(((name, tensor.float().numpy()) for name, tensor in state), structure)
