"""What the benches work on: models with random weights, and photographs that are made up.

All of it is made once, the same each time, and kept in the cache folder. Random weights are as
fast as trained ones. Images have the size of files and the detail of photographs: texture whose
amplitude falls with frequency (1/f), as in natural images (Field 1987), and a sensor's noise.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from common import say
from peers import for_open_clip

PHOTO_SIZES = {"12 MP": (4000, 3000), "1 MP": (1155, 866), "tiny": (320, 240)}
DIFFERENT = 24
QUALITY, SUBSAMPLING = 90, "4:2:0"
OCTAVES = 8
NOISE = 5.0
"""Of 255: with it a photograph of 12 MP takes about 2.7 MB, one of 1 MP about 250 KB."""
TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
"""An architecture for quick runs."""


# --- models --------------------------------------------------------------------------------


def model(cache: Path, arch: str = "ViT-B-32") -> str:
    """Return the name, for clipsearch and for open_clip, of an architecture with random weights."""
    if arch == "tiny":
        return _tiny(cache / "models" / "tiny")
    file = cache / "models" / f"{arch}.safetensors"
    if not file.exists():
        say(f"making random weights of {arch}")
        with whole(file) as unfinished:
            _write_weights(arch, unfinished)
    return f"{arch}@{file}"


def compiled(cache: Path, name: str) -> str:
    """Compile a model in both precisions, once; return the one that clipsearch chooses."""
    use_cache(cache)
    from clipsearch import compile_model
    from clipsearch.encoders.compiler.store import manifest_of

    say(f"compiling {name.partition('@')[0]}, unless it is compiled")
    compile_model(name, precision="fp32")
    made = compile_model(name, precision="int8").manifest.precision
    # What was compiled last is what is used from now on; int8 if it passed the gate.
    if (used := manifest_of(name)) and used.precision != made:
        compile_model(name, precision="int8", force=True)
    return made


def use_cache(cache: Path) -> None:
    """Let clipsearch, here and in processes that are started, keep compiled models in our cache."""
    os.environ["CLIPSEARCH_CACHE"] = str(cache / "clipsearch")


def _write_weights(arch: str, path: Path) -> None:
    import open_clip
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = open_clip.create_model(arch).state_dict()
    save_file({name: values.contiguous() for name, values in state.items()}, str(path))


def _tiny(folder: Path) -> str:
    name = f"local-dir:{folder}"
    if not folder.exists():
        import open_clip
        import torch
        from safetensors.torch import save_file

        with whole(folder) as unfinished:
            unfinished.mkdir(parents=True, exist_ok=True)
            config = {"model_cfg": TINY, "preprocess_cfg": {"interpolation": "bicubic"}}
            (unfinished / "open_clip_config.json").write_text(json.dumps(config), "utf-8")
            torch.manual_seed(0)
            made = open_clip.create_model(f"local-dir:{unfinished}", load_weights=False)
            # Fresh towers map all to nearly one direction, and then every comparison passes.
            for weights in made.parameters():
                if weights.ndim:
                    weights.data.add_(torch.randn_like(weights) * 0.1)
            save_file(made.state_dict(), str(unfinished / "open_clip_model.safetensors"))
    return name


def exported(cache: Path, model: str) -> Path:
    """Return a folder with both towers as torch itself exports them, in fp32, once made."""
    name = model.partition("@")[0].rpartition("/")[2]
    folder = cache / "exports" / name
    if not folder.exists():
        say(f"exporting {name}")
        with whole(folder) as unfinished:
            unfinished.mkdir(parents=True, exist_ok=True)
            _export(model, unfinished)
    return folder


def _export(model: str, folder: Path) -> None:
    import open_clip
    import torch

    # The fast path is one operator that ONNX does not have.
    torch.backends.mha.set_fastpath_enabled(False)
    arch, weights = for_open_clip(model)
    made = open_clip.create_model(arch, pretrained=weights).eval().requires_grad_(False)

    class Tower(torch.nn.Module):
        def __init__(self, encode: str) -> None:
            super().__init__()
            self.model, self.encode = made, encode

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return getattr(self.model, self.encode)(x)

    config = made.visual.preprocess_cfg
    size = config["size"]
    size = size if isinstance(size, int) else size[0]
    # Two examples: with one, the exporter may take its size for a constant.
    examples = {
        "image": ("encode_image", torch.zeros(2, 3, size, size)),
        "text": ("encode_text", torch.zeros(2, made.context_length, dtype=torch.int64)),
    }
    for tower, (encode, example) in examples.items():
        torch.onnx.export(
            Tower(encode).eval(),
            (example,),
            str(folder / f"{tower}.onnx"),
            input_names=["x"],
            dynamic_axes={"x": {0: "batch"}},
            dynamo=False,
        )
    shape: dict[str, Any] = {
        "size": size,
        "mean": np.float32(config["mean"]),
        "std": np.float32(config["std"]),
    }
    np.savez(folder / "preprocess.npz", **shape)


def optimized(cache: Path, model: str) -> Path:
    """Return a folder with image towers as onnxruntime's own optimizer makes them, once made.

    `export-fp32.onnx` is torch's export of open_clip's tower after the optimizer's fusions for
    CLIP, `export-int8.onnx` that after `quantize_dynamic`. Attention does not fuse there: the
    optimizer knows Hugging Face's, so that `fused-*.onnx` are of their CLIP, of the same size and
    with random weights.
    """
    name = model.partition("@")[0].rpartition("/")[2]
    folder = cache / "optimized" / name
    if not folder.exists():
        say(f"optimizing {name} by onnxruntime's optimizer")
        with whole(folder) as unfinished:
            unfinished.mkdir(parents=True, exist_ok=True)
            _optimize(model, unfinished)
    return folder


def _optimize(model: str, folder: Path) -> None:
    import open_clip
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    # The fast path is one operator that ONNX does not have.
    torch.backends.mha.set_fastpath_enabled(False)
    arch, weights = for_open_clip(model)
    config = open_clip.get_model_config(arch)
    vision = config["vision_cfg"]
    heads = vision["width"] // vision.get("head_width", 64)
    shape: dict[str, Any] = {
        "hidden_size": vision["width"],
        "intermediate_size": 4 * vision["width"],
        "num_hidden_layers": vision["layers"],
        "num_attention_heads": heads,
        "patch_size": vision["patch_size"],
        "image_size": vision["image_size"],
        "projection_dim": config["embed_dim"],
        "hidden_act": "gelu",
        "attn_implementation": "eager",  # the form that the fusion knows
    }
    torch.manual_seed(0)
    theirs = CLIPVisionModelWithProjection(CLIPVisionConfig(**shape)).eval().requires_grad_(False)
    ours = open_clip.create_model(arch, pretrained=weights).eval().requires_grad_(False)

    class Tower(torch.nn.Module):
        def __init__(self, fused: bool) -> None:
            super().__init__()
            self.fused, self.model = fused, theirs if fused else ours

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.fused:
                return self.model(pixel_values=x).image_embeds
            return self.model.encode_image(x)

    for way in ("export", "fused"):
        plain = folder / "plain.onnx"
        torch.onnx.export(
            Tower(way == "fused").eval(),
            (torch.zeros(2, 3, vision["image_size"], vision["image_size"]),),
            str(plain),
            input_names=["x"],
            dynamic_axes={"x": {0: "batch"}},
            opset_version=18,
            dynamo=False,
        )
        count = _fuse(plain, folder / way, heads, vision["width"])
        say(f"{way}: attention fused in {count} of {vision['layers']} layers")
        plain.unlink()


def _fuse(plain: Path, stem: Path, heads: int, width: int) -> int:
    """Write what the optimizer makes of an export, in fp32 and int8; return its fused attentions."""
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    # Level 1 folds constants first, without which the exporter's shapes stand between the layers.
    fused = optimize_model(
        str(plain), model_type="clip", num_heads=heads, hidden_size=width, opt_level=1
    )
    exact = stem.with_name(f"{stem.name}-fp32.onnx")
    fused.save_model_to_file(str(exact))
    quantize_dynamic(
        exact,
        stem.with_name(f"{stem.name}-int8.onnx"),
        op_types_to_quantize=["MatMul", "Gemm", "Attention"],
        per_channel=True,
        reduce_range=not vnni(),
        weight_type=QuantType.QInt8,
        # The types of the runtime's own operators are not inferred.
        extra_options={"DefaultTensorType": TensorProto.FLOAT},
    )
    return sum(node.op_type == "Attention" for node in fused.model.graph.node)


def vnni() -> bool:
    """Say whether the processor has VNNI, without which int8 products of 8 bits overflow."""
    with suppress(OSError):
        return "_vnni" in Path("/proc/cpuinfo").read_text("utf-8")
    return True


# --- photographs ---------------------------------------------------------------------------


def photos(cache: Path, size: str, count: int, *, of: int = DIFFERENT) -> Path:
    """Return a folder of `count` photographs of a size in PHOTO_SIZES.

    of: so many are made up, the rest repeats their pixels in files of other bytes, which is as
    much work to decode.
    """
    folder = cache / "photos" / f"{size.replace(' ', '')}-{count}"
    if (folder / "complete").exists():
        return folder / "files"
    say(f"making {count} photographs of {size}")
    files = folder / "files"
    shutil.rmtree(folder, ignore_errors=True)
    files.mkdir(parents=True)
    for number in range(count):
        data = _made_up(cache, size, number % of).read_bytes()
        data = data if number < of else _with_comment(data, number)
        (files / f"IMG_{number:05d}.jpg").write_bytes(data)
    (folder / "complete").touch()
    return files


def _made_up(cache: Path, size: str, seed: int) -> Path:
    file = cache / "photos" / size.replace(" ", "") / f"{seed}.jpg"
    if not file.exists():
        with whole(file) as unfinished:
            photo(size, seed).save(unfinished, "JPEG", quality=QUALITY, subsampling=SUBSAMPLING)
    return file


def photo(size: str, seed: int) -> PIL.Image.Image:
    """Make one photograph up: noise of all scales, halved in amplitude from each to the next."""
    width, height = PHOTO_SIZES[size]
    rng = np.random.default_rng(seed)
    total = np.full((height, width, 3), rng.uniform(90, 160, 3), np.float32)
    for octave in range(OCTAVES):
        cells = 3 * 2**octave
        grid = rng.normal(size=(cells * height // width + 2, cells, 3)) * (64 / 2**octave)
        for channel in range(3):
            # One light, three colours that follow it.
            level = (0.8 * grid[..., 0] + 0.4 * grid[..., channel]).astype(np.float32)
            wide = PIL.Image.fromarray(level).resize((width, height), PIL.Image.Resampling.BICUBIC)
            total[..., channel] += np.asarray(wide)
    total += NOISE * rng.standard_normal((height, width, 1), dtype=np.float32)
    return PIL.Image.fromarray(total.clip(0, 255).astype(np.uint8))


def _with_comment(jpeg: bytes, number: int) -> bytes:
    """Put a comment behind the first marker of a JPEG file (ISO 10918-1, B.2.4.5)."""
    text = b"%d" % number
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


def small_files(cache: Path, count: int) -> Path:
    """Return a tree of `count` small images, a thousand a folder, few of them different."""
    folder = cache / "photos" / f"small-{count}"
    if (folder / "complete").exists():
        return folder / "files"
    say(f"making {count:,} small files")
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(0)
    source = folder / "source.png"
    folder.mkdir(parents=True)
    for number in range(count):
        if number % 1000 == 0:
            blocks = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            PIL.Image.fromarray(blocks).resize((48, 40), 0).save(source)
            data = source.read_bytes()
            place = folder / "files" / f"{number // 1000:04d}"
            place.mkdir(parents=True)
        (place / f"{number:07d}.png").write_bytes(data)
    (folder / "complete").touch()
    return folder / "files"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield another path to write to; it becomes `path` when it is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"unfinished-{path.name}")
    yield unfinished
    unfinished.replace(path)
