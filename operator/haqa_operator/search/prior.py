"""Which configurations to try first, before anything is measured.

A guess, and used as nothing else: it orders candidates and picks the first trials. Where the catalogue knows the device
it is the roofline, less what vLLM does not reach of it; on CPU, whose memory has no data sheet here, it is how the
schemes compared on the machine that they were tried on.
"""

from __future__ import annotations

from math import exp, log

from haqa_contract import Algorithm, Scheme
from haqa_operator.hardware.instruction_sets import at_least
from haqa_operator.search.cases import Case
from haqa_operator.search.memory import memory_of
from haqa_operator.search.roofline import Roofline, roofline_of

_BANDWIDTH_REACHED = 0.9
_PEAK_REACHED = 0.5
_LAYER_S = 1e-4
"""Shares of the peak rates that are reached, and time a layer takes in any case: fitted to the single-stream latencies
of Red Hat's model cards (R1-Distill 8B and 32B in three schemes on A6000, A100 and H100, vLLM 0.7.2)."""

_EAGER = 0.8
"""Without CUDA graphs or compilation the launch of small kernels shows, most in small steps."""

_CPU_WITH_VNNI = {
    Scheme.BF16: 1.0,
    Scheme.W8A8_INT8: 1.55,
    Scheme.W4A16: 0.55,
    Scheme.W4A16_ASYM: 0.5,
    Scheme.W4A8: 0.5,
    Scheme.FP8_DYNAMIC: 0.3,
    Scheme.FP8_BLOCK: 0.6,
}
_CPU_WITHOUT_VNNI = {
    Scheme.BF16: 1.0,
    Scheme.W8A8_INT8: 0.8,
    Scheme.W4A16: 3.0,
    Scheme.W4A16_ASYM: 2.8,
    Scheme.W4A8: 1.0,
    Scheme.FP8_DYNAMIC: 0.3,
}
"""Output tokens/s against BF16, over concurrency 1, 8 and 32: a 205M-parameter Llama on vLLM 0.32 for x86, with AVX512
and VNNI, and the same machine capped to AVX2, where BF16 has no instructions and oneDNN's INT8 is emulated too, while
the 4-bit kernel is vLLM's own. FP8, W4A8 and the asymmetric scheme by their kernels, not measured that way."""

_UNKNOWN_ON_CPU = 0.2

_ACCURACY_FIRST = (
    Algorithm.NONE,
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
    factor = _EAGER if case.setting("enforce-eager") is True else 1.0
    running = _running(case)
    roofline = roofline_of(case)
    if roofline is not None:
        return factor * _geometric_mean([_output_tokens_per_s(roofline, case, n) for n in running])
    table = _CPU_WITH_VNNI if at_least(case.accelerator.isa, "avx512_vnni") else _CPU_WITHOUT_VNNI
    shares = [n / level for n, level in zip(running, case.workload.concurrency, strict=True)]
    return factor * table.get(case.configuration.scheme, _UNKNOWN_ON_CPU) * _geometric_mean(shares)


def _running(case: Case) -> list[float]:
    """For each level, sequences that run at once: as many as come, as `max-num-seqs` lets in and the KV cache holds."""
    memory = memory_of(case)
    held = max(1.0, memory.sequences(case.request_tokens)) if memory else float("inf")
    limit = min(held, case.number("max-num-seqs") or held)
    return [min(level, limit) for level in case.workload.concurrency]


def _output_tokens_per_s(roofline: Roofline, case: Case, running: float) -> float:
    """A closed loop: every sequence takes its prompt and its steps in turn."""
    layers = case.model.layers if case.model else 0
    step_s = roofline.usual_step_s(running) / _BANDWIDTH_REACHED + layers * _LAYER_S
    steps_s = case.workload.output_tokens * step_s
    prompts_s = running * roofline.prompt_s(case.workload.input_tokens) / _PEAK_REACHED
    return running * case.workload.output_tokens / (steps_s + prompts_s)


def _geometric_mean(values: list[float]) -> float:
    return exp(sum(map(log, values)) / len(values))


def promise(case: Case) -> tuple[float, int, int]:
    """Sort key, most promising first: the estimate, then accuracy of the algorithm, then fewer settings."""
    configuration = case.configuration
    return (-round(estimate(case), 6), _ACCURACY_FIRST.index(configuration.algorithm), len(configuration.engine))
