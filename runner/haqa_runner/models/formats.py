"""Which format a checkpoint is quantized in already, by what its files say and by what they hold.

The names are those of vLLM's loaders (`vllm/model_executor/layers/quantization`), which read the same keys.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from haqa_contract import Scheme
from haqa_contract.model_facts import CheckpointFormat

QUANTIZATION_KEYS = ("quantization_config", "compression_config")
"""Where a config says how its checkpoint is quantized."""
TEXT_MODELS = ("text_config", "llm_config", "language_config")
"""Where the config of a multimodal model has that of its text model."""
BESIDE_CONFIG = ("hf_quant_config.json", "quantize_config.json", "quant_config.json")
"""Files in which ModelOpt, and the first versions of AutoGPTQ and AutoAWQ, say it."""

_PACKED = {
    "weight_packed": ("compressed-tensors", "compressed-tensors"),
    "qweight": ("GPTQ or AWQ", ""),
    "weight_scale_inv": ("FP8 with blocks", "fp8"),
    "weight_scale_2": ("ModelOpt", "modelopt"),
    "weight_scale": ("scaled weights", ""),
    "_blocks": ("MXFP4", "mxfp4"),
}
"""Endings of tensors that only quantized checkpoints have -> what people call it, and vLLM's method."""
_EIGHT_BITS = frozenset({"F8_E4M3", "F8_E5M2", "I8", "U8", "I4", "U4", "F4", "F8_E8M0"})

_MODELOPT = {
    "FP8": Scheme.FP8_DYNAMIC,
    "FP8_PER_CHANNEL_PER_TOKEN": Scheme.FP8_DYNAMIC,
    "FP8_PB_WO": Scheme.FP8_BLOCK,
    "NVFP4": Scheme.NVFP4,
    "NVFP4_AWQ": Scheme.NVFP4,
    "W4A16_NVFP4": Scheme.NVFP4A16,
    "W4A16_AWQ": Scheme.W4A16,
    "W4A8_AWQ": Scheme.W4AFP8,
    "MXFP8": Scheme.MXFP8,
}
_INTEGER_WEIGHTS = frozenset({"gptq", "awq", "auto-round", "auto_gptq", "auto_awq", "intel/auto-round", "inc"})


def quantization(
    config: Mapping[str, Any], beside: Mapping[str, Any] | None = None, tensors: Mapping[str, str] | None = None
) -> CheckpointFormat | None:
    """The format of a quantized checkpoint; None for one that is not quantized.

    Args:
        config: The parsed config.json.
        beside: The parsed file of `BESIDE_CONFIG` that lies beside it.
        tensors: Name -> type of the tensors in its files, as safetensors calls them.
    """
    places = [config, *(config[name] for name in TEXT_MODELS if isinstance(config.get(name), Mapping))]
    for place in places:
        for key in QUANTIZATION_KEYS:
            if place.get(key):
                return _described(place[key])
    if beside:
        return _of_file_beside(beside)
    return _of_tensors(tensors or {})


def _described(found: Any) -> CheckpointFormat:
    if not isinstance(found, Mapping):
        return CheckpointFormat(name=str(found), method=str(found).lower())
    method = str(found.get("quant_method") or "").lower()
    match method:
        case "compressed-tensors":
            return _compressed_tensors(found)
        case "modelopt" | "":
            if found.get("quant_algo"):
                return _modelopt(found)
            return _compressed_tensors(found) if found.get("config_groups") else _named(method)
        case "fp8" | "fbgemm_fp8" | "deepseek_v4_fp8":
            return _fp8(method, found)
        case "mxfp4" | "gpt_oss_mxfp4":
            return CheckpointFormat(name=method, method=method, scheme=Scheme.MXFP4A16)
        case "mxfp8":
            return CheckpointFormat(name=method, method=method, scheme=Scheme.MXFP8)
        case "bitsandbytes":
            bits = "4 bit" if found.get("load_in_4bit") or found.get("_load_in_4bit") else "8 bit"
            return CheckpointFormat(name=f"bitsandbytes {bits}", method=method)
        case _ if method in _INTEGER_WEIGHTS:
            return _integer_weights(method, found)
        case _:
            return _named(method)


def _named(method: str) -> CheckpointFormat:
    return CheckpointFormat(name=method or "an unnamed method", method=method)


def _of_file_beside(found: Mapping[str, Any]) -> CheckpointFormat:
    described = found.get("quantization")
    if isinstance(described, Mapping):
        return _modelopt(described)
    method = str(found.get("quant_method") or ("awq" if "zero_point" in found else "gptq")).lower()
    return _integer_weights(method, found)


def _modelopt(found: Mapping[str, Any]) -> CheckpointFormat:
    algorithm = str(found.get("quant_algo") or "").upper()
    name = f"ModelOpt {algorithm}" if algorithm else "ModelOpt"
    return CheckpointFormat(name=name, method="modelopt", scheme=_MODELOPT.get(algorithm, Scheme.OTHER))


def _fp8(method: str, found: Mapping[str, Any]) -> CheckpointFormat:
    blocks = found.get("weight_block_size")
    if isinstance(blocks, list):
        size = "x".join(map(str, blocks))
        return CheckpointFormat(name=f"{method} with blocks of {size}", method=method, scheme=Scheme.FP8_BLOCK)
    return CheckpointFormat(name=method, method=method, scheme=Scheme.FP8_DYNAMIC)


def _integer_weights(method: str, found: Mapping[str, Any]) -> CheckpointFormat:
    """GPTQ, AWQ and AutoRound: integer weights beside 16-bit activations."""
    bits = _whole(found.get("bits", found.get("w_bit")))
    group = _whole(found.get("group_size", found.get("q_group_size")))
    name = " ".join([method, *([f"{bits} bit"] if bits else []), *([f"group {group}"] if group else [])])
    offset = found.get("zero_point") is True or found.get("sym") is False
    scheme = {4: Scheme.W4A16_ASYM if offset else Scheme.W4A16, 8: Scheme.W8A16}.get(bits or 0, Scheme.OTHER)
    size = group if scheme is not Scheme.OTHER else None
    return CheckpointFormat(name=name, method=method, scheme=scheme, group_size=size)


def _whole(value: Any) -> int | None:
    """A number of bits, or of weights that share a scale (-1: a whole row); None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and (value > 0 or value == -1) else None


def _compressed_tensors(found: Mapping[str, Any]) -> CheckpointFormat:
    """The groups of compressed-tensors as schemes: W4A16, FP8."""
    groups = found.get("config_groups")
    described = [one for one in groups.values() if isinstance(one, Mapping)] if isinstance(groups, Mapping) else []
    kinds = dict.fromkeys(_group(one) for one in described if isinstance(one.get("weights"), Mapping))
    if len(kinds) != 1:
        names = " and ".join(name for name, _, _ in kinds) or str(found.get("format") or "")
        return CheckpointFormat(name=f"compressed-tensors {names}".strip(), method="compressed-tensors")
    name, scheme, size = next(iter(kinds))
    return CheckpointFormat(
        name=f"compressed-tensors {name}", method="compressed-tensors", scheme=scheme, group_size=size
    )


def _group(described: Mapping[str, Any]) -> tuple[str, Scheme, int | None]:
    """What people call one group of layers, its scheme, and its group size where the scheme leaves a choice."""
    weights, activations = described["weights"], described.get("input_activations")
    bits, size = _whole(weights.get("num_bits")), _whole(weights.get("group_size"))
    floats = weights.get("type") == "float"
    beside = activations if isinstance(activations, Mapping) else {"num_bits": 16, "type": "float"}
    side = _whole(beside.get("num_bits"))
    if floats:
        return _float_group(bits, size, side, weights.get("strategy"))
    integers = bool(side == 16 or beside.get("type") != "float")
    symmetric = weights.get("symmetric", True)
    known: dict[tuple[Any, Any, bool], Scheme] = {
        (8, 8, True): Scheme.W8A8_INT8,
        (8, 16, True): Scheme.W8A16,
        (4, 16, True): Scheme.W4A16 if symmetric else Scheme.W4A16_ASYM,
        (4, 8, True): Scheme.W4A8,
        (4, 8, False): Scheme.W4AFP8,
    }
    scheme = known.get((bits, side, integers), Scheme.OTHER)
    grouped = scheme not in (Scheme.OTHER, Scheme.W8A8_INT8)
    return f"W{bits}A{side}", scheme, size if grouped else None


def _float_group(bits: Any, size: Any, side: Any, strategy: Any) -> tuple[str, Scheme, int | None]:
    match (bits, size, side):
        case (4, 16, 4):
            return "NVFP4", Scheme.NVFP4, None
        case (4, 16, _):
            return "NVFP4A16", Scheme.NVFP4A16, None
        case (4, 32, 4):
            return "MXFP4", Scheme.MXFP4, None
        case (4, 32, _):
            return "MXFP4A16", Scheme.MXFP4A16, None
        case (8, 32, 8):
            return "MXFP8", Scheme.MXFP8, None
        case (8, _, 8):
            return "FP8", Scheme.FP8_BLOCK if strategy == "block" else Scheme.FP8_DYNAMIC, None
        case _:
            return f"FP{bits}A{side}", Scheme.OTHER, None


def _of_tensors(tensors: Mapping[str, str]) -> CheckpointFormat | None:
    names: Collection[str] = tensors
    for ending, (name, method) in _PACKED.items():
        if any(one.endswith(ending) for one in names):
            return CheckpointFormat(name=f"{name}, by its tensors", method=method)
    small = next((dtype for name, dtype in tensors.items() if name.endswith(".weight") and dtype in _EIGHT_BITS), None)
    return CheckpointFormat(name=f"weights of type {small}, by its tensors", method="") if small else None
