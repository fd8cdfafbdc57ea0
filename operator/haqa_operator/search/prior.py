"""Which configurations to try first, before anything is measured.

A guess, and used as nothing else: it orders candidates and picks the first trials. Where the catalogue knows the device
it is the roofline, less what vLLM does not reach of it; on CPU, whose memory has no data sheet here, it is how the
schemes compared on the machine that they were tried on. Engine settings count by what `engine_defaults` expects of
them.
"""

from __future__ import annotations

from haqa_contract import Algorithm, Configuration, Scheme
from haqa_contract.statistics import geometric_mean
from haqa_operator.hardware.accelerators import Accelerator
from haqa_operator.hardware.instruction_sets import WIDENING, at_least, onednn_isa
from haqa_operator.search.cases import Case
from haqa_operator.search.engine_defaults import expected_factor
from haqa_operator.search.memory import memory_of
from haqa_operator.search.roofline import roofline_of
from haqa_operator.search.throughput import output_tokens_per_s

_EAGER = 0.8
"""On accelerators: without graphs or compilation the launch of small kernels shows, most in small steps."""

_CPU_WITH_VNNI = {
    Scheme.BF16: 1.0,
    Scheme.W8A8_INT8: 1.55,
    Scheme.W4A16: 0.55,
    Scheme.W4A16_ASYM: 0.5,
    Scheme.W4A8: 0.5,
    Scheme.FP8_DYNAMIC: 0.3,
    Scheme.FP8_BLOCK: 0.6,
}
_CPU_WITH_AMX = _CPU_WITH_VNNI | {Scheme.W8A8_INT8: 1.5, Scheme.W4A16: 1.65, Scheme.W4A16_ASYM: 1.55}
_CPU_AVX512_WITHOUT_VNNI = {
    Scheme.BF16: 1.0,
    Scheme.W8A8_INT8: 0.8,
    Scheme.W4A16: 3.0,
    Scheme.W4A16_ASYM: 2.8,
    Scheme.W4A8: 1.0,
    Scheme.FP8_DYNAMIC: 0.3,
}
_CPU_AVX2 = {
    Scheme.BF16: 1.0,
    Scheme.W8A8_INT8: 0.7,
    Scheme.W4A8: 0.6,
    Scheme.FP8_DYNAMIC: 0.3,
}
"""Output tokens/s against BF16 on vLLM 0.32 for x86.

The first over concurrency 1, 8 and 32, a 205M-parameter Llama, on an Intel with AVX512 and VNNI; the second over
concurrency 1 and 8, the demo model, on one with AMX, where 4-bit weights meet 8-bit activations; the third as the first
with oneDNN capped to AVX2: BF16 has no instructions there and INT8 is emulated too, while the 4-bit kernel is
vLLM's own and keeps AVX512. The fourth over concurrency 1 and 8, the demo model, on an AMD EPYC with AVX2 and nothing
wider, for which vLLM has no 4-bit kernel. FP8, W4A8 and the asymmetric scheme by their kernels, not measured."""

_UNKNOWN_ON_CPU = 0.2

_ACCURACY_FIRST = (
    Algorithm.NONE,
    Algorithm.PUBLISHED,
    Algorithm.GPTQ,
    Algorithm.SMOOTHQUANT_GPTQ,
    Algorithm.AUTOROUND,
    Algorithm.AWQ,
    Algorithm.SMOOTHQUANT,
    Algorithm.RTN,
)
"""Algorithms do not change speed, so the more accurate comes first."""


def estimate(case: Case) -> float:
    """Guessed output tokens/s, geometric mean over the workload's levels; on CPU relative to the unquantized model."""
    return by_roofline(case) * expected_factor(case)


def by_roofline(case: Case) -> float:
    """The same without what engine settings bring beside memory and traffic (`engine_defaults.expected_factor`)."""
    running = _running(case)
    roofline = roofline_of(case)
    if roofline is not None:
        factor = _EAGER if case.setting("enforce-eager") is True else 1.0
        return factor * geometric_mean([output_tokens_per_s(roofline, case, n) for n in running])
    table = _cpu_table(case.accelerator)
    shares = [n / level for n, level in zip(running, case.workload.concurrency, strict=True)]
    return table.get(case.configuration.scheme, _UNKNOWN_ON_CPU) * geometric_mean(shares)


def _cpu_table(accelerator: Accelerator) -> dict[Scheme, float]:
    """How the schemes compare on a CPU like this one.

    One that nobody knows is taken for a newer one: W8A8-INT8, first there, is served by every build of vLLM. So is Arm,
    of which nothing is measured: i8mm does there what VNNI does on x86.
    """
    isa = accelerator.isa
    if at_least(onednn_isa(accelerator), "amx"):
        return _CPU_WITH_AMX
    if isa not in WIDENING or at_least(onednn_isa(accelerator), "avx512_vnni"):
        return _CPU_WITH_VNNI
    return _CPU_AVX512_WITHOUT_VNNI if at_least(isa, "avx512") else _CPU_AVX2


def _running(case: Case) -> list[float]:
    """For each level, sequences that run at once: as many as come, as `max-num-seqs` lets in and the KV cache holds."""
    memory = memory_of(case)
    held = max(1.0, memory.sequences(case.request_tokens)) if memory else float("inf")
    limit = min(held, case.number("max-num-seqs") or held)
    return [min(level, limit) for level in case.workload.concurrency]


def promise(configuration: Configuration, estimated: float) -> tuple[float, int, int]:
    """Sort key, most promising first: the estimate, then accuracy of the algorithm, then fewer settings."""
    return (-round(estimated, 6), _ACCURACY_FIRST.index(configuration.algorithm), len(configuration.engine))
