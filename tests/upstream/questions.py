"""What vLLM and HAQA are both asked: every format that HAQA makes, on devices of every kind, for many shapes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from tests.model_headers import facts

from haqa_contract import MADE_SCHEMES, Scheme
from haqa_operator.hardware.accelerators import Accelerator, Vendor
from haqa_operator.search.model_profile import ModelProfile
from haqa_operator.search.number_formats import FORMATS, PER_CHANNEL

FOLDER = Path(__file__).parent


@cache
def layouts() -> Mapping[str, Any]:
    """Scheme -> `quantization_config` of an artifact, as llm-compressor writes it.

    `tests/integration/test_quantize.py` compares it with what is made.
    """
    read: dict[str, Any] = json.loads((FOLDER / "layouts.json").read_text())
    return read


@dataclass(frozen=True)
class Device:
    """One kind of accelerator, by what vLLM's selection asks of it."""

    name: str
    platform: str
    capability: tuple[int, int] | None = None
    architecture: str | None = None

    @property
    def accelerator(self) -> Accelerator:
        """As HAQA knows it."""
        vendor = {"cuda": Vendor.NVIDIA, "rocm": Vendor.AMD, "xpu": Vendor.INTEL}[self.platform]
        return Accelerator(
            vendor, self.name, memory_gib=80, compute_capability=self.capability, architecture=self.architecture
        )

    def question(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "platform": self.platform,
            "capability": self.capability,
            "architecture": self.architecture,
        }


DEVICES = (
    *(Device(f"CUDA {major}.{minor}", "cuda", (major, minor)) for major, minor in (
        (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1),
    )),
    *(Device(f"ROCm {chip}", "rocm", architecture=chip) for chip in (
        "gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1200", "gfx1201", "gfx1250",
    )),
    Device("XPU", "xpu", architecture="xpu"),
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """Shapes of the layers of one model."""

    name: str
    config: Mapping[str, Any] = field(hash=False)

    @property
    def profile(self) -> ModelProfile:
        return ModelProfile(facts(self.config))

    def layers(self) -> Iterator[dict[str, Any]]:
        """As vLLM stacks them: rows of each part, columns, experts (0 = a plain layer)."""
        config = self.config
        hidden, inner = config["hidden_size"], config.get("moe_intermediate_size") or config["intermediate_size"]
        size = config["head_dim"]
        queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
        yield {"rows": [queries, keys, keys], "columns": hidden, "experts": 0}
        yield {"rows": [hidden], "columns": queries, "experts": 0}
        if experts := config.get("num_experts", 0):
            yield {"rows": [inner], "columns": hidden, "experts": experts}
        else:
            yield {"rows": [inner, inner], "columns": hidden, "experts": 0}
            yield {"rows": [hidden], "columns": inner, "experts": 0}


def _model(name: str, hidden: int, inner: int, heads: int, kv_heads: int, experts: int = 0, size: int = 128) -> Model:
    mixture = {"num_experts": experts, "moe_intermediate_size": inner, "num_experts_per_tok": 8} if experts else {}
    config = {
        "architectures": ["Qwen3MoeForCausalLM" if experts else "LlamaForCausalLM"],
        "model_type": "qwen3_moe" if experts else "llama",
        "hidden_size": hidden,
        "num_hidden_layers": 1,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": size,
        "intermediate_size": inner,
        "vocab_size": 1024,
        "max_position_embeddings": 4096,
        "torch_dtype": "bfloat16",
    }
    return Model(name, config | mixture)


MODELS = (
    _model("dense", hidden=4096, inner=14336, heads=32, kv_heads=8),
    _model("dense 704", hidden=1024, inner=704, heads=8, kv_heads=8),
    _model("dense 4304", hidden=1152, inner=4304, heads=16, kv_heads=16, size=72),
    _model("experts 768", hidden=2048, inner=768, heads=32, kv_heads=4, experts=128),
    _model("experts 1408", hidden=2048, inner=1408, heads=16, kv_heads=16, experts=64),
    _model("experts 704", hidden=2816, inner=704, heads=16, kv_heads=8, experts=128),
)
"""Llama 8B; columns that 128 and those that 32 do not divide; experts of Qwen3-30B-A3B, DeepSeek-V2-Lite and
gemma-4-26B-A4B."""

_GROUPS = (None, 64, 32, PER_CHANNEL, 256)
"""What a scheme's own group size may be replaced by; None = the scheme's own."""


@dataclass(frozen=True)
class Format:
    """A scheme with a group size; None = the scheme's own."""

    scheme: Scheme
    group_size: int | None = None

    def __str__(self) -> str:
        return self.scheme.value if self.group_size is None else f"{self.scheme.value} group {self.group_size}"

    def layout(self) -> dict[str, Any]:
        own: dict[str, Any] = layouts()[self.scheme.value]
        if self.group_size is None:
            return own
        weights = {name: value for name, value in own["weights"].items() if name != "group_size"}
        if self.group_size == PER_CHANNEL:
            return {**own, "weights": {**weights, "strategy": "channel"}}
        return {**own, "weights": {**weights, "strategy": "group", "group_size": self.group_size}}


def made_formats() -> Iterator[Format]:
    for scheme in MADE_SCHEMES:
        if scheme is Scheme.BF16:
            continue
        for size in _GROUPS if FORMATS[scheme].groups_chosen else (None,):
            yield Format(scheme, size)


def layer_name(made: Format, layer: Mapping[str, Any]) -> str:
    shape = f"{layer['rows']}x{layer['columns']}" + (f" x {layer['experts']}" if layer["experts"] else "")
    return f"{made} {shape}"


def layers_asked() -> list[dict[str, Any]]:
    """Every layer of every model in every format, once."""
    found = {}
    for made in made_formats():
        for model in MODELS:
            for layer in model.layers():
                name = layer_name(made, layer)
                found[name] = {"name": name, "layout": made.layout(), **layer}
    return list(found.values())
