"""Means with their 95 % intervals, from the standard library alone, so that both sides of the contract agree on them.

Student's t and not the normal distribution: with three repeats the normal's interval is less than half as wide as it
should be. The standard library has no quantile of t, so it is found here from the regularized incomplete beta function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean, stdev

from haqa_contract import Estimate

CONFIDENCE = 0.95
FEWEST_PAIRS = 2
"""One pair has no interval."""

_LARGEST_EXPONENT = 700.0
"""exp() overflows above 709."""


def estimate(values: Sequence[float]) -> Estimate:
    """Arithmetic mean of repeated measurements and the interval of that mean; with one value both bounds equal it.

    Raises:
        ValueError: for no values, or one that is not finite.
    """
    _check(values)
    mean = fmean(values)
    if len(values) == 1:
        return Estimate(value=mean, low=mean, high=mean, n=1)
    margin = student_t(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return Estimate(value=mean, low=mean - margin, high=mean + margin, n=len(values))


def geometric_estimate(values: Sequence[float]) -> Estimate:
    """Geometric mean and its interval, taken over logarithms: for rates and ratios, whose noise is a factor.

    Raises:
        ValueError: for no values, or one that is not finite and above zero.
    """
    _check(values)
    for value in values:
        if value <= 0:
            raise ValueError(f"{value:g} has no logarithm; a geometric mean needs values above 0")
    return exponential(estimate([math.log(value) for value in values]))


def geometric_mean(values: Sequence[float]) -> float:
    """Of one value or more; 0 where one of them is 0 or below."""
    if min(values) <= 0:
        return 0.0
    if len(values) == 1:
        return values[0]
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def exponential(logarithms: Estimate) -> Estimate:
    """The estimate of e**x from that of x."""
    value, low, high = (
        math.exp(max(-_LARGEST_EXPONENT, min(bound, _LARGEST_EXPONENT)))
        for bound in (logarithms.value, logarithms.low, logarithms.high)
    )
    return Estimate(value=value, low=low, high=high, n=logarithms.n)


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Geometric mean of the ratios of pairs measured side by side, so that what both members share cancels out.

    Raises:
        ValueError: for sequences of different length, none, or values that are not above zero.
    """
    if len(numerators) != len(denominators):
        raise ValueError(f"{len(numerators)} and {len(denominators)} values do not make pairs")
    for value in denominators:
        if not value > 0:
            raise ValueError(f"{value:g} cannot be divided by; a ratio needs values above 0")
    return geometric_estimate([above / below for above, below in zip(numerators, denominators, strict=True)])


def settled(ratios: Sequence[float], most: int, least: float = 1.0) -> bool:
    """Whether these pairs say already on which side of `least` their true ratio lies.

    Looking after each pair would find something in mere noise more often than one look does, so that the interval is
    wider than that of `geometric_estimate`: the error that is allowed is divided by the looks (Bonferroni).

    Args:
        ratios: Of the pairs so far, each above 0.
        most: Pairs after which it ends in any case.
    """
    if len(ratios) < FEWEST_PAIRS:
        return False
    logarithms = [math.log(ratio) for ratio in ratios]
    looks = max(1, most - FEWEST_PAIRS + 1)
    t = student_t(len(ratios) - 1, 1 - (1 - CONFIDENCE) / looks)
    margin = t * stdev(logarithms) / math.sqrt(len(logarithms))
    return abs(fmean(logarithms) - math.log(least)) > margin


def quantile(values: Sequence[float], share: float) -> float:
    """The `share` quantile (0 to 1) by linear interpolation between order statistics, as numpy's default.

    Raises:
        ValueError: for no values or a share outside 0 to 1.
    """
    if not values or not 0 <= share <= 1:
        raise ValueError(f"quantile {share:g} of {len(values)} values is not defined")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@lru_cache(maxsize=1024)
def student_t(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Two-sided quantile of Student's t: |T| stays below it with probability `confidence`.

    `degrees` of freedom need not be whole: Welch's are not. Accurate to 1e-9 relative.

    Raises:
        ValueError: for degrees that are not above 0, or a confidence outside 0 to 1.
    """
    if not degrees > 0:
        raise ValueError(f"degrees of freedom {degrees:g}: must be above 0; an interval needs two repeats")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence:g}: must lie between 0 and 1, for example 0.95")
    low, high = 0.0, 1.0
    while _coverage(high, degrees) < confidence:
        low, high = high, high * 2
    while high - low > 1e-11 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _coverage(middle, degrees) < confidence else (low, middle)
    return (low + high) / 2


def _coverage(t: float, degrees: float) -> float:
    """P(|T| <= t)."""
    return 1.0 - _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), by Lentz's continued fraction (Numerical Recipes, section 6.4)."""
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _continued_fraction(a, b, x) / a
    return 1.0 - math.exp(log_front) * _continued_fraction(b, a, 1 - x) / b


def _continued_fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + term * d)
            c = _away_from_zero(1.0 + term / c)
            fraction *= c * d
        if abs(c * d - 1.0) < 1e-14:
            break
    return fraction


def _away_from_zero(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300


def _check(values: Sequence[float]) -> None:
    if not values:
        raise ValueError("no values; an estimate needs at least one")
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a number that can be averaged; the measurement behind it failed")
