"""A finished trial, reduced to what a search strategy needs to know of it."""

from __future__ import annotations

from dataclasses import dataclass

from haqa_operator.api.trial import Trial


@dataclass(frozen=True)
class Observation:
    """One trial as the search sees it.

    Attributes:
        score: The objective turned so that higher is better (latencies negated); None when the trial failed.
        violation: Sum of relative excesses over the constraints; 0 = meets all. Infinite when the trial failed, but
            finite (without a score) when it was ended at the accuracy gate: that is a measurement.
        broken: The constraints that it breaks, in words; for a failed trial, how it failed.
    """

    trial: Trial
    score: float | None
    violation: float
    broken: tuple[str, ...] = ()
