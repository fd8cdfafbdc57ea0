"""Model folders without torch: real file formats, tiny content."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

LLAMA_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 1,
}
LLAMA_SHAPES = {
    "model.embed_tokens.weight": (32, 64),
    "model.layers.0.self_attn.q_proj.weight": (64, 64),
    "model.layers.0.mlp.gate_proj.weight": (128, 64),
    "model.layers.0.mlp.down_proj.weight": (64, 128),
    "model.layers.0.input_layernorm.weight": (64,),
    "lm_head.weight": (32, 64),
}


def write_safetensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """A file of bfloat16 zeros."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(offset))
    return path


def write_checkpoint(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]] = LLAMA_SHAPES,
    *,
    config: Mapping[str, object] | None = None,
    tokenizer: bool = True,
) -> Path:
    """A folder that `check_model` accepts, unless it is told otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**LLAMA_CONFIG, **(config or {})}))
    if tokenizer:
        (folder / "tokenizer.json").write_text("{}")
    write_safetensors(folder / "model.safetensors", shapes)
    return folder
