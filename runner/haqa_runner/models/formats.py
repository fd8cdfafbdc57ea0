"""Which format a checkpoint is quantized in already, by what its files say and by what they hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

QUANTIZATION_KEYS = ("quantization_config", "compression_config")
"""Where a config says how its checkpoint is quantized."""
TEXT_MODELS = ("text_config", "llm_config", "language_config")
"""Where the config of a multimodal model has that of its text model."""
_FLOATS = {16: "NVFP", 32: "MXFP"}
"""By weights that share a scale."""
_PACKED = {
    "weight_packed": "compressed-tensors",
    "qweight": "GPTQ or AWQ",
    "weight_scale_inv": "FP8 with blocks",
    "weight_scale": "scaled weights",
    "weight_scale_2": "ModelOpt",
    "_blocks": "MXFP4",
}
"""Endings of tensors that only quantized checkpoints have."""
_EIGHT_BITS = frozenset({"F8_E4M3", "F8_E5M2", "I8", "U8", "I4", "U4", "F4", "F8_E8M0"})


def quantized_by(
    config: Mapping[str, Any], modelopt: Mapping[str, Any] | None = None, tensors: Mapping[str, str] | None = None
) -> str | None:
    """The format of a quantized checkpoint, as people call it; None for one that is not quantized.

    Args:
        config: The parsed config.json.
        modelopt: The parsed hf_quant_config.json, which NVIDIA's ModelOpt writes.
        tensors: Name -> type of the tensors in its files, as safetensors calls them.
    """
    places = [config, *(config[name] for name in TEXT_MODELS if isinstance(config.get(name), Mapping))]
    for place in places:
        for key in QUANTIZATION_KEYS:
            if place.get(key):
                return _described(place[key])
    if modelopt:
        return _modelopt(modelopt.get("quantization"))
    return _of_tensors(tensors or {})


def _described(found: Any) -> str:
    if not isinstance(found, Mapping):
        return str(found)
    method = str(found.get("quant_method") or "").lower()
    match method:
        case "compressed-tensors":
            return f"compressed-tensors {_groups(found)}".strip()
        case "modelopt" | "":
            return _modelopt(found) if found.get("quant_algo") else (method or _groups(found) or "an unnamed method")
        case "fp8" | "fbgemm_fp8":
            blocks = found.get("weight_block_size")
            size = f" with blocks of {'x'.join(map(str, blocks))}" if isinstance(blocks, list) else ""
            return f"{method}{size}"
        case "bitsandbytes":
            return f"bitsandbytes {'4 bit' if found.get('load_in_4bit') else '8 bit'}"
        case _:
            bits, group = found.get("bits"), found.get("group_size")
            return " ".join([method, *([f"{bits} bit"] if bits else []), *([f"group {group}"] if group else [])])


def _modelopt(found: Any) -> str:
    algorithm = found.get("quant_algo") if isinstance(found, Mapping) else None
    return f"ModelOpt {algorithm}" if algorithm else "ModelOpt"


def _groups(found: Mapping[str, Any]) -> str:
    """The first group of compressed-tensors as a scheme: W4A16, FP8."""
    groups = found.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    if not isinstance(first, Mapping) or not isinstance(first.get("weights"), Mapping):
        return str(found.get("format") or "")
    weights, activations = first["weights"], first.get("input_activations")
    bits = weights.get("num_bits")
    if weights.get("type") == "float":
        kind = _FLOATS.get(weights.get("group_size"), "FP")
        return f"{kind}{bits}"
    side = activations.get("num_bits") if isinstance(activations, Mapping) else 16
    return f"W{bits}A{side}"


def _of_tensors(tensors: Mapping[str, str]) -> str | None:
    names: Collection[str] = tensors
    for ending, method in _PACKED.items():
        if any(name.endswith(ending) for name in names):
            return f"{method}, by its tensors"
    small = next((dtype for name, dtype in tensors.items() if name.endswith(".weight") and dtype in _EIGHT_BITS), None)
    return f"weights of type {small}, by its tensors" if small else None
