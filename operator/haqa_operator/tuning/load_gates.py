"""What a trial has to reach under load, from the trials before it: out of reach, its load test ends early.

Two things make full windows a waste: a limit that is clearly broken, and an objective that is clearly worse than the
best that keeps all limits. Several objectives have no single best, so there only the limits count.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean, variance
from typing import NamedTuple

from haqa_contract import LoadGate
from haqa_contract.figures import LATENCIES, RATES
from haqa_operator.api.metrics import MetricKey
from haqa_operator.api.trial import Trial
from haqa_operator.api.tuning import TuningSpec
from haqa_operator.decision.constraints import References
from haqa_operator.decision.limits import absolute_limits
from haqa_operator.decision.observations import Observation, observations_of
from haqa_operator.metrics.quantities import quantity

_LEAST_DEVIATION = 0.03
"""Of a window's figure from one to the next, whatever a few repeats on a quiet machine say."""


def load_gates(
    spec: TuningSpec, trial: Trial, earlier: Sequence[Trial], cost_per_hour: float | None
) -> tuple[LoadGate, ...]:
    """None for the baseline, for tunings that ask for full windows, and before there is anything to beat.

    Args:
        earlier: The pool's trials so far; unfinished ones are ignored.
        cost_per_hour: Price of one replica's machines, by which throughputPerCost becomes throughput.
    """
    if trial.is_baseline or not spec.search.early_stopping:
        return ()
    bars = (*_of_limits(spec, earlier), *_of_objective(spec, earlier))
    gates = (_gate(bar, _deviation(bar.key, earlier), cost_per_hour) for bar in bars)
    return tuple(gate for gate in gates if gate is not None)


class _Bar(NamedTuple):
    """What a figure has to reach, and what sets that."""

    key: MetricKey
    low: float | None
    high: float | None
    because: str


def _of_limits(spec: TuningSpec, earlier: Sequence[Trial]) -> Iterator[_Bar]:
    for limit in absolute_limits(spec.constraints, References.among(earlier)):
        if limit.minimum is not None or limit.maximum is not None:
            because = f"a configuration has to have {limit.describe()}"
            yield _Bar(limit.key, limit.minimum, limit.maximum, because)


def _of_objective(spec: TuningSpec, earlier: Sequence[Trial]) -> Iterator[_Bar]:
    if len(spec.objectives) > 1:
        return
    objective = spec.objectives[0]
    best = _best(observations_of(earlier, spec.objectives, spec.constraints))
    if best is None or best.score is None:
        return
    value = abs(best.score)
    low, high = (value, None) if objective.maximize else (None, value)
    yield _Bar(objective.key, low, high, f"{best.trial.called} has {quantity(objective.key, value)}")


def _best(observations: Sequence[Observation]) -> Observation | None:
    """The best that keeps every limit and was measured to its end."""
    good = [o for o in observations if o.score is not None and not o.violation and not o.trial.status.ended_early]
    return max(good, key=lambda o: o.score or 0.0, default=None)


def _gate(bar: _Bar, deviation: float, cost_per_hour: float | None) -> LoadGate | None:
    """None for what is not measured under load."""
    key, low, high, because = bar
    if key.metric == "throughputPerCost" and cost_per_hour:
        share = cost_per_hour / 3600
        low, high = (None if bound is None else bound * share for bound in (low, high))
        key = replace(key, metric="throughput")
    if key.metric not in (*RATES, *LATENCIES):
        return None
    return LoadGate(
        metric=key.metric,
        percentile=key.percentile,
        concurrency=key.concurrency,
        min=low,
        max=high,
        deviation=deviation,
        because=because,
    )


def _deviation(key: MetricKey, earlier: Sequence[Trial]) -> float:
    """Of the logarithm from one window to the next, over all trials that have repeats."""
    repeats = (trial.status.samples.get(str(key), ()) for trial in earlier if trial.succeeded)
    logarithms = [[math.log(v) for v in values] for values in repeats if len(values) > 1 and min(values) > 0]
    if not logarithms:
        return _LEAST_DEVIATION
    return max(_LEAST_DEVIATION, math.sqrt(fmean(variance(values) for values in logarithms)))
