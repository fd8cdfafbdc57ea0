"""Checkpoints in the formats that people publish, made of a small Llama: packed as the tools that write them do.

Needs torch and safetensors: run by the runner's Python (`python -m tests.published MODEL FOLDER`).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

GROUP = 64
_BLOCK = 128
_F8_MAX = 448.0
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

Tensors = dict[str, Any]


def rounded_names(tensors: Tensors) -> list[str]:
    """The matrices that tools round: Linear layers, output head excepted."""
    return [name for name in tensors if name.endswith("_proj.weight")]


def write(model: Path, folder: Path, rounding: Callable[[str, Any], Tensors], described: dict[str, Any]) -> Path:
    """A copy of `model` in `folder` whose matrices are what `rounding` makes of them."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    for name in rounded_names(tensors):
        tensors |= rounding(name.removesuffix(".weight"), tensors.pop(name).float())
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    beside = described.pop("beside", None)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **described}, indent=1))
    if beside:
        (folder / "hf_quant_config.json").write_text(json.dumps(beside, indent=1))
    return folder


def _fp8(name: str, weight: Any) -> Tensors:
    import torch

    scale = weight.abs().max() / _F8_MAX
    return {f"{name}.weight": (weight / scale).to(torch.float8_e4m3fn), f"{name}.weight_scale": scale}


def _fp8_static(name: str, weight: Any) -> Tensors:
    import torch

    return {**_fp8(name, weight), f"{name}.input_scale": torch.tensor(0.05)}


def _fp8_rows(name: str, weight: Any) -> Tensors:
    import torch

    scale = weight.abs().amax(dim=1, keepdim=True) / _F8_MAX
    return {f"{name}.weight": (weight / scale).to(torch.float8_e4m3fn), f"{name}.weight_scale": scale}


def _fp8_blocks(name: str, weight: Any) -> Tensors:
    import torch

    rows, columns = weight.shape
    tiles = weight.reshape(rows // _BLOCK, _BLOCK, columns // _BLOCK, _BLOCK)
    scale = tiles.abs().amax(dim=(1, 3), keepdim=True) / _F8_MAX
    packed = (tiles / scale).reshape(rows, columns).to(torch.float8_e4m3fn)
    return {f"{name}.weight": packed, f"{name}.weight_scale_inv": scale.reshape(rows // _BLOCK, columns // _BLOCK)}


def _nvfp4(name: str, weight: Any) -> Tensors:
    """Every weight the nearest of E2M1, two in a byte; a scale in FP8 for 16, and one for all of those."""
    import torch

    rows, columns = weight.shape
    values = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    second = weight.abs().max() / (6 * _F8_MAX)
    groups = weight.reshape(rows, columns // 16, 16)
    scale = (groups.abs().amax(dim=2, keepdim=True) / 6 / second).to(torch.float8_e4m3fn)
    scaled = groups / (scale.float() * second).clamp(min=1e-12)
    codes = (scaled.abs().unsqueeze(-1) - values).abs().argmin(dim=-1) + 8 * (scaled < 0)
    pairs = codes.reshape(rows, columns // 2, 2)
    return {
        f"{name}.weight": (pairs[..., 0] + 16 * pairs[..., 1]).to(torch.uint8),
        f"{name}.weight_scale": scale.squeeze(2),
        f"{name}.weight_scale_2": second,
        f"{name}.input_scale": torch.tensor(0.01),
    }


def _codes(weight: Any, bits: int) -> tuple[Any, Any]:
    """Unsigned integers around the middle, and their scales, both inputs first: K x N and K/GROUP x N."""
    import torch

    inputs = weight.t()
    groups = inputs.reshape(-1, GROUP, inputs.shape[1])
    middle = 2 ** (bits - 1)
    scale = groups.abs().amax(dim=1) / (middle - 1)
    codes = (groups / scale.unsqueeze(1)).round().clamp(-middle, middle - 1) + middle
    return codes.reshape(inputs.shape).to(torch.int64), scale


def _in_words(codes: Any, bits: int, order: tuple[int, ...] | None = None) -> Any:
    """32-bit words of `codes` along their last dimension."""
    import torch

    per_word = 32 // bits
    split = codes.reshape(*codes.shape[:-1], -1, per_word)
    places = order or tuple(range(per_word))
    word = sum(split[..., code] << (bits * place) for place, code in enumerate(places))
    return (word - (word >= 2**31) * 2**32).to(torch.int32)


def _gptq(bits: int) -> Callable[[str, Any], Tensors]:
    def packed(name: str, weight: Any) -> Tensors:
        import torch

        codes, scale = _codes(weight, bits)
        zeros = torch.full_like(scale, 2 ** (bits - 1) - 1, dtype=torch.int64)
        return {
            f"{name}.qweight": _in_words(codes.t().contiguous(), bits).t(),
            f"{name}.qzeros": _in_words(zeros, bits),
            f"{name}.scales": scale.half(),
            f"{name}.g_idx": (torch.arange(codes.shape[0]) // GROUP).to(torch.int32),
        }

    return packed


def _awq(name: str, weight: Any) -> Tensors:
    import torch

    codes, scale = _codes(weight, 4)
    zeros = torch.full_like(scale, 8, dtype=torch.int64)
    return {
        f"{name}.qweight": _in_words(codes, 4, _AWQ_ORDER),
        f"{name}.qzeros": _in_words(zeros, 4, _AWQ_ORDER),
        f"{name}.scales": scale.half(),
    }


def _as_it_was(name: str, weight: Any) -> Tensors:
    import torch

    return {f"{name}.weight": weight.to(torch.bfloat16)}


def _config(method: str, **more: Any) -> dict[str, Any]:
    return {"quantization_config": {"quant_method": method, **more}}


FORMATS: dict[str, tuple[Callable[[str, Any], Tensors], dict[str, Any]]] = {
    "gptq": (_gptq(4), _config("gptq", bits=4, group_size=GROUP, desc_act=False, sym=True, lm_head=False)),
    "gptq-8": (_gptq(8), _config("gptq", bits=8, group_size=GROUP, desc_act=False, sym=True, lm_head=False)),
    "awq": (_awq, _config("awq", bits=4, group_size=GROUP, zero_point=True, version="gemm")),
    "fp8": (_fp8, _config("fp8", activation_scheme="dynamic")),
    "fp8-static": (_fp8_static, _config("fp8", activation_scheme="static")),
    "fp8-block": (_fp8_blocks, _config("fp8", activation_scheme="dynamic", weight_block_size=[_BLOCK, _BLOCK])),
    "fbgemm-fp8": (_fp8_rows, _config("fbgemm_fp8", activation_scale_ub=1200.0, modules_to_not_convert=["lm_head"])),
    "modelopt-fp8": (
        _fp8_static,
        {
            "beside": {
                "producer": {"name": "modelopt", "version": "0.40"},
                "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": None, "exclude_modules": ["lm_head"]},
            }
        },
    ),
    "modelopt-nvfp4": (
        _nvfp4,
        {
            "beside": {
                "producer": {"name": "modelopt", "version": "0.40"},
                "quantization": {
                    "quant_algo": "NVFP4",
                    "group_size": 16,
                    "kv_cache_quant_algo": None,
                    "exclude_modules": ["lm_head"],
                },
            }
        },
    ),
    "bitsandbytes": (_as_it_was, _config("bitsandbytes", load_in_4bit=True, bnb_4bit_quant_type="nf4")),
    "hqq": (_as_it_was, _config("hqq", bits=4)),
}
"""By name: how a matrix is written, and what the config says."""


def make(name: str, model: Path, folder: Path) -> Path:
    rounding, described = FORMATS[name]
    return write(model, folder, rounding, dict(described))


def main() -> None:
    model, folder = Path(sys.argv[1]), Path(sys.argv[2])
    for name in sys.argv[3:] or FORMATS:
        make(name, model, folder / name)


if __name__ == "__main__":
    main()
