"""Whether a deployed winner does what its trial did. Pure: a report and the answer in, a sentence out."""

from __future__ import annotations

from collections.abc import Mapping

from haqa_contract import Estimate, TrialReport, Workload
from haqa_operator.api.answer import Answer
from haqa_operator.api.metrics import LATENCIES, MetricKey
from haqa_operator.metrics.summary import summarize

_RATES = ("throughput",)
_LATENCY_PERCENTILE = 50
"""The tail of a few requests says little."""


def verified_metrics(report: TrialReport, answer: Answer) -> dict[str, Estimate]:
    """What was measured of a deployed winner, by metric key, of what its trial has too."""
    levels = tuple(sorted({window.concurrency for window in report.load.windows})) if report.load else ()
    if not levels:
        return {}
    measured = summarize(report, workload=Workload(concurrency=levels), cost_per_hour=None).metrics
    return {key: value for key, value in measured.items() if key in answer.metrics}


def shortfall(measured: Mapping[str, Estimate], answer: Answer, tolerance_percent: float) -> str | None:
    """What is worse than the trial's interval by more than the tolerance; None where nothing is.

    Args:
        measured: `verified_metrics`.
    """
    share = tolerance_percent / 100
    if not any(MetricKey.parse(key).metric in _RATES for key in measured):
        return "it was measured, and there are no figures that its trial has too"
    # Throughput first: it is what is said where both are worse.
    for key, value in sorted(measured.items(), key=lambda item: (MetricKey.parse(item[0]).metric not in _RATES, item)):
        parsed, trial = MetricKey.parse(key), answer.metrics[key]
        if parsed.metric in _RATES and value.value < trial.low * (1 - share):
            return _said(key, value, trial, "less", tolerance_percent)
        slow = parsed.metric in LATENCIES and parsed.percentile == _LATENCY_PERCENTILE
        if slow and value.value > trial.high / (1 - share):
            return _said(key, value, trial, "more", tolerance_percent)
    return None


def _said(key: str, value: Estimate, trial: Estimate, how: str, tolerance_percent: float) -> str:
    return (
        f"{key} is {value.value:.4g} where it is deployed, and was {trial.value:.4g} ({trial.low:.4g} to "
        f"{trial.high:.4g}) in its trial: {how} by more than output.verify.tolerancePercent, {tolerance_percent:g}"
    )
