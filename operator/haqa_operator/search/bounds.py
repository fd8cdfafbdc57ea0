"""The best that anything untried could reach, where that follows from the device's data sheet.

Sound, so that a search may end on it: a step reads every weight it uses from memory at no more than peak bandwidth and
multiplies at no more than peak rate; prompts, scheduling and communication are taken to cost nothing. It does not hold,
and there is no bound, for speculative decoding (several tokens a step), for formats that HAQA does not know, for
weights small enough to stay in the device's caches, and on CPUs, whose bandwidth is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from haqa_contract import Scheme, Workload
from haqa_contract.figures import RATES
from haqa_contract.statistics import geometric_mean
from haqa_operator.api.goals import Objective
from haqa_operator.search.cases import Case
from haqa_operator.search.roofline import Roofline, roofline_of

_CACHED_BYTES = 2e9
"""More than ten times the largest cache of any device in the catalogue (MI300X: 256 MB, B200: 126 MB)."""

_OF_STEPS = ("itl", "tpot", "e2e")


def best_possible(objective: Objective, case: Case) -> float | None:
    """The best score (higher is better, latencies negated) that a configuration could get; None where unknown.

    Args:
        case: The configuration on its hardware, with its workload.
    """
    unknown = case.configuration.scheme is Scheme.OTHER
    roofline = None if unknown or _skips_steps(case) else roofline_of(case)
    if roofline is None or roofline.weight_bytes < _CACHED_BYTES:
        return None
    if case.workload.dataset is not None:
        # Prompts of a data set may share a beginning, which attention then reads once for all of them.
        roofline = replace(roofline, cache_bytes=0.0)
    if objective.metric in RATES and objective.maximize:
        levels = [objective.concurrency] if objective.concurrency else case.workload.concurrency
        return _output_tokens_per_s(roofline, levels) * _per_output_token(objective.metric, case.workload)
    if objective.metric in _OF_STEPS and not objective.maximize:
        steps = case.workload.output_tokens - 1 if objective.metric == "e2e" else 1
        return -1000 * steps * roofline.least_step_s(1)
    return None


def _skips_steps(case: Case) -> bool:
    return any("speculative" in name or "spec" in name.split("-") for name in case.configuration.settings)


def _output_tokens_per_s(roofline: Roofline, levels: Sequence[int]) -> float:
    rates = [level / roofline.least_step_s(level) for level in levels]
    return geometric_mean(rates)


def _per_output_token(metric: str, workload: Workload) -> float:
    """What one output token counts for in a rate that counts something else."""
    if metric == "requestRate":
        return 1 / workload.output_tokens
    if metric == "totalThroughput":
        return (workload.input_tokens + workload.output_tokens) / workload.output_tokens
    return 1.0
