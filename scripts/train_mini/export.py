"""Write the averaged weights of a checkpoint as a folder that open_clip loads: `python export.py`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from model import CONFIG, MEAN, STD
from safetensors.torch import save_file
from sprites import CACHE, HERE

TARGET = HERE.parent.parent / "clipsearch" / "encoders" / "mini"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="mini")
    parser.add_argument("--to", type=Path, default=TARGET)
    args = parser.parse_args()
    saved = torch.load(CACHE / f"{args.name}.pt", weights_only=True)
    # Half precision halves the download; open_clip reads it into float32. The causal mask is made
    # anew when a model is built.
    weights = {k: v.half().contiguous() for k, v in saved["average"].items() if k != "attn_mask"}
    args.to.mkdir(parents=True, exist_ok=True)
    config = {
        "model_cfg": CONFIG,
        "preprocess_cfg": {
            "mean": MEAN,
            "std": STD,
            "interpolation": "bicubic",
            "resize_mode": "longest",
            "fill_color": 255,
        },
    }
    (args.to / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(weights, args.to / "open_clip_model.safetensors")
    (args.to / "open_clip_model.safetensors").chmod(0o644)
    size = (args.to / "open_clip_model.safetensors").stat().st_size
    print(f"step {saved['step']}: {size / 1e6:.1f} MB in {args.to}")


if __name__ == "__main__":
    main()
