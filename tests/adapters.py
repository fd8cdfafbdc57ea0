"""LoRA adapters for small models: random, of a given rank, in peft's layout.

Needs torch and safetensors: run by the runner's Python (`python -m tests.adapters MODEL FOLDER --strength 2`).
"""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Mapping
from pathlib import Path

TARGETS = ("q_proj", "v_proj", "down_proj")


def make_adapter(
    model: Path, folder: Path, *, rank: int = 8, strength: float = 1.0, seed: int = 0, **config: object
) -> Path:
    """Writes an adapter of `model` to `folder`.

    Args:
        strength: Of what it adds to a matrix, against the matrix itself (both by their Frobenius norms).
        config: Further fields of adapter_config.json.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    tensors = {}
    with safe_open(model / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (no dictionary)
            path = name.removesuffix(".weight")
            if path.rpartition(".")[2] not in TARGETS:
                continue
            weight = file.get_tensor(name).float()
            down, up = torch.randn(rank, weight.shape[1]), torch.randn(weight.shape[0], rank)
            scale = (strength * weight.norm() / (up @ down).norm()).sqrt()
            tensors[f"base_model.model.{path}.lora_A.weight"] = (down * scale).to(torch.bfloat16)
            tensors[f"base_model.model.{path}.lora_B.weight"] = (up * scale).to(torch.bfloat16)
    save_file(tensors, folder / "adapter_model.safetensors")
    written = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(model),
        "r": rank,
        "lora_alpha": rank,
        "target_modules": list(TARGETS),
        "bias": "none",
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(written, indent=1))
    return folder


def write_adapter(folder: Path, shapes: Mapping[str, tuple[int, ...]], **config: object) -> Path:
    """An adapter of bfloat16 zeros, without torch: for what is only looked at."""
    folder.mkdir(parents=True, exist_ok=True)
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * shape[0] * shape[1]
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(offset))
    written = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": list(TARGETS), **config}
    (folder / "adapter_config.json").write_text(json.dumps(written))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--strength", type=float, default=1.0)
    make_adapter(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
