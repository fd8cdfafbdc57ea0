"""What is known of a candidate before it is tried, found out once for all candidates that are alike where it counts.

Policies, memory, roofline and bounds look at some settings and at no others: of tens of thousands of candidates, a few
hundred differ in these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from haqa_contract import Configuration, Scalar
from haqa_operator.api.goals import Objective
from haqa_operator.search.bounds import best_possible
from haqa_operator.search.cases import Case, Violation, first_violation
from haqa_operator.search.engine_policies import ENGINE_POLICIES
from haqa_operator.search.prior import by_roofline

Items = tuple[tuple[str, Scalar], ...]

_LOOKED_AT = frozenset(
    {
        "attention-backend",
        "data-parallel-size",
        "dtype",
        "enable-chunked-prefill",
        "enable-expert-parallel",
        "enforce-eager",
        "gpu-memory-utilization",
        "kv-cache-dtype",
        "kv-cache-memory-bytes",
        "max-model-len",
        "max-num-batched-tokens",
        "max-num-seqs",
        "pipeline-parallel-size",
        "prefill-context-parallel-size",
        "tensor-parallel-size",
        "VLLM_CPU_KVCACHE_SPACE",
    }
)


def looked_at(engine: Items) -> Items:
    """The settings by which policies, prior and bounds may come to another answer."""
    return tuple(item for item in engine if item[0] in _LOOKED_AT or "spec" in item[0])


@dataclass(frozen=True)
class Verdict:
    """Attributes:
    violation: Why it cannot run.
    estimate: `prior.by_roofline`, what `expected_factor` multiplies.
    bound: The best score that the hardware allows it; None where unknown, or nobody asked.
    """

    violation: Violation | None
    estimate: float = 0.0
    bound: float | None = None


class Verdicts:
    """Verdicts on the candidates of one pool."""

    def __init__(self, case: Case, objective: Objective | None) -> None:
        self._case, self._objective = case, objective
        self._known: dict[tuple[Configuration, Items], Verdict] = {}

    def of(self, weights: Configuration, engine: Items) -> Verdict:
        """The verdict on weights under engine settings.

        Args:
            weights: Without engine settings, and the same for all that differ in what matters for neither speed nor
                memory.
            engine: What is `looked_at` of its engine settings, in any order.
        """
        # True and 1 are equal as keys; no setting that is looked at takes both.
        key = (weights, tuple(sorted(engine)))
        if key not in self._known:
            self._known[key] = self._find(*key)
        return self._known[key]

    def _find(self, weights: Configuration, engine: Items) -> Verdict:
        configuration = weights.model_copy(update={"engine": engine})
        case = replace(self._case, configuration=configuration)
        violation = first_violation(case, ENGINE_POLICIES)
        if violation is not None:
            return Verdict(violation)
        bound = best_possible(self._objective, case) if self._objective else None
        return Verdict(None, by_roofline(case), bound)
