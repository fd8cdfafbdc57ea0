"""Is one configuration faster than another, or is it noise?

Two trials are compared by the ratio of their objectives. The interval of its logarithm is Welch's (unequal variances,
few repeats): https://doi.org/10.1093/biomet/34.1-2.28. What is inside that interval, or inside the smallest improvement
that counts (`search.minImprovementPercent`: restarting an engine alone changes about that much), is a tie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import stdev

from haqa_contract import Estimate
from haqa_contract.statistics import exponential, student_t
from haqa_operator.api.goals import Objective
from haqa_operator.api.trial import Trial

_EXACTLY = 1e-9
"""A gain of exactly minImprovementPercent is a tie; the last bits of two logarithms must not decide otherwise."""


@dataclass(frozen=True)
class Comparison:
    """One trial against another on the objective.

    Attributes:
        ratio: The first over the second, turned so that above 1 means the first is better; 95 % interval.
        better: The first is better by more than the noise and by more than the smallest improvement that counts.
    """

    ratio: Estimate
    better: bool


@dataclass(frozen=True)
class _Spread:
    """Logarithm of a trial's objective; `deviation` of single repeats, None where one repeat cannot tell."""

    mean: float
    deviation: float | None
    n: int


def compare(first: Trial, second: Trial, objective: Objective, min_improvement_percent: float) -> Comparison:
    """Compares two trials that both have a value above 0 for the objective.

    A trial measured once borrows the other's spread: same machine, same load. With one repeat on both sides the noise
    is unknown and the smallest improvement alone decides.
    """
    a, b = _spread(first, objective), _spread(second, objective)
    difference = a.mean - b.mean if objective.maximize else b.mean - a.mean
    margin = _welch_margin(a, b)
    better = exceeds(difference, margin, min_improvement_percent)
    logarithm = Estimate(value=difference, low=difference - margin, high=difference + margin, n=min(a.n, b.n))
    return Comparison(exponential(logarithm), better)


def exceeds(difference: float, margin: float, min_improvement_percent: float) -> bool:
    """Whether a difference of logarithms is more than its noise and more than the smallest improvement."""
    return difference - max(margin, math.log1p(min_improvement_percent / 100)) > _EXACTLY


def beats(measured_ratio: Estimate, min_improvement_percent: float) -> bool:
    """The same question for a ratio that was measured directly, alternately (a confirmation)."""
    least = 1 + min_improvement_percent / 100
    return measured_ratio.low > 1 and measured_ratio.value - least > _EXACTLY


def _spread(trial: Trial, objective: Objective) -> _Spread:
    estimate = trial.status.metrics[str(objective.key)]
    mean = math.log(estimate.value)
    samples = trial.status.samples.get(str(objective.key), ())
    if len(samples) >= 2 and all(value > 0 and math.isfinite(value) for value in samples):
        return _Spread(mean, stdev(math.log(value) for value in samples), len(samples))
    if estimate.n >= 2 and math.isfinite(estimate.high - estimate.low):
        half_width = (estimate.high - estimate.low) / (2 * estimate.value)
        return _Spread(mean, half_width / student_t(estimate.n - 1) * math.sqrt(estimate.n), estimate.n)
    return _Spread(mean, None, 1)


def _welch_margin(a: _Spread, b: _Spread) -> float:
    """Half-width of the 95 % interval of the difference of the two means."""
    if a.deviation is None and b.deviation is None:
        return 0.0
    if a.deviation is None or b.deviation is None:
        known, other = (a, b) if a.deviation is not None else (b, a)
        assert known.deviation is not None
        return student_t(known.n - 1) * known.deviation * math.sqrt(1 / known.n + 1 / other.n)
    variance_a, variance_b = a.deviation**2 / a.n, b.deviation**2 / b.n
    total = variance_a + variance_b
    if total == 0:
        return 0.0
    # Satterthwaite's formula, with the shares taken first: squares of tiny variances would underflow to 0/0.
    share_a, share_b = variance_a / total, variance_b / total
    degrees = 1 / (share_a**2 / (a.n - 1) + share_b**2 / (b.n - 1))
    return student_t(degrees) * math.sqrt(total)
