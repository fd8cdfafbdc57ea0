"""Policies on scheme, algorithm and group size: can this be quantized, and does vLLM load it on this device?"""

from __future__ import annotations

from haqa_contract import Algorithm, Scheme
from haqa_contract.model_facts import Matrix
from haqa_operator.hardware.accelerators import Platform
from haqa_operator.search.algorithms import APPLICABLE, NEEDS_ACCELERATOR
from haqa_operator.search.cases import Case, Policy, Violation
from haqa_operator.search.model_profile import Published
from haqa_operator.search.number_formats import FORMATS, PER_CHANNEL, group_size
from haqa_operator.search.published import ALLOW_DEPRECATED, method_of, why_not_loaded
from haqa_operator.search.requirements import requirement, unmet

_USUAL_GROUPS = (16, 32, 64, 128, 256)

_KERNEL_GROUPS: dict[Platform, frozenset[int]] = {
    Platform.CUDA: frozenset({PER_CHANNEL, 32, 64, 128}),
    Platform.ROCM: frozenset({PER_CHANNEL, 32, 64, 128, 256}),
}
"""Group sizes of integer weight-only kernels: Marlin's (`MARLIN_SUPPORTED_GROUP_SIZES`) and Triton's
(`TRITON_W4A16_SUPPORTED_GROUP_SIZES`), vLLM 0.32. Those for CPU and Intel take any multiple of 2 and 32."""

_BLOCK = 128
"""Rows and columns of FP8-BLOCK's blocks."""

_MERGED = frozenset({"q_proj", "k_proj", "gate_proj"})
"""Matrices that vLLM stacks on top of another one (qkv_proj, gate_up_proj): their last block must be whole."""

_WEIGHT_ONLY_INTEGERS = frozenset({Scheme.W4A16, Scheme.W4A16_ASYM, Scheme.W8A16})
_HUMMING_FIRST = (0, 32, 0)
"""Since when Humming's kernels come before Marlin's on Hopper (vllm/.../utils/humming/priority.py), for weights without
zero points."""

_XPU_TILE = 32
_ON_XPU_TILES = frozenset({Scheme.W4A16, Scheme.W4A16_ASYM, Scheme.W4A8})
"""`XPUwNa16LinearKernel.can_implement` and `XPUW4A8IntLinearKernel.can_implement`: inputs are multiples of 32."""

W4AFP8_EXPERTS = 256
"""What inputs and outputs of experts are multiples of under W4AFP8 (`CompressedTensorsW4A8Fp8MoEMethod`)."""

_CPU_PACKED = frozenset({Scheme.W4A16, Scheme.W4A16_ASYM})
_CPU_TILE = 32
"""`CPUWNA16LinearKernel.can_implement`, vLLM 0.32: inputs and outputs are multiples of 32."""


def algorithm_fits_scheme(case: Case) -> Violation | None:
    """BF16 is not quantized, everything else is, and by an algorithm that does something for it."""
    scheme, algorithm = case.configuration.scheme, case.configuration.algorithm
    if algorithm is Algorithm.PUBLISHED or algorithm in APPLICABLE[scheme]:
        return None
    choices = ", ".join(a.value for a in APPLICABLE[scheme])
    if scheme is Scheme.BF16:
        reason = f"BF16 is the unquantized model, so algorithm {algorithm.value} has nothing to do; use none"
    elif algorithm is Algorithm.NONE:
        reason = f"{scheme.value} needs an algorithm that makes it; use one of {choices}"
    else:
        reason = f"algorithm {algorithm.value} does nothing for {scheme.value}; use one of {choices}"
    return Violation(reason, ("scheme", "algorithm"))


def scheme_runs_on_device(case: Case) -> Violation | None:
    """Compute capability, chip or instruction set, and vLLM's release, against the table of requirements."""
    if _published(case) is not None:
        return None
    reason = unmet(case.accelerator, case.configuration.scheme, case.engine_version)
    return Violation(reason, ("scheme",)) if reason else None


def checkpoint_is_loaded(case: Case) -> Violation | None:
    """vLLM has a loader for a published checkpoint's format, and kernels for it on this device."""
    found = _published(case)
    if found is None or found.format is None:
        return None
    parameters = ("variant",) if found.variant else ("scheme",)
    reason = why_not_loaded(case.accelerator, found.format, case.engine_version)
    if reason:
        return Violation(f"{found.name}: {reason}", parameters)
    method = method_of(found.format, case.engine_version)
    if method is not None and method.deprecated and case.setting(ALLOW_DEPRECATED) is not True:
        reason = f"vLLM is about to drop its loader of {found.format.name}; allow it with search.fixedEngine "
        return Violation(f"{found.name}: {reason}{{{ALLOW_DEPRECATED}: true}}", parameters)
    return None


def _published(case: Case) -> Published | None:
    """The checkpoint that is served as somebody has quantized it."""
    if case.configuration.algorithm is not Algorithm.PUBLISHED or case.model is None:
        return None
    return case.model.published(case.configuration)


def algorithm_runs_on_device(case: Case) -> Violation | None:
    """Some algorithms need an accelerator while quantizing."""
    algorithm = case.configuration.algorithm
    if algorithm not in NEEDS_ACCELERATOR or not case.accelerator.is_cpu:
        return None
    return Violation(
        f"algorithm {algorithm.value} fails on a machine without an accelerator (llm-compressor pins memory); use gptq",
        ("algorithm",),
    )


def algorithm_suits_model(case: Case) -> Violation | None:
    """Smoothing needs layers that llm-compressor knows how to smooth, and that it leaves the model as it was."""
    algorithm = case.configuration.algorithm
    unsuited = case.model.facts.unsuited if case.model else ()
    reason = next((one.reason for one in unsuited if one.algorithm is algorithm), None)
    if reason is None:
        return None
    return Violation(f"algorithm {algorithm.value}: {reason}; use rtn or gptq", ("algorithm",))


def group_size_suits_scheme(case: Case) -> Violation | None:
    """Group sizes belong to schemes whose groups can be chosen, and to sizes that have a kernel."""
    configuration, scheme = case.configuration, case.configuration.scheme
    number_format, size = FORMATS[scheme], group_size(configuration)
    if not number_format.groups_chosen:
        if configuration.group_size is None:
            return None
        reason = f"{scheme.value} has a fixed layout of scales, so group size {size} cannot be chosen; leave it out"
        return Violation(reason, ("scheme", "group-size"))
    if size == 0 or size < PER_CHANNEL:
        reason = f"group size {size} is not a number of weights; use -1 (one scale a channel) or a multiple of 32"
        return Violation(reason, ("group-size",))
    if scheme is Scheme.W4AFP8 and size != _BLOCK:
        reason = f"vLLM's W4AFP8 kernel takes group size {_BLOCK} only, not {size}"
        return Violation(reason, ("scheme", "group-size"))
    known = _KERNEL_GROUPS.get(case.accelerator.platform)
    if known is not None and size not in known:
        choices = ", ".join(map(str, sorted(known)))
        reason = f"vLLM's {case.accelerator.platform.value} kernels take group sizes {choices}, not {size}"
        return Violation(reason, ("group-size",))
    if known is None and size != PER_CHANNEL and size % 2:
        return Violation(f"group size {size} is odd; vLLM's kernels take even ones", ("group-size",))
    return None


def groups_divide_columns(case: Case) -> Violation | None:
    """llm-compressor finds out at the end of the run that a group does not divide a layer's columns."""
    scheme, size = case.configuration.scheme, group_size(case.configuration)
    if case.model is None or not case.configuration.made or size == PER_CHANNEL or scheme is Scheme.FP8_BLOCK:
        return None
    uneven = next((linear for linear in case.model.linears if linear.columns % size), None)
    if uneven is None:
        return None
    fitting = [str(s) for s in _USUAL_GROUPS if all(linear.columns % s == 0 for linear in case.model.linears)]
    if not FORMATS[scheme].groups_chosen:
        remedy = f"{scheme.value} has no other group size, so use another scheme"
    elif fitting:
        remedy = f"group sizes that divide every layer: {', '.join(fitting)}, or -1 (one scale a channel)"
    else:
        remedy = "no usual group size divides every layer; use -1 (one scale a channel)"
    reason = f"group size {size} does not divide {uneven.name}'s {uneven.columns} columns; {remedy}"
    return Violation(reason, ("scheme", "group-size") if case.configuration.group_size else ("scheme",))


def rows_suit_kernel(case: Case) -> Violation | None:
    """Kernels that work on whole tiles of outputs."""
    scheme = case.configuration.scheme
    for linear in case.model.linears if case.model else ():
        reason = _tile_problem(case, linear)
        if reason:
            return Violation(f"{scheme.value}: {reason}", ("scheme",))
    return None


def _tile_problem(case: Case, linear: Matrix) -> str | None:
    scheme, shape = case.configuration.scheme, f"{linear.name} has {linear.rows} x {linear.columns}"
    if case.accelerator.is_cpu and scheme in _CPU_PACKED and (linear.rows % _CPU_TILE or linear.columns % _CPU_TILE):
        return f"vLLM's 4-bit kernel for CPUs takes multiples of {_CPU_TILE}; {shape}; use W8A8-INT8"
    if scheme is Scheme.FP8_BLOCK and linear.short_name in _MERGED and linear.rows % _BLOCK:
        return f"vLLM takes whole blocks of {_BLOCK} rows in stacked matrices; {shape}; use FP8-DYNAMIC"
    if scheme is Scheme.W4AFP8 and (linear.rows % _BLOCK or linear.columns % _BLOCK):
        return f"vLLM's kernel takes multiples of {_BLOCK}; {shape}; use W4A16"
    if scheme is Scheme.W4AFP8 and linear.routed and (linear.rows % W4AFP8_EXPERTS or linear.columns % W4AFP8_EXPERTS):
        return f"vLLM's kernel for experts takes multiples of {W4AFP8_EXPERTS}; {shape}; use W4A16"
    if case.accelerator.platform is Platform.XPU and scheme in _ON_XPU_TILES and linear.columns % _XPU_TILE:
        return f"vLLM's kernel for Intel GPUs takes multiples of {_XPU_TILE} inputs; {shape}; use W8A8-INT8"
    return None


def experts_have_kernel(case: Case) -> Violation | None:
    """Kernels for experts are fewer than those for other layers; vLLM's CPU build multiplies them in 16 and 8 bit, and
    with 4-bit weights it does not start (tried, 0.32)."""
    configuration, accelerator = case.configuration, case.accelerator
    if case.model is None or not case.model.facts.experts or not configuration.made:
        return None
    scheme = configuration.scheme
    needed = requirement(accelerator.platform, scheme, case.engine_version)
    if needed.experts:
        return Violation(needed.experts.format(scheme=scheme.value), ("scheme",))
    if accelerator.is_cpu and scheme in _CPU_PACKED:
        return Violation(
            f"{scheme.value}: vLLM has no kernel for experts with 4-bit weights on a CPU; use W8A8-INT8", ("scheme",)
        )
    if scheme in _WEIGHT_ONLY_INTEGERS and group_size(configuration) == PER_CHANNEL and not _marlin_comes_first(case):
        reason = f"{scheme.value}: vLLM's kernels for experts take groups here, and no scale for a whole row"
        return Violation(f"{reason}; use group size 128, 64 or 32", ("scheme", "group-size"))
    return None


def _marlin_comes_first(case: Case) -> bool:
    """Its kernels alone take experts with a scale a row."""
    accelerator = case.accelerator
    if accelerator.platform in (Platform.ROCM, Platform.XPU):
        return False
    humming = accelerator.compute_capability == (9, 0) and case.engine_version >= _HUMMING_FIRST
    return not humming or case.configuration.scheme is Scheme.W4A16_ASYM


def adapters_have_kernel(case: Case) -> Violation | None:
    """What vLLM's CPU build lacks beside adapters (tried, 0.32).

    Its INT8 kernel puts the weights away, and an adapter then finds none. Experts of a model with adapters are
    Triton's, which CPUs have not, whatever the adapters change (`select_unquantized_moe_backend`).
    """
    scheme = case.configuration.scheme
    if case.model is None or case.model.adapters is None or not case.accelerator.is_cpu:
        return None
    if case.model.facts.experts:
        reason = "vLLM serves no adapters with a mixture of experts on a CPU; leave model.adapters out"
        return Violation(f"{scheme.value}: {reason}", ("scheme",))
    if scheme is not Scheme.W8A8_INT8:
        return None
    return Violation(f"{scheme.value}: vLLM serves no adapters with it on a CPU; use W4A8 or W4A16", ("scheme",))


ARTIFACT_POLICIES: tuple[Policy, ...] = (
    scheme_runs_on_device,
    checkpoint_is_loaded,
    algorithm_fits_scheme,
    algorithm_runs_on_device,
    algorithm_suits_model,
    group_size_suits_scheme,
    groups_divide_columns,
    experts_have_kernel,
    adapters_have_kernel,
    rows_suit_kernel,
)
"""In the order in which they are tried."""
