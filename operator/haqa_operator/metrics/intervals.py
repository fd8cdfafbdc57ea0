"""Confidence intervals on the scale where the noise of each metric lives.

Throughput varies by a factor (a busy neighbour takes a share), so its interval is taken over logarithms: it stays above
zero, and the ratio of two throughputs follows from it. Latencies and accuracies are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from haqa_contract import Estimate
from haqa_contract.statistics import estimate, geometric_estimate
from haqa_operator.api.metrics import RATES, MetricKey


def interval(key: MetricKey, values: Sequence[float]) -> Estimate:
    """Mean and 95 % interval of repeated measurements: geometric for rates, arithmetic for everything else.

    Raises:
        ValueError: for no values, or one that is not finite.
    """
    if key.metric in RATES and values and min(values) > 0 and min(values) < max(values):
        return geometric_estimate(values)
    return estimate(values)
