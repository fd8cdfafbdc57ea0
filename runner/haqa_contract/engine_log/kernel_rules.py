"""Kernels: those that a device lacks, those that do not compile for it, and those that crash on it.

Sources of the texts: torch, Triton, LLVM, DeepGEMM, FlashInfer, the compilers of Gaudi and TPU, and vLLM 0.32
(model_executor/kernels, model_executor/layers/quantization, platforms/*.py).
"""

from __future__ import annotations

import re
from itertools import takewhile

from haqa_contract.engine_log.lines import EngineLog
from haqa_contract.engine_log.rule import Rule, excerpt, rule
from haqa_contract.failures import FailureReason

_LOAD = FailureReason.ENGINE_LOAD_FAILED
_KERNEL_REASON = re.compile(r"\bcannot implement\b|\brequires\b|\bdisabled\b|\bnot supported\b")
_SHOWN_REASONS = 3
_TAKE_OUT = "take the scheme out of the search for this pool"


def _no_kernel(match: re.Match[str], log: EngineLog) -> str:
    following = match.string[match.end() :].splitlines()[1:]
    reasons = [line.strip(" .") for line in takewhile(_KERNEL_REASON.search, following)]
    more = "; …" if len(reasons) > _SHOWN_REASONS else ""
    why = f" ({'; '.join(reasons[:_SHOWN_REASONS])}{more})" if reasons else ""
    return f"this device has no kernel for the scheme: {match['layer']} linear layers cannot run here{why}; {_TAKE_OUT}"


def _capability_too_low(match: re.Match[str], log: EngineLog) -> str:
    needed, present = (f"{number[:-1]}.{number[-1]}" for number in (match["needed"], match["present"]))
    scheme = f"the quantization method {match['method']}" if match["method"] else "the quantization scheme"
    return (
        f"{scheme} needs compute capability {needed}, this GPU has {present}; take it out of the search for this pool"
    )


def _no_operator(match: re.Match[str], log: EngineLog) -> str:
    operator = match["missing"] or match["run"] or match["absent"]
    return (
        f"this engine build has no such kernel for this device: {operator} (the device lacks instructions that it "
        "needs, or the image is made for other hardware); take the scheme or setting that uses it out of the search "
        "for this pool, or use the engine image for this hardware"
    )


_COMPILERS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (r"nvcc (?:fatal|error)[^\n]*", r"\b(?:fatal )?error: [^\n]*", r"^FAILED: [^\n]*")
)
"""What compilers say of a build that fails, the ones that say most first."""


def _build(match: re.Match[str], log: EngineLog) -> str:
    said = next((found for pattern in _COMPILERS if (found := pattern.search(match.string))), match)
    return (
        f"a kernel that vLLM compiles when it starts does not build ({excerpt(said[0], 240)}); use an engine image "
        "whose compiler and CUDA or ROCm version fit each other and the device, or leave out what needs the kernel ("
        "for FlashInfer's sampler: VLLM_USE_FLASHINFER_SAMPLER=0 in the pool's env)"
    )


RULES: tuple[Rule, ...] = (
    rule(
        r"Failed to find a kernel that can implement the (?P<layer>\S+) linear layer",
        _LOAD,
        _no_kernel,
        of_configuration=True,
    ),
    rule(
        r"(?:NotImplementedError: )?(?P<what>No compressed-tensors compatible scheme was found)"
        r"|Forced (?P<type>\S+) kernel \S+ is not supported: (?P<why>[^\n]*)"
        r"|(?P<primitive>could not create a primitive(?: descriptor)? for the \w+ primitive)"
        r"|(?P<brgemm>\w+ Brgemm is only supported [^\n]*|\w+ does not support (?:weight_bits|group_size) = [^\n]*)",
        _LOAD,
        lambda match, log: (
            "this device has no kernel for the scheme "
            f"({excerpt(match['what'] or match['why'] or match['primitive'] or match['brgemm'])}); {_TAKE_OUT}"
        ),
        of_configuration=True,
    ),
    rule(
        r"(?P<what>DeepGEMM backend is not available[^.\n]*"
        r"|Assertion error \(\S*(?:csrc/apis|csrc/jit|deep_?gemm)\S*\): [^\n]*)",
        _LOAD,
        "the DeepGEMM kernels for FP8 do not work on this device in this image ({what}); set VLLM_USE_DEEP_GEMM=0 in "
        "the pool's env, or " + _TAKE_OUT,
        of_configuration=True,
    ),
    rule(
        r"(?P<method>\S+) quantization is currently not supported in (?P<device>[^.\n]+)\.",
        _LOAD,
        "vLLM cannot serve {method} quantization on {device}; " + _TAKE_OUT,
        of_configuration=True,
    ),
    rule(
        r"(?:quantization method (?P<method>\S+) is not supported|Quantization scheme is not supported) for the "
        r"current GPU\. (?:Min\w*|Required) capability: (?P<needed>\d+)\. Current capability: (?P<present>\d+)",
        _LOAD,
        _capability_too_low,
        of_configuration=True,
    ),
    rule(
        r"Unknown quantization method: (?P<method>\S+?)\. Must be one of",
        _LOAD,
        "vLLM does not know the quantization method {method} that the model's config.json names; quantize it with a "
        "scheme that HAQA lists",
    ),
    rule(
        r"The quantization method (?P<method>\S+) is deprecated",
        _LOAD,
        "this vLLM no longer serves the quantization method {method}; quantize the model with a scheme that HAQA lists",
    ),
    rule(
        r"Quantization method specified in the model config \((?P<model>[^)]+)\) does not match the quantization "
        r"method specified in the `quantization` argument \((?P<argument>[^)]+)\)",
        _LOAD,
        "the model is quantized with {model} but the argument --quantization says {argument}; take --quantization out",
    ),
    rule(
        r"No (?P<what>\w+) MoE backends? (?:available|supports)[^\n]*",
        _LOAD,
        "this device has no kernel for mixture-of-experts layers in {what}; " + _TAKE_OUT,
        of_configuration=True,
    ),
    rule(
        r"'_OpNamespace' '\w+' object has no attribute '(?P<missing>\w+)'"
        r"|Could not run '(?P<run>[^']+)' with arguments from the '\w+' backend"
        r"|(?:operator|Operator) (?P<absent>\w+::\w+) does not exist",
        _LOAD,
        _no_operator,
        of_configuration=True,
    ),
    rule(
        r"no kernel image is available for execution on the device|hipErrorNoBinaryForGpu|invalid device function"
        r"|device kernel image is invalid",
        _LOAD,
        "this engine build has no kernels for this GPU's architecture; use an engine image that was built for it",
    ),
    rule(
        r"Could not find nvcc|nvcc: (?:command )?not found|No such file or directory: '\S*nvcc'"
        r"|CUDA_HOME environment variable is not set",
        _LOAD,
        "vLLM compiles kernels for this model when it starts, and the engine's image has no CUDA compiler (nvcc); use "
        "an image with the CUDA toolkit, or leave out what needs the kernel (for FlashInfer's sampler: "
        "VLLM_USE_FLASHINFER_SAMPLER=0 in the pool's env)",
    ),
    rule(
        r"No such file or directory: '(?P<tool>ninja|gcc|g\+\+|c\+\+|cc|clang\+*)'|Failed to find C compiler"
        r"|InvalidCxxCompiler|No working C\+\+ compiler|Ninja is required|fatal error: Python\.h",
        _LOAD,
        lambda match, log: (
            "vLLM compiles kernels for this model when it starts and found no "
            f"{match['tool'] or 'working C++ compiler'}; install build-essential, ninja-build and python3-dev in the "
            "engine's image, or set enforce-eager"
        ),
    ),
    rule(
        r"ld: cannot find -l(?P<library>\w+)",
        _LOAD,
        "kernels that vLLM compiles at start cannot be linked: lib{library} is missing; make the driver's libraries "
        "visible in the container (ldconfig, LIBRARY_PATH), or set enforce-eager",
    ),
    rule(
        r"Ninja build failed|ninja: build stopped|Error building extension '[^']*'|nvcc (?:fatal|error)[^\n]*",
        _LOAD,
        _build,
    ),
    rule(
        r"(?P<what>Graph compile failed[^\n]*|synNodeCreateWithId failed[^\n]*"
        r"|[^\n]*Ran out of memory in memory space (?:smem|vmem|sflag)[^\n]*|XLA:TPU compile permanent error[^\n]*)",
        _LOAD,
        lambda match, log: (
            f"the accelerator's compiler refuses the model's graph ({excerpt(match['what'], 240)}); lower "
            "max-model-len or max-num-batched-tokens, leave this configuration out, or use another vLLM version"
        ),
        of_configuration=True,
    ),
    rule(
        r"ptxas (?:fatal|error)[^\n]*|PTXASError|PassManager::run failed|CompilationError: [^\n]*",
        _LOAD,
        lambda match, log: (
            f"Triton cannot compile a kernel for this device ({excerpt(match[0], 240)}); use an engine image made for "
            "it, another attention backend, or leave out what uses the kernel"
        ),
        of_configuration=True,
    ),
    rule(
        r"(?P<what>(?:torch\._dynamo\.exc\.\w+|torch\._inductor\.exc\.\w+|\bBackendCompilerFailed): [^\n]*)",
        _LOAD,
        lambda match, log: (
            f"torch.compile failed on this model ({excerpt(match['what'])}); set enforce-eager, or leave out the "
            "setting that it names"
        ),
        of_configuration=True,
    ),
    rule(
        r"^Failed: [^\n]*custom_all_reduce[^\n]*",
        _LOAD,
        lambda match, log: (
            f"vLLM's own all-reduce kernel does not work on these GPUs ({excerpt(match[0])}); set "
            "disable-custom-all-reduce, or take expandable_segments out of PYTORCH_CUDA_ALLOC_CONF in the pool's env"
        ),
    ),
    rule(
        r"an illegal memory access was encountered|device-side assert triggered|misaligned address|unspecified launch "
        r"failure|cudaErrorIllegalAddress|CUBLAS_STATUS_(?:EXECUTION_FAILED|INTERNAL_ERROR|NOT_SUPPORTED)[^\n]*"
        r"|Memory access fault by GPU[^\n]*|HW Exception by GPU[^\n]*|HSA_STATUS_ERROR\w*",
        _LOAD,
        lambda match, log: (
            f"a kernel crashed on the accelerator ({excerpt(match[0], 160)}); leave this configuration out, or use "
            "another vLLM version"
        ),
        of_configuration=True,
    ),
    rule(
        r"(?P<what>This flash attention build does not support[^\n]*|FlashAttention (?:forward )?only supports[^\n]*"
        r"|Cannot use FlashAttention[^\n]*)",
        _LOAD,
        lambda match, log: (
            f"this attention kernel does not work for the model on this GPU ({excerpt(match['what'])}); choose another "
            "attention backend, or leave the setting out that selects it"
        ),
    ),
)


OTHER_ERRORS: tuple[Rule, ...] = (
    rule(
        r"\b(?:CUDA|HIP|XPU)(?: driver| runtime)? error: (?P<what>[^\n]+)",
        _LOAD,
        "a kernel crashed on the accelerator ({what}); leave this configuration out, or use another vLLM version",
        of_configuration=True,
    ),
)
"""Of a device: behind all rules that know what the error means."""

CRASHES: tuple[Rule, ...] = (
    rule(
        r"(?P<what>LLVM ERROR: [^\n]*)|mlir::[^\n]*(?P<failed>Assertion [`'].*' failed)",
        _LOAD,
        lambda match, log: (
            f"Triton cannot compile a kernel for this device ({excerpt(match['what'] or match['failed'], 240)}); use "
            "an engine image made for it, another attention backend, or leave out what uses the kernel"
        ),
        of_configuration=True,
    ),
)
"""For aborts of native code alone."""
