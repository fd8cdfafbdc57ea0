"""Output tokens/s that a trial's engine may reach, so that the load generator is made for it.

Rather too much than too little: a process too many costs next to nothing, one too few a window.
"""

from __future__ import annotations

from collections.abc import Sequence

from haqa_operator.api import Trial
from haqa_operator.api.metrics import MetricKey
from haqa_operator.search.cases import Case
from haqa_operator.search.memory import memory_of
from haqa_operator.search.roofline import roofline_of
from haqa_operator.search.throughput import output_tokens_per_s

_FASTER = 2.0
"""How much faster than the fastest so far a configuration may be."""


def expected_tokens_per_s(case: Case, earlier: Sequence[Trial]) -> float | None:
    """At the workload's fastest level: by the device's data sheet, else by what was measured; None where nobody knows.

    Args:
        case: The trial's configuration on its hardware.
        earlier: The pool's trials so far.
    """
    if case.accelerator.is_cpu:
        return None
    roofline = roofline_of(case)
    if roofline is None:
        measured = _fastest(case, earlier)
        return None if measured is None else _FASTER * measured
    memory = memory_of(case)
    held = max(1.0, memory.sequences(case.request_tokens)) if memory else float("inf")
    running = (min(level, held, case.number("max-num-seqs") or held) for level in case.workload.concurrency)
    return max(output_tokens_per_s(roofline, case, sequences) for sequences in running)


def _fastest(case: Case, earlier: Sequence[Trial]) -> float | None:
    keys = [str(MetricKey("throughput", concurrency=level)) for level in case.workload.concurrency]
    found = (trial.status.metrics.get(key) for trial in earlier for key in keys)
    return max((estimate.value for estimate in found if estimate is not None), default=None)
