"""What is wrong with a spec, wherever it is to run, before any time is spent."""

from __future__ import annotations

from haqa_contract import Failure, FailureReason
from haqa_operator.api import QuantizationTuning
from haqa_operator.api.metrics import known_metric
from haqa_operator.serving.settings import check_pool_env, check_search


def metric_problems(tuning: QuantizationTuning) -> list[str]:
    """Metrics that HAQA does not measure."""
    named = [(f"spec.objective[{i}].metric", o.metric) for i, o in enumerate(tuning.spec.objectives)]
    named += [(f"spec.constraints[{i}].metric", c.metric) for i, c in enumerate(tuning.spec.constraints)]
    return [
        f"{where}: {metric!r} is not a metric; known are throughput, totalThroughput, requestRate, throughputPerCost, "
        "ttft, itl, tpot, e2e, perplexity, klDivergence, topTokenAgreement, artifactBytes, accuracy.<task> and "
        "adapter.<name>"
        for where, metric in named
        if not known_metric(metric)
    ]


def setting_problems(tuning: QuantizationTuning) -> list[str]:
    """Engine settings and variables that vLLM does not know or HAQA does not pass on."""
    problems = check_search(tuning.spec.search)
    for pool in tuning.spec.node_pools:
        problems += check_pool_env(pool)
    return [f"spec.{problem}" for problem in problems]


def model_unread(uri: str, failure: Failure | None) -> str:
    """Why inspecting the model failed; the model is blamed where the failure names no other field and is no pod's."""
    if failure is None:
        return f"spec.model.uri: {uri}: nothing was found out about the model"
    if failure.message.startswith("spec."):
        return failure.message
    if failure.reason is FailureReason.MODEL_FETCH:
        return f"spec.model.uri: {uri}: {failure.message}"
    return f"inspecting the model failed: {failure.reason}: {failure.message}"
