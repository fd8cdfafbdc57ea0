"""Which published checkpoints an engine loads, by its release's own list of loaders (`serving.releases`).

Formats that HAQA makes itself run on the kernels of the same scheme, for which `requirements` has the table. What CPUs
lack beyond that was tried with vLLM 0.32 (`tests/integration/test_published.py`).
"""

from __future__ import annotations

from haqa_contract import Scheme
from haqa_contract.model_facts import CheckpointFormat
from haqa_operator.hardware.accelerators import Accelerator, Platform
from haqa_operator.hardware.instruction_sets import at_least
from haqa_operator.search.requirements import unmet
from haqa_operator.serving.settings import QuantizationMethod, catalogue
from haqa_operator.serving.versions import Version, dotted

_LOADERS = {"auto-round": "inc", "intel/auto-round": "inc"}
"""`quant_method` -> vLLM's name, where that is another one."""
_MODELOPT = {Scheme.NVFP4: "modelopt_fp4", Scheme.NVFP4A16: "modelopt_fp4", Scheme.MXFP8: "modelopt_mxfp8"}
"""vLLM has a loader for each of ModelOpt's formats; the plain one is FP8's."""

_OWN_KERNELS = frozenset({"mxfp4", "gpt_oss_mxfp4", "deepseek_v4_fp8", "quark", "torchao", "modelopt_mixed"})
"""Loaders that do not use the kernels of compressed-tensors, so that the table of schemes says nothing of them."""

_NOT_ON_CPU = {
    ("gptq", Scheme.W8A16): "vLLM's GPTQ kernels for CPUs take 4 bits",
    ("fp8", Scheme.FP8_DYNAMIC): "vLLM has no kernel for CPUs that rounds to FP8 with one scale a tensor",
    ("modelopt", Scheme.FP8_DYNAMIC): "vLLM has no kernel for CPUs that rounds to FP8 with one scale a tensor",
    ("fbgemm_fp8", Scheme.FP8_DYNAMIC): "vLLM has no kernel for CPUs that rounds to FP8 with one scale a tensor",
}

_AMX_ALONE = frozenset({"mxfp4", "gpt_oss_mxfp4"})
"""Methods whose experts on CPUs are multiplied by AMX (`CPUExpertsMxfp4._supports_current_device`, 0.32)."""

ALLOW_DEPRECATED = "allow-deprecated-quantization"
"""vLLM's switch for loaders that it is about to drop."""


def loader_of(found: CheckpointFormat) -> str:
    """The name by which vLLM loads a format."""
    if found.method == "modelopt":
        fallback = "modelopt_mixed" if found.scheme is Scheme.OTHER else "modelopt"
        return _MODELOPT.get(found.scheme, fallback)
    return _LOADERS.get(found.method, found.method)


def method_of(found: CheckpointFormat, version: Version) -> QuantizationMethod | None:
    """vLLM's loader for a format; None where this version has none."""
    return catalogue(version).quantization.get(loader_of(found))


def why_not_loaded(accelerator: Accelerator, found: CheckpointFormat, version: Version) -> str | None:
    """Why an engine on this device does not load a checkpoint in this format; None where nothing is known against it.

    A format whose files do not name it is left to its trial.
    """
    loader, method = loader_of(found), method_of(found, version)
    if not loader:
        return None
    if method is None:
        return f"vLLM {dotted(version)} does not load {found.name} (it has no loader {loader})"
    listed = catalogue(version).platform_quantization.get(accelerator.platform.value)
    if listed is not None and loader not in listed:
        return f"vLLM does not load {found.name} on {accelerator.platform.value}"
    has = accelerator.compute_capability
    if accelerator.platform is Platform.CUDA and has is not None and 10 * has[0] + has[1] < method.capability:
        needed = f"{method.capability // 10}.{method.capability % 10}"
        return f"{found.name} needs compute capability {needed} or more; {accelerator.product} has {has[0]}.{has[1]}"
    if accelerator.is_cpu and (reason := _NOT_ON_CPU.get((found.method, found.scheme))):
        return f"{found.name}: {reason}"
    if accelerator.is_cpu and found.method in _AMX_ALONE and accelerator.isa and not at_least(accelerator.isa, "amx"):
        return f"{found.name}: vLLM's kernel for it on CPUs needs AMX, and {accelerator.product} has {accelerator.isa}"
    if loader in _OWN_KERNELS or found.scheme is Scheme.OTHER:
        return None
    reason = unmet(accelerator, found.scheme, version)
    return f"{found.name} runs on the kernels of {found.scheme.value}: {reason}" if reason else None
