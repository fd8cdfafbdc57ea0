"""Asks vLLM itself which kernel serves a layer on a device that is not here. A program for the serving environment.

    .venvs/serving/bin/python tests/upstream/judge.py < question.json

The question: {"tree": a folder with an unpacked wheel, or null for the installed vLLM; "driver": a library in the place
of libcuda.so.1, or null; "compiled": what the wheel's compiled code answers, where that code is not there, or null;
"devices": [...]; "layers": [...]}. The answer: {"version", "compiled", "verdicts": {device: {layer: verdict}}}; a
verdict is {"kernel": name} or {"refused": reason}.

The platform's class is vLLM's own, only the question to the driver is answered in its place; then vLLM's class for the
format chooses its scheme and its kernel and makes the layer's parameters, on the meta device. Each device has a process
of its own, since vLLM caches what it has found out.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import multiprocessing
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

PACKAGES: dict[str, tuple[str, ...]] = {
    "cuda": ("flashinfer", "deep_gemm", "cutedsl", "tilelang", "triton_kernels"),
    "rocm": ("aiter", "quark", "triton_kernels"),
    "xpu": (),
}
"""Optional packages that vLLM's images bring: what its wheel requires (METADATA), and for ROCm docker/Dockerfile.rocm
and requirements/rocm.txt."""

COMPILED = (
    "cutlass_scaled_mm_supports_fp8",
    "cutlass_scaled_mm_supports_block_fp8",
    "cutlass_scaled_mm_supports_fp4",
    "cutlass_group_gemm_supported",
    "mxfp4_experts_quant_supported",
)
"""Questions that only the compiled code answers: capability -> yes or no."""

SHARED = ("compressed_tensors.quantization", "transformers", "torch._dynamo", "torch._inductor.compile_fx", "openai")
"""Imported once for all devices: what takes its time and does not ask for the platform."""

HUMMING: dict[str, tuple[dict[str, Any], str]] = {
    "nvfp4-pack-quantized": (
        {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "type": "float", "num_bits": 4,
         "strategy": "group", "group_size": 16},
        "kNvfp4Dynamic",
    ),
    "mxfp4-pack-quantized": (
        {"quant_method": "humming", "dtype": "float4e2m1", "scale_dtype": "float8e8m0", "group_size": 32,
         "weight_scale_type": "group"},
        "kMxfp4Dynamic",
    ),
    "mxfp8-quantized": (
        {"quant_method": "humming", "dtype": "float8e4m3", "scale_dtype": "float8e8m0", "group_size": 32,
         "weight_scale_type": "group"},
        "kMxfp8Dynamic",
    ),
}  # fmt: skip
"""Format -> what vLLM's Humming kernel for it says of its weights, and the key of its activations."""

CAPABILITIES = (75, 80, 86, 87, 89, 90, 100, 103, 110, 120, 121)
MODEL = types.SimpleNamespace(model_type="llama")


def main() -> None:
    question = json.load(sys.stdin)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if question["tree"]:
        sys.path.insert(0, question["tree"])
    answer: dict[str, Any] = {"version": None, "compiled": question["compiled"], "verdicts": {}}
    for name in SHARED:
        importlib.import_module(name)
    for device in question["devices"]:
        found = _in_a_process(question, device)
        answer["version"] = found["version"]
        answer["compiled"] = found["compiled"] or answer["compiled"]
        answer["verdicts"][device["name"]] = found["verdicts"]
    print(json.dumps(answer))


def _in_a_process(question: Mapping[str, Any], device: Mapping[str, Any]) -> dict[str, Any]:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=lambda: there.send(on_device(question, device)))
    process.start()
    there.close()
    try:
        found: dict[str, Any] = here.recv()
    except EOFError:
        process.join()
        raise SystemExit(f"{device['name']}: the process ended with {process.exitcode}") from None
    process.join()
    return found


def on_device(question: Mapping[str, Any], device: Mapping[str, Any]) -> dict[str, Any]:
    """The verdicts of this process, which is of no use for another device afterwards."""
    compiled = _compiled(question)
    platform = {"cuda": _cuda, "rocm": _rocm, "xpu": _xpu}[device["platform"]](device)
    import vllm.platforms

    vllm.platforms._current_platform = platform
    _install(PACKAGES[device["platform"]], platform)
    if compiled is not None:
        _answer_for(compiled)
    import torch
    from vllm import __version__
    from vllm.config import CompilationConfig, VllmConfig, set_current_vllm_config

    parallel = importlib.import_module("vllm.distributed.parallel_state")
    parallel.__dict__["_TP"] = types.SimpleNamespace(rank_in_group=0, world_size=1)
    config = VllmConfig(compilation_config=CompilationConfig(mode=3))
    config.model_config = types.SimpleNamespace(
        hf_text_config=MODEL, hf_config=MODEL, dtype=torch.bfloat16, quantization_config=None
    )
    with set_current_vllm_config(config):
        verdicts = {layer["name"]: _verdict(layer) for layer in question["layers"]}
    return {"version": __version__.partition("+")[0], "compiled": compiled, "verdicts": verdicts}


# The platform.


def _cuda(device: Mapping[str, Any]) -> Any:
    import torch

    with contextlib.suppress(OSError):
        torch.ops.load_library(str(_folder() / "_C_stable_libtorch.abi3.so"))
    for name in ("_C_stable_libtorch", "vllm_flash_attn._vllm_fa2_C", "vllm_flash_attn._vllm_fa3_C"):
        _stand_in(f"vllm.{name}")
    cuda = importlib.import_module("vllm.platforms.cuda")
    interface = importlib.import_module("vllm.platforms.interface")
    capability = interface.DeviceCapability(*device["capability"])

    class Device(cuda.CudaPlatformBase):  # type: ignore[misc, name-defined]
        @classmethod
        def get_device_capability(cls, device_id: int = 0) -> Any:
            return capability

        @classmethod
        def get_device_name(cls, device_id: int = 0) -> str:
            return str(device["name"])

        @classmethod
        def get_device_total_memory(cls, device_id: int = 0) -> int:
            return 80 * 2**30

        @classmethod
        def is_fully_connected(cls, device_ids: list[int]) -> bool:
            return True

    return Device()


def _rocm(device: Mapping[str, Any]) -> Any:
    asked: dict[str, Any] = {
        "AmdSmiException": type("AmdSmiException", (Exception,), {}),
        "amdsmi_get_processor_handles": lambda: [0],
        "amdsmi_get_gpu_asic_info": lambda _: {"target_graphics_version": device["architecture"]},
    }
    for name in ("init", "shut_down", "get_gpu_device_uuid", "get_gpu_memory_total"):
        asked[f"amdsmi_{name}"] = lambda *_: None
    for name in ("AmdSmiMemoryType", "amdsmi_topo_get_link_type", "amdsmi_topo_get_numa_node_number"):
        asked[name] = types.SimpleNamespace(VRAM=0)
    _stand_in("amdsmi", **asked)
    # A CPU build's would be loaded, whose instructions not every CPU has.
    _stand_in("vllm._C")
    return importlib.import_module("vllm.platforms.rocm").RocmPlatform()


def _xpu(device: Mapping[str, Any]) -> Any:
    sys.meta_path.append(_Absent("vllm_xpu_kernels"))
    return importlib.import_module("vllm.platforms.xpu").XPUPlatform()


def _stand_in(name: str, **attributes: Any) -> None:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    module.__dict__.update(attributes)
    sys.modules[name] = module


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """A package that is not here, whatever is asked of it: modules and functions that nobody calls."""

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] != self._package:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__dict__["__getattr__"] = self._anything
        return module

    @staticmethod
    def _anything(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return types.SimpleNamespace(name=name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _install(packages: tuple[str, ...], platform: Any) -> None:
    """vLLM asks `has_...` whether an optional package is there; those that need a version of it are asked for that."""
    for place in ("vllm.utils.import_utils", "vllm.utils.flashinfer"):
        module = importlib.import_module(place)
        for name in [name for name in vars(module) if name.startswith("has_")]:
            package = next((one for one in packages if name.removeprefix("has_").startswith(one)), None)
            if package and name != "has_flashinfer_cubin":
                setattr(module, name, _yes)
        # Small enough to be asked itself, where it lies beside vLLM.
        module.__dict__["has_humming"] = lambda: importlib.util.find_spec("humming") is not None
    if "aiter" in packages:
        importlib.import_module("vllm._aiter_ops").__dict__["IS_AITER_FOUND"] = True


def _yes(*_: Any, **__: Any) -> bool:
    return True


# The compiled code.


def _compiled(question: Mapping[str, Any]) -> dict[str, dict[str, bool]] | None:
    """What it answers for every capability: itself where it is there, else what was recorded of it."""
    if question["driver"] is None or not question["tree"]:
        recorded: dict[str, dict[str, bool]] | None = question["compiled"]
        return recorded
    import torch

    # Needs no device: only the linker wants the driver's library.
    ctypes.CDLL(question["driver"], ctypes.RTLD_GLOBAL)
    torch.ops.load_library(str(Path(question["tree"]) / "vllm" / "_C_stable_libtorch.abi3.so"))
    return {
        name: {str(capability): bool(getattr(torch.ops._C, name)(capability)) for capability in CAPABILITIES}
        for name in COMPILED
    }


def _answer_for(compiled: Mapping[str, Mapping[str, bool]]) -> None:
    ops = importlib.import_module("vllm._custom_ops")

    def of(name: str) -> Callable[[int], bool]:
        return lambda capability: compiled[name][str(capability)]

    for name in COMPILED:
        setattr(ops, name, of(name))


def _folder() -> Path:
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


# The layers.


def _verdict(layer: Mapping[str, Any]) -> dict[str, str]:
    try:
        return {"kernel": _experts(layer) if layer["experts"] else _linear(layer)}
    except (AssertionError, NotImplementedError, RuntimeError, ValueError) as error:
        if os.environ.get("HAQA_JUDGE_TRACEBACK"):
            import traceback

            traceback.print_exc()
        return {"refused": f"{type(error).__name__}: {error}"[:600]}


def _quantization(layer: Mapping[str, Any]) -> Any:
    from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors import CompressedTensorsConfig

    layout = layer["layout"]
    return CompressedTensorsConfig.from_config(
        {
            "quant_method": "compressed-tensors",
            "format": layout["format"],
            "config_groups": {"group_0": {"targets": ["Linear"], **layout}},
            "ignore": [],
        }
    )


def _linear(layer: Mapping[str, Any]) -> str:
    import torch

    quantization = _quantization(layer)
    (parts,) = quantization.target_scheme_map.values()
    scheme = quantization._get_scheme_from_parts(
        weight_quant=parts["weights"],
        input_quant=parts["input_activations"],
        output_quant=parts.get("output_activations"),
        format=parts["format"],
        layer_name="model.layers.0.mlp.proj",
    )
    quantization._check_scheme_supported(scheme.get_min_capability())
    module = torch.nn.Module()
    module.params_dtype, module.prefix = torch.bfloat16, "model.layers.0.mlp.proj"
    rows, columns = layer["rows"], layer["columns"]
    with torch.device("meta"):
        scheme.create_weights(
            layer=module,
            input_size=columns,
            input_size_per_partition=columns,
            output_partition_sizes=rows,
            output_size=sum(rows),
            params_dtype=torch.bfloat16,
            weight_loader=lambda *_: None,
        )
    kernels = "+".join(_kernels(scheme))
    if "Humming" in kernels and layer["layout"]["format"] in HUMMING:
        kernels += f" in {_humming_activations(layer['layout']['format'])}"
    return f"{type(scheme).__name__}/{kernels}"


def _kernels(scheme: Any) -> Iterator[str]:
    """The kernels that a scheme has chosen, wherever it keeps them."""
    for value in vars(scheme).values():
        for one in (value, getattr(value, "kernel", None)):
            if type(one).__module__.startswith("vllm.model_executor.kernels."):
                yield type(one).__name__


def _humming_activations(layout: str) -> str:
    """What a Humming kernel multiplies with: it replaces activations that the device does not go with.

    Its kernels ask this when they have loaded the weights, as here: their weight's format, and the activations' key.
    """
    humming = importlib.import_module("vllm.model_executor.layers.quantization.utils.humming")
    package = importlib.import_module("humming.schema.humming")
    keys = importlib.import_module("vllm.model_executor.layers.quantization.utils.quant_utils")
    schemas = importlib.import_module("vllm.utils.humming")
    import torch
    from vllm.platforms import current_platform

    package.__dict__["current_device"] = types.SimpleNamespace(
        sm_version=current_platform.get_device_capability().to_int()
    )
    weights, key = HUMMING[layout]
    found = humming.check_and_fallback_input_schema(
        schemas.BaseWeightSchema.from_config(dict(weights)),
        humming.quant_key_to_input_schema(getattr(keys, key)),
        torch.bfloat16,
    )
    return str(found.a_dtype or "16 bit").replace("bfloat16", "16 bit")


def _experts(layer: Mapping[str, Any]) -> str:
    import torch
    from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
        CompressedTensorsMoEMethod,
    )

    experts, hidden, intermediate = layer["experts"], layer["columns"], layer["rows"][0]
    # vLLM finds a layer's format by the name of its class.
    module = type("RoutedExperts", (torch.nn.Module,), {})()
    module.moe_config = _moe_config(experts, hidden, intermediate)
    for name in ("gate", "down", "up"):
        setattr(module, f"ckpt_{name}_proj_name", f"{name}_proj")
    method = CompressedTensorsMoEMethod.get_moe_method(_quantization(layer), module, "model.layers.0.mlp.experts")
    with torch.device("meta"):
        method.create_weights(
            module,
            num_experts=experts,
            hidden_size=hidden,
            intermediate_size_per_partition=intermediate,
            params_dtype=torch.bfloat16,
            weight_loader=lambda *_: None,
        )
    # Every method keeps its choice there, and some choose without asking the kernel.
    kernel = method.experts_cls
    if not kernel._supports_current_device():
        raise NotImplementedError(f"{type(method).__name__} takes {kernel.__name__}, which does not run on this device")
    return f"{type(method).__name__}/{kernel.__name__}"


def _moe_config(experts: int, hidden: int, intermediate: int) -> Any:
    import torch
    from vllm.model_executor.layers.fused_moe.activation import MoEActivation
    from vllm.model_executor.layers.fused_moe.config import FusedMoEConfig, FusedMoEParallelConfig, RoutingMethodType

    return FusedMoEConfig(
        num_experts=experts,
        experts_per_token=8,
        hidden_dim=hidden,
        intermediate_size=intermediate,
        num_local_experts=experts,
        num_logical_experts=experts,
        activation=MoEActivation.SILU,
        device="meta",
        routing_method=RoutingMethodType.Renormalize,
        moe_parallel_config=FusedMoEParallelConfig(
            tp_size=1,
            pcp_size=1,
            dp_size=1,
            ep_size=1,
            tp_rank=0,
            pcp_rank=0,
            dp_rank=0,
            ep_rank=0,
            sp_size=1,
            use_ep=False,
            all2all_backend="allgather_reducescatter",
            enable_eplb=False,
        ),
        in_dtype=torch.bfloat16,
    )


if __name__ == "__main__":
    main()
