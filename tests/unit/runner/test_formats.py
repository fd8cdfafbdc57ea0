"""Quantized checkpoints are recognised by what their files say: the name people use, vLLM's loader, the like scheme."""

from __future__ import annotations

from typing import Any

import pytest

from haqa_contract import Scheme
from haqa_contract.model_facts import CheckpointFormat
from haqa_runner.models.formats import quantization


def compressed(weights: dict[str, Any], activations: dict[str, Any] | None = None) -> dict[str, Any]:
    group = {"weights": weights, "input_activations": activations, "targets": ["Linear"]}
    return {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}}


def said(method: str, **more: Any) -> dict[str, Any]:
    return {"quantization_config": {"quant_method": method, **more}}


INT8 = {"num_bits": 8, "type": "int", "dynamic": True}
FP8 = {"num_bits": 8, "type": "float", "dynamic": True}
FP4 = {"num_bits": 4, "type": "float", "group_size": 16}


@pytest.mark.parametrize(
    ("config", "name", "method", "scheme", "group"),
    [
        (said("gptq", bits=4, group_size=128, sym=True), "gptq 4 bit group 128", "gptq", "W4A16", 128),
        (said("gptq", bits=4, group_size=64, sym=False), "gptq 4 bit group 64", "gptq", "W4A16-ASYM", 64),
        (said("gptq", bits=8, group_size=-1, sym=True), "gptq 8 bit group -1", "gptq", "W8A16", -1),
        (said("gptq", bits=3, group_size=128, sym=True), "gptq 3 bit group 128", "gptq", "OTHER", None),
        (said("awq", bits=4, group_size=128, zero_point=True), "awq 4 bit group 128", "awq", "W4A16-ASYM", 128),
        (said("awq"), "awq", "awq", "OTHER", None),
        (
            said("auto-round", bits=4, group_size=128, sym=True),
            "auto-round 4 bit group 128",
            "auto-round",
            "W4A16",
            128,
        ),
        (said("mxfp4"), "mxfp4", "mxfp4", "MXFP4A16", None),
        (said("fp8", activation_scheme="dynamic"), "fp8", "fp8", "FP8-DYNAMIC", None),
        (said("fp8", weight_block_size=[128, 128]), "fp8 with blocks of 128x128", "fp8", "FP8-BLOCK", None),
        (said("fbgemm_fp8"), "fbgemm_fp8", "fbgemm_fp8", "FP8-DYNAMIC", None),
        (said("bitsandbytes", load_in_4bit=True), "bitsandbytes 4 bit", "bitsandbytes", "OTHER", None),
        (said("quark"), "quark", "quark", "OTHER", None),
        ({"quantization_config": "fp8"}, "fp8", "fp8", "OTHER", None),
        (
            {"quantization_config": {"quant_algo": "FP8", "producer": {"name": "modelopt"}}},
            "ModelOpt FP8",
            "modelopt",
            "FP8-DYNAMIC",
            None,
        ),
        (said("modelopt", quant_algo="W4A16_AWQ"), "ModelOpt W4A16_AWQ", "modelopt", "W4A16", None),
        (
            compressed({"num_bits": 4, "type": "int", "group_size": 128}),
            "compressed-tensors W4A16",
            "compressed-tensors",
            "W4A16",
            128,
        ),
        (
            compressed({"num_bits": 4, "type": "int", "group_size": 32, "symmetric": False}),
            "compressed-tensors W4A16",
            "compressed-tensors",
            "W4A16-ASYM",
            32,
        ),
        (
            compressed({"num_bits": 8, "type": "int", "strategy": "channel"}, INT8),
            "compressed-tensors W8A8",
            "compressed-tensors",
            "W8A8-INT8",
            None,
        ),
        (
            compressed({"num_bits": 4, "type": "int", "group_size": 128}, FP8),
            "compressed-tensors W4A8",
            "compressed-tensors",
            "W4AFP8",
            128,
        ),
        (
            compressed({"num_bits": 8, "type": "float", "strategy": "channel"}, FP8),
            "compressed-tensors FP8",
            "compressed-tensors",
            "FP8-DYNAMIC",
            None,
        ),
        (
            compressed({"num_bits": 8, "type": "float", "strategy": "block"}, FP8),
            "compressed-tensors FP8",
            "compressed-tensors",
            "FP8-BLOCK",
            None,
        ),
        (compressed(FP4, FP4), "compressed-tensors NVFP4", "compressed-tensors", "NVFP4", None),
        (compressed(FP4), "compressed-tensors NVFP4A16", "compressed-tensors", "NVFP4A16", None),
        (
            {"text_config": compressed({"num_bits": 4, "type": "int", "group_size": 128})},
            "compressed-tensors W4A16",
            "compressed-tensors",
            "W4A16",
            128,
        ),
    ],
)
def test_format_is_what_the_config_says(
    config: dict[str, Any], name: str, method: str, scheme: str, group: int | None
) -> None:
    expected = CheckpointFormat(name=name, method=method, scheme=Scheme(scheme), group_size=group)
    assert quantization(config) == expected


@pytest.mark.parametrize(
    "described",
    [
        {"quant_method": "gptq", "bits": [4], "group_size": {"a": 1}},
        {"quant_method": "gptq", "bits": True, "group_size": 0},
        {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"num_bits": [4], "type": "int"}}}},
        {"quant_method": "compressed-tensors", "config_groups": [1]},
        {"quant_method": None, "config_groups": {"a": None}},
    ],
)
def test_what_nobody_would_write_is_some_other_format(described: dict[str, Any]) -> None:
    found = quantization({"quantization_config": described})
    assert found is not None
    assert (found.scheme, found.group_size) == (Scheme.OTHER, None)


def test_groups_that_differ_are_a_format_of_their_own() -> None:
    four, eight = compressed({"num_bits": 4, "type": "int", "group_size": 128}), compressed(FP8, FP8)
    groups = {
        "a": four["quantization_config"]["config_groups"]["group_0"],
        "b": eight["quantization_config"]["config_groups"]["group_0"],
    }
    found = quantization(said("compressed-tensors", config_groups=groups))
    assert found == CheckpointFormat(name="compressed-tensors W4A16 and FP8", method="compressed-tensors")


@pytest.mark.parametrize(
    ("beside", "name", "method", "scheme"),
    [
        ({"quantization": {"quant_algo": "NVFP4", "group_size": 16}}, "ModelOpt NVFP4", "modelopt", "NVFP4"),
        ({"quantization": {"quant_algo": "MIXED_PRECISION"}}, "ModelOpt MIXED_PRECISION", "modelopt", "OTHER"),
        ({"bits": 4, "group_size": 128, "desc_act": False, "sym": True}, "gptq 4 bit group 128", "gptq", "W4A16"),
        ({"w_bit": 4, "q_group_size": 128, "zero_point": True}, "awq 4 bit group 128", "awq", "W4A16-ASYM"),
    ],
)
def test_format_is_what_a_file_beside_the_config_says(
    beside: dict[str, Any], name: str, method: str, scheme: str
) -> None:
    found = quantization({}, beside)
    assert found is not None
    assert (found.name, found.method, found.scheme) == (name, method, Scheme(scheme))


@pytest.mark.parametrize(
    ("tensor", "dtype", "name"),
    [
        ("mlp.up_proj.weight_packed", "I32", "compressed-tensors, by its tensors"),
        ("mlp.up_proj.qweight", "I32", "GPTQ or AWQ, by its tensors"),
        ("mlp.up_proj.weight", "F8_E4M3", "weights of type F8_E4M3, by its tensors"),
        ("mlp.up_proj.weight", "BF16", None),
    ],
)
def test_format_is_noticed_by_the_tensors_alone(tensor: str, dtype: str, name: str | None) -> None:
    found = quantization({}, None, {f"model.layers.0.{tensor}": dtype})
    assert (found.name if found else None) == name
