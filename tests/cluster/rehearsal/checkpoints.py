"""A checkpoint as an engine sees it: what config.json says, and the headers of its safetensors files.

Nobody has the bytes of a model of 70 billion parameters here. Its files are sparse: true headers, true sizes, and holes
in place of numbers.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

WEIGHTS = "model.safetensors"
_BYTES = {"F32": 4, "I32": 4, "BF16": 2, "F16": 2, "I64": 8, "F8_E4M3": 1, "I8": 1, "U8": 1}


@dataclass(frozen=True)
class Tensor:
    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        return prod(self.shape) * _BYTES[self.dtype]


@dataclass(frozen=True)
class NumberFormat:
    """What products of the decoder's matrices are made of.

    Attributes:
        weight_bits: As stored.
        activations: bf16, fp8 or int8.
    """

    name: str
    weight_bits: int
    activations: str

    @property
    def weight_only(self) -> bool:
        return self.weight_bits < 16 and self.activations == "bf16"


@dataclass(frozen=True)
class Checkpoint:
    """Attributes:
    recipe: Names of the modifiers that made it, by what llm-compressor leaves beside the weights.
    """

    config: Mapping[str, Any]
    tensors: tuple[Tensor, ...]
    recipe: tuple[str, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        config = json.loads((folder / "config.json").read_text())
        recipe = folder / "recipe.yaml"
        modifiers = tuple(line.strip(" :") for line in recipe.read_text().splitlines()) if recipe.exists() else ()
        return cls(config, tuple(_read_header(folder / WEIGHTS)), modifiers)

    @property
    def format(self) -> NumberFormat:
        """As vLLM reads it off the quantization's config (compressed-tensors)."""
        found = self.config.get("quantization_config")
        if found is None:
            return NumberFormat("BF16", 16, "bf16")
        group = next(iter(found["config_groups"].values()))
        weights, activations = group["weights"], group["input_activations"]
        kind = "bf16" if activations is None else ("fp8" if activations["type"] == "float" else "int8")
        return NumberFormat(found["format"], int(weights["num_bits"]), kind)

    def __getitem__(self, name: str) -> int:
        """A number of the config."""
        return int(self.config[name])

    @property
    def head_size(self) -> int:
        return int(self.config.get("head_dim") or self["hidden_size"] // self["num_attention_heads"])

    @property
    def kv_heads(self) -> int:
        return self["num_key_value_heads"]


def write(folder: Path, config: Mapping[str, Any], tensors: Iterable[Tensor]) -> None:
    """A folder with config, sparse weights, and a tokenizer's file for whoever looks whether there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    header, place = {}, 0
    for tensor in tensors:
        entry = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [place, place + tensor.size_bytes]}
        header[tensor.name] = entry
        place += tensor.size_bytes
    text = json.dumps(header).encode()
    with (folder / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + place)


def _read_header(path: Path) -> Iterable[Tensor]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
    for name, entry in entries.items():
        if name != "__metadata__":
            yield Tensor(name, entry["dtype"], tuple(entry["shape"]))
